"""The keyring's own backup: whole, secret, and known on the day on which it is needed."""

import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from commands.keyring import FileKeyring
from commands.keyring_backup import BackupFailed, back_up, last_backup
from tests.commands.disks import damage_page, failing_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring.db"


@pytest.fixture
def owner(path: Path) -> Iterator[FileKeyring]:
    keyring = FileKeyring(path)
    yield keyring
    keyring.close()


async def make(owner: FileKeyring, count: int, period: str = "2026-11") -> dict[str, bytes]:
    keys = [owner.current(str(account), period) for account in range(count)]
    await owner.save()
    return {key.name: key.key for key in keys}


async def test_a_backup_is_a_keyring_with_all_keys(owner: FileKeyring, path: Path, tmp_path: Path) -> None:
    keys = await make(owner, 50)
    made = back_up(path, tmp_path / "safe.db")
    assert (made.keys, made.path) == (50, str(tmp_path / "safe.db"))
    assert last_backup(path) == made
    restored = FileKeyring(tmp_path / "safe.db")
    assert {name: restored.find(name) for name in keys} == keys
    restored.close()


async def test_it_is_one_file_that_only_its_owner_may_read(owner: FileKeyring, path: Path, tmp_path: Path) -> None:
    await make(owner, 1)
    folder = tmp_path / "safe"
    folder.mkdir()
    back_up(path, folder / "keyring.db")
    [file] = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_it_holds_whole_batches_while_the_owner_goes_on(owner: FileKeyring, path: Path, tmp_path: Path) -> None:
    """Each save is in it or is not."""
    backups = [tmp_path / f"{number}.db" for number in range(5)]
    copying = threading.Thread(target=lambda: [back_up(path, backup) for backup in backups])
    copying.start()
    months = 0
    while copying.is_alive():
        await make(owner, 20, period=f"month {months}")
        months += 1
    copying.join()
    await make(owner, 20)
    for backup in backups:
        with closing(apsw.Connection(str(backup))) as copy:
            assert {count for [count] in copy.execute("SELECT count(*) FROM keys GROUP BY period")} <= {20}


async def test_an_earlier_backup_is_never_overwritten(owner: FileKeyring, path: Path, tmp_path: Path) -> None:
    await make(owner, 1)
    back_up(path, tmp_path / "safe.db")
    before = (tmp_path / "safe.db").read_bytes()
    with pytest.raises(BackupFailed, match="name a new file"):
        back_up(path, tmp_path / "safe.db")
    assert (tmp_path / "safe.db").read_bytes() == before


async def test_what_can_not_be_written_leaves_nothing(owner: FileKeyring, path: Path, tmp_path: Path) -> None:
    await make(owner, 1)
    (tmp_path / "safe").mkdir()
    with failing_disk(), pytest.raises(BackupFailed, match="could not be copied"):
        back_up(path, tmp_path / "safe/keyring.db")
    assert list((tmp_path / "safe").iterdir()) == []
    assert last_backup(path) is None
    with pytest.raises(BackupFailed, match="missing"):
        back_up(path, tmp_path / "missing/keyring.db")


async def test_a_damaged_keyring_is_no_backup(path: Path, tmp_path: Path) -> None:
    keyring = FileKeyring(path)
    await make(keyring, 500)
    keyring.close()
    damage_page(path)
    with pytest.raises(BackupFailed):
        back_up(path, tmp_path / "safe.db")
    assert not (tmp_path / "safe.db").exists()


def test_there_is_nothing_to_be_copied(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupFailed, match="could not be copied"):
        back_up(path, tmp_path / "safe.db")
    assert not (tmp_path / "safe.db").exists()
