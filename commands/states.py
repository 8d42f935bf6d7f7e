"""The states that the writer decides against: each the fold of one stream, read when it is first needed, then kept."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from domain import account, conversation, receipts
from domain.account import Account
from domain.codec import CODEC, Codec
from domain.conversation import Conversation
from domain.entry import Entry
from domain.ids import (
    AccountId,
    ConversationId,
    account_stream,
    conversation_stream,
    receipts_stream,
)
from domain.log import NO_STREAM, START, EventLog
from domain.receipts import Receipts

S = TypeVar("S")
_PAGE: Final = 2_000


class Slot(Generic[S]):
    """A stream's state. `version` runs ahead of `committed` while a batch is being decided; a slot whose append did not
    succeed is dropped, and read again."""

    __slots__ = ("at", "committed", "evolve", "state", "stream", "version")

    def __init__(self, stream: str, state: S, evolve: Callable[[S, int, Entry[Any]], None]) -> None:
        self.stream = stream
        self.state = state
        self.evolve = evolve
        self.version = NO_STREAM
        self.committed = NO_STREAM
        self.at = 0
        """When the last event was recorded, microseconds."""

    @property
    def exists(self) -> bool:
        """Whether the stream has a committed event."""
        return self.committed >= 0

    def fold(self, entry: Entry[Any]) -> None:
        self.version += 1
        self.evolve(self.state, self.version, entry)
        self.at = entry.at


class States:
    """Slots by stream, in two generations: where `slots_max` are in use, those that were not used since the last turn
    are dropped. Reads raise StoreUnavailable."""

    def __init__(self, log: EventLog, codec: Codec = CODEC, *, slots_max: int = 20_000) -> None:
        self._log = log
        self._codec = codec
        self._slots_max = slots_max
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
        slot = await self.account(account_id)
        if slot.version == slot.committed:
            return slot
        return await self._read(slot.stream, Account, account.evolve)

    def drop(self, stream: str) -> None:
        self._new.pop(stream, None)
        self._old.pop(stream, None)

    def keep(self, slot: Slot[Any]) -> None:
        self._new[slot.stream] = slot

    def turn(self) -> None:
        """Between two batches only: nothing tentative may be lost."""
        if len(self._new) > self._slots_max:
            self._old, self._new = self._new, {}

    async def _load(self, stream: str, new: Callable[[], S], evolve: Callable[[S, int, Entry[Any]], None]) -> Slot[S]:
        slot: Slot[S] | None = self._old.pop(stream, None)
        if slot is None:
            slot = await self._read(stream, new, evolve)
        self._new[stream] = slot
        return slot

    async def _read(self, stream: str, new: Callable[[], S], evolve: Callable[[S, int, Entry[Any]], None]) -> Slot[S]:
        slot = Slot(stream, new(), evolve)
        while page := await self._log.read_stream(stream, after=slot.version, limit=_PAGE):
            for recorded in page:
                slot.fold(self._codec.decode(recorded).entry)
            self.position = max(self.position, page[-1].position)
            if len(page) < _PAGE:
                break
        slot.committed = slot.version
        return slot
