"""The double does wrong what it is told to, and only that; and what it has acknowledged survives its death."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import grpc
import pytest
from kurrentdbclient import AsyncKurrentDBClient, KurrentDBClient, NewEvent, StreamState
from kurrentdbclient import exceptions as errors
from kurrentdbclient.protos.v1 import streams_pb2, streams_pb2_grpc
from kurrentdbclient.streams import StreamsService

from tests.kurrentdb.double import Node
from tests.kurrentdb.faults import Cut, Delay, Error, Fail, Fault, Hang, Kill, NotLeader, Refuse

NO_STREAM = StreamState.NO_STREAM
_intervals = itertools.count(60_000)
SHORT_S = 0.3
"""A deadline that is meant to pass. The client asks twice in all, and waits 0.1 s between."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("kurrentdb")) as node:
        node.start()
        yield node


@pytest.fixture
def node(running: Node) -> Iterator[Node]:
    yield running
    running.clear()


@pytest.fixture
def client(node: Node) -> Iterator[KurrentDBClient]:
    client = KurrentDBClient(node.uri)
    yield client
    client.close()


def own_client(node: Node) -> KurrentDBClient:
    """With a connection of its own: gRPC shares them among clients with the same options, and remembers for a second
    that a node didn't answer."""
    return KurrentDBClient(f"{node.uri}&KeepAliveInterval={next(_intervals)}")


def event(id: UUID | None = None) -> NewEvent:
    return NewEvent(type="MessageSent", data=b"x", content_type="application/octet-stream", id=id or uuid4())


def fresh() -> str:
    return f"conversation-{uuid4()}"


def append(client: KurrentDBClient, stream: str, *events: NewEvent, timeout: float = 10) -> int:
    return client.append_to_stream(stream, current_version=NO_STREAM, events=list(events), timeout=timeout)


def ids(client: KurrentDBClient, stream: str) -> list[UUID]:
    return [each.id for each in client.get_stream(stream, timeout=10)]


REFUSALS: dict[Error, type[errors.KurrentDBClientError]] = {
    "timeout": errors.AppendDeadlineExceededError,
    "access_denied": errors.AccessDeniedError,
    "bad_request": errors.BadRequestError,
    "invalid_transaction": errors.InvalidTransactionError,
    "unknown": errors.UnknownError,
}


@pytest.mark.parametrize(("error", "raised"), REFUSALS.items())
def test_an_append_is_refused_once(node: Node, client: KurrentDBClient, error: Error, raised: type[Exception]) -> None:
    node.inject(Refuse(error), call="append")
    stream, new = fresh(), event()
    with pytest.raises(raised):
        append(client, stream, new)
    assert client.get_current_version(stream) is NO_STREAM
    append(client, stream, new)
    assert ids(client, stream) == [new.id]


