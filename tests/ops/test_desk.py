"""One build after the other takes over within a running engine; what serves, or is kept, is never deleted."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from commands.stores.memory import Medium, MemoryLog
from ops.rebuilding import desk as desk_module
from ops.rebuilding.desk import Change, RebuildDesk, TakeOver, changed
from projections.catalogue import Build, Catalogue, Serving, exists
from projections.feed import Feed
from projections.inbox import Inbox
from projections.runner import Runner


@pytest.fixture
async def runner(tmp_path: Path) -> AsyncIterator[Runner]:
    feed = Feed(MemoryLog(Medium()))
    await feed.start()
    runner = Runner(feed, Inbox.open(tmp_path))
    yield runner
    runner.model.close()


def begin(place: Path, *numbers: int) -> None:
    for number in numbers:
        Inbox.open(place, number).close()


async def test_who_serves_again_before_the_grace_is_over_is_not_deleted(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "GRACE_S", 0.05)
    begin(tmp_path, 2)
    desk = RebuildDesk(tmp_path, {"inbox": runner})
    for number, keep in ((2, True), (1, False), (2, True)):
        await desk.take_over(TakeOver(name="inbox", build=Build(Inbox.version, number), keep=keep))
    await asyncio.sleep(0.2)  # the grace is over for all of them
    assert exists(tmp_path, Inbox, 2), "it serves"
    assert exists(tmp_path, Inbox, 1), "it is kept"
    await desk.close()


def test_what_is_kept_stays_so_when_an_equal_build_takes_over(tmp_path: Path) -> None:
    """Such as the version before an upgrade."""
    begin(tmp_path, 1, 2, 3)
    kept, served, equal = (Build(Inbox.version, number) for number in (1, 2, 3))
    Catalogue(tmp_path).put(Serving(name="inbox", build=served, earlier=kept))
    change = changed(tmp_path, TakeOver(name="inbox", build=equal, keep=False))
    change.record()
    change.clean_up()
    assert Catalogue(tmp_path).get("inbox") == Serving(name="inbox", build=equal, earlier=kept)
    assert [exists(tmp_path, Inbox, number) for number in (1, 2, 3)] == [True, False, True]


async def test_a_stop_while_something_is_deleted_is_a_quiet_one(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "GRACE_S", 0.0)
    deleting, stopped = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def delete(_change: Change) -> None:
        loop.call_soon_threadsafe(deleting.set)
        stopped.wait(5)

    monkeypatch.setattr(Change, "clean_up", delete)
    begin(tmp_path, 2)
    desk = RebuildDesk(tmp_path, {"inbox": runner})
    await desk.take_over(TakeOver(name="inbox", build=Build(Inbox.version, 2), keep=False))
    await deleting.wait()
    await desk.close()
    stopped.set()
