"""Snapshots of states: the same as the fold of the whole stream, or not used at all."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import commands.snapshots
import domain.recent
from commands.snapshots import BYTES_PER_EVENT, Snapshot, Snapshots
from commands.states import Slot, States
from commands.stores.memory import Medium, MemoryLog
from domain.conversation import Conversation, ConversationEvent, first_outcome
from domain.entry import Entry
from domain.ids import AccountId, ConversationId, conversation_stream
from domain.log import EventLog
from tests.commands.disks import cut_short, damage_page, emptied, failing_disk
from tests.commands.helpers import ANN, BEN, Watched, advance, send, writing
from tests.projections.histories import History, histories, record

STREAM = conversation_stream(ConversationId("talk"))
EVENT = "the id of an event"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshots.db"


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[Snapshots]:
    snapshots = Snapshots(path, **options)
    yield snapshots
    await snapshots.close()


def talk_of(version: int, members: int = 2) -> Conversation:
    names = [AccountId(f"member {number}") for number in range(members)]
    return Conversation(version=version, members=dict.fromkeys(names, "member"))


async def keep(path: Path, streams: int = 1) -> None:
    """A file with the snapshots of some streams, closed."""
    async with opened(path) as snapshots:
        for number in range(streams):
            snapshots.put(f"{STREAM}{number or ''}", 7, EVENT, talk_of(7, members=20))


def found(snapshots: Snapshots) -> Snapshot[Conversation] | None:
    return snapshots.find(STREAM, Conversation)


# The same state


@given(history=histories(), cut=st.floats(0, 1), recent_min=st.integers(1, 5))
@example(history=History(), cut=0.5, recent_min=1)
def test_a_snapshot_and_the_rest_are_the_whole_stream(history: History, cut: float, recent_min: int) -> None:
    """I2, I3, I8: of every stream, from wherever the snapshot was taken."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(domain.recent, "RECENT_MIN", recent_min)
        asyncio.run(check_history(history, int(len(history.events) * cut), Path(folder)))


async def check_history(history: History, cut: int, folder: Path) -> None:
    log = MemoryLog(Medium())
    await record(log, history.events[:cut])
    streams = sorted({event.stream for event in history.events[:cut]})
    async with opened(folder / "snapshots.db", events_min=0) as snapshots:
        made = {stream: (await slot_of(log, stream, snapshots)).version for stream in streams}
    await record(log, history.events[cut:])
    # No more are made, so what is found is what was written.
    async with opened(folder / "snapshots.db", events_min=1_000) as snapshots:
        for stream in streams:
            resumed, whole = await slot_of(log, stream, snapshots), await slot_of(log, stream, None)
            assert (resumed.version, resumed.committed, resumed.at) == (whole.version, whole.committed, whole.at)
            if isinstance(whole.state, Conversation):
                check_ids(history, stream, resumed.state, seq=made[stream] + 1)
                blank = domain.recent.Recent()
                for slot in (resumed, whole):
                    slot.state = msgspec.structs.replace(slot.state, recent=blank)
            assert resumed.state == whole.state


async def slot_of(log: EventLog, stream: str, snapshots: Snapshots | None) -> Slot[Any]:
    states = States(log, snapshots=snapshots)
    category, _, uuid = stream.partition("-")
    slot: Slot[Any] = await getattr(states, category)(uuid)
    return slot


def check_ids(history: History, stream: str, state: Conversation, *, seq: int) -> None:
    """Of everything beyond `since` the first outcome is known, and nothing up to the snapshot's seq is claimed."""
    assert state.recent.since >= seq
    firsts: dict[str, Entry[ConversationEvent]] = {}
    for event in history.events:
        if event.stream == stream:
            entry: Any = event.entry
            firsts.setdefault(entry.cmd, entry)
            if event.version >= state.recent.since and firsts[entry.cmd] is entry:
                assert state.recent.find(entry.cmd) == first_outcome(event.version, entry)


async def test_a_snapshot_is_read_back(path: Path) -> None:
    await keep(path)
    async with opened(path) as snapshots:
        snapshot = found(snapshots)
        assert snapshot is not None
        assert (snapshot.version, snapshot.event) == (7, EVENT)
        assert snapshot.state == msgspec.structs.replace(talk_of(7, members=20), recent=domain.recent.Recent.blank(8))
        assert snapshots.find("conversation-another", Conversation) is None


async def test_it_is_found_before_it_is_written_and_its_state_goes_its_own_way(path: Path) -> None:
    async with opened(path) as snapshots:
        state = talk_of(7)
        snapshots.put(STREAM, 7, EVENT, state)
        state.members.clear()
        snapshot = found(snapshots)
        assert snapshot is not None
        assert len(snapshot.state.members) == 2
        snapshots.put(STREAM, 8, EVENT, talk_of(8))
    async with opened(path) as snapshots:
        snapshot = found(snapshots)
        assert snapshot is not None
        assert snapshot.version == 8


async def test_large_states_get_snapshots_less_often(path: Path) -> None:
    async with opened(path, events_min=10) as snapshots:
        assert snapshots.put(STREAM, 7, EVENT, talk_of(7)) == 7 + 10
        large = talk_of(7, members=10_000)
        due = snapshots.put(STREAM, 7, EVENT, large)
        assert due > 7 + 10_000 * len("member 9999") // BYTES_PER_EVENT
        snapshot = found(snapshots)
        assert snapshot is not None
        assert snapshot.due == due


async def test_what_waits_for_the_disk_has_a_bound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.snapshots, "WAITING_MAX", 3)
    await keep(path, streams=10)
    async with opened(path) as snapshots:
        kept = [snapshots.find(f"{STREAM}{number or ''}", Conversation) for number in range(10)]
        assert [each is not None for each in kept] == [True] * 3 + [False] * 7