def test_a_node_that_starts_is_not_ready(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.start([Fault(do=Refuse("not_ready"), times=None)])
        client = KurrentDBClient(node.uri)
        with pytest.raises(errors.KurrentDBClientError, match="Server Is Not Ready") as refusal:
            append(client, fresh(), event())
        assert type(refusal.value) is errors.KurrentDBClientError
        with pytest.raises(errors.ServiceUnavailableError, match="Server Is Not Ready"):
            client.get_stream(fresh())
        node.clear()
        append(client, fresh(), event())
        client.close()


def test_an_event_is_shown_before_its_append_is_answered(node: Node, client: KurrentDBClient) -> None:
    stream, new, answers = fresh(), event(), list[int]()
    start = client.get_commit_position()
    hang = node.inject(Hang(), call="append", at="stored", stream=stream)
    sender = threading.Thread(target=lambda: answers.append(append(client, stream, new)))
    with client.subscribe_to_all(commit_position=start, timeout=10) as tail:
        sender.start()
        shown = next(tail)
    hang.until_hit()
    assert shown.id == new.id
    assert not answers
    node.clear()
    sender.join()
    assert answers == [shown.commit_position]


def test_a_delay_ends(node: Node, client: KurrentDBClient) -> None:
    delay = node.inject(Delay(0.05), call="read", times=2)
    append(client, stream := fresh(), new := event())
    assert ids(client, stream) == ids(client, stream) == [new.id]
    delay.until_hit(2)


def test_a_request_that_hangs_is_not_stored(node: Node, client: KurrentDBClient) -> None:
    node.inject(Hang(), call="append", times=None)
    stream = fresh()
    with pytest.raises(errors.GrpcDeadlineExceededError):
        append(client, stream, event(), timeout=SHORT_S)
    assert client.get_current_version(stream) is NO_STREAM


def test_an_answer_that_hangs_leaves_the_event_stored(node: Node, client: KurrentDBClient) -> None:
    node.inject(Hang(), call="append", at="stored", times=None)
    stream, new = fresh(), event()
    with pytest.raises(errors.GrpcDeadlineExceededError):
        append(client, stream, new, timeout=SHORT_S)
    assert ids(client, stream) == [new.id]


@pytest.mark.parametrize("at", ["asked", "stored"])
def test_a_cut_append_is_retried_by_its_client(node: Node, client: KurrentDBClient, at: str) -> None:
    asked = node.asked("append")
    node.inject(Cut(), call="append", at=at)
    stream, new = fresh(), event()
    append(client, stream, new)
    assert ids(client, stream) == [new.id]
    assert node.asked("append") - asked == 2


def test_a_read_is_cut_in_its_middle(node: Node, client: KurrentDBClient) -> None:
    stream, seen = fresh(), list[int]()
    append(client, stream, *(event() for _ in range(200)))
    cut = node.inject(Cut(), call="read", stream=stream, at="sent", after=100)
    with pytest.raises(errors.ServiceUnavailableError):
        seen.extend(each.stream_position for each in client.read_stream(stream, timeout=10))
    cut.until_hit()
    assert len(client.get_stream(stream)) == 200


def test_a_subscription_is_cut_after_what_it_has_sent(node: Node, client: KurrentDBClient) -> None:
    stream = fresh()
    cut = node.inject(Cut(), call="subscribe", stream=stream, at="sent", after=2)
    append(client, stream, event())
    own = own_client(node)
    tail = own.subscribe_to_stream(stream, timeout=10)
    client.append_to_stream(stream, current_version=0, events=[event()])
    with pytest.raises(errors.ServiceUnavailableError):
        list(tail)
    cut.until_hit()
    own.close()


def test_other_connections_and_streams_are_not_cut(node: Node, client: KurrentDBClient) -> None:
    stream, other = fresh(), fresh()
    node.inject(Cut(), call="append", stream=stream, times=None)
    own = own_client(node)
    with client.subscribe_to_all(from_end=True, filter_include=[other], filter_by_stream_name=True, timeout=10) as tail:
        with pytest.raises(errors.ServiceUnavailableError):
            append(own, stream, event())
        append(client, other, new := event())
        assert next(tail).id == new.id
    own.close()


def test_a_call_fails_with_the_status_that_was_asked_for(node: Node, client: KurrentDBClient) -> None:
    node.inject(Fail("INTERNAL", "as told"), call="append", times=None)
    with pytest.raises(errors.InternalError, match="as told"):
        append(client, fresh(), event())


def test_a_fault_lets_pass_what_it_is_to_skip(node: Node, client: KurrentDBClient) -> None:
    node.inject(Refuse("timeout"), call="append", skip=1)
    append(client, fresh(), event())
    with pytest.raises(errors.AppendDeadlineExceededError):
        append(client, fresh(), event())


def test_a_node_that_does_not_lead_names_the_one_that_does(node: Node, client: KurrentDBClient, tmp_path: Path) -> None:
    with Node(tmp_path) as other:
        other.start([Fault(do=NotLeader("127.0.0.1", node.port), call="append", times=None)])
        fixed, stream = KurrentDBClient(other.uri), fresh()
        with pytest.raises(errors.NodeIsNotLeaderError) as refusal:
            append(fixed, stream, event())
        assert (refusal.value.host, refusal.value.port) == ("127.0.0.1", node.port)
        fixed.close()
        following = KurrentDBClient(other.uri.replace("kdb:", "kdb+discover:"))
        append(following, stream, new := event())
        assert ids(client, stream) == [new.id]
        following.close()


def test_killed_between_storing_and_answering(node: Node, client: KurrentDBClient) -> None:
    stream, new = fresh(), event()
    node.inject(Kill(), call="append", at="stored")
    with pytest.raises(errors.ServiceUnavailableError):
        append(client, stream, new)
    node.until_dead()
    node.start()
    again = own_client(node)
    assert ids(again, stream) == [new.id]
    append(again, stream, new)
    assert ids(again, stream) == [new.id]
    again.close()


def test_what_was_acknowledged_survives_kills_and_appends_are_whole(node: Node) -> None:
    for _ in range(3):
        acknowledged, tried = dict[str, int](), set[str]()
        enough = threading.Semaphore(0)

        def write(acknowledged: dict[str, int] = acknowledged, tried: set[str] = tried) -> None:
            client = own_client(node)
            try:
                while True:
                    tried.add(stream := fresh())
                    acknowledged[stream] = append(client, stream, *(event() for _ in range(5)))
                    enough.release()  # noqa: B023
            except errors.KurrentDBClientError:
                client.close()

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        for _ in range(60):
            assert enough.acquire(timeout=30)
        node.kill()
        for writer in writers:
            writer.join()
        node.start()
        client = own_client(node)
        for stream in tried:
            if stream in acknowledged:
                assert client.get_stream(stream)[-1].commit_position == acknowledged[stream]
            assert client.get_current_version(stream) in ((4,) if stream in acknowledged else (4, NO_STREAM))
        client.close()


def test_a_node_that_stands_still_stores_nothing_and_goes_on(node: Node, client: KurrentDBClient) -> None:
    append(client, fresh(), event())
    stream = fresh()
    node.pause()
    with pytest.raises(errors.GrpcDeadlineExceededError):
        append(client, stream, event(), timeout=SHORT_S)
    node.resume()
    append(client, stream, new := event())
    assert ids(client, stream)[-1] == new.id


async def test_the_101st_open_call_waits_and_no_append_is_ended(node: Node) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.port}") as channel:
        stub = streams_pb2_grpc.StreamsStub(channel)  # type: ignore[no-untyped-call]
        calls = [stub.BatchAppend(iter([batch(fresh())])) for _ in range(100)]
        for call in calls:
            answer = await call.read()
            assert answer.HasField("success")
        await asyncio.to_thread(node.until_open, "append", 100)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.BatchAppend(iter([batch(fresh())]), timeout=SHORT_S).read()
        assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not any(call.done() for call in calls)
        calls[0].cancel()
        late = stub.BatchAppend(iter([batch(fresh())]), timeout=10)
        assert (await late.read()).HasField("success")
        for call in [late, *calls]:
            call.cancel()
    await asyncio.to_thread(node.until_open, "append", 0)


