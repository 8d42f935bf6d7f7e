"""The event log in KurrentDB: what goes wrong on the way to a node, and in it. What every store does is in
test_contract.py, on the double or on a real node; what goes wrong needs the double."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.exceptions import (
    AccessDeniedError,
    GrpcDeadlineExceededError,
    KurrentDBClientError,
    SSLError,
    UnauthenticatedError,
)

from commands.stores import kurrentdb as adapter
from commands.stores import open_log
from commands.stores.kurrentdb import KurrentLog
from domain.log import (
    NO_STREAM,
    Append,
    Appended,
    Conflict,
    EventLog,
    NewEvent,
    StoreError,
    StoreUnavailable,
    Unavailable,
    Unknown,
)
from tests.commands.stores.appends import datas, follow, must_append, new_append, new_event, new_stream
from tests.kurrentdb.double import Node
from tests.kurrentdb.faults import Action, Cut, Fail, Hang, Kill, NotLeader, Point, Refuse


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path / "node") as node:
        node.start()
        yield node


@pytest.fixture
async def log(node: Node) -> AsyncIterator[EventLog]:
    log = open_log(node.uri)
    yield log
    await log.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives up soon."""
    monkeypatch.setattr(adapter, "APPEND_DEADLINE_S", 0.5)
    monkeypatch.setattr(adapter, "READ_DEADLINE_S", 1.5)  # The client asks again for 0.8 s where nobody listens.
    monkeypatch.setattr(adapter, "CONNECT_DEADLINE_S", 0.5)
    monkeypatch.setattr(adapter, "DISCOVER_DEADLINE_S", 0.5)


async def repeated(log: EventLog, append: Append) -> Appended:
    """The same append until its outcome is known, as the writer does it."""
    async with asyncio.timeout(30):
        while True:
            [outcome] = await log.append([append])
            if isinstance(outcome, Appended):
                return outcome
            assert isinstance(outcome, Unknown | Unavailable), outcome
            await asyncio.sleep(0.05)


# What is stored


async def test_events_have_their_ids_and_name_what_caused_them(node: Node, log: EventLog) -> None:
    stream = new_stream()
    event = msgspec.structs.replace(new_event(), cause="0f0e0d0c-0000-4000-8000-000000000001")
    await must_append(log, Append(stream=stream, expected=NO_STREAM, events=[event]))
    client = await asyncio.to_thread(KurrentDBClient, node.uri)
    [stored] = await asyncio.to_thread(client.get_stream, stream)
    await asyncio.to_thread(client.close)
    assert str(stored.id) == event.id
    assert (stored.type, stored.content_type, stored.data) == (event.topic, "application/json", event.data)
    assert msgspec.json.decode(stored.metadata) == {"$correlationId": event.cause, "$causationId": event.cause}


async def test_streams_of_others_are_not_read(node: Node, log: EventLog) -> None:
    append = new_append(new_stream())
    foreign = [new_append(f"{name}-1") for name in ("invoice", "$conversation", "Conversation")]
    await log.append([foreign[0], append, *foreign[1:]])
    assert datas(await log.read_all(limit=10)) == datas(append.events)
    assert await log.head() == (await log.read_stream(append.stream, limit=1))[0].position


# An append that goes wrong


@pytest.mark.parametrize("at", ["asked", "stored"])
@pytest.mark.parametrize("do", [Hang(), Cut()], ids=["hang", "cut"])
@pytest.mark.usefixtures("hasty")
async def test_an_append_without_an_answer_is_unknown_and_stored_once(
    node: Node, log: EventLog, do: Action, at: Point
) -> None:
    """I2: whether it was stored or not, the same append says how it ended, and later ones go on."""
    await must_append(log, new_append(new_stream()))
    node.inject(do, call="append", at=at)
    append = new_append(new_stream(), events=2)
    [outcome] = await log.append([append])
    assert isinstance(outcome, Unknown)
    assert (await repeated(log, append)).version == 1
    assert datas(await log.read_stream(append.stream, limit=9)) == datas(append.events)
    await must_append(log, new_append(append.stream, expected=1))


