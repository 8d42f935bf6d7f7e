"""Reads of one conversation for one account: what it may see, and pages of that."""

from typing import Final

import msgspec

from domain.ids import AccountId, ConversationId, conversation_stream, is_uuid, receipts_stream
from gateways.items import item_of
from gateways.refusal import Refusal
from gateways.services import Services
from projections.inbox import InboxRow
from projections.messages import Stored, StoredMessage, UnseenRetraction
from projections.visible import sees
from signet_client import wire

PAGE_ITEMS_MAX: Final = 500
"""How many events one page may hold; who asks for more gets as many."""

PAGE_BYTES_MAX: Final = 262_144
"""How long the texts of a page may be together, as JSON; it ends before the event that would be too much, and `upto`
says so. What a device doesn't read waits in memory."""

_FEW: Final = 4
"""How many events are read first: so many of the longest are about a page."""

_encode: Final = msgspec.json.Encoder().encode


async def inbox_row(services: Services, account: AccountId, conversation: str) -> InboxRow:
    """The conversation as this account may see it, with everything that is published. Raises Refusal:
    `no_such_conversation` to whoever never was in it, whether it exists or not; `unavailable`, also to everybody while
    events of the conversation are parked: nobody knows who is in it."""
    if not is_uuid(conversation):
        raise Refusal("no_such_conversation")
    await services.catch_up("inbox")
    talk = ConversationId(conversation)
    services.check_whole("inbox", conversation_stream(talk), receipts_stream(talk))
    row = await services.inbox.conversation(account, talk)
    if row is None:
        raise Refusal("no_such_conversation")
    return row


async def page_of(services: Services, row: InboxRow, *, after: int, limit: int, request_id: str = "") -> wire.Page:
    """The events of a conversation after a seq that the row's account may see, in order, at most `limit`. Raises
    Refusal(`unavailable`)."""
    limit = max(1, min(limit, PAGE_ITEMS_MAX))
    # `messages` must not be behind the row, or the page would seem to have everything up to the row's head.
    await services.catch_up("messages")
    services.check_whole("messages", conversation_stream(row.conversation))
    found, upto = await _read(services, row, after, limit)
    items: list[wire.Item] = []
    retracted: list[list[int]] = []
    size = 0
    for index, each in enumerate(found):
        if isinstance(each, UnseenRetraction):
            if each.target <= after and sees(row.visible, each.target):
                retracted.append([each.target, each.seq])
            continue
        item = item_of(each, services.sealer)
        size += _weight(item)
        if size > PAGE_BYTES_MAX and items:
            upto = found[index - 1].seq
            break
        items.append(item)
    return wire.Page(c=row.conversation, items=items, head=row.head, upto=upto, id=request_id, retracted=retracted)


async def _read(services: Services, row: InboxRow, after: int, limit: int) -> tuple[list[Stored], int]:
    """The events of the page, or some more than fit into it, and up to where they are all. A few at first and then
    more: where they are long, most of what `limit` asks for would be read in vain."""
    found: list[Stored] = []
    size, few = 0, _FEW
    while len(found) < limit and size <= PAGE_BYTES_MAX:
        few = min(few, limit - len(found))
        begin = found[-1].seq if found else after
        read = await services.messages.page(row.conversation, intervals=closed(row), after=begin, limit=few)
        found += read
        if len(read) < few:
            return found, row.head
        size += sum(len(each.body.box) for each in read if isinstance(each, StoredMessage) and each.body)
        few *= 8
    return found, found[-1].seq


def _weight(item: wire.Item) -> int:
    """How long its texts are as JSON, where a control character takes six bytes."""
    return len(_encode((item.header, item.body) if isinstance(item, wire.Message) else item))


def closed(row: InboxRow) -> list[list[int]]:
    """What the row's account may see, up to the row's head: `messages` may know of later events, and among them of a
    removal."""
    return [[first, last or row.head] for first, last in row.visible]
