"""What is SQLite's own: durability, locks, a full disk, the write-ahead log, and reading beside the engine."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import apsw
import pytest

from commands.stores import sqlite as adapter
from commands.stores.sqlite import SqliteLog, open_sqlite
from commands.stores.sqlite_recorder import ROWS
from domain.log import Appended, Conflict, StoreUnavailable, Unavailable, Unknown
from tests.commands.disks import failing_disk, locked
from tests.commands.stores.appends import datas, follow, must_append, new_append, new_stream, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteLog]:
    log = open_sqlite(f"sqlite://{path}")
    yield log
    await log.close()


def connection(log: SqliteLog) -> apsw.Connection:
    return log.recorder._open()


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


async def test_every_commit_is_synced(log: SqliteLog) -> None:
    """I1."""
    [[mode]] = connection(log).execute("PRAGMA journal_mode")
    [[synchronous]] = connection(log).execute("PRAGMA synchronous")
    assert (mode, synchronous) == ("wal", 2)


async def test_a_subscription_in_the_same_process_waits_for_no_timer(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "POLL_S", 3_600)
    stream = new_stream()
    seen = asyncio.create_task(follow(log, {stream}, 20, after=0))
    await write(log, stream, 20)
    assert len(await seen) == 20


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 1])
async def test_a_statement_holds_rows_of_several_streams(log: SqliteLog, count: int) -> None:
    """And those of a conflict are not among them."""
    one, other = new_append(new_stream(), events=count), new_append(new_stream(), events=count)
    late = new_append(new_stream(), expected=7, events=2)
    first, conflict, last = await log.append([one, late, other])
    assert conflict == Conflict(expected=7, current=-1)
    stored = await log.read_all(limit=1_000)
    expected = [
        (each.stream, version, event.topic, event.data)
        for each in (one, other)
        for version, event in enumerate(each.events)
    ]
    assert [(event.stream, event.version, event.topic, event.data) for event in stored] == expected
    assert isinstance(first, Appended)
    assert isinstance(last, Appended)
    assert [*(first.positions or ()), *(last.positions or ())] == [event.position for event in stored]
    assert first.version == last.version == count - 1


# Slow disks


class SlowDisk:
    """Every commit takes 50 ms, in whichever thread it runs."""

    def __init__(self, log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[int] = []
        self._commit = log.recorder.commit
        monkeypatch.setattr(log.recorder, "commit", self._slow_commit)

    def _slow_commit(self) -> None:
        self.threads.append(threading.get_ident())
        time.sleep(0.05)  # the disk, which blocks whichever thread waits for it
        self._commit()


@pytest.fixture
async def slow(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    """It is known to be slow already."""
    slow = SlowDisk(log, monkeypatch)
    while not log._pace.in_thread:
        await must_append(log, new_append(new_stream()))
    slow.threads.clear()
    return slow


async def test_a_few_slow_commits_are_enough_to_get_them_out_of_the_loop_s_thread(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11"""
    slow = SlowDisk(log, monkeypatch)
    for _ in range(6):
        await must_append(log, new_append(new_stream()))
    assert [thread == threading.get_ident() for thread in slow.threads] == [True] * 3 + [False] * 3


async def test_while_a_slow_commit_runs_reads_are_answered_and_see_nothing_of_it(
    log: SqliteLog, slow: SlowDisk
) -> None:
    """I1"""
    stream = new_stream()
    appending = asyncio.create_task(log.append([new_append(stream)]))
    while not slow.threads:  # noqa: ASYNC110  # the loop's next turn, not a time
        await asyncio.sleep(0)
    assert await log.read_stream(stream, limit=1) == []
    assert len(await log.read_all(limit=100)) == await log.head()
    assert not appending.done()
    assert isinstance((await appending)[0], Appended)
    assert len(await log.read_stream(stream, limit=1)) == 1


async def test_appends_that_come_at_once_take_turns_on_a_slow_disk(log: SqliteLog, slow: SlowDisk) -> None:
    appends = [new_append(new_stream()) for _ in range(5)]
    outcomes = await asyncio.gather(*[log.append([append]) for append in appends])
    assert all(isinstance(outcome, Appended) for [outcome] in outcomes)
    assert len(slow.threads) == 5


async def test_a_slow_commit_that_fails_is_unknown_as_a_fast_one_is(log: SqliteLog, slow: SlowDisk) -> None:
    """I1, I2"""
    append = new_append(new_stream(), events=3)
    with failing_disk():
        outcomes = await log.append([append])
    assert isinstance(outcomes[0], Unknown)
    await must_append(log, append)


async def test_a_checkpoint_takes_its_turn_between_slow_commits(
    log: SqliteLog, slow: SlowDisk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "WAL_PAGES_MAX", 40)
    stream, version, sizes = new_stream(), -1, []
    for _ in range(20):
        version = (await must_append(log, new_append(stream, expected=version, events=300))).version
        sizes.append(wal_bytes(path))
    assert sizes[-1] <= 2 * sizes[6]


# Locks


