"""What stands in the double's file: frames, each of them one append, of events as a read answers with them.

A frame is written as a whole, and one that was torn by a kill is known by its checksum: so an append is atomic. The
position of an event is the offset of its record. Positions have gaps, then, and most numbers are no position.

    file    MAGIC frame*
    frame   "kdb1" length:u32 crc32:u32 record*
    record  length:u32 ReadResp
"""

import struct
import time
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

MAGIC: Final = b"A double of KurrentDB, for tests\n"
_HEAD: Final = struct.Struct("<4sII")
_LENGTH: Final = struct.Struct("<I")
_SIGN: Final = b"kdb1"

JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"
TOMBSTONE: Final = "$streamDeleted"
TOMBSTONE_VERSION: Final = 2**63 - 1

_ReadEvent = streams_pb2.ReadResp.ReadEvent


class Proposed(NamedTuple):
    """An event that is to be appended."""

    id: bytes
    """16 of them."""
    type: str
    content_type: str
    metadata: bytes
    data: bytes


class Record(NamedTuple):
    """An event as the file has it."""

    position: int
    length: int
    """Of its message."""
    stream: str
    version: int
    event: Proposed
    created: int


class Frame:
    """One append on its way to the file."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.created = time.time_ns() // 100
        self._parts: list[bytes] = []
        self._end = start + _HEAD.size

    def add(self, stream: str, version: int, event: Proposed) -> Record:
        position = self._end
        message = _message(position, stream, version, event, self.created)
        self._parts += (_LENGTH.pack(len(message)), message)
        self._end += _LENGTH.size + len(message)
        return Record(position, len(message), stream, version, event, self.created)

    @property
    def end(self) -> int:
        return self._end

    def encode(self) -> bytes:
        body = b"".join(self._parts)
        return _HEAD.pack(_SIGN, len(body), zlib.crc32(body)) + body


def message_at(position: int) -> int:
    """Where the message of a record starts."""
    return position + _LENGTH.size


def frames(data: memoryview) -> Iterator[tuple[int, int, list[Record]]]:
    """Of each whole frame its start, its end and its records. What comes after them is torn."""
    at = len(MAGIC)
    while at + _HEAD.size <= len(data):
        sign, length, checksum = _HEAD.unpack_from(data, at)
        start, at = at, at + _HEAD.size + length
        if sign != _SIGN or at > len(data) or zlib.crc32(data[at - length : at]) != checksum:
            return
        yield start, at, list(_records(data, at - length, at))


def _records(data: memoryview, at: int, end: int) -> Iterator[Record]:
    while at < end:
        (length,) = _LENGTH.unpack_from(data, at)
        start = message_at(at)
        recorded = streams_pb2.ReadResp.FromString(bytes(data[start : start + length])).event.event
        event = Proposed(
            id=bytes.fromhex(recorded.id.string.replace("-", "")),
            type=recorded.metadata["type"],
            content_type=recorded.metadata["content-type"],
            metadata=recorded.custom_metadata,
            data=recorded.data,
        )
        stream = recorded.stream_identifier.stream_name.decode()
        yield Record(at, length, stream, recorded.stream_revision, event, int(recorded.metadata["created"]))
        at = start + length


def _message(position: int, stream: str, version: int, event: Proposed, created: int) -> bytes:
    text = event.id.hex()
    recorded = _ReadEvent.RecordedEvent(
        id=shared_pb2.UUID(string=f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"),
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=stream.encode()),
        stream_revision=version,
        prepare_position=position,
        commit_position=position,
        metadata={"type": event.type, "content-type": event.content_type, "created": str(created)},
        custom_metadata=event.metadata,
        data=event.data,
    )
    answer = streams_pb2.ReadResp(event=_ReadEvent(event=recorded, commit_position=position))
    return bytes(answer.SerializeToString())
