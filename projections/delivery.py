"""Who hears of what: a projection in memory that turns the recorded events into pushes.

A push is born only from a recorded event, and it is a hint: the truth is the log. So nothing here survives a restart,
and what is lost here is found by its seq, which leaves a hole.

    feed → `receive` → a room for each conversation → pushes → subscribers

All of this happens within `Feed.publish`, so without a task switch and before any read model has the events, but where
a conversation is touched whose room (`projections/room.py`) is not in memory: its events wait, in order, until the room
has been made from the two streams in the log; those of other conversations go on meanwhile.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, cast

import msgspec

from domain.account import DeviceRevoked
from domain.codec import CODEC, Codec, DomainEvent, Event
from domain.conversation import ConversationEvent, MemberLeft, MemberRemoved, MessageSent
from domain.ids import AccountId, ConversationId, DeviceId, conversation_stream, receipts_stream
from domain.keys import DeviceKeysPublished, OneTimeKeyClaimed
from domain.log import NO_STREAM, START, EventLog, StoreUnavailable
from domain.receipts import ReceiptsAdvanced
from projections.feed import retry_delays
from projections.room import Room

logger = logging.getLogger(__name__)

_LOADS_MAX: Final = 8
"""How many rooms are made from the log at once."""
_WAITING_MAX: Final = 1_000
"""How many events of one conversation wait for its room. Beyond that they are let go, and the room is made anew."""
_PAGE: Final = 500


class EventPush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message, or another event of the conversation."""

    event: Event
    conversation: ConversationId
    to: tuple[AccountId, ...]
    """For all devices of these accounts: the members after the event, and whoever it made leave. Messages between two
    changes of membership share one tuple, so a big group costs no more than a small one."""
    origin: tuple[AccountId, DeviceId] | None
    """The device that sent the message: it gets `accepted` instead. None for all other events."""


class TickPush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """To an author: its ticks have moved; at most once for each author and batch."""

    conversation: ConversationId
    account: AccountId
    delivered: int
    read: int
    undelivered: list[int]
    """Seqs that a member could not decrypt, since the author was last told; an author picks its own."""
    repaired: list[int]
    """Seqs of earlier pushes that nobody waits for any more: decrypted after all, or whoever could not has left."""
    more: bool
    """So much has changed that these two say nothing: the author is to read what is undelivered."""


class MarkPush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """To a reader's other devices: the account's read mark has moved."""

    conversation: ConversationId
    account: AccountId
    read: int
    origin: tuple[AccountId, DeviceId]
    """The device that has read."""


class DeviceRevokedPush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """This device is to be disconnected."""

    account: AccountId
    device: DeviceId


class DeviceListPush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """To all who share a conversation with this account: it has other devices than before."""

    account: AccountId