async def test_one_call_appends_to_many_streams(node: Node) -> None:
    streams = [fresh() for _ in range(64)]
    client = AsyncKurrentDBClient(node.uri)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.port}") as channel:
        stub = streams_pb2_grpc.StreamsStub(channel)  # type: ignore[no-untyped-call]
        call = stub.BatchAppend(iter([batch(stream) for stream in [*streams, streams[0]]]), timeout=10)
        answers = [await call.read() for _ in range(65)]
        call.cancel()
    assert [answer.WhichOneof("result") for answer in answers] == ["success"] * 64 + ["error"]
    assert [answer.stream_identifier.stream_name.decode() for answer in answers] == [*streams, streams[0]]
    assert [await client.get_current_version(stream) for stream in streams] == [0] * 64
    await client.close()


def test_appends_to_several_streams_at_once_are_not_known(client: KurrentDBClient) -> None:
    with pytest.raises(errors.GrpcError, match="UNIMPLEMENTED"):
        client.multi_append_to_stream([])


def test_a_folder_serves_one_node(tmp_path: Path) -> None:
    with Node(tmp_path) as one, Node(tmp_path) as other:
        one.start()
        with pytest.raises(AssertionError, match="before it served"):
            other.start()


def batch(stream: str) -> streams_pb2.BatchAppendReq:
    return StreamsService._construct_batch_append_req(stream, NO_STREAM, [event()], uuid4(), 10)
