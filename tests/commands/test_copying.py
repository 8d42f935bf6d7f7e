"""A log copied into another store: the same streams, whatever the store (I2, I3)."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands import copying
from commands.copying import BATCH_EVENTS, CopyFailed, copy_log, digest_log
from commands.stores import open_log
from commands.stores.memory import Medium, MemoryLog
from domain.log import START, Append, EventLog, NewEvent, RecordedEvent
from tests import postgres
from tests.kurrentdb.double import Node
from tests.projections.histories import History, record


@pytest.fixture
async def source() -> EventLog:
    history = History()
    people = [history.register(name) for name in ("ann", "ben", "cho")]
    talks = [history.group(*people), history.direct(people[0], people[1]), history.direct(people[1], people[2])]
    rng = random.Random(1)
    for number in range(300):
        history.send(rng.choice(talks), rng.choice(people))
        talk = rng.choice(talks)
        history.receive(talk, rng.choice(people), delivered=rng.randint(1, 1 + number // 4))
    log = MemoryLog(Medium())
    await record(log, history.events)
    return log


@pytest.fixture(params=["memory", "sqlite"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    log = MemoryLog(Medium()) if request.param == "memory" else open_log(f"sqlite://{tmp_path / 'log.db'}")
    yield log
    await log.close()


async def everything(log: EventLog) -> list[RecordedEvent]:
    found: list[RecordedEvent] = []
    while page := await log.read_all(after=found[-1].position if found else START, limit=100):
        found += page
    return found


async def streams(log: EventLog) -> dict[str, list[tuple[int, str, bytes]]]:
    found: dict[str, list[tuple[int, str, bytes]]] = {}
    for event in await everything(log):
        found.setdefault(event.stream, []).append((event.version, event.topic, event.data))
    return found


async def test_each_stream_is_the_same_and_so_is_the_digest(source: EventLog, target: EventLog) -> None:
    await copy_log(source, target, upto=await source.head())
    assert await streams(target) == await streams(source)
    one, other = [await digest_log(log, upto=await log.head()) for log in (source, target)]
    assert (one.events, one.hex()) == (other.events, other.hex())


@pytest.mark.parametrize("store", ["memory", "sqlite", *postgres.VERSIONS, "kurrentdb"])
async def test_to_each_store_and_from_it(
    store: str | int, source: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off on the way, and in many batches."""
    asyncio.get_running_loop().set_debug(False)
    monkeypatch.setattr(copying, "BATCH_EVENTS", 50)
    events = await everything(source)
    half = events[len(events) // 2].position
    with empty(store, tmp_path) as target:
        await copy_log(source, target, upto=half)
        await copy_log(source, target, upto=await source.head())
        back = MemoryLog(Medium())
        await copy_log(target, back, upto=await target.head())
        assert await streams(target) == await streams(back) == await streams(source)
        digests = [await digest_log(log, upto=await log.head()) for log in (source, target, back)]
        assert len({(digest.events, digest.hex()) for digest in digests}) == 1
        await target.close()


@contextmanager
def empty(store: str | int, folder: Path) -> Iterator[EventLog]:
    match store:
        case "memory":
            yield MemoryLog(Medium())
        case "kurrentdb":
            with Node(folder / "node") as node:
                node.start()
                yield open_log(node.uri)
        case int(version):
            server = postgres.shared(version)
            yield open_log(server.url(server.new_database()))
        case _:
            yield open_log(f"sqlite://{folder / 'log.db'}")


async def test_no_receipts_come_before_what_they_rest_on(
    source: EventLog, target: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a batch begins with receipts, and goes on with messages and with receipts of those."""
    monkeypatch.setattr(copying, "BATCH_EVENTS", 50)
    await copy_log(source, target, upto=await source.head())
    before: dict[tuple[str, int], int] = {}
    for log in (source, target):
        versions: dict[str, int] = {}
        for event in await everything(log):
            versions[event.stream] = event.version
            if event.stream.startswith("receipts-"):
                talk = versions[event.stream.replace("receipts-", "conversation-")]
                assert talk >= before.setdefault((event.stream, event.version), talk)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
async def test_a_copy_that_was_broken_off_goes_on(source: EventLog, target: EventLog, share: float) -> None:
    events = await everything(source)
    await copy_log(source, target, upto=events[int(len(events) * share)].position)
    heard: list[int] = []
    await copy_log(source, target, upto=await source.head(), on_events=heard.append)
    assert await streams(target) == await streams(source)
    assert heard[-1] == len(events)


async def test_only_what_lies_before_the_position_is_copied(source: EventLog, target: EventLog) -> None:
    events = await everything(source)
    await copy_log(source, target, upto=events[99].position)
    assert len(await everything(target)) == 100


async def test_another_log_is_not_added_to(source: EventLog, target: EventLog) -> None:
    [first, *_] = await everything(source)
    stranger = NewEvent(
        id="00000000-0000-4000-8000-000000000000", topic=first.topic, data=b'{"v":1,"id":"x","cmd":"y"}'
    )
    await target.append([Append(stream=first.stream, expected=-1, events=[stranger])])
    with pytest.raises(CopyFailed, match="it must be an empty one"):
        await copy_log(source, target, upto=await source.head())


async def test_the_digest_notices_what_was_changed_left_out_or_put_elsewhere(source: EventLog) -> None:
    events = await everything(source)
    whole = (await digest_log(source, upto=await source.head())).hex()
    other = MemoryLog(Medium())
    await copy_log(source, other, upto=events[-2].position)
    assert (await digest_log(other, upto=await other.head())).hex() != whole
    assert len(events) < BATCH_EVENTS
