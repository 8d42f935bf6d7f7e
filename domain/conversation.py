"""Conversations: who is in them, what they are called, and the messages: state, events, commands, `decide`, `evolve`.

`seq` is the stream's version + 1 and counts every event, so that a lost removal is a hole that a client sees, as a lost
message is. Messages are not kept in the state.

    who may            direct        group
    send               both          members
    retract            the author    the author; owners and admins also others' messages
    add, rename        -             owners, admins
    remove             -             owners anybody, admins plain members
    change a role      -             owners
    leave              -             everybody, but for the last owner while others stay
"""

from typing import Literal, assert_never

import msgspec

from domain.entry import Entry, Sealed
from domain.errors import (
    BadMembers,
    BeyondHead,
    DeviceNotActive,
    IdTaken,
    LastOwner,
    NoSuchAccount,
    NoSuchConversation,
    NoSuchMedia,
    NoSuchMessage,
    NotAGroup,
    NotAllowed,
    NotAMember,
    NotEncrypted,
    StaleMembers,
    TooManyMembers,
)
from domain.ids import AccountId, CommandId, ConversationId, DeviceId, MediaId
from domain.recent import First, Recent

Kind = Literal["direct", "group"]
Protection = Literal["end_to_end", "none"]
Role = Literal["owner", "admin", "member"]

# Events


class ConversationStarted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    by: AccountId
    kind: Kind
    protection: Protection
    """For ever, and visible to all."""
    members: dict[AccountId, Role]
    members_max: int
    title: Sealed | None = None


class MembersAdded(msgspec.Struct, frozen=True, kw_only=True):
    by: AccountId
    accounts: list[AccountId]
    visible_from: int
    """The first seq that the newcomers may see."""


class MemberRemoved(msgspec.Struct, frozen=True, kw_only=True):
    by: AccountId
    account: AccountId


class MemberLeft(msgspec.Struct, frozen=True, kw_only=True):
    by: AccountId


class RoleChanged(msgspec.Struct, frozen=True, kw_only=True):
    by: AccountId
    account: AccountId
    role: Role


class TitleSet(msgspec.Struct, frozen=True, kw_only=True):
    by: AccountId
    title: Sealed


class MessageSent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    by: AccountId
    device: DeviceId
    header: str
    """The very text that the device signed; what stands beside it here was read from it once, when it was decided."""
    digest: str
    counts: bool = True
    body: Sealed
    signature: str | None = None
    signer: str | None = None
    ordinal: int
    """How many counting messages the conversation has up to here."""
    own: int
    """How many of these are the sender's."""
    receipts: int
    """The version of the receipts stream when it was sent: who read it when is found by reading on from there."""
    account: int
    """The version of the sender's account stream against which the device was checked."""
    media: tuple[MediaId, ...] = ()
    """What its header names: who sees the message may fetch it."""


class MessageRetracted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    by: AccountId
    target: int
    """The message's seq."""
    author: AccountId
    counts: bool = True
    """Whether the message counted."""


ConversationEvent = (
    ConversationStarted
    | MembersAdded
    | MemberRemoved
    | MemberLeft
    | RoleChanged
    | TitleSet
    | MessageSent
    | MessageRetracted
)

# Commands


class _Command(msgspec.Struct, frozen=True, kw_only=True):
    id: CommandId
    conversation: ConversationId
    by: AccountId
    device: DeviceId
    after: int
    """The last seq that the client knew when it made the id: the id can't stand at or before it."""


class StartConversation(_Command, frozen=True, kw_only=True):
    kind: Kind
    protection: Protection
    others: list[AccountId]
    """The members beside the one who starts it."""
    title: Sealed | None = None
    members_max: int
    after: int = 0


class AddMembers(_Command, frozen=True, kw_only=True):
    accounts: list[AccountId]


class RemoveMember(_Command, frozen=True, kw_only=True):
    account: AccountId


class LeaveConversation(_Command, frozen=True, kw_only=True):
    pass


class ChangeRole(_Command, frozen=True, kw_only=True):
    account: AccountId
    role: Role


class SetTitle(_Command, frozen=True, kw_only=True):
    title: Sealed


class SendMessage(_Command, frozen=True, kw_only=True, gc=False):
    header: str
    digest: str
    counts: bool
    body: Sealed
    signature: str | None = None
    signer: str | None = None
    encrypted: bool = False
    """The body has the form of an encrypted one."""
    media: tuple[MediaId, ...] = ()
    """What its header names."""


class RetractMessage(_Command, frozen=True, kw_only=True):
    target: int


ConversationCommand = (
    StartConversation
    | AddMembers
    | RemoveMember
    | LeaveConversation
    | ChangeRole
    | SetTitle
    | SendMessage
    | RetractMessage
)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The message that is to be retracted, as the stream has it."""

    author: AccountId
    counts: bool


class Known(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a decision must know of other streams, and of its own stream's past. Facts of other streams only grow, so a
    stale view is safe."""

    device_active: bool = True
    account_version: int = 0
    receipts_version: int = -1
    missing: frozenset[AccountId] = frozenset()
    """Those of the accounts named by the command that don't exist."""
    missing_media: bool = False
    """Some of what the message names is not stored, has expired, or is another account's."""
    target: Target | None = None
    earlier: First | None = None
    """The first outcome of the command's id, where it lies before what `Recent` knows."""


