"""What befalls a database in a file."""

import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import apsw

PAGE_BYTES: Final = 4_096
"""SQLite's default."""


@contextmanager
def locked(path: Path) -> Iterator[apsw.Connection]:
    """Another process holds the write lock."""
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@contextmanager
def failing_disk() -> Iterator[None]:
    """Every write to a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def damage_page(path: Path) -> None:
    """The fourth page of a database that nobody has open is gone."""
    content = bytearray(path.read_bytes())
    content[3 * PAGE_BYTES : 4 * PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    """Its last pages are missing."""
    path.write_bytes(path.read_bytes()[: -3 * PAGE_BYTES])


def emptied(path: Path) -> None:
    path.write_bytes(b"")
