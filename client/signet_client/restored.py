"""When the server was restored from a backup: what the device holds beyond it is kept apart, and what the device itself
had said is made ready to be sent again, with the same ids, so that it is stored once.

Other devices do the same with what they said, so in the end everything is there again that some sender still holds, in
a new order.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from signet_client import events, payloads, wire
from signet_client.identity import Identity
from signet_client.messages import header_of, message_of
from signet_client.records import Held, Marks, Outgoing, Profile
from signet_client.store import Store


@dataclass(frozen=True, kw_only=True)
class WentBack:
    outbox: list[Outgoing]
    """What is to be sent from now on."""
    events: list[events.Event]


def kept_of(welcome: wire.Welcome, marks: Mapping[str, Marks]) -> dict[str, int]:
    """Up to which seqs the server has what the device knows of, of the conversations where that is more. One that
    the welcome doesn't name began after the backup."""
    shown = {overview.c: overview for overview in welcome.conversations}
    kept: dict[str, int] = {}
    for conversation, each in marks.items():
        overview = shown.get(conversation)
        seq = 0 if overview is None else overview.kept
        if seq is not None and _reach(each) > seq:
            kept[conversation] = seq
    return kept


def _reach(marks: Marks) -> int:
    """A welcome tells ticks and what was read elsewhere before the pages bring the messages."""
    return max(marks.cursor, marks.read, marks.tick_delivered, marks.tick_read, *marks.undelivered)


def go_back(
    store: Store, epoch: str, kept: Mapping[str, int], marks: dict[str, Marks], identity: Identity, profile: Profile
) -> WentBack:
    """Changes the marks and the store, in one transaction. Raises StoreFailed."""
    again: list[Outgoing] = []
    told: list[events.Event] = []
    for conversation, seq in kept.items():
        items = store.held(conversation, after=seq, limit=2**62)
        if marks[conversation].cursor > seq:
            told.append(events.HistoryLost(conversation=conversation, kept=seq, items=len(items)))
        again += [_outgoing(held, seq, identity) for held in items if _is_to_be_said_again(held.item, profile)]
        _limit(marks[conversation], seq)
    waiting = [message for message in store.outbox() if message.refused is None]
    outbox = [*again, *(_anew(message, kept.get(message.conversation), identity) for message in waiting)]
    store.go_back(epoch, {conversation: marks[conversation] for conversation in kept}, outbox)
    return WentBack(outbox=outbox, events=told)


def _is_to_be_said_again(item: wire.Item, profile: Profile) -> bool:
    if not isinstance(item, wire.Message) or item.body is None:
        return False
    message = message_of(item)
    return (message.sender, message.device) == (profile.account, profile.device)


def _outgoing(held: Held, kept: int, identity: Identity) -> Outgoing:
    item = held.item
    assert isinstance(item, wire.Message)
    assert item.body is not None
    header = header_of(item)
    message = Outgoing(
        id=header.id,
        conversation=item.c,
        header=item.header,
        body=item.body,
        signature="",
        clear=held.clear,
        counts=header.counts,
    )
    return _anew(message, kept, identity)


def _anew(message: Outgoing, kept: int | None, identity: Identity) -> Outgoing:
    if message.clear is not None:
        # It is encrypted anew, for those who are in the conversation then.
        return msgspec.structs.replace(message, header="", body="", signature="")
    return message if kept is None else _signed(message, kept, identity)


def _signed(message: Outgoing, kept: int, identity: Identity) -> Outgoing:
    """With a header that knows of nothing beyond what was kept."""
    before = msgspec.json.decode(message.header, type=payloads.Header)
    about = before.about if before.about is not None and before.about <= kept else None
    header = payloads.encode_header(msgspec.structs.replace(before, after=min(before.after, kept), about=about))
    return msgspec.structs.replace(message, header=header, signature=identity.sign(header.encode()))


def _limit(marks: Marks, kept: int) -> None:
    marks.cursor = min(marks.cursor, kept)
    marks.read = min(marks.read, kept)
    marks.tick_delivered = min(marks.tick_delivered, kept)
    marks.tick_read = min(marks.tick_read, kept)
    marks.undelivered = {seq for seq in marks.undelivered if seq <= kept}
