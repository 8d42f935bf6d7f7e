"""The one error that a command ends on without a traceback."""


class OpsError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal; the exit code becomes 1."""
