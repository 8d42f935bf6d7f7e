"""The states that the writer decides against: each the fold of one stream, read when it is first needed, then kept."""

import sys
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, assert_never

from commands.snapshots import Snapshots
from domain import account, conversation, media, receipts
from domain.account import Account
from domain.codec import CODEC, Codec
from domain.conversation import Conversation
from domain.entry import Entry
from domain.ids import (
    AccountId,
    ConversationId,
    MediaId,
    account_stream,
    conversation_stream,
    media_stream,
    receipts_stream,
)
from domain.log import NO_STREAM, START, EventLog
from domain.media import Media
from domain.receipts import Receipts

S = TypeVar("S", bound=Conversation | Receipts | Account | Media)
_PAGE: Final = 500
"""How many events are folded before the loop has its turn: 3 ms."""


class Slot(Generic[S]):
    """A stream's state. `version` runs ahead of `committed` while a batch is being decided; a slot whose append did not
    succeed is dropped, and read again."""

    __slots__ = ("at", "committed", "due", "evolve", "state", "stream", "version")

    def __init__(self, stream: str, state: S, evolve: Callable[[S, int, Entry[Any]], None]) -> None:
        self.stream = stream
        self.state = state
        self.evolve = evolve
        self.version = NO_STREAM
        self.committed = NO_STREAM
        self.at = 0
        """When the last event was recorded, microseconds."""
        self.due = sys.maxsize
        """The version from which on a snapshot is to be made."""

    @property
    def exists(self) -> bool:
        """Whether the stream has a committed event."""
        return self.committed >= 0

    def fold(self, entry: Entry[Any]) -> None:
        self.version += 1
        self.evolve(self.state, self.version, entry)
        self.at = entry.at


class States:
    """Slots by stream, in two generations: where `slots_max` are in use, or what they hold has come to `items_max`,
    those that were not used since the last `trim` are dropped. The others lose the command ids that they had before it,
    or the ids of a few thousand busy conversations would fill the memory. Reads raise StoreUnavailable."""

    def __init__(
        self,
        log: EventLog,
        codec: Codec = CODEC,
        *,
        snapshots: Snapshots | None = None,
        slots_max: int = 20_000,
        items_max: int = 500_000,
    ) -> None:
        """`snapshots`: None where streams are always read from their beginning. `items_max`: members, command ids,
        marks and the like, 400 bytes each at most: 400 MB in all."""
        self._log = log
        self._codec = codec
        self._snapshots = snapshots
        self._slots_max = slots_max
        self._items_max = items_max
        self.items = 0
        """What came to the new generation: the items of its slots when they were taken in, and an item for each event
        since, which is more than there are."""
        self.position = START
        """Of all events that were read so far, the last one's: others may write the store too."""
        self._new: dict[str, Slot[Any]] = {}
        self._old: dict[str, Slot[Any]] = {}

    def at_hand(self, stream: str) -> Slot[Any] | None:
        """None: it must be read first, or was not used of late."""
        return self._new.get(stream)

    async def conversation(self, conversation_id: ConversationId) -> Slot[Conversation]:
        stream = conversation_stream(conversation_id)
        return self._new.get(stream) or await self._load(stream, Conversation, conversation.evolve)

    async def receipts(self, conversation_id: ConversationId) -> Slot[Receipts]:
        stream = receipts_stream(conversation_id)
        return self._new.get(stream) or await self._load(stream, Receipts, receipts.evolve)

    async def account(self, account_id: AccountId) -> Slot[Account]:
        stream = account_stream(account_id)
        return self._new.get(stream) or await self._load(stream, Account, account.evolve)

    async def committed_account(self, account_id: AccountId) -> Slot[Account]:
        """Without what is only tentative: for decisions on other streams, which must not rest on that."""
        return await self._committed(await self.account(account_id), Account)

    async def media(self, media_id: MediaId) -> Slot[Media]:
        stream = media_stream(media_id)
        return self._new.get(stream) or await self._load(stream, Media, media.evolve)

    async def committed_media(self, media_id: MediaId) -> Slot[Media]:
        """As `committed_account`."""
        return await self._committed(await self.media(media_id), Media)

    def drop(self, stream: str) -> None:
        self._new.pop(stream, None)
        self._old.pop(stream, None)

    def keep(self, slot: Slot[Any]) -> None:
        self._new[slot.stream] = slot

    def trim(self) -> None:
        """Begins a new generation where one is due. Between two batches only: nothing tentative may be lost."""
        if len(self._new) > self._slots_max or self.items > self._items_max:
            self._old, self._new = self._new, {}
            self.items = 0

    def snapshot(self, slot: Slot[Any], event_id: str) -> None:
        """`event_id`: that of its last event, which is committed."""
        if self._snapshots is not None:
            slot.due = self._snapshots.put(slot.stream, slot.version, event_id, slot.state)

    async def _load(self, stream: str, new: Callable[[], S], evolve: Callable[[S, int, Entry[Any]], None]) -> Slot[S]:
        slot: Slot[S] | None = self._old.pop(stream, None)
        if slot is None:
            slot = await self._read(stream, new, evolve)
        elif isinstance(slot.state, Conversation):
            slot.state.recent.turn(slot.state.seq)
        self._new[stream] = slot
        self.items += _items_of(slot.state)
        return slot

    async def _committed(self, slot: Slot[S], new: Callable[[], S]) -> Slot[S]:
        return slot if slot.version == slot.committed else await self._read(slot.stream, new, slot.evolve)

    async def _read(self, stream: str, new: Callable[[], S], evolve: Callable[[S, int, Entry[Any]], None]) -> Slot[S]:
        slot = Slot(stream, new(), evolve)
        if self._snapshots is not None:
            await self._resume(slot, self._snapshots)
        entry: Entry[Any] | None = None
        while page := await self._log.read_stream(stream, after=slot.version, limit=_PAGE):
            for recorded in page:
                entry = self._codec.decode(recorded).entry
                slot.fold(entry)
            self.position = max(self.position, page[-1].position)
            if len(page) < _PAGE:
                break
        slot.committed = slot.version
        if entry is not None and slot.version >= slot.due:
            self.snapshot(slot, entry.id)
        return slot

    async def _resume(self, slot: Slot[Any], snapshots: Snapshots) -> None:
        """From the stream's snapshot, where the log has the event at which it was made: it may have been restored."""
        slot.due = slot.version + snapshots.events_min
        found = snapshots.find(slot.stream, type(slot.state))
        if found is None:
            return
        for recorded in await self._log.read_stream(slot.stream, after=found.version - 1, limit=1):
            entry = self._codec.decode(recorded).entry
            if entry.id == found.event:
                slot.state, slot.version, slot.at, slot.due = found.state, found.version, entry.at, found.due
                self.position = max(self.position, recorded.position)


def _items_of(state: Conversation | Receipts | Account | Media) -> int:
    """An empty one takes as much as four."""
    match state:
        case Conversation():
            people = len(state.members) + len(state.visible) + len(state.own)
            return 4 + people + len(state.retracted) + len(state.recent)
        case Receipts():
            marks = [marks for devices in state.marks.values() for marks in devices.values()]
            return 4 + sum(1 + len(each.undecryptable) + len(each.repaired) for each in marks)
        case Account():
            keys = sum(device.keys.items for device in state.devices.values() if device.keys is not None)
            return 4 + len(state.devices) + len(state.profile_commands) + keys
        case Media():
            return 4
        case _:
            assert_never(state)
