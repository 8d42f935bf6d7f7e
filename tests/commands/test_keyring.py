"""Keys outlive the process, are secret, and are made once for an account and month."""

import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

import commands.keyring
from commands.keyring import FileKeyring, Keyring, KeyringError, MemoryKeyring, SealingKey, create_keyring
from commands.keyring_backup import back_up
from domain.errors import KeyringUnavailable
from tests.commands.disks import cut_short, damage_page, failing_disk, locked


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


async def saved(keyring: FileKeyring) -> SealingKey:
    """Ann's key of the month."""
    key = keyring.current("ann", "2026-11")
    await keyring.save()
    return key


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


async def test_saved_keys_outlive_the_process(open_file: Callable[..., FileKeyring]) -> None:
    first = open_file()
    key = first.current("ann", "2026-11")
    assert list(first.unsaved) == [key.name]
    await first.save()
    assert list(first.unsaved) == []
    second = open_file()
    assert second.find(key.name) == key.key
    assert second.current("ann", "2026-11").name == key.name
    assert list(second.unsaved) == []


async def test_a_new_key_is_no_one_s_before_it_is_saved(open_file: Callable[..., FileKeyring]) -> None:
    first, second = open_file(), open_file()
    key = first.current("ann", "2026-11")
    assert first.find(key.name) == key.key
    assert second.find(key.name) is None


def commits(path: Path) -> int:
    """How many transactions the write-ahead log holds (sqlite.org/fileformat2.html#walformat). Each one is synced."""
    wal = path.with_name(f"{path.name}-wal").read_bytes()
    page_bytes, _, salts = struct.unpack(">8xIi8s", wal[:24])
    frames = [wal[at : at + 24] for at in range(32, len(wal), 24 + page_bytes)]
    return sum(frame[4:8] != b"\0" * 4 for frame in frames if frame[8:16] == salts)


async def test_all_new_keys_are_saved_by_one_fsync(open_file: Callable[..., FileKeyring], tmp_path: Path) -> None:
    keyring = open_file()
    before = commits(tmp_path / "keyring.db")
    keys = {account: keyring.current(account, "2026-11") for account in map(str, range(300))}
    await keyring.save()
    assert commits(tmp_path / "keyring.db") == before + 1
    again = open_file()
    assert {account: again.current(account, "2026-11").key for account in keys} == {
        account: key.key for account, key in keys.items()
    }
    await keyring.save()  # there is nothing to be saved
    assert commits(tmp_path / "keyring.db") == before + 1


async def test_a_disk_that_fails_leaves_them_unsaved(open_file: Callable[..., FileKeyring]) -> None:
    keyring = open_file()
    key = keyring.current("ann", "2026-11")
    with failing_disk(), pytest.raises(KeyringUnavailable, match="can't be used now"):
        await keyring.save()
    assert list(keyring.unsaved) == [key.name]
    assert keyring.current("ann", "2026-11").name == key.name
    await keyring.save()
    assert open_file().find(key.name) == key.key


async def test_another_process_that_holds_it_is_waited_for_and_no_longer(
    open_file: Callable[..., FileKeyring], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands.keyring, "LOCK_TIMEOUT_MS", 50)
    keyring = open_file()
    key = keyring.current("ann", "2026-11")
    with locked(tmp_path / "keyring.db"), pytest.raises(KeyringUnavailable, match="locked"):
        await keyring.save()
    await keyring.save()
    assert open_file().find(key.name) == key.key


def test_keys_that_can_t_be_saved_have_a_bound(
    open_file: Callable[..., FileKeyring], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands.keyring, "UNSAVED_MAX", 2)
    keyring = open_file()
    ann = keyring.current("ann", "2026-11")
    keyring.current("ben", "2026-11")
    with pytest.raises(KeyringUnavailable, match="could not save"):
        keyring.current("cat", "2026-11")
    assert keyring.current("ann", "2026-11").name == ann.name