# State


class Conversation(msgspec.Struct):
    """The fold of a conversation's stream. Its writer owns it and changes it in place."""

    version: int = -1
    at: int = 0
    """When the last event was recorded."""
    kind: Kind = "direct"
    protection: Protection = "none"
    members_max: int = 0
    members: dict[AccountId, Role] = {}
    """Those who are in it now."""
    visible: dict[AccountId, list[list[int]]] = {}
    """What each account that ever was a member may see: [first, last] seqs, in order; a last of 0 means "and on"."""
    ordinal: int = 0
    own: dict[AccountId, int] = {}
    retracted: set[int] = set()
    members_seq: int = 0
    """The seq of the last event by which somebody came or went."""
    started: First | None = None
    recent: Recent = msgspec.field(default_factory=Recent)

    @property
    def seq(self) -> int:
        """That of the last event; 0 while there is none."""
        return self.version + 1

    def visible_end(self, account: AccountId) -> int:
        """The last seq that the account may see; 0 for one that never was a member."""
        intervals = self.visible.get(account)
        if not intervals:
            return 0
        return intervals[-1][1] or self.seq

    def outcome_of(self, command: ConversationCommand) -> First | None:
        """What became of the command's id, as far as the state knows."""
        if isinstance(command, StartConversation):
            return self.started
        return self.recent.find(command.id)


def topic_of(command: ConversationCommand) -> str:
    """What `First.what` says of the command: for a message its digest."""
    match command:
        case SendMessage():
            return command.digest
        case StartConversation():
            return "ConversationStarted"
        case AddMembers():
            return "MembersAdded"
        case RemoveMember():
            return "MemberRemoved"
        case LeaveConversation():
            return "MemberLeft"
        case ChangeRole():
            return "RoleChanged"
        case SetTitle():
            return "TitleSet"
        case RetractMessage():
            return "MessageRetracted"
        case _:
            assert_never(command)


# Decisions


def decide(state: Conversation, command: ConversationCommand, known: Known) -> list[ConversationEvent]:
    """The events of a command; none where it changes nothing or was decided before. Raises `Rejected`."""
    if isinstance(command, StartConversation):
        return _start(state, command, known)
    first = state.recent.find(command.id) or known.earlier
    if first is not None:
        if first.by != command.by or first.what != topic_of(command):
            raise IdTaken
        return []
    role = _check_member(state, command, known)
    match command:
        case SendMessage():
            if state.protection == "end_to_end":
                _check_encrypted(state, command)
            if known.missing_media:
                raise NoSuchMedia
            return [_message(state, command, known)]
        case RetractMessage():
            return _retract(state, command, known, role)
        case AddMembers():
            return _add(state, command, known, role)
        case RemoveMember():
            return _remove(state, command, role)
        case LeaveConversation():
            return _leave(state, command, role)
        case ChangeRole():
            return _change_role(state, command, role)
        case SetTitle():
            _check_manager(state, role)
            return [TitleSet(by=command.by, title=command.title)]
        case _:
            assert_never(command)


def _check_member(state: Conversation, command: ConversationCommand, known: Known) -> Role:
    if not known.device_active:
        raise DeviceNotActive
    role = state.members.get(command.by)
    if role is None:
        raise NotAMember if command.by in state.visible else NoSuchConversation
    if command.after > state.seq:
        raise BeyondHead
    return role


def _check_manager(state: Conversation, role: Role) -> None:
    if state.kind != "group":
        raise NotAGroup
    if role == "member":
        raise NotAllowed


def _start(state: Conversation, command: StartConversation, known: Known) -> list[ConversationEvent]:
    # The id is derived from the two accounts, or from creator and command id: what exists under it is what is meant.
    if state.started is not None:
        return []
    if not known.device_active:
        raise DeviceNotActive
    if known.missing:
        raise NoSuchAccount
    everybody = [command.by, *command.others]
    if len(set(everybody)) != len(everybody) or (command.kind == "direct" and len(everybody) != 2):
        raise BadMembers
    if command.kind == "direct" and command.title is not None:
        raise NotAGroup
    if len(everybody) > command.members_max:
        raise TooManyMembers
    members: dict[AccountId, Role] = dict.fromkeys(everybody, "member")
    if command.kind == "group":
        members[command.by] = "owner"
    return [
        ConversationStarted(
            by=command.by,
            kind=command.kind,
            protection=command.protection,
            members=members,
            members_max=command.members_max,
            title=command.title,
        )
    ]


def _check_encrypted(state: Conversation, command: SendMessage) -> None:
    if not command.encrypted:
        raise NotEncrypted
    if command.after < state.members_seq:
        # Somebody who has gone since would read it, or somebody who came could not.
        raise StaleMembers


