"""Keys outlive the process, are secret, and are made once for an account and month."""

import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands.keyring import FileKeyring, Keyring, KeyringError, MemoryKeyring


@pytest.fixture(params=["memory", "file"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyring]:
    if request.param == "memory":
        yield MemoryKeyring()
    else:
        keyring = FileKeyring(tmp_path / "keyring.db")
        yield keyring
        keyring.close()


@pytest.fixture
def open_file(tmp_path: Path) -> Iterator[Callable[..., FileKeyring]]:
    opened: list[FileKeyring] = []

    def open_file(**options: int) -> FileKeyring:
        opened.append(FileKeyring(tmp_path / "keyring.db", **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_file
    for keyring in opened:
        keyring.close()


def test_one_key_for_an_account_and_month(keyring: Keyring) -> None:
    key = keyring.current("ann", "2026-11")
    assert len(key.key) == 32
    again = keyring.current("ann", "2026-11")
    assert (again.name, again.key) == (key.name, key.key)
    others = [keyring.current("ann", "2026-12"), keyring.current("ben", "2026-11")]
    assert len({made.key for made in [key, *others]}) == len({made.name for made in [key, *others]}) == 3


def test_a_key_s_name_tells_nothing(keyring: Keyring) -> None:
    assert "ann" not in keyring.current("ann", "2026-11").name


def test_a_key_is_found_by_its_name(keyring: Keyring) -> None:
    key = keyring.current("ann", "2026-11")
    assert keyring.find(key.name) == key.key
    assert keyring.find("another") is None


def test_keys_outlive_the_process(open_file: Callable[..., FileKeyring]) -> None:
    first = open_file()
    key = first.current("ann", "2026-11")
    # Without closing the first: it is on disk before it is handed out.
    second = open_file()
    assert second.find(key.name) == key.key
    assert second.current("ann", "2026-11").name == key.name


def test_only_its_owner_may_read_it(open_file: Callable[..., FileKeyring], tmp_path: Path) -> None:
    open_file().current("ann", "2026-11")
    files = list(tmp_path.iterdir())
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_every_commit_is_synced(open_file: Callable[..., FileKeyring]) -> None:
    assert open_file()._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_few_keys_stay_in_memory(open_file: Callable[..., FileKeyring]) -> None:
    keyring = open_file(cached_max=3)
    keys = {number: keyring.current(f"account{number}", "2026-11") for number in range(20)}
    for _ in range(2):
        for number, key in keys.items():
            assert keyring.current(f"account{number}", "2026-11").name == key.name
            assert keyring.find(key.name) == key.key
            assert max(len(keyring._current), len(keyring._by_name)) <= 3


def test_a_destroyed_key_is_found_no_more(open_file: Callable[..., FileKeyring], tmp_path: Path) -> None:
    key = open_file().current("ann", "2026-11")
    with sqlite3.connect(tmp_path / "keyring.db") as db:
        db.execute("DELETE FROM keys WHERE name = ?", (key.name,))
    db.close()
    assert open_file().find(key.name) is None


def test_a_reader_beside_the_owner_finds_keys_and_makes_none(
    open_file: Callable[..., FileKeyring], tmp_path: Path
) -> None:
    key = open_file().current("ann", "2026-11")
    reader = FileKeyring(tmp_path / "keyring.db", read_only=True)
    assert reader.find(key.name) == key.key
    with pytest.raises(sqlite3.OperationalError):
        reader.current("ben", "2026-11")
    reader.close()


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="can't be read"):
        FileKeyring(tmp_path / "keyring.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_keyring_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "keyring.db").write_text("not a database, but a rather long text that SQLite looks at and refuses" * 9)
    with pytest.raises(KeyringError, match=r"keyring\.db can't be read .* backup"):
        FileKeyring(tmp_path / "keyring.db")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="missing"):
        FileKeyring(tmp_path / "missing" / "keyring.db")
