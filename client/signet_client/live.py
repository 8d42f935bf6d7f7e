"""The live path of one device: logs in, stores what comes, acknowledges it, sends the outbox, connects again.

What comes at once is one flush: 1. into order (`receiving`), 2. one transaction (`store`), 3. answers and events to the
application, 4. acknowledgements, and what the application says at once, in one write. It all happens in the callback in
which the bytes came, so the order is the order of the code. Delivered means stored (I5): step 4 comes after step 2.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final, assert_never

import msgspec

from signet_client import events, wire
from signet_client.backoff import backoff, failures_after
from signet_client.codes import may_reconnect
from signet_client.composing import Composing
from signet_client.connection import Close
from signet_client.crypto.exchange import Exchange
from signet_client.crypto.machine import Machine
from signet_client.errors import ClientClosed, Disconnected, Refused, SignetError, StoreFailed
from signet_client.gathered import Gathered
from signet_client.identity import Identity
from signet_client.link import Link
from signet_client.login import hello_to
from signet_client.outbox import Sent
from signet_client.reading import Reading
from signet_client.receiving import Receiving
from signet_client.records import Batch, Conversation, Marks, Outgoing, Profile
from signet_client.restored import go_back, kept_of
from signet_client.sending import Sending
from signet_client.store import Store

ANSWER_TIMEOUT_S: Final = 30.0
"""How long a message may be without an answer before the connection is given up for a new one."""
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
        self,
        profile: Profile,
        identity: Identity,
        store: Store,
        machine: Machine,
        emit: Callable[[events.Event], None],
    ) -> None:
        """`emit` is called for each event, in order, after it is stored."""
        self._machine = machine
        self.exchange: Exchange | None = None
        """What asks the server for keys; None: nothing can be encrypted that is not ready."""
        self.bring_files: Callable[[Outgoing, asyncio.Future[Sent] | None], bool] = lambda message, answer: False
        """What brings the files of a message once more; see `Uploads.bring_again`."""
        self._profile = profile
        self._identity = identity
        self._store = store
        self._emit = emit
        self._gathered: Final = Gathered()
        self._composing: Final = Composing(profile, identity, store, machine, self)
        self._sending: Final = Sending(store.outbox(), self._gathered, self._write, self._composing)
        self._reading: Final = Reading(machine, store, self._gathered)
        self._reading.want_key = self._want_key
        self.received: Final = Receiving(
            profile, store, self._gathered, self._sending.settle, self._reading, self._unsettle
        )
        self._link: Final = Link(profile.url, self._take_all, self._stuck)
        self._epoch = store.epoch()
        self._offered_epoch = ""
        """What the present connection's challenge has said."""
        self._welcomed = False
        self._live = False
        self._resume_at_once = False
        self._failure: SignetError | None = None
        self._ended = False
        self._hole_timer: asyncio.TimerHandle | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._late_timer: asyncio.TimerHandle | None = None
        self._readable: list[tuple[str, str]] = []
        """Sessions whose keys have come; their messages are looked at when the flush has stored them."""
        self._telling = False
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._unheard: set[str] = set()
        """Conversations of which the server refused a mark for now."""

    # Connecting

    async def run(self) -> None:
        """Keeps the device connected until cancelled. Raises Disconnected, StoreFailed."""
        loop = asyncio.get_running_loop()
        failures = 0
        try:
            while True:
                began = loop.time()
                self._resume_at_once = False
                close = await self._link.stay_connected()
                failures = failures_after(failures, stood_s=loop.time() - began, was_live=self._live)
                self._lost(close)
                if not (self._resume_at_once and failures <= 1):
                    await asyncio.sleep(backoff(failures))
        finally:
            self._end()

    def _stuck(self) -> str | None:
        """Why the connection is to be given up."""
        if not self._welcomed:
            return "the server did not say welcome in time"
        if asyncio.get_running_loop().time() - self._sending.oldest() > ANSWER_TIMEOUT_S:
            return "a message got no answer in time"
        return None

    def _lost(self, close: Close) -> None:
        """The connection is gone. Raises Disconnected where there is no use in another."""
        self._welcomed = self._live = False
        self.received.intake.reset()
        self._sending.reset()
        self._machine.lose_connection()
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
        for timer in (self._hole_timer, self._flush_timer, self._late_timer):
            if timer is not None:
                timer.cancel()
        reason = self._failure or ClientClosed("the client was closed")
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(reason)
        self._sending.end(reason)

    def fail(self, error: Exception) -> None:
        """The client ends: another part of it has failed."""
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The marks in memory may be ahead of the store now, so nothing more may be acknowledged."""
        if not isinstance(error, StoreFailed):
            _LOG.error("the client failed", exc_info=error)
        self._failure = error if isinstance(error, SignetError) else StoreFailed(f"the client failed: {error!r}")
        self._link.abort("the client failed")

    # What comes in

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
                self.received.take(frame)
            case wire.Receipt():
                self.received.follow_ticks(frame)
            case wire.Accepted():
                if (item := self._sending.accepted(frame)) is not None:
                    self.received.take_own(item, frame.id)
            case wire.Refused():
                self._refused(frame)
            case wire.Mark():
                self.received.move_read(frame.c, frame.read)
            case wire.Page():
                self.received.take_page(frame)
                if self._live:
                    self._gathered.frames += self.received.intake.fetches()
            case wire.Challenge():
                self._hello(frame)
            case wire.Welcome():
                self._welcome(frame)
            case wire.Live():
                self._go_live()
            case wire.Resync():
                # A resume finds everything that the dropped pushes said, also conversations and ticks.
                self._resume_at_once = True
                self._link.close()
            case wire.Mail():
                self._readable += self._machine.take_mail(frame)
                self._gathered.mail = self._machine.mail_taken
            case wire.KeyCounts():
                self._machine.hear_counts(frame)
                self.errand()
            case wire.DeviceLists():
                self._doubt(frame.accounts)
            case wire.Pong():
                pass
            case _:
                assert_never(frame)

    def _refused(self, refused: wire.Refused) -> None:
        if self.received.intake.refused(refused.id, retry=refused.retry):
            self._watch_holes(backoff(1) if refused.retry else HOLE_GRACE_S)
        elif self._sending.refused(refused):
            pass
        elif refused.retry and refused.c in self.received.marks:
            self._say_marks_again(refused.c)
        else:
            _LOG.warning("the server refused a frame: %s: %s %s", refused.code, refused.text, refused.c)

    # Logging in

    def _hello(self, challenge: wire.Challenge) -> None:
        self._machine.hear_server(challenge.server, frame_bytes_max=challenge.frame_bytes_max)
        self._sending.body_bytes_max = challenge.body_bytes_max
        self._offered_epoch = challenge.epoch
        hello = hello_to(challenge, self._profile, self._identity, self.received.marks, self._store.most_recent)
        self._gathered.frames.append(msgspec.structs.replace(hello, epoch=self._epoch))

    def _welcome(self, welcome: wire.Welcome) -> None:
        if self._offered_epoch != self._epoch:
            self._take_epoch(welcome)
        self._welcomed = True
        for overview in welcome.conversations:
            self.received.look_over(overview)
        self._sending.resume()
        self.errand()

    def _take_epoch(self, welcome: wire.Welcome) -> None:
        """The server was restored since the device was here, or the device was never here."""
        self._store_batch()
        kept = kept_of(welcome, self.received.marks) if self._epoch else {}
        lost = go_back(self._store, self._offered_epoch, kept, self.received.marks, self._identity, self._profile)
        self._epoch = self._offered_epoch
        self._machine.forget_mail()
        if self.exchange is not None:
            self.exchange.server_restored()
        if kept:
            self.received.lost.update(self._store.lost_messages())
            self._sending.replace(lost.outbox)
            for conversation, seq in kept.items():
                self._reading.go_back(conversation, seq)
            self._gathered.events += lost.events

    def _go_live(self) -> None:
        self._live = True
        self.received.go_live()
        self._gathered.frames += self.received.intake.fetches()
        self._gathered.events.append(events.Connected())

    # What the application says

    def post(self, message: Outgoing, *, uploaded: bool = False) -> asyncio.Future[Sent]:
        """Stores a message, then sends it; the future has the answer. `uploaded`: it was an upload until now. Raises
        Refused (`too_large`), StoreFailed."""
        self._check_running()
        message = self._composing.begin(message)
        self._sending.check_size(message)
        try:
            if uploaded:
                self._store.drop_upload(message.id)
            self._store.put_outgoing(message)
            answer = self._sending.post(message)
            self._store.settle()
            self._write()
        except StoreFailed as error:
            self._fail(error)
            raise
        return answer

    def check_size(self, message: Outgoing) -> None:
        """Raises Refused (`too_large`)."""
        self._sending.check_size(message)

    # What the exchange asks for, and finds out

    def needing(self) -> list[str]:
        """The conversations in which a message waits to be encrypted."""
        return self._sending.needing()

    def go_on(self, conversation: str) -> None:
        """Messages of it may be encrypted now, or must be looked at again."""
        self._sending.go_on(conversation)
        self.flush()

    def give_up(self, conversation: str, refused: Refused) -> None:
        """The messages that wait in it can't be sent."""
        self._sending.give_up(conversation, refused)
        self.flush()

    def lists_changed(self, accounts: Iterable[str]) -> None:
        """The devices of these are known better now."""
        self._reading.retry_devices()
        self.flush()

    def tell(self, event: events.Event) -> None:
        """Something that the exchange has found out."""
        self._gathered.events.append(event)
        self.flush()

    def marks_of(self, conversation: str) -> Marks:
        return self.received.marks.get(conversation) or Marks()

    def conversation_of(self, conversation: str) -> Conversation | None:
        return self.received.conversations.get(conversation)

    def errand(self) -> None:
        """Something is to be asked of the server."""
        if self.exchange is not None:
            self.exchange.wake()

    def refused_as_stale(self, conversation: str) -> None:
        """Others are in it than this device knows."""
        if self.exchange is not None:
            self.exchange.refused_as_stale(conversation)

    def bring_again(self, message: Outgoing, answer: asyncio.Future[Sent] | None) -> bool:
        return self.bring_files(message, answer)

    def _unsettle(self, change: wire.Change) -> None:
        """Somebody came or went."""
        if change.what in ("removed", "left"):
            self._machine.end_session(change.c)
        else:
            self._machine.unsettle(change.c)
        self.errand()

    def _doubt(self, accounts: Iterable[str]) -> None:
        for account in accounts:
            self._machine.doubt(account)
        self._machine.unsettle_all()
        self.errand()

    def _want_key(self, conversation: str, session: str, sender: str) -> None:
        if self.exchange is not None:
            self.exchange.want_key(conversation, session, sender)

    def _watch_late(self) -> None:
        """Looks again at what could not be decrypted when its keys are overdue."""
        due = self._reading.next_overdue()
        if due is not None and self._late_timer is None:
            self._late_timer = asyncio.get_running_loop().call_at(due, self._look_at_late)

    def _look_at_late(self) -> None:
        self._late_timer = None
        self._reading.take_overdue()
        self.flush()

    def know(self, conversation: Conversation) -> None:
        """What a conversation is, as the server said."""
        self.received.know(conversation)
        self.flush()

    def read(self, conversation: str, upto: int) -> None:
        """Moves the read mark, at most to what is held. Sent with the next flush, a moment later at most."""
        self._check_running()
        marks = self.received.marks.get(conversation)
        upto = min(upto, marks.cursor if marks else 0)
        if marks is None or upto <= marks.read:
            return
        marks.read = upto
        self.received.touch(conversation)
        self._gathered.reads.add(conversation)
        if self._flush_timer is None and not self._telling:
            self._flush_timer = asyncio.get_running_loop().call_later(READ_GATHER_S, self.flush)

    def _say_marks_again(self, conversation: str) -> None:
        """The server could not store an acknowledgement or a read mark. It doesn't say which: later both are said
        again, once for however many refusals come until then."""
        if not self._unheard:
            asyncio.get_running_loop().call_later(MARKS_RETRY_S * random.uniform(0.5, 1.0), self._marks_again)
        self._unheard.add(conversation)

    def _marks_again(self) -> None:
        for conversation in self._unheard:
            self._reading.say_again(conversation)
        self._gathered.acks |= self._unheard
        self._gathered.reads |= self._unheard
        self._unheard.clear()
        self.flush()

    # The flush

    def flush(self) -> None:
        """Stores and sends what has gathered."""
        self._take_all([])

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        self._store_batch()
        if self._readable:
            sessions, self._readable = self._readable, []
            self._reading.retry_sessions(sessions)
            self._store_batch()
        self._tell()
        self._write_marks()
        self._write()
        self._watch_late()
        if self._machine.has_errands or self._sending.needing():
            self.errand()
        if self._gathered.batch:
            # What was read just now has gone out with the acknowledgement; it needs no transaction of its own.
            self._flush_timer = asyncio.get_running_loop().call_later(READ_STORE_S, self.flush)
        if self.received.intake.holes:
            self._watch_holes(HOLE_GRACE_S)

    def _store_batch(self) -> None:
        self._machine.save_identity()
        batch = self._gathered.batch
        if batch:
            self._gathered.batch = Batch()
            self._store.commit(batch)
        else:
            self._store.settle()

    def _write_marks(self) -> None:
        gathered, marks = self._gathered, self.received.marks
        stated = gathered.acks | gathered.reads
        # What a conversation is decides how it is said; until that is known nothing is said of it.
        unknown = stated - self.received.conversations.keys()
        # Before the welcome nothing may be sent; it says what the server has not heard.
        if self._welcomed:
            for each in stated - unknown:
                gathered.frames += self._statements(each, marks[each])
            if gathered.mail:
                gathered.frames.append(wire.Took(upto=gathered.mail))
                gathered.mail = 0
        gathered.acks.clear()
        gathered.reads.clear()
        gathered.acks |= unknown

    def _statements(self, conversation: str, marks: Marks) -> Iterable[wire.ClientFrame]:
        known = self.received.conversations.get(conversation)
        if known is not None and known.protection == "end_to_end":
            yield from self._reading.acks(conversation, marks.cursor, marks.read)
            return
        if conversation in self._gathered.acks:
            yield wire.Ack(c=conversation, upto=marks.cursor)
        if conversation in self._gathered.reads:
            yield wire.Read(c=conversation, upto=marks.read)

    def _write(self) -> None:
        # What has made these frames, and what was changed by it, is on disk before they leave.
        self._machine.save_identity()
        self._store.settle()
        frames, self._gathered.frames = self._gathered.frames, []
        if frames:
            self._link.send(frames)

    def _tell(self) -> None:
        answers, self._gathered.answers = self._gathered.answers, []
        for waiting, answer in answers:
            if waiting.answer is None or waiting.answer.done():
                continue
            if isinstance(answer, Sent):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(answer)
        happened, self._gathered.events = self._gathered.events, []
        self._telling = True
        for event in happened:
            if isinstance(event, events.TickMoved):
                self._check_ticks(event.conversation)
            self._emit(event)
        self._telling = False
        if self._waiters:
            self._wake()

    def _check_ticks(self, conversation: str) -> None:
        known = self.received.conversations.get(conversation)
        if self.exchange is not None and known is not None and known.protection == "end_to_end":
            self.exchange.want_check(conversation)

    def _watch_holes(self, delay: float) -> None:
        if self._hole_timer is None:
            self._hole_timer = asyncio.get_running_loop().call_later(delay, self._fetch_holes)

    def _fetch_holes(self) -> None:
        self._hole_timer = None
        if self._live:
            self._gathered.frames += self.received.intake.fetches()
            self._write()

    # Waiting

    def want(self, conversation: str, seq: int) -> None:
        """The server said that it has something up to this seq."""
        self.received.intake.want(conversation, seq)
        self._watch_holes(HOLE_GRACE_S)

    def is_caught_up(self) -> bool:
        return self._live and not self.received.intake.holes and self._reading.next_overdue() is None

    def is_late(self, conversation: str) -> bool:
        """Whether keys of its messages may yet come."""
        return self._reading.is_late(conversation)

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
