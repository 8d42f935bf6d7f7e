"""What is stored, as the frames show it: texts unsealed, field names of the wire."""

import logging
from functools import partial
from typing import assert_never

from commands.sealing import DamagedText, Sealer, Unreadable
from domain.codec import Event
from domain.conversation import (
    ConversationEvent,
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
    RoleChanged,
    TitleSet,
)
from domain.entry import Sealed
from domain.errors import KeyringUnavailable
from domain.ids import AccountId, ConversationId
from gateways.refusal import Refusal
from projections.inbox import InboxRow
from projections.messages import StoredChange, StoredMessage
from projections.receipts import TickRow
from signet_client import wire

_log = logging.getLogger("signet.items")


def item_of(stored: StoredMessage | StoredChange, sealer: Sealer) -> wire.Item:
    """An event of the history as a page shows it."""
    if isinstance(stored, StoredChange):
        return _change(
            stored.conversation, stored.event, sealer,
            seq=stored.seq, at=stored.at, occurred=stored.occurred, command=stored.command,
        )  # fmt: skip
    body, unreadable = _body(stored.body, sealer)
    return wire.Message(
        c=stored.conversation,
        seq=stored.seq,
        at=stored.at,
        occurred=stored.occurred,
        ordinal=stored.ordinal,
        own=stored.own,
        header=stored.header,
        body=body,
        unreadable=unreadable,
        signature=stored.signature,
        signer=stored.signer,
        retracted=stored.retracted,
    )


def pushed_item(event: Event, conversation: ConversationId, sealer: Sealer) -> wire.Item:
    """An event of a conversation's stream as a push shows it: just as the page does."""
    entry = event.entry
    sent = entry.e
    if not isinstance(sent, MessageSent):
        assert isinstance(sent, ConversationEvent), f"{type(sent).__name__} is no event of a conversation"
        return _change(
            conversation, sent, sealer, seq=event.version + 1, at=entry.at, occurred=entry.occ, command=entry.cmd
        )
    body, unreadable = _body(sent.body, sealer)
    return wire.Message(
        c=conversation,
        seq=event.version + 1,
        at=entry.at,
        occurred=entry.occ,
        ordinal=sent.ordinal,
        own=sent.own,
        header=sent.header,
        body=body,
        unreadable=unreadable,
        signature=sent.signature,
        signer=sent.signer,
    )


def overview_of(
    row: InboxRow, ticks: TickRow | None, *, delivered: int, sealer: Sealer, kept: int | None = None
) -> wire.Overview:
    """A conversation as the list shows it. `ticks`: None where the account has no ticks in it; `delivered`: the asking
    device's mark; `kept`: what a restore has left of what it holds."""
    shown = wire.Ticks()
    if ticks is not None:
        shown = wire.Ticks(delivered=ticks.delivered, read=ticks.read, undelivered=ticks.undelivered, more=ticks.more)
    return wire.Overview(
        c=row.conversation,
        kind=row.kind,
        protection=row.protection,
        title=unsealed(row.title, sealer),
        peer=row.peer,
        role=row.role,
        visible=row.visible,
        head=row.head,
        at=row.at,
        unread=row.unread,
        read=row.read,
        delivered=delivered,
        ticks=shown,
        kept=kept,
    )


def sealed(text: str, account: AccountId, sealer: Sealer) -> Sealed:
    """Raises Refusal(`unavailable`)."""
    try:
        return sealer.seal(account, text)
    except KeyringUnavailable as error:
        raise _no_keyring(error) from error


def unsealed(text: Sealed | None, sealer: Sealer) -> str | None:
    """None where there is no text, or none that can be read. Raises Refusal(`unavailable`)."""
    return _body(text, sealer)[0]


def _body(text: Sealed | None, sealer: Sealer) -> tuple[str | None, wire.Unreadable | None]:
    """The text, or why it can't be read: one such text must not take the others with it."""
    if text is None:
        return None, None
    try:
        return sealer.unseal(text), None
    except Unreadable as error:
        if isinstance(error, DamagedText):
            _log.error("%s", error)
        return None, error.code
    except KeyringUnavailable as error:
        raise _no_keyring(error) from error


def _no_keyring(error: KeyringUnavailable) -> Refusal:
    _log.error("%s", error)
    return Refusal(error.code, "the keyring")


def _change(
    conversation: ConversationId,
    event: ConversationEvent,
    sealer: Sealer,
    *,
    seq: int,
    at: int,
    occurred: int | None,
    command: str,
) -> wire.Change:
    change = partial(wire.Change, c=conversation, seq=seq, at=at, occurred=occurred, by=event.by, id=command)
    match event:
        case ConversationStarted():
            return change(
                what="started",
                accounts=list(event.members),
                roles=list(event.members.values()),
                kind=event.kind,
                protection=event.protection,
                title=unsealed(event.title, sealer),
            )
        case MembersAdded():
            return change(what="added", accounts=list(event.accounts), roles=["member"] * len(event.accounts))
        case MemberRemoved():
            return change(what="removed", accounts=[event.account])
        case MemberLeft():
            return change(what="left", accounts=[event.by])
        case RoleChanged():
            return change(what="role", accounts=[event.account], roles=[event.role])
        case TitleSet():
            return change(what="title", title=unsealed(event.title, sealer))
        case MessageRetracted():
            return change(what="retracted", target=event.target)
        case MessageSent():
            raise AssertionError("a message is no change")
        case _:
            assert_never(event)