async def test_what_was_answered_before_the_connection_broke_counts(node: Node, log: EventLog) -> None:
    batch = [new_append(new_stream()) for _ in range(5)]
    node.inject(Cut(), call="append", at="asked", stream=batch[3].stream)
    outcomes = await log.append(batch)
    assert all(isinstance(outcome, Appended | Unknown) for outcome in outcomes)
    assert isinstance(outcomes[3], Unknown)
    for append in batch:
        await repeated(log, append)
        assert datas(await log.read_stream(append.stream, limit=9)) == datas(append.events)


@pytest.mark.parametrize("error", ["not_ready", "access_denied", "bad_request", "invalid_transaction"])
async def test_what_the_node_refuses_is_surely_not_stored(node: Node, log: EventLog, error: str) -> None:
    append = new_append(new_stream())
    node.inject(Refuse(error), call="append")  # type: ignore[arg-type]  # one of its names
    [outcome] = await log.append([append])
    assert isinstance(outcome, Unavailable)
    assert append.stream in outcome.reason
    assert await log.read_stream(append.stream, limit=1) == []
    await must_append(log, append)


@pytest.mark.parametrize("error", ["timeout", "unknown"])
async def test_where_the_node_itself_does_not_know_nor_does_the_log(node: Node, log: EventLog, error: str) -> None:
    append = new_append(new_stream())
    node.inject(Refuse(error), call="append")  # type: ignore[arg-type]  # one of its names
    [outcome] = await log.append([append])
    assert isinstance(outcome, Unknown)
    await repeated(log, append)


async def test_a_node_that_does_not_lead_has_stored_nothing(node: Node, log: EventLog) -> None:
    append = new_append(new_stream())
    node.inject(NotLeader("127.0.0.1", node.port), call="append")
    [outcome] = await log.append([append])
    assert isinstance(outcome, Unavailable)
    await must_append(log, append)


async def test_an_append_larger_than_the_node_takes_is_refused_alone(log: EventLog) -> None:
    large = Append(
        stream=new_stream(),
        expected=NO_STREAM,
        events=[NewEvent(id=new_event().id, topic="MessageSent", data=b"x" * (1 << 20)), new_event()],
    )
    small = new_append(new_stream())
    outcomes = await log.append([large, small])
    assert isinstance(outcomes[0], Unavailable)
    assert isinstance(outcomes[1], Appended)
    assert await log.read_stream(large.stream, limit=1) == []


async def test_many_refusals_leave_no_call_open(node: Node, log: EventLog) -> None:
    """The hundredth would stop the process."""
    stream = new_stream()
    await must_append(log, new_append(stream))
    for _ in range(150):
        assert await log.append([new_append(stream)]) == [Conflict(expected=NO_STREAM, current=0)]
    await asyncio.to_thread(node.until_open, "append", 0)


# A node that goes away