# Not used at all


async def test_of_other_code_none_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await keep(path)
    monkeypatch.setattr(commands.snapshots, "fingerprint", lambda: "another release")
    async with opened(path) as snapshots:
        assert found(snapshots) is None
        snapshots.put(STREAM, 9, EVENT, talk_of(9))
    async with opened(path) as snapshots:
        assert found(snapshots) is not None


def test_the_fingerprint_changes_with_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = commands.snapshots.fingerprint()
    assert commands.snapshots.fingerprint() == before
    source = Path(str(domain.recent.__file__))
    changed = tmp_path / "recent.py"
    changed.write_text(source.read_text() + "\n")
    monkeypatch.setattr(domain.recent, "__file__", str(changed))
    assert commands.snapshots.fingerprint() != before


@pytest.mark.parametrize("column", ["version = 6", "event = 'another'", "state = x'80'", "digest = x''"])
async def test_a_changed_row_is_not_used(path: Path, column: str) -> None:
    await keep(path)
    with closing(apsw.Connection(str(path))) as db:
        db.execute(f"UPDATE snapshots SET {column}")
    async with opened(path) as snapshots:
        assert found(snapshots) is None


async def test_bytes_that_are_no_state_are_not_used(path: Path) -> None:
    async with opened(path) as snapshots:
        snapshots.put(STREAM, 7, EVENT, {"members": "nobody"})
        assert found(snapshots) is None


async def test_a_file_that_is_no_database_is_made_anew(path: Path) -> None:
    path.write_bytes(b"not a database" * 1_000)  # noqa: ASYNC240  # a test may
    await keep(path)
    async with opened(path) as snapshots:
        assert found(snapshots) is not None


@pytest.mark.parametrize("damage", [damage_page, cut_short, emptied])
async def test_a_damaged_file_is_made_anew(path: Path, damage: Any, caplog: pytest.LogCaptureFixture) -> None:
    await keep(path, streams=200)
    damage(path)
    async with opened(path) as snapshots:
        for number in range(200):
            snapshots.find(f"{STREAM}{number or ''}", Conversation)
    await keep(path, streams=200)
    async with opened(path) as snapshots:
        assert all(snapshots.find(f"{STREAM}{number or ''}", Conversation) for number in range(200))


async def test_a_file_that_is_damaged_while_it_is_used_is_made_anew(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as snapshots:
        with closing(apsw.Connection(str(path))) as db:
            db.execute("DROP TABLE snapshots")
        assert found(snapshots) is None
        assert "it goes on without" in caplog.text
        snapshots.put(STREAM, 7, EVENT, talk_of(7))
    async with opened(path) as snapshots:
        assert found(snapshots) is not None


async def test_a_disk_that_fails_costs_only_the_snapshot(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(path) as snapshots:
        with failing_disk():
            snapshots.put(STREAM, 7, EVENT, talk_of(7))
            assert snapshots._writing is not None
            await snapshots._writing
        assert found(snapshots) is None
        snapshots.put(STREAM, 8, EVENT, talk_of(8))
    async with opened(path) as snapshots:
        assert found(snapshots) is not None
    assert "it goes on without" in caplog.text


async def test_where_there_can_be_no_file_there_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path / "missing" / "snapshots.db") as snapshots:
        assert "there are no snapshots" in caplog.text
        snapshots.put(STREAM, 7, EVENT, talk_of(7))
        assert snapshots._writing is not None
        await snapshots._writing
        assert found(snapshots) is None


# The writer with snapshots


async def test_the_writer_makes_them_as_it_goes_on_and_starts_from_them(log: Watched, path: Path) -> None:
    async with opened(path, events_min=10) as snapshots, writing(log, snapshots=snapshots) as desk:
        talk = await desk.talk(ANN, BEN)
        first = send(talk)
        reply = await desk.accepted(first)
        await desk.all(*[send(talk) for _ in range(25)])
        for seq in range(2, 20):
            await desk.accepted(advance(talk, BEN, delivered=seq))
    async with opened(path, events_min=10) as snapshots, writing(log, snapshots=snapshots) as desk:
        log.events_read = 0
        assert (await desk.accepted(send(talk, after=27))).seq == 28
        assert log.events_read < 20  # of some fifty
        # An id from before the snapshot is looked up.
        again = await desk.accepted(first)
        assert (again.seq, again.at) == (reply.seq, reply.at)


async def test_a_log_that_was_restored_from_an_older_copy_is_believed_and_not_the_snapshot(
    path: Path, tmp_path: Path
) -> None:
    """I3"""
    medium, older, stale = Medium(), Medium(), tmp_path / "stale.db"
    async with opened(path, events_min=1) as snapshots, writing(MemoryLog(medium), snapshots=snapshots) as desk:
        talk = await desk.talk(ANN)
        for _ in range(5):
            await desk.accepted(send(talk))
    shutil.copy(path, stale)
    older.log = medium.log[:-3]
    older.streams = {stream: [one for one in events if one in older.log] for stream, events in medium.streams.items()}
    # The log is shorter than the snapshot says; then it is longer, and holds something else.
    async with opened(path) as snapshots, writing(MemoryLog(older), snapshots=snapshots) as desk:
        assert [(await desk.accepted(send(talk, after=3))).seq for _ in range(5)] == [4, 5, 6, 7, 8]
    async with opened(stale) as snapshots:
        snapshot = snapshots.find(conversation_stream(talk), Conversation)
        assert snapshot is not None
        assert snapshot.version >= 3  # what was lost begins here
        states = States(MemoryLog(older), snapshots=snapshots)
        resumed, whole = await states.conversation(talk), await States(MemoryLog(older)).conversation(talk)
        assert (resumed.version, resumed.state) == (7, whole.state)
