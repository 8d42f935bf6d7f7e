"""An event that a read model can't take, and that an operator has skipped, is no drift, and keeps nobody from
rebuilding; one that only the new build can't take does."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from rich.progress import Progress

from commands.stores import open_log
from domain.codec import Event
from ops.bench.historian import Historian
from ops.check import _check
from ops.errors import OpsError
from ops.rebuilding.build import rebuild
from ops.settings import Settings, load_settings
from ops.writing import write_side
from projections.building import Builder
from projections.feed import Feed
from projections.inbox import Inbox
from projections.runner import Runner


class Stubborn:
    """The inbox fails at these events."""

    def __init__(self) -> None:
        self.at: set[tuple[str, int]] = set()


@pytest.fixture
def stubborn(monkeypatch: pytest.MonkeyPatch) -> Stubborn:
    stubborn, apply = Stubborn(), Inbox.apply

    def fail(self: Inbox, events: Sequence[Event]) -> None:
        if stubborn.at & {(event.stream, event.version) for event in events}:
            raise ValueError("no")
        apply(self, events)

    monkeypatch.setattr(Inbox, "apply", fail)
    return stubborn


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    settings = load_settings(tmp_path / "data")
    async with write_side(settings) as side:
        await Historian(side, accounts=9, directs=4, groups=0).write(200, lambda events: None)
    return settings


async def fill(settings: Settings) -> None:
    log = open_log(settings.events_url, read_only=True)
    assert isinstance(settings.readmodels_place, Path)
    with closing(Inbox.open(settings.readmodels_place)) as model:
        await Builder(log, model).fill(await log.head())
        feed = Feed(log)
        await feed.start()
        runner = Runner(feed, model)
        for parked in model.parking.all():
            if parked.reason is not None:
                await runner.skip(parked.stream)
        assert model.parking.count() == 0
    await log.close()


async def talk(settings: Settings) -> tuple[str, int]:
    """A message of a conversation in which more is said after it."""
    log = open_log(settings.events_url, read_only=True)
    events = await log.read_all(after=0, limit=1_000)
    await log.close()
    return next((each.stream, each.version) for each in events if each.topic == "MessageSent" and each.version < 5)


async def test_what_was_skipped_is_no_drift_and_is_tried_again_by_a_rebuild(
    settings: Settings, stubborn: Stubborn
) -> None:
    stubborn.at.add(await talk(settings))
    await fill(settings)
    checked = await _check(settings, "inbox", Progress())
    assert checked.drift == 0
    rebuilt = await rebuild(settings, "inbox", lambda progress: None)
    assert (rebuilt.build, rebuilt.parked > 0) == (2, True)


async def test_a_build_that_lacks_what_serves_does_not_take_over(settings: Settings, stubborn: Stubborn) -> None:
    await fill(settings)
    stubborn.at.add(await talk(settings))
    with pytest.raises(OpsError, match="nothing was changed"):
        await rebuild(settings, "inbox", lambda progress: None)