async def test_an_append_waits_for_a_lock_and_the_loop_goes_on(log: SqliteLog, path: Path) -> None:
    append = new_append(new_stream())
    with locked(path) as other:
        waiting = asyncio.create_task(log.append([append]))
        await asyncio.sleep(0)
        assert await log.read_stream(append.stream, limit=1) == []
        assert not waiting.done()
        other.execute("ROLLBACK")
    assert isinstance((await waiting)[0], Appended)


async def test_a_lock_that_stays(log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "LOCK_TIMEOUT_S", 0.05)
    batch = [new_append(new_stream()) for _ in range(3)]
    with locked(path):
        outcomes = await log.append(batch)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert "another process holds its lock" in str(outcomes[0])
    assert [type(outcome) for outcome in await log.append(batch)] == [Appended] * 3


async def test_a_reader_that_stays_does_not_stop_the_writer(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints get nowhere meanwhile; the write-ahead log grows."""
    monkeypatch.setattr(adapter, "WAL_PAGES_MAX", 1)
    stream = new_stream()
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM stored_events").fetchall()
        await write(log, stream, 20)
    assert len(await log.read_stream(stream, limit=100)) == 20


# Failures of the disk


async def test_a_full_disk(log: SqliteLog) -> None:
    """Nothing is stored, it is said why, and it goes on as soon as there is room."""
    await must_append(log, new_append(new_stream()))
    [[pages]] = connection(log).execute("PRAGMA page_count")
    connection(log).execute(f"PRAGMA max_page_count={pages}")
    batch = [new_append(new_stream(), events=100), new_append(new_stream())]
    outcomes = await log.append(batch)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert "make room on the disk" in str(outcomes[0])
    assert await log.read_stream(batch[1].stream, limit=1) == []

    connection(log).execute("PRAGMA max_page_count=1000000")
    assert [type(outcome) for outcome in await log.append(batch)] == [Appended] * 2


async def test_a_commit_that_fails_at_the_disk_is_unknown_until_it_is_tried_again(log: SqliteLog) -> None:
    """I1, I2."""
    append = new_append(new_stream(), events=3)
    with failing_disk():
        outcomes = await log.append([append])
    assert isinstance(outcomes[0], Unknown)
    assert "check the disk" in outcomes[0].reason
    await must_append(log, append)
    assert datas(await log.read_stream(append.stream, limit=10)) == datas(append.events)


async def test_a_lost_table(log: SqliteLog, path: Path) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("DROP TABLE stored_events")
    [outcome] = await log.append([new_append(new_stream())])
    assert isinstance(outcome, Unavailable)
    with pytest.raises(StoreUnavailable):
        await log.head()


# The write-ahead log

APPENDS_MAX = 500


def wal_bytes(path: Path) -> int:
    wal = path.with_name("log.db-wal")
    return wal.stat().st_size if wal.exists() else 0


async def test_the_write_ahead_log_stays_small_under_a_writer_that_never_rests(
    log: SqliteLog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "WAL_PAGES_MAX", 40)
    stream, version, size, used_again = new_stream(), -1, 0, 0
    # How far the writer gets while a checkpoint syncs, the disk decides; then it begins at the front again.
    for _ in range(APPENDS_MAX):
        version = (await must_append(log, new_append(stream, expected=version, events=300))).version
        before, size = size, wal_bytes(path)
        used_again = used_again + 1 if size <= before else 0
        if used_again == 20:
            break
    assert used_again == 20, "it grows with every append"
    assert len(await log.read_stream(stream, limit=1_000_000)) == version + 1


async def test_closing_moves_everything_into_the_file(path: Path) -> None:
    log = open_sqlite(f"sqlite://{path}")
    append = new_append(new_stream(), events=5)
    await log.append([append])
    await log.close()
    assert wal_bytes(path) == 0
    with closing(
        apsw.Connection(f"file:{path}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    ) as file:
        assert [data for [data] in file.execute("SELECT state FROM stored_events")] == datas(append.events)


async def test_a_checkpoint_that_fails_is_only_told(
    log: SqliteLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "WAL_PAGES_MAX", 1)
    await must_append(log, new_append(new_stream()))
    with failing_disk():
        assert log._checkpointing is not None
        await log._checkpointing
    assert "could not be moved into the file" in caplog.text
    await must_append(log, new_append(new_stream()))


# Reading beside the engine


async def test_a_read_only_log_follows_the_engine(log: SqliteLog, path: Path) -> None:
    stream = new_stream()
    await must_append(log, new_append(stream))
    beside = open_sqlite(f"sqlite://{path}", read_only=True)
    seen = asyncio.create_task(follow(beside, {stream}, 3, after=0))
    await must_append(log, new_append(stream, expected=0, events=2))
    assert await seen == await log.read_stream(stream, limit=10) == await beside.read_stream(stream, limit=10)
    await beside.close()


async def test_a_read_only_log_writes_nothing(path: Path) -> None:
    log = open_sqlite(f"sqlite://{path}")
    stream = new_stream()
    await must_append(log, new_append(stream))
    await log.close()
    before = digest(path)

    beside = open_sqlite(f"sqlite://{path}", read_only=True)
    [outcome] = await beside.append([new_append(stream, expected=0)])
    assert isinstance(outcome, Unavailable)
    assert "give this user the right to write" in outcome.reason
    assert len(await beside.read_stream(stream, limit=10)) == 1
    await beside.close()
    assert digest(path) == before
