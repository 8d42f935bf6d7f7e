"""A lock of a file, for what one process may do at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.errors import OpsError


class Taken(OpsError):
    """Another process holds the lock."""


@contextmanager
def alone(lock: Path, taken: str) -> Iterator[None]:
    """Held by this process meanwhile; the kernel lets go of it however the process ends. Raises Taken, saying `taken`,
    and OpsError where there can't be such a file."""
    try:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OpsError(f"{lock} can't be used: {error}. Try as the user that the engine runs as.") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Taken(taken) from error
        yield
    finally:
        os.close(file)
