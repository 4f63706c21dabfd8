"""A worker of the release before, as far as rows go: it reads and writes version 1, and refuses what is newer."""

from worker.sla import rows

rows.VERSION = rows.OLDEST

if __name__ == "__main__":
    import sys

    from worker.cli import main

    sys.exit(main())
