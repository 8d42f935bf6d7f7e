"""The live path of one device: logs in, stores what comes, acknowledges it, sends the outbox, connects again.

What comes at once is one flush: 1. into order (`intake`), 2. one transaction (`store`), 3. answers and events to the
application, 4. acknowledgements, and what the application says at once, in one write. It all happens in the callback in
which the bytes came, so the order is the order of the code. Delivered means stored (I5): step 4 comes after step 2.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from signet_client import connection as ws
from signet_client import events, payloads, wire
from signet_client.codes import may_reconnect
from signet_client.connection import Close, Connection
from signet_client.errors import ClientClosed, Disconnected, Refused, SignetError, StoreFailed
from signet_client.identity import Identity
from signet_client.intake import Intake
from signet_client.messages import message_of
from signet_client.outbox import Outbox, Sent, Waiting
from signet_client.store import Batch, Conversation, Marks, Outgoing, Profile, Store

CONNECT_TIMEOUT_S: Final = 10.0
WELCOME_TIMEOUT_S: Final = 15.0
ANSWER_TIMEOUT_S: Final = 30.0
"""How long a message may be without an answer before the connection is given up for a new one."""
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MAX_S: Final = 20.0
STEADY_S: Final = 5.0
"""A connection that stood so long makes the next backoff begin anew."""
MARKS_RETRY_S: Final = 2.0
"""After how long at most a mark that the server refused for now is said again."""
HOLE_GRACE_S: Final = 0.05
"""How long a hole may stay before it is fetched: an `accepted` and the push before it may change places."""
READ_GATHER_S: Final = 0.02
"""How long read marks wait for others, or for the next flush."""
READ_STORE_S: Final = 1.0
"""How long a read mark that the server has may wait to be stored; one that is lost comes back with the welcome."""

_LOG: Final = logging.getLogger("signet_client")


class Live:
    """One device's live path. Use it from its event loop only."""

    def __init__(
        self, profile: Profile, identity: Identity, store: Store, emit: Callable[[events.Event], None]
    ) -> None:
        """`emit` is called for each event, in order, after it is stored."""
        self._profile = profile
        self._identity = identity
        self._store = store
        self._emit = emit
        self.marks: Final = store.marks()
        self.conversations: Final = {each.conversation: each for each in store.conversations()}
        self.unknown: Final[set[str]] = set()
        """Conversations that events came from, of which the client doesn't know what they are."""
        self._intake = Intake(self.marks)
        self._outbox = Outbox(message for message in store.outbox() if message.refused is None)
        self._connection: Connection | None = None
        self._welcomed = False
        self._live = False
        self._resume_at_once = False
        self._failure: SignetError | None = None
        self._ended = False
        self._heads: dict[str, int] = {}
        self._hole_timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._telling = False
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._unstored: dict[str, Outgoing] = {}
        """What was answered with a seq beyond a hole: it stays in the outbox until it is an item."""
        # What the flush in progress gathers
        self._batch = Batch()
        self._unheard: set[str] = set()
        """Conversations of which the server refused a mark for now."""
        self._acks: set[str] = set()
        self._reads: set[str] = set()
        self._frames: list[wire.ClientFrame] = []
        self._answers: list[tuple[Waiting, Sent | Refused]] = []
        self._events: list[events.Event] = []

    # Connecting

    async def run(self) -> None:
        """Keeps the device connected until cancelled. Raises Disconnected, StoreFailed."""
        loop = asyncio.get_running_loop()
        attempt = 0
        try:
            while True:
                began = loop.time()
                close = await self._stay_connected()
                self._lost(close)
                attempt = 0 if loop.time() - began > STEADY_S else attempt + 1
                if not (self._resume_at_once and attempt <= 1):
                    await asyncio.sleep(backoff(attempt))
        finally:
            self._end()

    async def _stay_connected(self) -> Close:
        loop = asyncio.get_running_loop()
        self._resume_at_once = False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = self._connection = await ws.connect(live_url(self._profile.url), self._on_frames)
        except (OSError, TimeoutError) as error:
            return Close(ws.ABNORMAL, str(error) or "the connection attempt timed out")
        watch = loop.call_later(WELCOME_TIMEOUT_S, self._check_progress, connection)
        try:
            return await asyncio.shield(connection.closed)
        except asyncio.CancelledError:
            connection.close()
            await connection.closed
            raise
        finally:
            watch.cancel()

    def _check_progress(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        if self._connection is not connection or connection.closed.done():
            return
        if not self._welcomed:
            connection.abort("the server did not say welcome in time")
        elif loop.time() - self._outbox.oldest() > ANSWER_TIMEOUT_S:
            connection.abort("a message got no answer in time")
        else:
            loop.call_later(WELCOME_TIMEOUT_S, self._check_progress, connection)

    def _lost(self, close: Close) -> None:
        """The connection is gone. Raises Disconnected where there is no use in another."""
        self._connection = None
        self._welcomed = self._live = False
        self._intake.reset()
        self._outbox.reset()
        if self._failure is None and not may_reconnect(close.number):
            self._failure = Disconnected(close.number, close.text)
        self._emit(events.Lost(number=close.number, text=close.text, final=self._failure is not None))
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        """Whoever waits for something that can't come any more is told so."""
        if self._failure is None or isinstance(self._failure, Disconnected):
            self._store_batch()
        self._ended = True
        for timer in (self._hole_timer, self._flush_timer):
            if timer is not None:
                timer.cancel()
        reason = self._failure or ClientClosed("the client was closed")
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(reason)
        for answer in self._outbox.answers():
            if not answer.done():
                answer.set_exception(reason)

    def _fail(self, error: Exception) -> None:
        """The marks in memory may be ahead of the store now, so nothing more may be acknowledged."""
        if not isinstance(error, StoreFailed):
            _LOG.error("the client failed", exc_info=error)
        self._failure = error if isinstance(error, SignetError) else StoreFailed(f"the client failed: {error!r}")
        if self._connection is not None:
            self._connection.abort("the client failed")

    # What comes in

    def _on_frames(self, connection: Connection, frames: list[wire.ServerFrame]) -> None:
        # The challenge may come before the task that connects has gone on.
        self._connection = connection
        self._take_all(frames)

    def _take_all(self, frames: list[wire.ServerFrame]) -> None:
        if self._ended or self._failure is not None:
            return
        try:
            for frame in frames:
                self._take(frame)
            self._flush()
        except Exception as error:
            self._fail(error)

    def _take(self, frame: wire.ServerFrame) -> None:
        match frame:
            case wire.Message() | wire.Change():
                if items := self._intake.push(frame):
                    self._hold(frame.c, items)
            case wire.Receipt():
                self._move_tick(frame.c, frame.delivered, frame.read, frame.undelivered)
            case wire.Accepted():
                self._accepted(frame)
            case wire.Refused():
                self._refused(frame)
            case wire.Mark():
                self._move_read(frame.c, frame.read)
            case wire.Page():
                self._hold(frame.c, self._intake.page(frame))
                if self._live:
                    self._frames += self._intake.fetches()
            case wire.Challenge():
                self._hello(frame)
            case wire.Welcome():
                self._welcome(frame)
            case wire.Live():
                self._go_live()
            case wire.Resync():
                # A resume finds everything that the dropped pushes said, also conversations and ticks.
                self._resume_at_once = True
                self._close_connection()
            case wire.Pong():
                pass
            case _:
                assert_never(frame)

    def _hold(self, conversation: str, items: list[wire.Item]) -> None:
        """Takes items that are next in order."""
        if conversation not in self.conversations:
            self._learn(conversation, items)
        self._touch(conversation)
        for item in items:
            self._batch.items.append(item)
            if isinstance(item, wire.Message):
                message = message_of(item)
                self._events.append(events.Received(item=message))
                if message.sender != self._profile.account:
                    self._acks.add(conversation)
                elif message.device == self._profile.device:
                    self._settle(message.id, item)
            else:
                self._events.append(events.Received(item=item))
                self._follow_title(item)

    def _touch(self, conversation: str) -> Marks:
        marks = self.marks.get(conversation)
        if marks is None:
            marks = self.marks[conversation] = Marks()
        self._batch.marks[conversation] = marks
        return marks

    def _learn(self, conversation: str, items: list[wire.Item]) -> None:
        first = items[0] if items else None
        if not isinstance(first, wire.Change) or first.what != "started":
            self.unknown.add(conversation)
            return
        others = [account for account in first.accounts if account != self._profile.account]
        self.know(
            Conversation(
                conversation=conversation,
                kind=first.kind or "group",
                protection=first.protection or "none",
                title=first.title,
                peer=others[0] if first.kind == "direct" and others else None,
            )
        )

    def know(self, conversation: Conversation) -> None:
        """What a conversation is; stored by the next flush."""
        self.unknown.discard(conversation.conversation)
        if self.conversations.get(conversation.conversation) != conversation:
            self.conversations[conversation.conversation] = conversation
            self._batch.conversations.append(conversation)

    def _follow_title(self, change: wire.Change) -> None:
        known = self.conversations.get(change.c)
        if known is not None and change.what == "title":
            self.know(msgspec.structs.replace(known, title=change.title))

    def _move_tick(self, conversation: str, delivered: int, read: int, undelivered: list[int]) -> None:
        marks = self.marks.get(conversation) or Marks()
        # Ticks only move forward (I6), whatever order they are heard of in.
        delivered, read = max(delivered, marks.tick_delivered), max(read, marks.tick_read)
        if (delivered, read, undelivered) == (marks.tick_delivered, marks.tick_read, marks.undelivered):
            return
        marks = self._touch(conversation)
        marks.tick_delivered, marks.tick_read, marks.undelivered = delivered, read, undelivered
        self._events.append(
            events.TickMoved(conversation=conversation, delivered=delivered, read=read, undelivered=undelivered)
        )

    def _move_read(self, conversation: str, read: int) -> None:
        marks = self._touch(conversation)
        if read > marks.read:
            marks.read = read
            self._events.append(events.ReadMarkMoved(conversation=conversation, read=read))

    # Logging in

    def _hello(self, challenge: wire.Challenge) -> None:
        profile = self._profile
        payload = payloads.hello_payload(
            nonce=challenge.nonce, server=challenge.server, account=profile.account, device=profile.device
        )
        cursors = {conversation: marks.cursor for conversation, marks in self.marks.items() if marks.cursor}
        self._frames.append(
            wire.Hello(
                account=profile.account,
                device=profile.device,
                signature=self._identity.sign(payload),
                cursors=cursors,
            )
        )

    def _welcome(self, welcome: wire.Welcome) -> None:
        self._welcomed = True
        for overview in welcome.conversations:
            self._look_over(overview)
        for waiting in self._outbox.firsts():
            self._send(waiting)

    def _look_over(self, overview: wire.Overview) -> None:
        """Compares what the server says of a conversation with what is here, and says again what it has not heard."""
        marks = self._touch(overview.c)
        self.know(conversation_of(overview))
        self._heads[overview.c] = overview.head
        ticks = overview.ticks
        self._move_tick(overview.c, ticks.delivered, ticks.read, ticks.undelivered)
        if overview.read >= marks.read:
            self._move_read(overview.c, overview.read)
        else:
            self._reads.add(overview.c)
        if overview.delivered < marks.cursor:
            self._acks.add(overview.c)

    def _go_live(self) -> None:
        self._live = True
        for conversation, head in self._heads.items():
            self._intake.want(conversation, head)
        self._heads.clear()
        self._frames += self._intake.fetches()
        self._events.append(events.Connected())

    # Sending

    def post(self, message: Outgoing) -> asyncio.Future[Sent]:
        """Stores a message, then sends it; the future has the answer. Raises StoreFailed."""
        self._check_running()
        self._store.put_outgoing(message)
        answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        # Not everybody waits for the answer; a refusal is an event too.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        waiting = Waiting(message, answer)
        self._outbox.add(waiting)
        if self._outbox.first(message.conversation) is waiting:
            self._send(waiting)
            self._write()
        return answer

    def _send(self, waiting: Waiting) -> None:
        if self._welcomed and not waiting.sent_at:
            waiting.sent_at = asyncio.get_running_loop().time()
            message = waiting.message
            self._frames.append(wire.Send(header=message.header, body=message.body, signature=message.signature))

    def _send_next(self, conversation: str) -> None:
        waiting = self._outbox.first(conversation)
        if waiting is not None:
            self._send(waiting)

    def _accepted(self, accepted: wire.Accepted) -> None:
        waiting = self._outbox.pop(accepted.id)
        if waiting is None:
            return
        message = waiting.message
        self._unstored[message.id] = message
        self._answer(waiting, accepted.c, accepted.seq, accepted.at)
        if items := self._intake.push(_own_item(message, accepted)):
            self._hold(accepted.c, items)
        elif accepted.seq <= self.marks[accepted.c].cursor:
            # A page brought it before.
            self._settle(message.id, None)
        self._send_next(message.conversation)

    def _settle(self, id_: str, item: wire.Message | None) -> None:
        """A message of this device is among the items: it leaves the outbox, its answer may have been lost."""
        waiting = self._outbox.pop(id_)
        if waiting is not None and item is not None:
            self._answer(waiting, item.c, item.seq, item.at)
            self._send_next(item.c)
        if waiting is not None or self._unstored.pop(id_, None) is not None:
            self._batch.sent.append(id_)

    def _answer(self, waiting: Waiting, conversation: str, seq: int, at: int) -> None:
        self._answers.append((waiting, Sent(conversation=conversation, id=waiting.message.id, seq=seq, at=at)))

    def _refused(self, refused: wire.Refused) -> None:
        loop = asyncio.get_running_loop()
        if self._intake.refused(refused.id, retry=refused.retry):
            self._watch_holes(backoff(1) if refused.retry else HOLE_GRACE_S)
            return
        waiting = self._outbox.get(refused.id)
        if waiting is None and refused.retry and refused.c in self.marks:
            self._say_marks_again(refused.c)
        elif waiting is None:
            _LOG.warning("the server refused a frame: %s: %s %s", refused.code, refused.text, refused.c)
        elif refused.retry:
            waiting.refusals += 1
            loop.call_later(backoff(waiting.refusals), self._send_again, waiting, self._connection)
        else:
            self._give_up(waiting, refused)

    def _send_again(self, waiting: Waiting, connection: Connection | None) -> None:
        # After a reconnect it has gone out again already.
        if self._connection is connection and waiting.message.id in self._outbox and not self._ended:
            waiting.sent_at = 0.0
            self._send(waiting)
            self._write()

    def _say_marks_again(self, conversation: str) -> None:
        """The server could not store an acknowledgement or a read mark. It doesn't say which: later both are said
        again, once for however many refusals come until then."""
        if not self._unheard:
            asyncio.get_running_loop().call_later(MARKS_RETRY_S * random.uniform(0.5, 1.0), self._marks_again)
        self._unheard.add(conversation)

    def _marks_again(self) -> None:
        self._acks |= self._unheard
        self._reads |= self._unheard
        self._unheard.clear()
        self.flush()

    def _give_up(self, waiting: Waiting, refused: wire.Refused) -> None:
        message = waiting.message
        self._outbox.pop(message.id)
        self._batch.refused.append((message.id, refused.code))
        self._answers.append((waiting, Refused(refused.code, refused.text, retry=False)))
        self._events.append(
            events.SendRefused(conversation=message.conversation, id=message.id, code=refused.code, text=refused.text)
        )
        self._send_next(message.conversation)

    # Reading

    def read(self, conversation: str, upto: int) -> None:
        """Moves the read mark, at most to what is held. Sent with the next flush, a moment later at most."""
        self._check_running()
        marks = self.marks.get(conversation)
        upto = min(upto, marks.cursor if marks else 0)
        if marks is None or upto <= marks.read:
            return
        marks.read = upto
        self._touch(conversation)
        self._reads.add(conversation)
        if self._flush_timer is None and not self._telling:
            self._flush_timer = asyncio.get_running_loop().call_later(READ_GATHER_S, self.flush)

    # The flush

    def flush(self) -> None:
        """Stores and sends what has gathered."""
        self._take_all([])

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self._store_batch()
        self._tell()
        self._write_marks()
        self._write()
        if self._batch:
            # What was read just now has gone out with the acknowledgement; it needs no transaction of its own.
            self._flush_timer = asyncio.get_running_loop().call_later(READ_STORE_S, self.flush)
        if self._intake.holes:
            self._watch_holes(HOLE_GRACE_S)

    def _store_batch(self) -> None:
        batch = self._batch
        if batch:
            self._batch = Batch()
            self._store.commit(batch)

    def _write_marks(self) -> None:
        # Before the welcome nothing may be sent; it says what the server has not heard.
        if self._welcomed:
            self._frames += [wire.Ack(c=each, upto=self.marks[each].cursor) for each in self._acks]
            self._frames += [wire.Read(c=each, upto=self.marks[each].read) for each in self._reads]
        self._acks.clear()
        self._reads.clear()

    def _write(self) -> None:
        frames, self._frames = self._frames, []
        if frames and self._connection is not None:
            self._connection.send(frames)

    def _tell(self) -> None:
        answers, self._answers = self._answers, []
        for waiting, answer in answers:
            if waiting.answer is None or waiting.answer.done():
                continue
            if isinstance(answer, Sent):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(answer)
        happened, self._events = self._events, []
        self._telling = True
        for event in happened:
            self._emit(event)
        self._telling = False
        if self._waiters:
            self._wake()

    def _watch_holes(self, delay: float) -> None:
        if self._hole_timer is None:
            self._hole_timer = asyncio.get_running_loop().call_later(delay, self._fetch_holes)

    def _fetch_holes(self) -> None:
        self._hole_timer = None
        if self._live:
            self._frames += self._intake.fetches()
            self._write()

    # Waiting

    def want(self, conversation: str, seq: int) -> None:
        """The server said that it has something up to this seq."""
        self._intake.want(conversation, seq)
        self._watch_holes(HOLE_GRACE_S)

    def is_caught_up(self) -> bool:
        return self._live and not self._intake.holes

    async def until(self, reached: Callable[[], bool]) -> None:
        """Waits for a condition, looked at after every flush. Raises what has ended the live path."""
        self._check_running()
        if not reached():
            future = asyncio.get_running_loop().create_future()
            self._waiters.append((reached, future))
            await future

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for reached, future in waiters:
            if future.done():
                continue
            if reached():
                future.set_result(None)
            else:
                self._waiters.append((reached, future))

    def _check_running(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._ended:
            raise ClientClosed("the client was closed")

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()


def backoff(attempt: int) -> float:
    """Seconds to wait before the next attempt: doubling, and at random between half and all of it."""
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0))


def live_url(url: str) -> str:
    """Where a server's WebSocket is."""
    return "ws" + url.removeprefix("http").rstrip("/") + "/v1/live"


def conversation_of(overview: wire.Overview) -> Conversation:
    return Conversation(
        conversation=overview.c,
        kind=overview.kind,
        protection=overview.protection,
        title=overview.title,
        peer=overview.peer,
    )


def _own_item(message: Outgoing, accepted: wire.Accepted) -> wire.Message:
    # How many messages there are up to here, the answer doesn't say.
    return wire.Message(
        c=accepted.c,
        seq=accepted.seq,
        at=accepted.at,
        ordinal=0,
        own=0,
        header=message.header,
        body=message.body,
        signature=message.signature,
    )
