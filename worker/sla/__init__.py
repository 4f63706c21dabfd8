"""The core: promises and time.

Nothing in here awaits, logs, reads the environment or asks the time: instants come in as arguments, as
integers of UTC milliseconds, and everything that is said goes out as a value. `tickets.apply` is the one door.
"""
