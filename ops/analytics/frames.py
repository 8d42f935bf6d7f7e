"""What is said between the keeper and those who ask it: one request and one answer after the other, in MessagePack,
over a socket in the data folder."""

from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Final, Literal

import msgspec

SOCKET: Final = "keeper.sock"

Role = Literal["reader", "loader"]
"""There is one loader at a time: it is let in when what the one before it inserted is there."""


class Hello(msgspec.Struct, frozen=True, tag=True):
    role: Role


class Command(msgspec.Struct, frozen=True, tag=True):
    sql: str


class Insert(msgspec.Struct, frozen=True, tag=True):
    table: str
    columns: Sequence[str]
    rows: bytes


class ReadUpto(msgspec.Struct, frozen=True, tag=True):
    position: int


class Select(msgspec.Struct, frozen=True, tag=True):
    sql: str
    parameters: dict[str, Any]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Raw SQL."""

    sql: str


class Done(msgspec.Struct, frozen=True, tag=True):
    answer: bytes = b""


class Failed(msgspec.Struct, frozen=True, tag=True):
    text: str
    code: int = 0


Request = Hello | Command | Insert | ReadUpto | Select | Ask
Reply = Done | Failed

_encode: Final = msgspec.msgpack.Encoder().encode
_request: Final = msgspec.msgpack.Decoder(Request).decode
_reply: Final = msgspec.msgpack.Decoder(Reply).decode


def send(connection: Connection, frame: Request | Reply) -> None:
    connection.send_bytes(_encode(frame))


def receive_request(connection: Connection) -> Request:
    """Raises EOFError and OSError where the other side is gone."""
    request: Request = _request(connection.recv_bytes())
    return request


def receive_reply(connection: Connection) -> Reply:
    """As `receive_request`."""
    reply: Reply = _reply(connection.recv_bytes())
    return reply
