"""What the feed gets: in order of position, without a hole, whatever is open."""

import logging

import pytest

from commands.handover import HandOver
from commands.stores.memory import Medium, MemoryLog
from domain.codec import CODEC, Event
from tests.commands.helpers import ANN, send, whole, writing


@pytest.fixture
async def events(medium: Medium) -> list[Event]:
    """Ten events in the log."""
    log = MemoryLog(medium)
    async with writing(log) as desk:
        talk = await desk.talk(ANN)
        for _ in range(7):
            await desk.accepted(send(talk))
    return await whole(log)


class Feed:
    def __init__(self, medium: Medium) -> None:
        self.events: list[Event] = []
        self.hand_over = HandOver(MemoryLog(medium), CODEC, self.events.extend)


@pytest.fixture
def feed(medium: Medium) -> Feed:
    return Feed(medium)


async def test_what_is_known_to_be_stored_is_handed_over_without_reading(
    medium: Medium, feed: Feed, events: list[Event]
) -> None:
    medium.faults.go_away()
    await feed.hand_over.give(events[:3], doubtful=False)
    await feed.hand_over.give([], doubtful=False)
    await feed.hand_over.give(events[3:], doubtful=False)
    assert feed.events == events
    assert (feed.hand_over.position, feed.hand_over.behind) == (events[-1].position, False)


async def test_while_an_outcome_is_unknown_the_log_is_read(feed: Feed, events: list[Event]) -> None:
    await feed.hand_over.give(events[:2], doubtful=False)
    await feed.hand_over.give([], doubtful=True)
    assert feed.events == events
    assert feed.hand_over.behind
    # Once more after the outcome is known, and then no longer.
    await feed.hand_over.give(events[8:], doubtful=False)
    assert feed.events == events
    assert not feed.hand_over.behind


async def test_what_can_t_be_read_is_read_later(
    medium: Medium, feed: Feed, events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "signet.writer")
    medium.faults.go_away()
    await feed.hand_over.give(events[:2], doubtful=True)
    await feed.hand_over.give(events[2:4], doubtful=False)
    assert feed.events == []
    assert feed.hand_over.behind
    medium.faults.heal()
    await feed.hand_over.give([], doubtful=False)
    assert feed.events == events
    assert not feed.hand_over.behind


async def test_much_is_handed_over_page_by_page(
    feed: Feed, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commands.handover._PAGE", 3)
    await feed.hand_over.give([], doubtful=True)
    assert feed.events == events
