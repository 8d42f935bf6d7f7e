"""What was measured on a real node (KURRENTDB.md, EventStoreDB 24.6.0) and test_behaviour.py does not ask."""

import struct
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient import exceptions as errors

from tests.kurrentdb.double import Node
from tests.kurrentdb.log import FILE

NO_STREAM, ANY, EXISTS = StreamState.NO_STREAM, StreamState.ANY, StreamState.EXISTS


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("kurrentdb")) as node:
        node.start()
        yield node


@pytest.fixture
def client(node: Node) -> Iterator[KurrentDBClient]:
    client = KurrentDBClient(node.uri)
    yield client
    client.close()


def event() -> NewEvent:
    return NewEvent(type="MessageSent", data=b"x" * 100, metadata=b"{}", content_type="application/octet-stream")


def fresh() -> str:
    return f"conversation-{uuid4()}"


def append(client: KurrentDBClient, stream: str, expected: int | StreamState, *events: NewEvent) -> int:
    return client.append_to_stream(stream, current_version=expected, events=list(events), timeout=10)


def at(client: KurrentDBClient, version: int) -> str:
    stream = fresh()
    append(client, stream, NO_STREAM, *(event() for _ in range(version + 1)))
    return stream


def ids(client: KurrentDBClient, stream: str) -> list[UUID]:
    return [each.id for each in client.get_stream(stream)]


def test_a_new_event_before_an_old_one_is_written_with_it(client: KurrentDBClient) -> None:
    stream, old, new = at(client, 0), event(), event()
    append(client, stream, ANY, old)
    append(client, stream, ANY, new, old)
    assert ids(client, stream)[1:] == [old.id, new.id, old.id]
    with pytest.raises(errors.WrongCurrentVersionError):
        append(client, stream, ANY, old, event())


def test_a_repeated_append_that_is_hidden_by_now_has_position_zero(client: KurrentDBClient) -> None:
    stream, old = fresh(), event()
    append(client, stream, NO_STREAM, old)
    append(client, stream, 0, event(), event())
    client.set_stream_metadata(stream, metadata={"$maxCount": 1}, current_version=ANY)
    assert append(client, stream, NO_STREAM, old) == 0
    assert len(client.get_stream(stream)) == 1


@pytest.mark.parametrize("expected", [1, ANY])
def test_a_deleted_stream_takes_its_last_version(client: KurrentDBClient, expected: int | StreamState) -> None:
    stream = at(client, 1)
    client.delete_stream(stream, current_version=1)
    assert client.get_current_version(stream) is NO_STREAM
    with pytest.raises(errors.StreamIsDeletedError):
        append(client, stream, EXISTS, event())
    with pytest.raises(errors.WrongCurrentVersionError) as refusal:
        append(client, stream, 0, event())
    assert refusal.value.actual_version == 1
    append(client, stream, expected, event())
    assert [each.stream_position for each in client.get_stream(stream)] == [2]
    assert client.get_stream_metadata(stream)[0] == {"$tb": 2}


def test_an_append_of_nothing_has_a_position_that_reads_take(client: KurrentDBClient) -> None:
    position = append(client, fresh(), NO_STREAM)
    assert list(client.read_all(commit_position=position)) == []
    later = append(client, fresh(), NO_STREAM, event())
    assert [each.commit_position for each in client.read_all(commit_position=position)] == [later]


def test_the_unary_append_answers_as_the_other_one(client: KurrentDBClient) -> None:
    streams, stream, new = client.streams, fresh(), event()
    position = streams.append(stream, NO_STREAM, [new])
    assert client.get_stream(stream)[0].commit_position == position
    assert streams.append(stream, NO_STREAM, [new]) == position
    with pytest.raises(errors.WrongCurrentVersionError) as refusal:
        streams.append(stream, 7, [event()])
    assert refusal.value.actual_version == 0
    client.tombstone_stream(stream, current_version=0)
    with pytest.raises(errors.FailedPreconditionError):
        streams.append(stream, ANY, [event()])


def test_one_mebibyte_of_data_is_the_most(client: KurrentDBClient) -> None:
    big = NewEvent(type="Big", data=b"x" * (1 << 19), metadata=b"m" * (1 << 19))
    append(client, fresh(), NO_STREAM, big, NewEvent(type="Big", data=big.data))
    with pytest.raises(errors.MaximumAppendSizeExceededError):
        append(client, stream := fresh(), NO_STREAM, big, NewEvent(type="Big", data=big.data), event())
    assert client.get_current_version(stream) is NO_STREAM


def test_a_subscription_to_a_stream_that_is_yet_to_come(client: KurrentDBClient) -> None:
    stream = fresh()
    with client.subscribe_to_stream(stream, include_caught_up=True, timeout=10) as subscription:
        assert next(subscription).is_caught_up
        append(client, stream, NO_STREAM, *(new := [event(), event()]))
        assert [next(subscription).id for _ in new] == [each.id for each in new]
    with client.subscribe_to_stream(stream, stream_position=0, timeout=10) as subscription:
        assert next(subscription).id == new[1].id


def test_the_whole_log_backwards(client: KurrentDBClient) -> None:
    stream = at(client, 2)
    assert [each.stream_position for each in client.read_all(backwards=True, limit=3)] == [2, 1, 0]
    third = client.get_stream(stream)[2].commit_position
    assert [each.stream_position for each in client.read_all(commit_position=third, backwards=True, limit=2)] == [1, 0]
    assert client.get_commit_position() == third
    assert list(client.read_all(commit_position=third + 10**9)) == []


def test_what_is_filtered_out_by_default(client: KurrentDBClient) -> None:
    start = append(client, stream := fresh(), NO_STREAM, event())
    client.set_stream_metadata(stream, metadata={"$maxAge": 1000}, current_version=NO_STREAM)
    assert [each.type for each in client.read_all(commit_position=start)] == ["MessageSent"]
    everything = client.read_all(commit_position=start, filter_exclude=[])
    assert [each.type for each in everything] == ["MessageSent", "$metadata"]


def test_a_torn_append_is_dropped_as_a_whole(tmp_path: Path) -> None:
    with Node(tmp_path) as node:
        node.start()
        client = KurrentDBClient(f"{node.uri}&KeepAliveInterval=50000")
        whole, torn = at(client, 1), at(client, 4)
        client.close()
        node.kill()
        log = tmp_path / FILE
        log.write_bytes(log.read_bytes()[:-1])
        node.start()
        client = KurrentDBClient(f"{node.uri}&KeepAliveInterval=50001")
        assert client.get_current_version(whole) == 1
        assert client.get_current_version(torn) is NO_STREAM
        append(client, torn, NO_STREAM, event())
        client.close()
        node.stop()
        head = struct.pack("<4sII", b"kdb1", 10, 0)
        log.write_bytes(log.read_bytes() + head + b"0123456789")
        node.start()
        client = KurrentDBClient(f"{node.uri}&KeepAliveInterval=50002")
        assert client.get_current_version(torn) == 0
        client.close()
