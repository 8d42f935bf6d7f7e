"""Opening a log: what is wrong is said, and what to do about it."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw
import pytest

from commands.stores import open_log
from domain.log import StoreError

NOBODY: Final = 65_534
"""A user who owns nothing, on every Linux."""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "use sqlite:///absolute/path/to/log.db"),
        ("/var/lib/log.db", "use sqlite:///absolute/path/to/log.db"),
        ("mysql://db/log", "use sqlite:///absolute/path/to/log.db"),
        ("sqlite:", "write sqlite:///absolute/path/to/log.db"),
        ("sqlite:///", "write sqlite:///absolute/path/to/log.db"),
        ("sqlite://log.db", "write sqlite:///absolute/path/to/log.db"),
        ("sqlite:///log.db#now", "write sqlite:///absolute/path/to/log.db"),
        ("sqlite:///log.db?mode=memory", "leave out ?mode=memory"),
        ("sqlite:///no/such/folder/log.db", "the folder /no/such/folder does not exist: make it"),
    ],
)
def test_a_wrong_url(url: str, said: str) -> None:
    with pytest.raises(StoreError) as refused:
        open_log(url)
    assert said in str(refused.value)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder: name a file in it"):
        open_log(f"sqlite://{tmp_path}")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_text("Dear diary, " * 500)
    with pytest.raises(StoreError, match=r"not a database \(name another path"):
        open_log(f"sqlite://{path}")
    assert path.read_text() == "Dear diary, " * 500


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(apsw.Connection(str(path))) as other:
        other.execute("CREATE TABLE stored_events (who TEXT PRIMARY KEY, what TEXT) WITHOUT ROWID")
    for read_only in (False, True):
        with pytest.raises(StoreError, match="database of another program"):
            open_log(f"sqlite://{path}", read_only=read_only)


def test_a_read_only_log_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no event log at .*: correct the path, or start the engine"):
        open_log(f"sqlite://{tmp_path}/log.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """Of a user to whom something may be forbidden: where the tests run as root, they are somebody else meanwhile."""
    with TemporaryDirectory() as folder:
        user = os.geteuid()
        if user == 0:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


def test_no_rights(own_folder: Path) -> None:
    (own_folder / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="this user may read and write there"):
        open_log(f"sqlite://{own_folder}/closed/log.db")


async def test_a_file_that_may_only_be_read(own_folder: Path) -> None:
    path = own_folder / "log.db"
    await open_log(f"sqlite://{path}").close()
    path.chmod(0o400)
    with pytest.raises(StoreError, match=r"may not write .*: change its rights"):
        open_log(f"sqlite://{path}")


async def test_odd_characters_in_the_path(tmp_path: Path) -> None:
    folder = tmp_path / "data & :memory: #1 ü%20?"
    folder.mkdir()
    log = open_log(f"sqlite://{tmp_path}/data%20%26%20:memory:%20%231%20ü%2520%3F/log.db")
    assert (folder / "log.db").is_file()
    await log.close()
