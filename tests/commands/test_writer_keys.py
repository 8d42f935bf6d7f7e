"""Keys are on disk before what they seal."""

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

import commands.keyring
from commands.keyring import FileKeyring
from commands.sealing import Sealer
from commands.stores.memory import Medium, MemoryLog
from domain.account import AccountRegistered, RegisterAccount
from domain.codec import CODEC
from domain.entry import seals_in
from domain.ids import AccountId
from domain.log import Append, Outcome
from tests.commands.disks import failing_disk, locked
from tests.commands.helpers import ANN, BEN, CAT, Clock, Desk, Passing, entries, register, send, whole, writing

Check = Callable[[Sequence[Append]], None]


class Checked(Passing):
    """Looks at each batch before it is stored."""

    check: Check = staticmethod(lambda batch: None)

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        self.check(batch)
        return await super().append(batch)


def keys_of(batch: Sequence[Append]) -> set[str]:
    """The keys that the batch's events name."""
    events = [event for append in batch for event in append.events]
    return {sealed.key for event in events for sealed in seals_in(CODEC.decode_entry(event.topic, event.data).e)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data/keyring.db"


@pytest.fixture
def keyring(path: Path) -> FileKeyring:
    path.parent.mkdir()
    return FileKeyring(path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sealer(keyring: FileKeyring, clock: Clock) -> Sealer:
    return Sealer(keyring, clock)


@pytest.fixture
async def desk(keyring: FileKeyring) -> AsyncIterator[Desk]:
    async with writing(Checked(MemoryLog(Medium())), keyring=keyring) as desk:
        yield desk
    keyring.close()


def newcomer(sealer: Sealer, account: AccountId) -> RegisterAccount:
    return register(account, name=sealer.seal(account, "a name"))


async def test_a_key_is_on_disk_before_the_first_event_that_it_seals(
    desk: Desk, sealer: Sealer, clock: Clock, path: Path, tmp_path: Path
) -> None:
    """I1: the machine stops right before each append, and what stands on the disk then is read by another engine."""
    assert isinstance(desk.log, Checked)
    named: set[str] = set()

    def stop_here(batch: Sequence[Append]) -> None:
        for file in (path, Path(f"{path}-wal")):
            shutil.copy(file, tmp_path)
        survivor = FileKeyring(tmp_path / path.name)
        assert all(survivor.find(key) for key in keys_of(batch))
        survivor.close()
        named.update(keys_of(batch))

    desk.log.check = stop_here
    await desk.all(newcomer(sealer, ANN), newcomer(sealer, BEN))
    talk = await desk.talk(ANN, BEN)
    clock.now += 40 * 86_400_000_000
    await desk.accepted(send(talk, body=sealer.seal(ANN, "a new month")))
    await desk.accepted(newcomer(sealer, CAT))
    assert len(named) == 4


async def test_the_new_keys_of_a_batch_are_saved_at_once(
    desk: Desk, sealer: Sealer, keyring: FileKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = keyring.save

    async def count() -> None:
        saved.append(len(keyring.unsaved))
        await save()

    monkeypatch.setattr(keyring, "save", count)
    await desk.all(*[newcomer(sealer, AccountId(f"account {number}")) for number in range(100)])
    assert saved == [100]
    # None is new, so nothing waits for that disk.
    await desk.accepted(newcomer(sealer, AccountId("account 7")))
    assert saved == [100]


async def test_what_can_t_be_saved_is_refused_and_never_stored(desk: Desk, sealer: Sealer) -> None:
    """I1: and what is sealed with other keys goes on beside it."""
    talk = await desk.talk(ANN)
    await desk.accepted(newcomer(sealer, BEN))
    before = await desk.log.head()
    with failing_disk():
        command = newcomer(sealer, CAT)
        waiting = [desk.submit(command), desk.submit(send(talk, body=sealer.seal(BEN, "hello")))]
        assert (await waiting[0]).code == "unavailable"  # type: ignore[union-attr]
        assert (await waiting[1]).seq == 2  # type: ignore[union-attr]
    assert [event.stream for event in (await whole(desk.log)) if event.position > before] == [f"conversation-{talk}"]
    # The same command again, now that the disk is well.
    await desk.accepted(command)
    [name] = [e.entry.e.name for e in await whole(desk.log) if isinstance(e.entry.e, AccountRegistered)][-1:]
    assert sealer.unseal(name) == "a name"


async def test_a_keyring_that_another_process_holds_is_unavailable(
    desk: Desk, sealer: Sealer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands.keyring, "LOCK_TIMEOUT_MS", 50)
    talk = await desk.talk(ANN)
    command = send(talk, body=sealer.seal(ANN, "hello"))
    with locked(path):
        assert await desk.refused(command) == "unavailable"
    await desk.accepted(command)
    assert len(await entries(desk.log, talk)) == 2
