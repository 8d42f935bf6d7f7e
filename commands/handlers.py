"""Which decision serves which command, and what it is told of other streams. All of it stands on this one screen."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from commands.lookup import CommandLookup
from commands.states import Slot, States
from domain import account, conversation, media, receipts
from domain.account import Account, AccountCommand
from domain.codec import CODEC, Codec, DomainEvent
from domain.conversation import (
    AddMembers,
    Conversation,
    ConversationCommand,
    Known,
    MessageSent,
    RetractMessage,
    SendMessage,
    StartConversation,
    Target,
)
from domain.ids import AccountId, account_stream, conversation_stream, media_stream, receipts_stream
from domain.log import EventLog
from domain.media import Media, MediaCommand, ReserveMedia, StoreMedia
from domain.receipts import AdvanceReceipts, Receipts
from domain.recent import First

Command = ConversationCommand | AdvanceReceipts | AccountCommand | MediaCommand

_NOBODY: Final[frozenset[AccountId]] = frozenset()


class Decided(msgspec.Struct, frozen=True, gc=False):
    slot: Slot[Conversation] | Slot[Receipts] | Slot[Account] | Slot[Media]
    events: Sequence[DomainEvent]
    first: First | None = None
    """The first outcome of the command's id, where it was decided before."""


def stream_of(command: Command) -> str:
    """The one stream that the command may append to."""
    if isinstance(command, SendMessage):  # most are
        return conversation_stream(command.conversation)
    if isinstance(command, AdvanceReceipts):
        return receipts_stream(command.conversation)
    if isinstance(command, AccountCommand):
        return account_stream(command.account)
    if isinstance(command, MediaCommand):
        return media_stream(command.media)
    return conversation_stream(command.conversation)


class Handlers:
    """Decides commands against the states. Raises `Rejected` and StoreUnavailable."""

    def __init__(self, log: EventLog, states: States, lookup: CommandLookup, codec: Codec = CODEC) -> None:
        self._log = log
        self._states = states
        self._lookup = lookup
        self._codec = codec

    def decide_at_once(self, command: Command, stream: str) -> Decided | None:
        """A message, where all that its decision must know is in memory, as nearly always; None: `decide` reads it.
        Without a coroutine for each step it takes half of the time. `stream`: the command's, `stream_of` it."""
        if not isinstance(command, SendMessage) or command.media:
            return None
        slot = self._states.at_hand(stream)
        sender = self._states.at_hand(account_stream(command.by))
        marks = self._states.at_hand(receipts_stream(command.conversation))
        if slot is None or sender is None or marks is None or sender.version != sender.committed:
            return None
        if command.after < slot.state.recent.since:
            return None
        known = Known(
            device_active=sender.state.has_active(command.device),
            account_version=sender.version,
            receipts_version=marks.committed,
        )
        return _decided(slot, command, known)

    async def decide(self, command: Command) -> Decided:
        if isinstance(command, AdvanceReceipts):
            return await self._receipts(command)
        if isinstance(command, AccountCommand):
            account_slot = await self._states.account(command.account)
            events = account.decide(account_slot.state, command)
            return Decided(account_slot, events, None if events else account_slot.state.outcome_of(command))
        if isinstance(command, MediaCommand):
            return await self._media(command)
        return await self._conversation(command)

    async def _conversation(self, command: ConversationCommand) -> Decided:
        slot = await self._states.conversation(command.conversation)
        return _decided(slot, command, await self._known(slot.state, command))

    async def _receipts(self, command: AdvanceReceipts) -> Decided:
        slot = await self._states.receipts(command.conversation)
        talk = await self._states.conversation(command.conversation)
        # A receipt may only rest on what is committed: the conversation's own append can still fail.
        committed_seq = talk.committed + 1
        ends = {
            receipt.account: min(talk.state.visible_end(receipt.account), committed_seq) for receipt in command.receipts
        }
        return Decided(slot, receipts.decide(slot.state, command, ends))

    async def _media(self, command: MediaCommand) -> Decided:
        slot = await self._states.media(command.media)
        active = True
        if isinstance(command, ReserveMedia | StoreMedia):
            owner = await self._states.committed_account(command.by)
            active = owner.state.has_active(command.device)
        return Decided(slot, media.decide(slot.state, command, device_active=active))

    async def _known(self, state: Conversation, command: ConversationCommand) -> Known:
        sender = await self._states.committed_account(command.by)
        if command.by not in state.visible and not isinstance(command, StartConversation):
            # Refused whatever else is known: who never was a member has no earlier outcome either, and is not to make
            # the writer look anything up.
            return Known(device_active=sender.state.has_active(command.device))
        marks = await self._states.receipts(command.conversation)
        earlier = None
        if command.after < state.recent.since and state.outcome_of(command) is None:
            # The state knows every id after `since`, so the look-up need not be up to date, but only reach that far.
            earlier = await self._lookup.find_command(command.conversation, command.id, upto=state.recent.since)
        return Known(
            device_active=sender.state.has_active(command.device),
            account_version=sender.version,
            receipts_version=marks.committed,
            missing=await self._missing(named) if (named := _named_accounts(command)) else _NOBODY,
            missing_media=isinstance(command, SendMessage) and await self._misses_media(command),
            target=await self._target(command) if isinstance(command, RetractMessage) else None,
            earlier=earlier,
        )

    async def _missing(self, accounts: Iterable[AccountId]) -> frozenset[AccountId]:
        return frozenset([named for named in accounts if not (await self._states.account(named)).exists])

    async def _misses_media(self, command: SendMessage) -> bool:
        for named in command.media:
            if not (await self._states.committed_media(named)).state.may_be_named(command.by):
                return True
        return False

    async def _target(self, command: RetractMessage) -> Target | None:
        """The message to be retracted, from the stream. One that is only tentative has no seq that anybody knows."""
        stream = conversation_stream(command.conversation)
        if command.target < 1:
            return None
        found = await self._log.read_stream(stream, after=command.target - 2, limit=1)
        event = self._codec.decode(found[0]).entry.e if found else None
        if not isinstance(event, MessageSent):
            return None
        return Target(author=event.by, counts=event.counts)


def _decided(slot: Slot[Conversation], command: ConversationCommand, known: Known) -> Decided:
    events = conversation.decide(slot.state, command, known)
    return Decided(slot, events, None if events else slot.state.outcome_of(command) or known.earlier)


def _named_accounts(command: ConversationCommand) -> Collection[AccountId]:
    match command:
        case StartConversation():
            return command.others
        case AddMembers():
            return command.accounts
        case _:
            return ()
