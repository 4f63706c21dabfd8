"""What can go wrong with the embedded servers, said so that a person can act on it."""


class LocalError(Exception):
    """The embedded Kafka or Valkey could not do what was asked. Its text names the file or the process, and the way out."""
