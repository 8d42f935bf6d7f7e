"""Failpoints: places on a message's way where the tests' engine dies, fails, or loses its connections.

They stand in that process alone (`tests/scenarios/failing.py`): `arm` puts wrappers around the parts, before they are
wired. The product has no branch for them, and no setting or network reaches them.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, NoReturn

import apsw
import msgspec

from commands.replies import Reply, ReplyTo
from commands.stores.kurrentdb import KurrentLog
from commands.stores.postgres import PostgresLog
from commands.stores.sqlite import SqliteLog
from commands.writer import Command, Writer
from domain.codec import Event
from domain.log import Append, Outcome, Unavailable, Unknown
from gateways.connection import Connection
from gateways.websocket import LiveProtocol
from projections.readmodel import ReadModel
from projections.sqlite import SqliteDatabase
from tests.proxy import reset


class Point(StrEnum):
    """Where it may happen. The second half of a reply or a push is when its bytes are with the socket."""

    BEFORE_APPEND = "before append"
    AFTER_APPEND = "after append"
    BEFORE_REPLY = "before reply"
    AFTER_REPLY = "after reply"
    BEFORE_COMMIT = "before commit"
    """Of a read model: the rows are written, and their transaction is open."""
    AFTER_COMMIT = "after commit"
    BEFORE_PUSH = "before push"
    AFTER_PUSH = "after push"


class Action(StrEnum):
    """What happens there."""

    KILL = "kill"
    CUT = "cut"
    """The connections are reset: the one that a reply or push is for, else all of them."""
    ERROR = "error"
    """What the part may meet: the store is away, the socket is gone, the disk is full."""
    SURPRISE = "surprise"
    """An exception that nobody has foreseen."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    point: Point
    action: Action
    hit: int = 1
    """The how manieth time that the point is reached from now on."""


class Surprise(Exception):
    """What nobody has foreseen."""


class _StoreFails(Exception):
    pass


class Failpoints:
    """At most one order stands at a time."""

    def __init__(self, tell: Callable[[Order], None]) -> None:
        """`tell` is called twice for each order: when it stands, and right before it is done."""
        self._tell = tell
        self._telling = threading.Lock()
        self._order: Order | None = None
        self._hits = 0
        self._links: set[LiveProtocol] = set()
        self._advancing = False

    def take(self, order: Order) -> None:
        """From any thread."""
        with self._telling:
            self._hits = 0
            self._order = order
            self._tell(order)

    def _reach(self, point: Point, error: Exception, link: LiveProtocol | None = None) -> None:
        order = self._order
        if order is None or order.point is not point:
            return
        self._hits += 1
        if self._hits < order.hit:
            return
        self._order = None
        with self._telling:
            self._tell(order)
        match order.action:
            case Action.KILL:
                kill()
            case Action.CUT:
                for each in list(self._links) if link is None else [link]:
                    reset(each._transport)
            case Action.ERROR:
                raise error
            case Action.SURPRISE:
                raise Surprise(point)

    # The wrappers

    def arm(self) -> None:
        """In this process, once, before an engine is opened."""
        for part, name, wrapper in (
            (SqliteLog, "append", self._append),
            (PostgresLog, "append", self._append),
            (KurrentLog, "append", self._append),
            (Writer, "submit", self._submit),
            (ReadModel, "advance", self._advance),
            (SqliteDatabase, "transaction", self._transaction),
            (Connection, "push", self._push),
            (LiveProtocol, "connection_made", self._connection_made),
            (LiveProtocol, "connection_lost", self._connection_lost),
        ):
            setattr(part, name, wrapper(getattr(part, name)))

    def _append(self, append: Callable[..., Any]) -> Callable[..., Any]:
        async def failing(log: SqliteLog, batch: Sequence[Append]) -> list[Outcome]:
            try:
                self._reach(Point.BEFORE_APPEND, _StoreFails())
            except _StoreFails:
                return [Unavailable(reason="a failpoint")] * len(batch)
            outcomes: list[Outcome] = await append(log, batch)
            try:
                self._reach(Point.AFTER_APPEND, _StoreFails())
            except _StoreFails:
                return [Unknown(reason="a failpoint")] * len(batch)
            return outcomes

        return failing

    def _submit(self, submit: Callable[..., None]) -> Callable[..., None]:
        """Only answers over a live connection: one within the process can't be lost."""

        def failing(writer: Writer, command: Command, *, turn: Any, reply: ReplyTo, **how: Any) -> None:
            if isinstance(turn, Connection):
                submit(writer, command, turn=turn, reply=self._reply(link_of(turn), reply), **how)
            else:
                submit(writer, command, turn=turn, reply=reply, **how)

        return failing

    def _reply(self, link: LiveProtocol, reply: ReplyTo) -> ReplyTo:
        def failing(answer: Reply) -> None:
            self._reach(Point.BEFORE_REPLY, ConnectionResetError(), link)
            reply(answer)
            link.flush()
            self._reach(Point.AFTER_REPLY, ConnectionResetError(), link)

        return failing

    def _advance(self, advance: Callable[..., None]) -> Callable[..., None]:
        def noted(model: ReadModel, events: Sequence[Event]) -> None:
            self._advancing = True
            try:
                advance(model, events)
            finally:
                self._advancing = False

        return noted

    def _transaction(self, transaction: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def failing(db: SqliteDatabase) -> Iterator[None]:
            with transaction(db):
                yield
                if self._advancing:
                    self._reach(Point.BEFORE_COMMIT, disk_full())
            if self._advancing:
                self._reach(Point.AFTER_COMMIT, disk_full())

        return failing

    def _push(self, push: Callable[..., None]) -> Callable[..., None]:
        def failing(connection: Connection, conversation: str, seq: int, data: bytes) -> None:
            link = link_of(connection)
            self._reach(Point.BEFORE_PUSH, ConnectionResetError(), link)
            push(connection, conversation, seq, data)
            link.flush()
            self._reach(Point.AFTER_PUSH, ConnectionResetError(), link)

        return failing

    def _connection_made(self, made: Callable[..., None]) -> Callable[..., None]:
        def noted(link: LiveProtocol, transport: Any) -> None:
            self._links.add(link)
            made(link, transport)

        return noted

    def _connection_lost(self, lost: Callable[..., None]) -> Callable[..., None]:
        def noted(link: LiveProtocol, error: Exception | None) -> None:
            self._links.discard(link)
            lost(link, error)

        return noted


def link_of(connection: Connection) -> LiveProtocol:
    link = connection._link
    assert isinstance(link, LiveProtocol)
    return link


def kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is dead")


def disk_full() -> apsw.Error:
    return apsw.FullError("database or disk is full")