@pytest.mark.usefixtures("hasty")
async def test_while_the_node_is_away_nothing_is_stored_and_all_goes_on_when_it_is_back(
    node: Node, log: EventLog
) -> None:
    append = new_append(new_stream())
    await must_append(log, append)
    node.kill()
    more = new_append(append.stream, expected=0)
    assert isinstance((await log.append([more]))[0], Unavailable | Unknown)
    assert isinstance((await log.append([new_append(new_stream())]))[0], Unavailable)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1.*\(start it, or correct the URL"):
        await log.read_stream(append.stream, limit=1)
    with pytest.raises(StoreUnavailable):
        await log.head()
    node.start()
    await repeated(log, more)
    assert datas(await log.read_stream(append.stream, limit=9)) == datas(append.events) + datas(more.events)


@pytest.mark.usefixtures("hasty")
async def test_a_node_that_stands_still(node: Node, log: EventLog) -> None:
    append = new_append(new_stream())
    await must_append(log, new_append(new_stream()))
    node.pause()
    assert isinstance((await log.append([append]))[0], Unknown)
    with pytest.raises(StoreUnavailable):
        await log.head()
    node.resume()
    await repeated(log, append)


async def test_a_subscription_ends_with_the_node_and_misses_nothing_after(node: Node, log: EventLog) -> None:
    """I4: the reader comes again from the last position that it handled."""
    stream = new_stream()
    await must_append(log, new_append(stream, events=3))
    seen = []
    async with asyncio.timeout(30), aclosing(log.subscribe()) as batches:
        with pytest.raises(StoreUnavailable):  # noqa: PT012 - it comes when the node is killed
            async for batch in batches:
                seen += batch
                if len(seen) == 3:
                    node.kill()
    node.start()
    await repeated(log, new_append(stream, expected=2, events=2))
    seen += await follow(log, {stream}, 2, after=seen[-1].position)
    assert [event.version for event in seen] == [0, 1, 2, 3, 4]


async def test_killed_as_soon_as_it_has_stored(node: Node, log: EventLog) -> None:
    """I1, I2"""
    append = new_append(new_stream(), events=3)
    await must_append(log, new_append(new_stream()))
    node.inject(Kill(), call="append", at="stored")
    assert isinstance((await log.append([append]))[0], Unknown)
    await asyncio.to_thread(node.until_dead)
    node.start()
    assert (await repeated(log, append)).version == 2
    assert datas(await log.read_stream(append.stream, limit=9)) == datas(append.events)


async def test_a_log_that_ends_before_its_reader_is_refused(log: EventLog) -> None:
    """A node would take the position, and swallow all events up to it."""
    await must_append(log, new_append(new_stream()))
    beyond = 1_000_000 + await log.head()
    async with aclosing(log.subscribe(after=beyond)) as batches:
        with pytest.raises(StoreUnavailable, match="another log, or an older backup"):
            await anext(batches)


@pytest.mark.usefixtures("hasty")
async def test_a_read_that_fails_leaves_the_others_alone(node: Node, log: EventLog) -> None:
    """They share its connection, which is let go."""
    hanging, late = new_append(new_stream()), new_append(new_stream())
    await log.append([hanging, late])
    hang = node.inject(Hang(), call="read", stream=hanging.stream, times=None)
    node.inject(Fail("INTERNAL"), call="read", stream=late.stream)
    failing = asyncio.create_task(log.read_stream(hanging.stream, limit=1))
    await asyncio.to_thread(hang.until_hit)
    await asyncio.sleep(1.2)  # The other one waits to ask again when it fails.
    assert datas(await log.read_stream(late.stream, limit=1)) == datas(late.events)
    with pytest.raises(StoreUnavailable, match="it does not answer"):
        await failing
    node.clear()
    assert datas(await log.read_stream(hanging.stream, limit=1)) == datas(hanging.events)


async def test_a_call_that_ends_with_another_s_connection_says_so(node: Node, log: EventLog) -> None:
    """The client closes it under all of them when one finds that nobody is there."""
    append = new_append(new_stream())
    await must_append(log, append)
    hang = node.inject(Hang(), call="read")
    asked = asyncio.create_task(log.head())
    await asyncio.to_thread(hang.until_hit)
    node.inject(Fail("UNAVAILABLE"), call="read", stream=append.stream)
    assert datas(await log.read_stream(append.stream, limit=1)) == datas(append.events)
    with pytest.raises(StoreUnavailable) as refused:
        await asked
    assert str(refused.value) == (
        f"KurrentDB at 127.0.0.1:{node.port}: the connection was given up, since another call on it failed "
        "(it does not answer: look at the node and the network)"
    )


# Opening


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kurrentdb://", "it names no host"),
        ("kurrentdb://ann:secret@[::1/x", "IPv6"),
        ("kurrentdb://ann:secret@℀:2113", "ann:***@"),
        ("kurrentdb://ann:secret/secret@127.0.0.1:2113", "ann:***@"),
        ("kurrentdb://ann:12?secret@127.0.0.1:2113", "ann:***@"),
        ("kurrentdb://ann:secret#secret@127.0.0.1:2113?Tls=false", "ann:***@"),
        ("kurrentdb://127.0.0.1:2113?Tsl=false", "TSL"),
        ("kurrentdb://127.0.0.1:2113?Tls=perhaps", "perhaps"),
        ("kurrentdb://127.0.0.1:2113", "Username and password are required"),
        ("kurrentdb://ann:secret@127.0.0.1:2113?Tsl=true", "TSL"),
        ("kurrentdb://127.0.0.1:2113?TlsCaFile=/no/such/file", "/no/such/file"),
    ],
)
def test_a_wrong_url(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=r"kurrentdb://host:2113\?Tls=false") as refused:
        open_log(url)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SSLError("handshake"), "TlsCaFile"),
        (UnauthenticatedError("who?"), "correct user and password"),
        (AccessDeniedError("no"), "correct user and password"),
        (GrpcDeadlineExceededError("late"), "no answer in time (it does not answer: look at the node and the network)"),
        (TimeoutError(), "no answer in time (it does not answer"),
        (KurrentDBClientError("odd"), "odd"),
    ],
)
def test_an_error_says_what_to_do(error: Exception, said: str) -> None:
    log = open_log("kurrentdb://127.0.0.1:1?Tls=false")
    assert isinstance(log, KurrentLog)
    assert said in str(log._explain(error))