class KeyClaimedPush(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """To a device: one of its keys was handed out."""

    account: AccountId
    claimed: OneTimeKeyClaimed


Push = EventPush | TickPush | MarkPush | DeviceRevokedPush | DeviceListPush | KeyClaimedPush
Subscriber = Callable[[Sequence[Push]], None]


class Delivery:
    """Rooms are kept for the conversations that were touched last: at least half of `rooms_max`."""

    def __init__(self, log: EventLog, codec: Codec = CODEC, *, rooms_max: int = 10_000) -> None:
        self._log = log
        self._codec = codec
        self._rooms = _Rooms(rooms_max)
        self._loading: dict[ConversationId, _Loading] = {}
        self._loads = asyncio.Semaphore(_LOADS_MAX)
        self._subscribers: list[Subscriber] = []
        self.position = START
        """That of the last event received. Pushes of earlier ones may still come, where a room is being made."""

    def subscribe(self, callback: Subscriber) -> None:
        """`callback` gets the pushes of each batch, in order for each conversation; it must be fast and never wait."""
        self._subscribers.append(callback)

    def receive(self, events: Sequence[Event]) -> None:
        """Takes events in order of position: to be given to `Feed.listen`."""
        self.position = events[-1].position
        self._deliver(events)

    async def close(self) -> None:
        """Ends what is being loaded; nobody hears of the events that wait for it."""
        tasks = [loading.task for loading in self._loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _deliver(self, events: Sequence[Event]) -> None:
        batch = _Batch()
        for event in events:
            try:
                self._take(event, batch)
            except Exception:
                # One conversation's trouble is not to silence the others; its next event makes its room anew.
                logger.exception("no push could be made of the event at position %d", event.position)
                self._rooms.drop(_conversation_of(event))
        self._hand_out(batch.finish())

    def _take(self, event: Event, batch: "_Batch") -> None:
        category, _, rest = event.stream.partition("-")
        if category == "account":
            batch.pushes += _of_account(AccountId(rest), event.entry.e)
            return
        if category == "media":
            return  # whoever waits for it asks
        conversation = ConversationId(rest)
        room = self._rooms.get(conversation)
        if room is not None:
            batch.take(event, conversation, room)
        elif category == "conversation" and event.version == 0:
            batch.take(event, conversation, self._rooms.keep(conversation, Room()))
        else:
            self._wait(event, conversation)

    def _hand_out(self, pushes: Sequence[Push]) -> None:
        if not pushes:
            return
        for subscriber in self._subscribers:
            try:
                subscriber(pushes)
            except Exception:
                logger.exception("a subscriber failed on %d pushes", len(pushes))

    # Rooms that are not in memory

    def _wait(self, event: Event, conversation: ConversationId) -> None:
        loading = self._loading.get(conversation)
        if loading is not None and len(loading.waiting) < _WAITING_MAX:
            loading.waiting.append(event)
            return
        if loading is not None:
            logger.warning("%d events of the conversation %s are not pushed", len(loading.waiting), conversation)
            loading.task.cancel()
        task = asyncio.get_running_loop().create_task(self._load(conversation, before=event.position))
        self._loading[conversation] = _Loading([event], task)

    async def _load(self, conversation: ConversationId, *, before: int) -> None:
        """Makes the room as it was before this position, then takes the events that have waited."""
        try:
            async with self._loads:
                room = await self._make_room(conversation, before)
        except Exception:
            logger.exception("the conversation %s can't be loaded; its events are not pushed", conversation)
            del self._loading[conversation]
            return
        # From here on without a pause, so that no event comes between.
        self._rooms.keep(conversation, room)
        self._deliver(self._loading.pop(conversation).waiting)

    async def _make_room(self, conversation: ConversationId, before: int) -> Room:
        delays = retry_delays()
        while True:
            try:
                return await self._read_room(conversation, before)
            except StoreUnavailable as error:
                logger.warning("the conversation %s can't be loaded now: %s", conversation, error)
                await asyncio.sleep(next(delays))

    async def _read_room(self, conversation: ConversationId, before: int) -> Room:
        room = Room()
        for stream in (conversation_stream(conversation), receipts_stream(conversation)):
            async for event in self._read(stream, before):
                room.fold(event)
        room.settle()
        return room

    async def _read(self, stream: str, before: int) -> AsyncIterator[Event]:
        version = NO_STREAM
        while page := await self._log.read_stream(stream, after=version, limit=_PAGE):
            for recorded in page:
                if recorded.position >= before:
                    return
                yield self._codec.decode(recorded)
            version = page[-1].version


class _Batch:
    """The pushes of some events, and the rooms whose ticks may have moved by them."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self._touched: dict[ConversationId, Room] = {}

    def take(self, event: Event, conversation: ConversationId, room: Room) -> None:
        fact = event.entry.e
        if isinstance(fact, MessageSent):
            room.fold_message(event.version + 1, fact)
            origin = (fact.by, fact.device)
            self.pushes.append(EventPush(event=event, conversation=conversation, to=room.audience, origin=origin))
        elif isinstance(fact, ReceiptsAdvanced):
            self._touched[conversation] = room
            for receipt in fact.receipts:
                if room.fold_receipt(receipt):
                    account = receipt.account
                    push = MarkPush(
                        conversation=conversation, account=account, read=receipt.read, origin=(account, receipt.device)
                    )
                    self.pushes.append(push)
        else:
            self._touched[conversation] = room
            to = self._change(event, cast("ConversationEvent", fact), room)
            self.pushes.append(EventPush(event=event, conversation=conversation, to=to, origin=None))

    def finish(self) -> list[Push]:
        """All pushes, the ticks last. Rooms hold no tick back after it."""
        for conversation, room in self._touched.items():
            for told in room.take_ticks():
                push = TickPush(
                    conversation=conversation,
                    account=told.author,
                    delivered=told.ticks.delivered,
                    read=told.ticks.read,
                    undelivered=told.undelivered,
                    repaired=told.repaired,
                    more=told.more,
                )
                self.pushes.append(push)
        return self.pushes

    def _change(self, event: Event, fact: ConversationEvent, room: Room) -> tuple[AccountId, ...]:
        """Whoever leaves or is removed hears of it; newcomers hear of their joining."""
        before = room.audience
        room.fold_change(event.version + 1, fact)
        return before if isinstance(fact, MemberLeft | MemberRemoved) else room.audience


def _of_account(account: AccountId, fact: DomainEvent) -> list[Push]:
    match fact:
        case DeviceRevoked():
            return [DeviceRevokedPush(account=account, device=fact.device), DeviceListPush(account=account)]
        case DeviceKeysPublished():
            return [DeviceListPush(account=account)]
        case OneTimeKeyClaimed():
            return [KeyClaimedPush(account=account, claimed=fact)]
        case _:
            return []


class _Loading(msgspec.Struct):
    waiting: list[Event]
    task: asyncio.Task[None]


class _Rooms:
    """Rooms in two generations: the older one is dropped whole when the newer one is full."""

    def __init__(self, rooms_max: int) -> None:
        self._generation_max = max(1, rooms_max // 2)
        self._new: dict[ConversationId, Room] = {}
        self._old: dict[ConversationId, Room] = {}

    def get(self, conversation: ConversationId) -> Room | None:
        room = self._new.get(conversation)
        if room is None and (room := self._old.get(conversation)) is not None:
            self.keep(conversation, room)
        return room

    def keep(self, conversation: ConversationId, room: Room) -> Room:
        if len(self._new) >= self._generation_max:
            self._old, self._new = self._new, {}
        self._new[conversation] = room
        return room

    def drop(self, conversation: ConversationId) -> None:
        self._new.pop(conversation, None)
        self._old.pop(conversation, None)


def _conversation_of(event: Event) -> ConversationId:
    return ConversationId(event.stream.partition("-")[2])