def test_a_read_that_fails_is_told(open_file: Callable[..., FileKeyring], tmp_path: Path) -> None:
    keyring = open_file()
    with closing(apsw.Connection(str(tmp_path / "keyring.db"))) as other:
        other.execute("DROP TABLE keys")
    with pytest.raises(KeyringUnavailable):
        keyring.find("a key")
    with pytest.raises(KeyringUnavailable):
        keyring.current("ann", "2026-11")


async def test_only_its_owner_may_read_it(open_file: Callable[..., FileKeyring], tmp_path: Path) -> None:
    keyring = open_file()
    keyring.current("ann", "2026-11")
    await keyring.save()
    files = list(tmp_path.iterdir())  # noqa: ASYNC240  # a test may
    assert files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_every_commit_is_synced(tmp_path: Path) -> None:
    with closing(commands.keyring._connect(tmp_path / "keyring.db")) as db:
        assert db.pragma("synchronous") == 2


async def test_few_keys_stay_in_memory(open_file: Callable[..., FileKeyring]) -> None:
    maker, keyring = open_file(), open_file(cached_max=3)
    keys = {account: maker.current(account, "2026-11") for account in map(str, range(20))}
    await maker.save()
    for _ in range(2):
        for account, key in keys.items():
            assert keyring.current(account, "2026-11").name == key.name
            assert keyring.find(key.name) == key.key
    assert max(len(keyring._current), len(keyring._by_name)) <= 3


async def test_what_is_unsaved_is_never_forgotten(open_file: Callable[..., FileKeyring]) -> None:
    keyring = open_file(cached_max=3)
    keys = {account: keyring.current(account, "2026-11") for account in map(str, range(20))}
    for account, key in keys.items():
        assert keyring.current(account, "2026-11").name == key.name
        assert keyring.find(key.name) == key.key
    await keyring.save()
    assert max(len(keyring._current), len(keyring._by_name)) <= 3 + 20


async def test_a_destroyed_key_is_found_no_more(open_file: Callable[..., FileKeyring], tmp_path: Path) -> None:
    key = await saved(open_file())
    with closing(apsw.Connection(str(tmp_path / "keyring.db"))) as db:
        db.execute("DELETE FROM keys WHERE name = ?", (key.name,))
    assert open_file().find(key.name) is None


async def test_a_reader_beside_the_owner_finds_keys(open_file: Callable[..., FileKeyring], tmp_path: Path) -> None:
    owner = open_file()
    reader = FileKeyring(tmp_path / "keyring.db", read_only=True)
    key = await saved(owner)
    assert reader.find(key.name) == key.key
    reader.close()


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="can't be read"):
        FileKeyring(tmp_path / "keyring.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_keyring_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "keyring.db").write_text("not a database, but a rather long text that SQLite looks at and refuses" * 9)
    with pytest.raises(KeyringError, match=r"keyring\.db can't be read .*\(none was made by `signet keyring backup`\)"):
        FileKeyring(tmp_path / "keyring.db")


@pytest.mark.parametrize("damage", [damage_page, cut_short])
async def test_a_damaged_file_is_refused_with_a_remedy_that_names_the_backup(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path, backup = tmp_path / "keyring.db", tmp_path / "safe.db"
    keyring = FileKeyring(path)
    for account in range(500):
        keyring.current(str(account), "2026-11")
    await keyring.save()
    back_up(path, backup)
    keyring.close()
    damage(path)
    with pytest.raises(KeyringError, match=rf"the last one: {backup}, 20.*signet keyring --help"):
        FileKeyring(path)


def test_a_keyring_that_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "keyring.db"
    with pytest.raises(KeyringError, match="is missing, and the log is not empty"):
        FileKeyring(path, must_exist=True)
    create_keyring(path)
    FileKeyring(path, must_exist=True).close()
    with pytest.raises(KeyringError, match="already"):
        create_keyring(path)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="missing"):
        FileKeyring(tmp_path / "missing" / "keyring.db")
