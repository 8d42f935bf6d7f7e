"""Parking: a poisonous event is set aside with what rests on it, and everything else goes on."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.stores.memory import Medium, MemoryLog
from domain.codec import Event
from domain.ids import conversation_stream, receipts_stream
from domain.log import Append, NewEvent
from projections import feed as feed_module
from projections import parking
from projections.database import DatabaseUnavailable
from projections.feed import Feed
from projections.filling import apply_until_failure
from projections.parking import HeldBack, NotParked, Parked, ParkedFull, rests_on
from projections.readmodel import Place, ReadModel
from projections.runner import Runner
from tests.projections.allergic import (
    ALLERGIC,
    NOW,
    TIMEOUT_S,
    Allergic,
    AllergicInbox,
    AllergicLedger,
    AllergicMessages,
    AllergicReceipts,
    Failing,
    Ledger,
    free_of,
    held,
    retry_all,
    run,
    run_through,
    runner_on,
    where,
)
from tests.projections.eventful import eventful
from tests.projections.histories import History, fold, record
from tests.projections.stores import new_model, throw_away

pytestmark = pytest.mark.usefixtures("each_store")


@pytest.fixture(autouse=True)
def healthy() -> None:
    Allergic.poison = set()


batch_sizes = st.integers(min_value=1, max_value=30)


@pytest.mark.parametrize("model_type", ALLERGIC, ids=lambda each: each.name)
@settings(max_examples=40)
@given(
    history=eventful(), picks=st.lists(st.integers(0, 10_000), max_size=5), sizes=st.tuples(batch_sizes, batch_sizes)
)
async def test_without_what_is_parked_and_then_with_it(
    model_type: type[Allergic], history: History, picks: list[int], sizes: tuple[int, int]
) -> None:
    """I9: wherever poison stands, the rows are those of all other streams; retried, those of a rebuild."""
    log = MemoryLog(Medium())
    events = await record(log, history.events)
    poison = {where(events[pick % len(events)]) for pick in picks}
    free, parked = free_of(events, poison)
    model_type.poison = poison
    model = new_model(model_type)
    runner = await runner_on(log, model, sizes[0])
    await run(runner, events[len(events) // 2].position)
    runner = await runner_on(log, model, sizes[1])  # a restart
    await run(runner, events[-1].position)
    assert held(model) == parked
    assert runner.parked == len(parked)
    assert model.position == events[-1].position
    plain = ALLERGIC[model_type]
    assert model.row_hash() == fold(plain, free, batch_max=7).row_hash()

    model_type.poison = set()
    await retry_all(runner, model)
    assert (held(model), runner.parked) == ({}, 0)
    assert model.row_hash() == fold(plain, events, batch_max=7).row_hash()


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("at", range(10))
async def test_poison_at_every_place_of_a_batch(at: int, number: int, place: Place) -> None:
    """I9: also where the next event is poison too; the file knows it after a restart."""
    history = History()
    for index in range(10):
        history.register(f"account {index}")
    log = MemoryLog(Medium())
    events = [event for event in await record(log, history.events) if event.version == 0]
    poison = [where(event) for event in events[at : at + number]]
    AllergicLedger.poison = set(poison)
    model = AllergicLedger.open(place)
    feed = Feed(log)
    await feed.start()
    runner = Runner(feed, model, clock=lambda: NOW)
    await run(runner, feed.head)
    model.close()

    model = AllergicLedger.open(place)
    assert [(each.stream, each.version, each.upto) for each in model.parking.all()] == [(s, 0, 1) for s, _ in poison]
    assert {stream for stream, _ in model.stored()} == {event.stream for event in events} - {s for s, _ in poison}
    assert (await runner_on(log, model)).parked == len(poison)


class Scene:
    """Ann and Ben with a group that has a message and a receipt, and one without trouble."""

    def __init__(self) -> None:
        self.history = History()
        self.ann, self.ben = self.history.register("ann"), self.history.register("ben")
        self.group, self.other = self.history.group(self.ann, self.ben), self.history.group(self.ann, self.ben)
        for talk in (self.group, self.other):
            for _ in range(3):
                self.history.send(talk, self.ann)
            self.history.receive(talk, self.ben, delivered=3, read=2)

    @property
    def stream(self) -> str:
        return conversation_stream(self.group)

    async def recorded(self, log: MemoryLog) -> list[Event]:
        return await record(log, self.history.events)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(Medium())


async def test_a_parked_event_is_told_with_all_that_an_operator_needs(scene: Scene, log: MemoryLog) -> None:
    events = await scene.recorded(log)
    AllergicInbox.poison = {(scene.stream, 2)}
    model = new_model(AllergicInbox)
    runner = await runner_on(log, model)
    await run(runner, events[-1].position)
    [bad] = [event for event in events if where(event) == (scene.stream, 2)]
    [first, second] = model.parking.all()
    assert first == Parked(
        stream=scene.stream, version=2, upto=3, position=bad.position, topic="MessageSent", event=bad.entry.id,
        reason=f"ValueError('no row can be made of {scene.stream} 2')", at=NOW,
    )  # fmt: skip
    assert (second.stream, second.reason) == (receipts_stream(scene.group), None)
    assert runner.is_parked("somewhere", scene.stream)
    assert not runner.is_parked(conversation_stream(scene.other))


async def test_what_comes_later_waits_too(scene: Scene, log: MemoryLog) -> None:
    AllergicInbox.poison = {(scene.stream, 1)}
    events = await scene.recorded(log)
    model = new_model(AllergicInbox)
    await run(await runner_on(log, model), events[-1].position)
    done = len(scene.history.events)
    scene.history.send(scene.group, scene.ben)
    scene.history.send(scene.other, scene.ben)
    more = await record(log, scene.history.events[done:])
    await run(await runner_on(log, model), more[-1].position)
    assert held(model) == {scene.stream: (1, 4), receipts_stream(scene.group): (0, 0)}
    row = await model.conversation(scene.ann, scene.other)
    assert row is not None
    assert row.head == 5


async def test_receipts_may_be_parked_alone(scene: Scene, log: MemoryLog) -> None:
    """Nothing rests on them: marks only grow, so they may come late."""
    events = await scene.recorded(log)
    AllergicInbox.poison = {(receipts_stream(scene.group), 0)}
    model = new_model(AllergicInbox)
    await run(await runner_on(log, model), events[-1].position)
    assert held(model) == {receipts_stream(scene.group): (0, 0)}


async def test_a_retry_stops_at_the_first_that_fails_again(scene: Scene, log: MemoryLog) -> None:
    events = await scene.recorded(log)
    model = new_model(AllergicLedger)
    AllergicLedger.poison = {(scene.stream, 1)}
    runner = await runner_on(log, model, 2)
    await run(runner, events[-1].position)
    AllergicLedger.poison = {(scene.stream, 3)}
    retried = await runner.retry(scene.stream)
    assert retried.applied == 2
    [still] = retried.parked
    assert (still.version, still.upto, still.reason is not None) == (3, 3, True)
    assert [version for stream, version in model.stored() if stream == scene.stream] == [0, 1, 2]
    assert (await runner.retry(scene.stream)).applied == 0
    AllergicLedger.poison = set()
    assert (await runner.retry(scene.stream)).parked == []
    assert model.row_hash() == fold(Ledger, events).row_hash()


async def test_what_rests_on_a_parked_stream_is_not_retried_before_it(scene: Scene, log: MemoryLog) -> None:
    events = await scene.recorded(log)
    AllergicInbox.poison = {(scene.stream, 1)}
    model = new_model(AllergicInbox)
    runner = await runner_on(log, model)
    await run(runner, events[-1].position)
    for verb in (runner.retry, runner.skip):
        with pytest.raises(HeldBack, match=f"waits behind {scene.stream}"):
            await verb(receipts_stream(scene.group))
        with pytest.raises(NotParked, match="'inbox'"):
            await verb(conversation_stream(scene.other))
    AllergicInbox.poison = {(receipts_stream(scene.group), 0)}
    retried = await runner.retry(scene.stream)
    assert retried.applied == 3
    assert [(each.stream, each.reason is None) for each in retried.parked] == [(receipts_stream(scene.group), False)]


async def test_a_skipped_event_is_gone_and_remembered(scene: Scene, log: MemoryLog) -> None:
    """I2: whoever looks a command up must know that the rows lack one."""
    events = await scene.recorded(log)
    AllergicMessages.poison = {(scene.stream, 1), (scene.stream, 3)}
    model = new_model(AllergicMessages)
    runner = await runner_on(log, model)
    await run(runner, events[-1].position)
    skipped = await runner.skip(scene.stream)
    assert (skipped.applied, [each.version for each in skipped.parked]) == (1, [3])
    skipped = await runner.skip(scene.stream)
    assert (skipped.applied, skipped.parked) == (1, []), "the receipts that waited behind"
    assert not runner.is_parked(scene.stream)
    assert model.parking.skips(scene.stream)
    assert not model.parking.skips(conversation_stream(scene.other))
    assert [(each.stream, each.version, each.skipped_at) for each in model.parking.skipped()] == [
        (scene.stream, 1, NOW), (scene.stream, 3, NOW),
    ]  # fmt: skip
    page = await model.page(scene.group, intervals=[[1, 0]], after=0, limit=10)
    assert [item.seq for item in page] == [1, 3]


async def test_a_rebuilt_model_tries_everything_anew(scene: Scene, log: MemoryLog, place: Place) -> None:
    """I9: nothing is parked for ever."""
    events = await scene.recorded(log)
    AllergicLedger.poison = {(scene.stream, 1)}
    model = AllergicLedger.open(place)
    await run(await runner_on(log, model), events[-1].position)
    model.close()
    AllergicLedger.poison = set()
    throw_away(place, model)
    model = AllergicLedger.open(place)
    await run(await runner_on(log, model), events[-1].position)
    assert held(model) == {}
    assert model.row_hash() == fold(Ledger, events).row_hash()


async def test_an_event_of_a_newer_release_is_parked(scene: Scene, log: MemoryLog) -> None:
    events = await scene.recorded(log)
    future = NewEvent(id="an id", topic="FromTheFuture", data=b"{}")
    await log.append([Append(stream=scene.stream, expected=3, events=[future])])
    done = len(scene.history.events)
    scene.history.send(scene.other, scene.ben)
    await record(log, scene.history.events[done:])
    model = new_model(Ledger)
    runner = await runner_on(log, model)
    await run(runner, await log.head())
    [parked] = model.parking.all()
    assert (parked.stream, parked.version, parked.topic, parked.event) == (scene.stream, 4, "FromTheFuture", None)
    assert "no event is known" in (parked.reason or "")
    assert len(model.stored()) == len(events) + 1
    assert (await runner.retry(scene.stream)).applied == 0
    assert (await runner.skip(scene.stream)).parked == []


async def test_a_follower_passes_over_what_it_can_t_decode(scene: Scene, log: MemoryLog) -> None:
    """I4: whoever reads the feed finds the event in the log, and the events around it."""
    events = await scene.recorded(log)
    feed = Feed(log)
    heard: list[Event] = []
    feed.listen(heard.extend)
    future = NewEvent(id="an id", topic="FromTheFuture", data=b"{}")
    await log.append([Append(stream=scene.stream, expected=3, events=[future])])
    done = len(scene.history.events)
    scene.history.send(scene.other, scene.ben)
    events += await record(log, scene.history.events[done:])
    following = asyncio.create_task(feed.follow())
    model = new_model(Ledger)
    runner = Runner(feed, model, gather_ms=1, clock=lambda: NOW)
    await run(runner, await log.head())
    following.cancel()
    await asyncio.wait([following])
    assert [where(event) for event in heard] == model.stored() == [where(event) for event in events]
    assert held(model) == {scene.stream: (4, 4)}


async def test_a_reason_may_quote_what_no_file_can_hold(log: MemoryLog) -> None:
    class Quoting(Ledger):
        def apply(self, events: Sequence[Event]) -> None:
            raise ValueError("\ud800" * 5_000)

    history = History()
    history.register("ann")
    events = await record(log, history.events)
    model = new_model(Quoting)
    await run(await runner_on(log, model), events[-1].position)
    assert len(model.parking.all()[0].reason or "") == parking.REASON_CHARS_MAX


async def test_a_model_that_parks_too_much_stands_still(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """I11: what is kept of parked events is bounded. What is no fault of single events is told as such."""
    monkeypatch.setattr(parking, "STREAMS_MAX", 3)
    history = History()
    for index in range(5):
        history.register(f"account {index}")
    events = await record(log, history.events)
    AllergicLedger.poison = {where(event) for event in events if event.version == 0}
    model = new_model(AllergicLedger)
    runner = await runner_on(log, model)
    with pytest.raises(Exception, match="no fault of single events"):
        await run(runner, events[-1].position)
    assert model.position == events[5].position
    assert "ParkedFull" in caplog.text
    with pytest.raises(ParkedFull), model.db.transaction():
        model.parking.park(parking.failed(events[6], ValueError(), NOW))
    AllergicLedger.poison = {where(events[6])}
    await retry_all(runner, model)
    await run(runner, events[-1].position)
    assert held(model) == {events[6].stream: (0, 1)}


@pytest.mark.parametrize("statement", ["INSERT INTO parked", "UPDATE readmodel", "COMMIT"])
async def test_rows_position_and_what_is_parked_are_committed_together(
    scene: Scene, log: MemoryLog, statement: str, place: Place
) -> None:
    """I9: whenever the disk fails, the file is that of some position; it goes on by itself from there."""
    events = await scene.recorded(log)
    AllergicLedger.poison = {(scene.stream, 1)}
    model = AllergicLedger.open(place)
    failures = Failing(model.db, statement)
    runner = await runner_on(log, model, 4)
    task = asyncio.create_task(runner.run())
    await asyncio.wait_for(failures.happened.wait(), TIMEOUT_S)
    free, parked = free_of([event for event in events if event.position <= model.position], AllergicLedger.poison)
    assert (model.row_hash(), held(model)) == (fold(Ledger, free).row_hash(), parked)
    await asyncio.wait_for(runner.wait(events[-1].position), TIMEOUT_S)
    task.cancel()
    await asyncio.wait([task])
    free, parked = free_of(events, AllergicLedger.poison)
    assert (model.row_hash(), held(model)) == (fold(Ledger, free).row_hash(), parked)


class ClumsyLedger(AllergicLedger):
    """Trips after each commit."""

    def advance(self, events: Sequence[Event]) -> None:
        before = self.position
        super().advance(events)
        if self.position > before:
            raise ValueError("what nobody has foreseen")

    def catch_up(self, events: Sequence[Event]) -> None:
        before = self.parking.all()
        super().catch_up(events)
        if self.parking.all() != before:
            raise ValueError("what nobody has foreseen")


@pytest.mark.parametrize("batch_max", [1, 3])
async def test_what_fails_after_its_commit_is_in_and_not_parked(scene: Scene, log: MemoryLog, batch_max: int) -> None:
    """I9: else it would be applied a second time by a retry, and its stream stand still for nothing."""
    events = await scene.recorded(log)
    model = new_model(ClumsyLedger)
    AllergicLedger.poison = {(scene.stream, 2)}
    runner = await runner_on(log, model, batch_max)
    await run(runner, events[-1].position)
    free, parked = free_of(events, AllergicLedger.poison)
    assert (model.row_hash(), held(model)) == (fold(Ledger, free).row_hash(), parked)
    AllergicLedger.poison = set()
    await retry_all(runner, model)
    assert (model.row_hash(), held(model)) == (fold(Ledger, events).row_hash(), {})


@given(bad=st.sets(st.integers(0, 19)), size=st.integers(0, 20))
def test_as_much_as_can_be_is_applied(bad: set[int], size: int) -> None:
    """Everything before the first event that fails alone, once and in order."""
    history = History()
    for index in range((size + 1) // 2):
        history.register(f"account {index}")
    events = history.events[:size]
    poison = {index for index in bad if index < len(events)}
    applied: list[Event] = []

    def apply(batch: Sequence[Event]) -> None:
        if any(events.index(event) in poison for event in batch):
            raise ValueError
        applied.extend(batch)

    done, error = apply_until_failure(apply, events)
    assert done == min(poison, default=len(events))
    assert (error is None) == (not poison)
    assert applied == events[:done]


def test_receipts_rest_on_their_conversation() -> None:
    assert rests_on("receipts-x") == "conversation-x"
    assert [rests_on(stream) for stream in ("conversation-x", "account-x")] == [None, None]


def in_rows(events: Sequence[Event], model: ReadModel) -> list[Event]:
    """The events that the model says are in its rows."""
    parked = {each.stream: each.version for each in model.parking.all()}
    return [
        event
        for event in events
        if event.position <= model.position and event.version < parked.get(event.stream, event.version + 1)
    ]


PROGRAM = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 30)),
        st.tuples(st.just("poison"), st.integers(0, 10_000)),
        st.tuples(st.just("heal"), st.integers(0, 10_000)),
        st.tuples(st.just("retry"), st.integers(0, 10_000)),
        st.tuples(st.just("full"), st.sampled_from(["BEGIN", "INSERT INTO parked", "UPDATE readmodel", "COMMIT"])),
    ),
    max_size=25,
)


@pytest.mark.parametrize("model_type", [AllergicMessages, AllergicInbox, AllergicReceipts], ids=lambda each: each.name)
@settings(max_examples=15)
@given(history=eventful(), program=PROGRAM)
async def test_whatever_is_parked_healed_and_retried_in_whatever_order(
    model_type: type[Allergic], history: History, program: list[tuple[str, Any]]
) -> None:
    """I9: at each step the rows are those of the events that the model says it has; in the end, those of a rebuild."""
    log = MemoryLog(Medium())
    feed = Feed(log)
    await feed.start()
    events = await record(log, history.events)
    model_type.poison = set()
    model = new_model(model_type)
    failing = []
    runner = Runner(feed, model, batch_max=7, clock=lambda: NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "_RETRY_FIRST_S", 0.001)
        for name, what in [*program, ("feed", len(events))]:
            if name == "feed" and feed.head < events[-1].position:
                feed.publish([event for event in events if event.position > feed.head][:what])
                await run_through(runner, feed.head)
            elif name == "poison":
                model_type.poison.add(where(events[what % len(events)]))
            elif name == "heal" and model_type.poison:
                model_type.poison.remove(sorted(model_type.poison)[what % len(model_type.poison)])
            elif name == "retry" and (parked := sorted(held(model))):
                with suppress(HeldBack, apsw.FullError, DatabaseUnavailable):
                    await runner.retry(parked[what % len(parked)])
            elif name == "full":
                failing.append(Failing(model.db, what))
                continue  # it strikes at the next step
            assert runner.parked == len(held(model))
            assert model.row_hash() == fold(ALLERGIC[model_type], in_rows(events, model), batch_max=9).row_hash()
    model_type.poison = set()
    for each in reversed(failing):
        each.heal()
    await retry_all(runner, model)
    assert held(model) == {}
    assert model.row_hash() == fold(ALLERGIC[model_type], events, batch_max=9).row_hash()
