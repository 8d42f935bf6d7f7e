"""The runner on SQLite's files: a full disk, locks, checkpoints."""

from pathlib import Path

import apsw
import pytest

from commands.stores.memory import Medium, MemoryLog
from projections import runner as runner_module
from projections import sqlite
from projections.feed import Feed
from projections.readmodel import ReadModel, ReadModelStopped
from projections.runner import Runner
from tests.projections.histories import fold
from tests.projections.test_runner import Ledger, accounts, running, until, wait


@pytest.fixture
def feed() -> Feed:
    return Feed(MemoryLog(Medium()))


async def test_a_full_disk_is_waited_out(feed: Feed, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """I9, I11: nothing is parked, the rows that are in can be read, who waits is told; then it goes on by itself."""
    model = Ledger.open(tmp_path)
    runner = Runner(feed, model, gather_ms=1)
    events = accounts(1_000)
    async with running(runner):
        feed.publish(events[:2])
        await wait(runner, events[1].position)
        [[pages]] = model.db.query("PRAGMA page_count")
        fill(model, pages + 2)
        feed.publish(events[2:])
        with pytest.raises(ReadModelStopped, match=r"tries again: FullError\('database or disk is full'\)"):
            await wait(runner, events[-1].position)
        assert runner.stopped is not None
        assert model.stored() == [event.position for event in events if event.position <= runner.position]
        await wait(runner, events[1].position)
        with pytest.raises(ReadModelStopped):
            await wait(runner, events[-1].position)
        fill(model, 1_000_000)
        await until(lambda: runner.stopped is None)
        await wait(runner, events[-1].position)
    assert (runner.tries, runner.parked) == (0, 0)
    assert model.row_hash() == fold(Ledger, events, batch_max=500).row_hash()
    assert "(try 2)" in caplog.text
    assert "goes on after" in caplog.text


def fill(model: ReadModel, pages: int) -> None:
    """SQLite says that the disk is full where the file would have more pages."""
    model.db.query(f"PRAGMA max_page_count = {pages}")


async def test_a_file_that_somebody_has_locked_is_tried_again(feed: Feed, tmp_path: Path) -> None:
    model = Ledger.open(tmp_path)
    runner = Runner(feed, model, gather_ms=1)
    events = accounts(2)
    other = apsw.Connection(str(tmp_path / "ledger-1.db"))
    other.execute("BEGIN IMMEDIATE")
    async with running(runner):
        feed.publish(events)
        await until(lambda: runner.tries > 0)
        other.execute("ROLLBACK")
        other.close()
        await wait(runner, events[-1].position)
    assert (model.stored(), runner.parked) == ([event.position for event in events], 0)


async def test_checkpoints_are_made_when_the_write_ahead_log_has_grown(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_BYTES_MAX", 5 * sqlite.PAGE_BYTES)
    model = Ledger.open(tmp_path)
    runner = Runner(feed, model)
    events = accounts(100)
    async with running(runner):
        for event in events:
            feed.publish([event])
            await wait(runner, event.position)
    assert (tmp_path / "ledger-1.db-wal").stat().st_size < 60_000
    assert model.stored() == [event.position for event in events]


async def test_a_checkpoint_that_fails_is_made_later(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, for instance; the rows go on meanwhile."""
    monkeypatch.setattr(sqlite, "WAL_BYTES_MAX", 0)
    monkeypatch.setattr(runner_module, "CHECKPOINT_PAUSE_S", 0.0)
    model = Ledger.open(tmp_path)
    runner = Runner(feed, model, gather_ms=1)
    events = accounts(2)
    async with running(runner):
        with monkeypatch.context() as patch:
            patch.setattr(model.db, "checkpoint", failing)
            feed.publish(events[:1])
            await until(lambda: "is made later" in caplog.text)
        feed.publish(events[1:])
        await wait(runner, events[-1].position)
        await until(lambda: not model.db.checkpoint_is_due())
    assert "'ledger' failed, and is made later: IOError('disk I/O error')" in caplog.text
    assert (runner.tries, model.stored()) == (0, [event.position for event in events])


async def test_a_checkpoint_that_failed_is_not_made_after_each_batch(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite, "WAL_BYTES_MAX", 0)
    model = Ledger.open(tmp_path)
    monkeypatch.setattr(model.db, "checkpoint", failing)
    runner = Runner(feed, model, gather_ms=1)
    async with running(runner):
        for event in accounts(5):
            feed.publish([event])
            await wait(runner, event.position)
    assert caplog.text.count("is made later") == 1


def failing() -> None:
    raise apsw.IOError("disk I/O error")