def _message(state: Conversation, command: SendMessage, known: Known) -> MessageSent:
    count = 1 if command.counts else 0
    return MessageSent(
        by=command.by,
        device=command.device,
        header=command.header,
        digest=command.digest,
        counts=command.counts,
        body=command.body,
        signature=command.signature,
        signer=command.signer,
        ordinal=state.ordinal + count,
        own=state.own.get(command.by, 0) + count,
        receipts=known.receipts_version,
        account=known.account_version,
        media=command.media,
    )


def _retract(state: Conversation, command: RetractMessage, known: Known, role: Role) -> list[ConversationEvent]:
    target = known.target
    if target is None or not _sees(state, command.by, command.target):
        raise NoSuchMessage
    if target.author != command.by and (state.kind != "group" or role == "member"):
        raise NotAllowed
    if command.target in state.retracted:
        return []
    return [MessageRetracted(by=command.by, target=command.target, author=target.author, counts=target.counts)]


def _sees(state: Conversation, account: AccountId, seq: int) -> bool:
    return any(first <= seq <= (last or state.seq) for first, last in state.visible.get(account, ()))


def _add(state: Conversation, command: AddMembers, known: Known, role: Role) -> list[ConversationEvent]:
    _check_manager(state, role)
    if known.missing:
        raise NoSuchAccount
    accounts = [account for account in dict.fromkeys(command.accounts) if account not in state.members]
    if len(state.members) + len(accounts) > state.members_max:
        raise TooManyMembers
    # Also where nobody is new: an accepted id must stand in the log, or a late repetition would let in whoever was
    # removed since.
    return [MembersAdded(by=command.by, accounts=accounts, visible_from=state.seq + 1)]


def _remove(state: Conversation, command: RemoveMember, role: Role) -> list[ConversationEvent]:
    _check_manager(state, role)
    target = state.members.get(command.account)
    if command.account == command.by or (role == "admin" and target in ("owner", "admin")):
        raise NotAllowed
    if target is None:
        raise NoSuchAccount
    return [MemberRemoved(by=command.by, account=command.account)]


def _leave(state: Conversation, command: LeaveConversation, role: Role) -> list[ConversationEvent]:
    if state.kind != "group":
        raise NotAGroup
    if role == "owner" and len(state.members) > 1:
        _check_other_owner(state, command.by)
    return [MemberLeft(by=command.by)]


def _change_role(state: Conversation, command: ChangeRole, role: Role) -> list[ConversationEvent]:
    _check_manager(state, role)
    if role != "owner":
        raise NotAllowed
    current = state.members.get(command.account)
    if current is None:
        raise NoSuchAccount
    # The role that it has already is recorded, too: a late repetition must not undo a later change.
    if current == "owner" and command.role != "owner":
        _check_other_owner(state, command.account)
    return [RoleChanged(by=command.by, account=command.account, role=command.role)]


def _check_other_owner(state: Conversation, account: AccountId) -> None:
    if not any(role == "owner" and member != account for member, role in state.members.items()):
        raise LastOwner


# The fold


def first_outcome(version: int, entry: Entry[ConversationEvent]) -> First:
    """What the command of this event is answered with, now and whenever it is repeated."""
    event = entry.e
    what = event.digest if isinstance(event, MessageSent) else type(event).__name__
    return First(seq=version + 1, at=entry.at, by=event.by, what=what)


def evolve(state: Conversation, version: int, entry: Entry[ConversationEvent]) -> None:
    """Folds one event into the state, in place. Never refuses: it has happened."""
    state.version = version
    state.at = entry.at
    seq = version + 1
    event = entry.e
    if isinstance(event, ConversationStarted | MembersAdded | MemberRemoved | MemberLeft):
        state.members_seq = seq
    match event:
        case MessageSent():
            state.ordinal = event.ordinal
            state.own[event.by] = event.own
        case ConversationStarted():
            _evolve_start(state, event, seq)
        case MembersAdded():
            for account in event.accounts:
                state.members[account] = "member"
                state.visible.setdefault(account, []).append([event.visible_from, 0])
        case MemberRemoved():
            _evolve_leaving(state, event.account, seq)
        case MemberLeft():
            _evolve_leaving(state, event.by, seq)
        case RoleChanged():
            state.members[event.account] = event.role
        case TitleSet():
            pass
        case MessageRetracted():
            state.retracted.add(event.target)
        case _:
            assert_never(event)
    first = first_outcome(version, entry)
    state.recent.add(entry.cmd, first)
    if state.started is None:
        state.started = first


def _evolve_start(state: Conversation, event: ConversationStarted, seq: int) -> None:
    state.kind = event.kind
    state.protection = event.protection
    state.members_max = event.members_max
    state.members = dict(event.members)
    state.visible = {account: [[seq, 0]] for account in event.members}


def _evolve_leaving(state: Conversation, account: AccountId, seq: int) -> None:
    # Whoever leaves sees its own leaving.
    state.members.pop(account, None)
    intervals = state.visible.get(account)
    if intervals and intervals[-1][1] == 0:
        intervals[-1][1] = seq
