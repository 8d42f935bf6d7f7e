"""The store in memory fails as it is told, and no other way: these are the faults that the writer is tested with."""

import asyncio
from itertools import pairwise

import pytest

from commands.stores.faults import Fate
from commands.stores.memory import Medium, MemoryLog
from domain.log import Appended, Conflict, StoreUnavailable, Unavailable, Unknown
from tests.commands.stores.appends import datas, follow, must_append, new_append, new_stream


@pytest.fixture
def medium() -> Medium:
    return Medium()


@pytest.fixture
def log(medium: Medium) -> MemoryLog:
    return MemoryLog(medium)


async def count(log: MemoryLog, stream: str) -> int:
    return len(await log.read_stream(stream, limit=100))


async def test_positions_have_gaps(log: MemoryLog) -> None:
    await must_append(log, new_append(new_stream(), events=3))
    positions = [event.position for event in await log.read_all(limit=10)]
    assert all(other - one > 1 for one, other in pairwise(positions))


@pytest.mark.parametrize(
    ("verb", "answer", "stored"),
    [("refuse", Unavailable, 0), ("lose_request", Unknown, 0), ("lose_answer", Unknown, 2), ("delay", Unknown, 0)],
)
async def test_a_part_of_a_batch_fails_once(
    medium: Medium, log: MemoryLog, verb: str, answer: type[Unavailable | Unknown], stored: int
) -> None:
    batch = [new_append(new_stream(), events=2) for _ in range(3)]
    getattr(medium.faults, verb)(batch[1].stream)
    assert [type(outcome) for outcome in await log.append(batch)] == [Appended, answer, Appended]
    assert [await count(log, append.stream) for append in batch] == [2, stored, 2]
    [again] = await log.append([batch[1]])
    assert again == Conflict(expected=-1, current=1) if stored else isinstance(again, Appended)


async def test_where_no_stream_is_named_the_whole_of_the_next_batch_fails(medium: Medium, log: MemoryLog) -> None:
    medium.faults.refuse()
    batch = [new_append(new_stream()) for _ in range(3)]
    assert [type(outcome) for outcome in await log.append(batch)] == [Unavailable] * 3
    assert [type(outcome) for outcome in await log.append(batch)] == [Appended] * 3


async def test_a_fault_waits_for_its_stream(medium: Medium, log: MemoryLog) -> None:
    stream = new_stream()
    medium.faults.refuse(stream)
    await must_append(log, new_append(new_stream()))
    assert isinstance((await log.append([new_append(stream)]))[0], Unavailable)


async def test_faults_of_several_streams_add_up(medium: Medium, log: MemoryLog) -> None:
    batch = [new_append(new_stream()) for _ in range(3)]
    medium.faults.refuse(batch[0].stream)
    medium.faults.lose_answer(batch[2].stream)
    assert [type(outcome) for outcome in await log.append(batch)] == [Unavailable, Appended, Unknown]


async def test_a_predicate_holds_for_a_number_of_calls_or_until_it_is_healed(medium: Medium, log: MemoryLog) -> None:
    append = new_append(new_stream())
    medium.faults.when(lambda append: append.stream.startswith("conversation-"), Fate.REFUSED, calls=2)
    answers = [type((await log.append([append]))[0]) for _ in range(3)]
    assert answers == [Unavailable, Unavailable, Appended]

    medium.faults.when(lambda append: append.expected == 0, Fate.REQUEST_LOST)
    again = new_append(append.stream, expected=0)
    assert {type((await log.append([again]))[0]) for _ in range(5)} == {Unknown}
    medium.faults.heal()
    await must_append(log, again)


async def test_a_delayed_append_arrives_after_the_next_one(medium: Medium, log: MemoryLog) -> None:
    delayed = new_append(new_stream())
    medium.faults.delay()
    await log.append([delayed])
    await must_append(log, new_append(new_stream()))
    assert await log.append([delayed]) == [Conflict(expected=-1, current=0)]


async def test_a_delayed_append_arrives_when_it_is_told_to_and_subscribers_hear_of_it(
    medium: Medium, log: MemoryLog
) -> None:
    delayed = new_append(new_stream(), events=2)
    medium.faults.delay()
    await log.append([delayed])
    seen = asyncio.create_task(follow(log, {delayed.stream}, 2, after=0))
    await asyncio.sleep(0)
    medium.settle()
    assert datas(await seen) == datas(delayed.events)


async def test_a_delayed_append_is_dropped_when_its_retry_came_first(medium: Medium, log: MemoryLog) -> None:
    """I2."""
    delayed = new_append(new_stream())
    medium.faults.delay()
    await log.append([delayed])
    await must_append(log, delayed)
    medium.settle()
    assert await count(log, delayed.stream) == 1


async def test_an_answer_that_is_held_comes_after_subscribers_have_heard(medium: Medium, log: MemoryLog) -> None:
    append = new_append(new_stream())
    release = medium.faults.hold_answer()
    appending = asyncio.create_task(log.append([append]))
    assert datas(await follow(log, {append.stream}, 1, after=0)) == datas(append.events)
    assert not appending.done()
    release.set()
    assert isinstance((await appending)[0], Appended)


async def test_an_append_that_is_held_is_stored_only_when_released(medium: Medium, log: MemoryLog) -> None:
    append = new_append(new_stream())
    release = medium.faults.hold_append()
    appending = asyncio.create_task(log.append([append]))
    await asyncio.sleep(0)
    await must_append(log, new_append(new_stream()))
    assert await count(log, append.stream) == 0
    release.set()
    assert isinstance((await appending)[0], Appended)
    assert await count(log, append.stream) == 1


async def test_a_store_that_is_away(medium: Medium, log: MemoryLog) -> None:
    append = new_append(new_stream())
    waiting = asyncio.create_task(follow(log, {append.stream}, 1, after=0))
    await asyncio.sleep(0)
    medium.faults.go_away()
    assert isinstance((await log.append([append]))[0], Unavailable)
    with pytest.raises(StoreUnavailable):
        await log.read_all(limit=1)
    with pytest.raises(StoreUnavailable):
        await waiting
    medium.faults.heal()
    await must_append(log, append)
    assert await count(log, append.stream) == 1


async def test_positions_can_be_hidden(medium: Medium, log: MemoryLog) -> None:
    medium.faults.hide_positions()
    assert await must_append(log, new_append(new_stream(), events=2)) == Appended(version=1, positions=None)
