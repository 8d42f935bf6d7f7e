"""Reads of one conversation for one account: what it may see, and pages of that."""

from typing import Final

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
"""How long the texts of a page may be together; it ends before the event that would be too much, and `upto` says so."""


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
    found = await services.messages.page(row.conversation, intervals=closed(row), after=after, limit=limit)
    shown = _fitting(found)
    more = len(shown) < len(found) or len(found) == limit
    return wire.Page(
        c=row.conversation,
        items=[item_of(each, services.sealer) for each in shown if not isinstance(each, UnseenRetraction)],
        head=row.head,
        upto=shown[-1].seq if more else row.head,
        id=request_id,
        retracted=[
            [each.target, each.seq]
            for each in shown
            if isinstance(each, UnseenRetraction) and sees(row.visible, each.target)
        ],
    )


def _fitting(found: list[Stored]) -> list[Stored]:
    """The first ones that fit into a page; one always does."""
    size = 0
    for count, each in enumerate(found):
        if isinstance(each, StoredMessage) and each.body is not None:
            size += len(each.header) + len(each.body.box)
        if size > PAGE_BYTES_MAX and count:
            return found[:count]
    return found


def closed(row: InboxRow) -> list[list[int]]:
    """What the row's account may see, up to the row's head: `messages` may know of later events, and among them of a
    removal."""
    return [[first, last or row.head] for first, last in row.visible]