async def test_a_node_without_tls_is_not_reached_by_tls(node: Node, hasty: None) -> None:
    log = open_log(f"kurrentdb://ann:secret@127.0.0.1:{node.port}?KeepAliveInterval=1000")
    assert isinstance((await log.append([new_append(new_stream())]))[0], Unavailable)
    with pytest.raises(StoreUnavailable):
        await log.head()
    await log.close()


async def test_a_closed_log_is_not_subscribed_to() -> None:
    log = open_log("kurrentdb://127.0.0.1:1?Tls=false")
    await log.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(log.subscribe())


async def test_no_password_is_told(hasty: None) -> None:
    log = open_log("kurrentdb+discover://ann:secret@127.0.0.1:1?Tls=false&MaxDiscoverAttempts=1")
    assert isinstance(log, KurrentLog)
    with pytest.raises(StoreUnavailable, match=r"KurrentDB at 127\.0\.0\.1:1") as refused:
        await log.head()
    assert "secret" not in str(refused.value)
    await log.close()


async def test_the_leader_is_found_by_gossip(node: Node) -> None:
    log = open_log(node.uri.replace("kdb://", "kurrentdb+discover://"))
    append = new_append(new_stream())
    await must_append(log, append)
    assert datas(await log.read_stream(append.stream, limit=1)) == datas(append.events)
    await log.close()


@pytest.mark.usefixtures("hasty")
async def test_a_node_that_does_not_tell_who_leads(node: Node) -> None:
    """Whoever asks is refused in time, and not when gossip gives up."""
    node.inject(Hang(), call="gossip", times=None)
    unheeded: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheeded.append(context))
    log = open_log(node.uri.replace("kdb://", "kurrentdb+discover://"))
    append = new_append(new_stream())
    async with asyncio.timeout(4):
        [outcome] = await log.append([append])
        assert isinstance(outcome, Unavailable)
        assert "it does not answer" in outcome.reason
        with pytest.raises(StoreUnavailable):
            await log.head()
    node.clear()
    await repeated(log, append)
    assert datas(await log.read_stream(append.stream, limit=1)) == datas(append.events)
    await log.close()
    gc.collect()
    assert unheeded == []


async def test_who_leads_is_asked_once_for_each_try_of_the_writer(node: Node) -> None:
    node.inject(Fail("UNAVAILABLE"), call="gossip", times=None)
    log = open_log(node.uri.replace("kdb://", "kurrentdb+discover://"))
    append = new_append(new_stream())
    assert isinstance((await log.append([append]))[0], Unavailable)
    assert node.asked("gossip") == 1
    node.clear()
    await must_append(log, append)
    await log.close()


async def test_a_member_that_says_nothing_leaves_time_for_the_next(node: Node, tmp_path: Path) -> None:
    with Node(tmp_path / "silent") as silent:
        silent.start()
        silent.inject(Hang(), call="gossip", times=None)
        log = open_log(f"kurrentdb://127.0.0.1:{silent.port},127.0.0.1:{node.port}?Tls=false")
        append = new_append(new_stream())
        await must_append(log, append)
        assert datas(await log.read_stream(append.stream, limit=1)) == datas(append.events)
        await log.close()
