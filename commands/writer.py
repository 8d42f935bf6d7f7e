"""The writer: the one place where commands become events on disk.

A command's way, and the step's number in the code:

    1 queue      bounded, turn by turn between peers, with a lane for those that may wait; full: refused `busy`
    2 gather     what came in while the last commit ran, up to `batch_max` commands, and appends whose outcome is open;
                 new keys that sealed something of it are on disk before it is decided, or it is refused `unavailable`
    3 decide     each command against its stream's state, commands of one stream chained on its tentative state
    4 append     all streams in one call; atomic for each stream only
    5 settle     each stream by its own outcome
    6 answer     after the commit, also refusals that may rest on what was tentative; other refusals are given at once
    7 hand over  the committed events to the feed (`commands/handover.py`)

How an append ends:

    Appended     answered and handed over
    Conflict     another writer was there: the state is dropped, the stream's commands are decided anew,
                 `conflict_tries_max` times, then refused `busy`
    Unavailable  nothing was stored: the same append again after a pause, `unavailable_tries_max` times, then refused
                 `unavailable`; commands of the stream wait behind it, so that their order holds
    Unknown      as Unavailable, but without an end: the same append, with the same ids, until the answer is Appended or
                 Conflict; after a Conflict the stream is read, and tells whose events stand there. Receipts of what may
                 be stored wait too: readers have it before the writer knows of it

A decision may rest on what is tentative in its own stream, never on what is tentative in another.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import attrgetter
from time import perf_counter
from typing import Final, assert_never

from commands.batch import Group, OpenAppend, Waiting
from commands.handlers import Command, Handlers, stream_of
from commands.handover import HandOver
from commands.ids import new_uuid
from commands.keyring import Keyring
from commands.lookup import CommandLookup
from commands.measures import WriterMeasures
from commands.replies import Accepted, Refused, Reply, ReplyTo
from commands.snapshots import Snapshots
from commands.states import States
from commands.turns import Lanes
from domain.codec import CODEC, Codec, DomainEvent, Event
from domain.entry import Entry, seals_in
from domain.errors import KeyringUnavailable, Rejected
from domain.ids import conversation_stream
from domain.log import Appended, Conflict, EventLog, Outcome, StoreUnavailable, Unavailable, Unknown
from domain.receipts import AdvanceReceipts
from domain.recent import First

__all__ = ["Accepted", "Command", "Refused", "Reply", "ReplyTo", "Writer"]

_log = logging.getLogger("signet.writer")

PAUSE_FIRST_S: Final = 0.01
PAUSE_LAST_S: Final = 1.0
"""An append whose outcome is open is tried again after 10 ms, then after twice as long each time, up to a second."""

APPEND_BYTES_MAX: Final = 524_288
"""How much goes to one stream in one append, about: KurrentDB takes 1 MiB."""

_POSITION: Final = attrgetter("position")


class Writer:
    """One for each store partition. `run` is its one task; everything else only adds to its queue."""

    def __init__(
        self,
        log: EventLog,
        *,
        lookup: CommandLookup,
        keyring: Keyring,
        hand_over: Callable[[Sequence[Event]], None] | None,
        clock: Callable[[], int],
        codec: Codec = CODEC,
        waiting_max: int = 20_000,
        batch_max: int = 512,
        hearers_max: int = 1_024,
        conflict_tries_max: int = 10,
        unavailable_tries_max: int = 8,
        snapshots: Snapshots | None = None,
        slots_max: int = 20_000,
    ) -> None:
        """`hand_over` (`Feed.publish`) gets what is committed, in order of position; None where others write the store
        too, or it doesn't tell the positions: then the feed follows the log. `clock` gives microseconds since 1970 UTC.
        `hearers_max`: how many members the events of one batch may have together, so that pushes to a large group don't
        hold the loop for long. `waiting_max`: how many commands may be without an answer; `slots_max`: how many
        streams' states are kept, twice as many at most."""
        self._log = log
        self._keyring = keyring
        self._hand_over = None if hand_over is None else HandOver(log, codec, hand_over)
        self._clock = clock
        self._codec = codec
        self._waiting_max = waiting_max
        self._batch_max = batch_max
        self._hearers_max = hearers_max
        self._conflict_tries_max = conflict_tries_max
        self._unavailable_tries_max = unavailable_tries_max
        self._states = States(log, codec, snapshots=snapshots, slots_max=slots_max)
        self._handlers = Handlers(log, self._states, lookup, codec)
        self._queue: Lanes[Waiting] = Lanes()
        self._open: dict[str, OpenAppend] = {}
        self._unanswered = 0
        self._wake = asyncio.Event()
        self._stopping = False
        self._position = 0
        self._now = 0
        """When the round's events are recorded."""
        self._in_vain: set[str] = set()
        """The keys that could not be saved in this round."""
        self._away = False
        """The store, and it was said."""
        self.measures = WriterMeasures()

    @property
    def position(self) -> int:
        """That of the last event that this writer knows of."""
        return self._position

    @property
    def unanswered(self) -> int:
        """How many commands have no answer yet."""
        return self._unanswered

    @property
    def open_appends(self) -> int:
        """To how many streams the outcome of an append is not known."""
        return len(self._open)

    # 1 queue

    def submit(
        self,
        command: Command,
        *,
        turn: Hashable,
        reply: ReplyTo,
        patient: bool = False,
        occurred_at: int | None = None,
    ) -> None:
        """Never blocks or raises. `reply` is called once, later, from the loop. `turn` stands for the peer; `patient`:
        others come first. While a patient command of a peer has no answer, the next one may overtake it if it is
        not patient. `occurred_at`, microseconds since 1970 UTC: when it happened; an importer alone may claim that."""
        waiting = Waiting(command, stream_of(command), turn, reply, occurred_at)
        self._unanswered += 1
        if self._stopping or self._unanswered > self._waiting_max:
            refused = Refused(code="unavailable" if self._stopping else "busy")
            asyncio.get_running_loop().call_soon(self._reply, waiting, refused)
            return
        self._queue.add(turn, waiting, patient=patient)
        self._wake.set()

    async def execute(self, command: Command, *, turn: Hashable) -> Reply:
        """Submits the command and waits for its answer."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.submit(command, turn=turn, reply=lambda reply: None if answer.done() else answer.set_result(reply))
        return await answer

    async def run(self) -> None:
        """Until `stop`. Raises StoreUnavailable where the store can't be read at the start."""
        loop = asyncio.get_running_loop()
        self._position = await self._log.head()
        if self._hand_over is not None:
            self._hand_over.position = self._position
        while self._queue or not self._stopping:
            await self._sleep()
            began = loop.time()
            await self._round(began)
            self._queue.done(began=began, now=loop.time())
            self._states.trim()
            # An append may finish without suspending: let the loop read sockets in between.
            await asyncio.sleep(0)
        self._leave_open()

    def stop(self) -> None:
        """No more commands are taken; `run` ends when those in the queue are answered. Where an append is still open,
        what surely is not stored is refused `unavailable`; what may be stored gets no answer, and its clients send it
        again."""
        self._stopping = True
        self._queue.hurry()
        self._wake.set()

    async def _sleep(self) -> None:
        now = asyncio.get_running_loop().time()
        ready_at = self._queue.ready_at()
        is_ready = ready_at is not None and ready_at <= now
        if is_ready or (self._stopping and not self._queue):
            return
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._next_try(now, ready_at)):
                await self._wake.wait()

    def _next_try(self, now: float, ready_at: float | None) -> float | None:
        """When there is something to do without a new command, by the loop's clock."""
        times = [each.due for each in self._open.values()]
        if ready_at is not None:
            times.append(ready_at)
        if self._hand_over is not None and self._hand_over.behind:
            times.append(now + PAUSE_LAST_S)
        return min(times, default=None)

    async def _round(self, began: float) -> None:
        """`began`: by the loop's clock."""
        # 2 gather
        retried = self._due(began)
        self._now = self._clock()
        self._in_vain.clear()
        # 3 decide
        ready = [*retried, *self._sort_out(await self._decide(began))]
        # 4 append
        outcomes = await self._append(ready) if ready else []
        # 5 settle
        done = [group for group, outcome in zip(ready, outcomes, strict=True) if await self._settle(group, outcome)]
        # 6 answer
        if done:
            await self._committed(done)
        # 7 hand over
        if self._hand_over is not None:
            events = [event for group in done for event in group.committed()]
            events.sort(key=_POSITION)
            await self._hand_over.give(events, doubtful=any(each.group.uncertain for each in self._open.values()))

    def _due(self, now: float) -> list[Group]:
        return [each.group for each in self._open.values() if each.due <= now]

    async def _has_its_keys_saved(self, waiting: Waiting) -> bool:
        """Whether the keys that sealed it are on disk; else it is refused. All new keys are saved at once, and what
        can't be saved is not tried again in the same round."""
        keys = {sealed.key for sealed in seals_in(waiting.command)}
        if not self._in_vain.issuperset(keys.intersection(self._keyring.unsaved)):
            try:
                await self._keyring.save()
            except KeyringUnavailable as error:
                _log.error("%s", error)
                self._in_vain.update(self._keyring.unsaved)
        if keys.isdisjoint(self._keyring.unsaved):
            return True
        self._reply(waiting, Refused(code=KeyringUnavailable.code))
        return False

    # 3 decide

    async def _decide(self, now: float) -> Iterable[Group]:
        """What waits, up to a batch of it. One coroutine for all: one for each command took as long as its decision."""
        groups: dict[str, Group] = {}
        began = perf_counter()
        taken = hearers = 0
        for waiting in self._queue.take(self._batch_max, now=now):
            taken += 1
            if self._keyring.unsaved and not await self._has_its_keys_saved(waiting):
                continue
            if self._open and self._is_put_off(waiting):
                continue
            group = groups.get(waiting.stream)
            if group is not None and group.broken:
                group.answers.append((waiting, None))  # like the rest of the group it is decided in the next batch
                continue
            command = waiting.command
            try:
                decided = self._handlers.decide_at_once(command, waiting.stream) or await self._handlers.decide(command)
            except Exception as error:
                self._refuse(waiting, self._refusal(waiting, error), group)
                continue
            if group is None:
                group = groups[waiting.stream] = Group(decided.slot, now=self._now)
            if not decided.events:
                group.answers.append((waiting, decided.first))
                continue
            self._fold(group, waiting, decided.events)
            hearers += group.hearers
            if hearers >= self._hearers_max or group.bytes >= APPEND_BYTES_MAX:
                break
        if taken:
            self.measures.batch_commands.observe(taken)
            self.measures.decide_s.observe(perf_counter() - began)
        return groups.values()

    def _is_put_off(self, waiting: Waiting) -> bool:
        opened = self._in_the_way(waiting)
        if opened is not None:
            opened.later.append(waiting)
        return opened is not None

    def _in_the_way(self, waiting: Waiting) -> OpenAppend | None:
        """The open append behind which a command must wait: that of its stream, or for a receipt that of its
        conversation, where the device may have read what the writer doesn't know of yet."""
        opened = self._open.get(waiting.stream)
        command = waiting.command
        if opened is None and isinstance(command, AdvanceReceipts):
            talk = self._open.get(conversation_stream(command.conversation))
            if talk is not None and talk.group.uncertain and _goes_beyond(command, talk.group.expected + 1):
                return talk
        return opened

    def _refuse(self, waiting: Waiting, refused: Refused, group: Group | None) -> None:
        """After the commit, where the refusal may rest on something tentative; else at once."""
        if group is None:
            self._reply(waiting, refused)
        else:
            group.answers.append((waiting, refused))

    def _fold(self, group: Group, waiting: Waiting, events: Sequence[DomainEvent]) -> None:
        slot = group.slot
        version = slot.version + 1
        try:
            for event in events:
                entry: Entry[DomainEvent] = Entry(
                    v=self._codec.versions[type(event)], id=new_uuid(), cmd=waiting.command.id, at=group.at,
                    occ=waiting.occurred_at, e=event,
                )  # fmt: skip
                slot.fold(entry)
                group.entries.append(entry)
                encoded = self._codec.encode(entry)
                group.events.append(encoded)
                group.bytes += len(encoded.data)
        except Exception as error:
            group.broken = True
            self._reply(waiting, self._refusal(waiting, error))
        else:
            group.answers.append((waiting, version))

    def _sort_out(self, groups: Iterable[Group]) -> list[Group]:
        """The groups that have something to append; of the others the commands are answered, or decided anew."""
        ready = []
        for group in groups:
            if group.broken:
                self._states.drop(group.slot.stream)
                self._decide_anew(group.waiting)
            elif group.events:
                ready.append(group)
            else:
                self._answer(group)
        return ready

    def _decide_anew(self, commands: Sequence[Waiting]) -> None:
        for waiting in reversed(commands):
            self._queue.put_back(waiting.turn, waiting)

    # 4 append, 5 settle

    async def _append(self, groups: list[Group]) -> list[Outcome]:
        began = perf_counter()
        try:
            return await self._log.append([group.append for group in groups])
        except Exception as error:  # the port forbids it; what an adapter left open is settled as unknown
            _log.exception("the store failed at an append")
            return [Unknown(reason=repr(error)) for _ in groups]
        finally:
            self.measures.append_s.observe(perf_counter() - began)

    async def _settle(self, group: Group, outcome: Outcome) -> bool:
        """Whether the group's events are stored."""
        match outcome:
            case Appended():
                group.placed(outcome.positions, outcome.last)
                self._decide_anew(self._close(group))
                return True
            case Conflict():
                return await self._conflict(group, outcome)
            case Unavailable() | Unknown():
                self._keep_open(group, outcome)
                return False
            case _:
                assert_never(outcome)

    async def _conflict(self, group: Group, conflict: Conflict) -> bool:
        try:
            if group.uncertain and await self._is_stored(group):
                self._decide_anew(self._close(group))
                return True
        except StoreUnavailable as error:
            self._keep_open(group, Unknown(reason=str(error)))
            return False
        stream = group.slot.stream
        _log.info("another writer was at %s: expected %d, current %d", stream, conflict.expected, conflict.current)
        self._states.drop(stream)
        again = []
        for waiting in group.waiting:
            waiting.conflicts += 1
            if waiting.conflicts > self._conflict_tries_max:
                self._reply(waiting, Refused(code="busy"))
            else:
                again.append(waiting)
        self._decide_anew([*again, *self._close(group)])
        return False

    async def _is_stored(self, group: Group) -> bool:
        """Whether the stream shows that an append with a lost answer was stored. Its events carry ids of their own."""
        found = await self._log.read_stream(group.slot.stream, after=group.expected, limit=len(group.events))
        group.placed([recorded.position for recorded in found])
        return [recorded.data for recorded in found] == [event.data for event in group.events]

    def _keep_open(self, group: Group, outcome: Unavailable | Unknown) -> None:
        group.tries += 1
        group.uncertain = group.uncertain or isinstance(outcome, Unknown)
        self.measures.failure, self.measures.failed_at = outcome.reason, asyncio.get_running_loop().time()
        self._say_away(f"an append to {group.slot.stream} is open: {outcome.reason}")
        if group.tries >= self._unavailable_tries_max and not group.uncertain:
            self._give_up(group)
            return
        opened = self._open.setdefault(group.slot.stream, OpenAppend(group))
        # The exponent is bounded too: a store may be away for weeks.
        pause = min(PAUSE_FIRST_S * 2 ** min(group.tries - 1, 16), PAUSE_LAST_S)
        opened.due = asyncio.get_running_loop().time() + pause

    def _give_up(self, group: Group) -> None:
        self._states.drop(group.slot.stream)
        for waiting in [*group.waiting, *self._close(group)]:
            self._reply(waiting, Refused(code="unavailable"))

    def _close(self, group: Group) -> list[Waiting]:
        """The outcome of the group's append is known. Gives the commands that waited behind it."""
        opened = self._open.pop(group.slot.stream, None)
        return opened.later if opened is not None else []

    def _leave_open(self) -> None:
        for opened in list(self._open.values()):
            if opened.group.uncertain:
                # A repetition of what may be stored is not to hear that it is not.
                doubtful = {waiting.command.id for waiting in opened.group.waiting}
                for waiting in self._close(opened.group):
                    if waiting.command.id not in doubtful:
                        self._reply(waiting, Refused(code="unavailable"))
            else:
                self._give_up(opened.group)

    # 6 answer

    async def _committed(self, done: list[Group]) -> None:
        self.measures.failure = ""
        if self._away and not self._open:
            self._away = False
            _log.warning("the store is back")
        for group in done:
            slot = group.slot
            slot.committed = slot.version
            events = len(group.events)
            self.measures.events += events
            self._states.items += events
            if slot.version >= slot.due:
                self._states.snapshot(slot, group.entries[-1].id)
            if group.tries:
                # It may have been read anew for another stream's decision while the outcome was open.
                self._states.keep(slot)
        self._position = max(self._position, await self._position_of(done))
        for group in done:
            self._answer(group)

    async def _position_of(self, done: list[Group]) -> int:
        """Where a reader sees all of it. Where the store doesn't tell positions, nothing goes on until its head is
        known."""
        if all(group.last is not None for group in done):
            return max(group.last for group in done if group.last is not None)
        while not self._stopping:
            try:
                return await self._log.head()
            except StoreUnavailable as error:
                self._say_away(str(error))
                await asyncio.sleep(PAUSE_LAST_S)
        return self._position

    def _answer(self, group: Group) -> None:
        slot = group.slot
        position = max(self._position, self._states.position)
        for waiting, answer in group.answers:
            if isinstance(answer, int):
                self._reply(waiting, Accepted(seq=answer + 1, at=group.at, position=position))
            elif isinstance(answer, First):
                self._reply(waiting, Accepted(seq=answer.seq, at=answer.at, position=position))
            elif answer is None:
                self._reply(waiting, Accepted(seq=slot.version + 1, at=slot.at, position=position))
            else:
                self._reply(waiting, answer)

    def _refusal(self, waiting: Waiting, error: Exception) -> Refused:
        if isinstance(error, Rejected):
            return Refused(code=error.code)
        if isinstance(error, StoreUnavailable):
            self._say_away(str(error))
            return Refused(code="unavailable")
        _log.error("a command failed: %s", type(waiting.command).__name__, exc_info=error)
        return Refused(code="failed")

    def _say_away(self, reason: str) -> None:
        """Once, until an append succeeds: not for each command of a crowd, nor for each try."""
        if not self._away:
            self._away = True
            _log.warning("the store is away, or refuses something: %s", reason)

    def _reply(self, waiting: Waiting, reply: Reply) -> None:
        self._unanswered -= 1
        try:
            waiting.reply(reply)
        except Exception:
            # One peer's trouble with its answer must not reach the others.
            _log.exception("an answer could not be given")


def _goes_beyond(command: AdvanceReceipts, seq: int) -> bool:
    return any(receipt.delivered > seq or receipt.read > seq for receipt in command.receipts)
