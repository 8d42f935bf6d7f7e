"""A copy of a SQLite file that is whole while its owner goes on writing."""

import os
from contextlib import closing
from pathlib import Path

import apsw


def copy_sqlite(source: Path, target: Path) -> None:
    """Copies the file, as it is at one moment, into a new one, which is on disk when this returns: one plain file,
    without a write-ahead log, for this user alone. Whoever writes the source is not held up. Raises apsw.Error,
    OSError."""
    target.touch(mode=0o600, exist_ok=False)
    opened = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
    with closing(opened), closing(apsw.Connection(str(target))) as copy:
        opened.execute("SELECT 1 FROM sqlite_master")  # A failing backup doesn't say why.
        with copy.backup("main", opened, "main") as copying:
            copying.step()  # all at once: it would begin again after each write of somebody else's
        copy.execute("PRAGMA journal_mode=DELETE")
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def sync_path(path: Path) -> None:
    """What a file, or which names a folder, holds is on disk afterwards."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
