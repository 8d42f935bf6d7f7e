"""What was said in a conversation: sending, taking back, history, receipts."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Response

from domain.conversation import RetractMessage
from domain.ids import CommandId, conversation_stream, receipts_stream
from domain.receipts import Marks
from domain.ticks import member_marks, undelivered
from gateways import models
from gateways.api import examples
from gateways.api.conversations import change
from gateways.api.edge import Edge, Talk, Who, answer, body_of
from gateways.history import PAGE_ITEMS_MAX, inbox_row, page_of
from gateways.openapi import operation
from gateways.refusal import Refusal
from gateways.sends import message_command, parse_header
from projections.inbox import InboxRow
from projections.visible import sees
from signet_client import wire

router = APIRouter(prefix="/conversations/{conversation}", tags=["messages"])

UNDELIVERED_ITEMS: Final = 1_000
"""How many seqs a page looks at."""


@router.post(
    "/messages",
    **operation(
        body=models.Post,
        body_example=examples.POST,
        answer=models.Changed,
        example=examples.CHANGED,
        refuses=(
            "bad_header",
            "bad_digest",
            "bad_signature",
            "no_such_conversation",
            "not_a_member",
            "beyond_head",
            "stale_members",
            "not_encrypted",
            "no_such_media",
            "id_taken",
            "too_large",
        ),
    ),
)
async def send_message(
    services: Edge, who: Who, talk: Talk, body: Annotated[models.Post, Depends(body_of(models.Post))]
) -> Response:
    """Send a message.

    For those who send now and then; chat clients send on the live protocol.
    """
    header = parse_header(body.header)
    if header is None:
        raise Refusal("bad_header", "JSON text with the fields id, c, s, d, a and h")
    if header.conversation != talk:
        raise Refusal("bad_header", "c: the conversation of the path")
    frame = wire.Send(header=body.header, body=body.body, signature=body.signature, signer=body.signer)
    command = message_command(
        frame,
        header,
        account=who.account,
        device=who.device,
        sealer=services.sealer,
        settings=services.settings,
    )
    services.hub.expect_by_http(command.id)
    return await change(services, who, command)


@router.post(
    "/messages/{seq}/retract",
    **operation(
        body=models.Plain,
        body_example=examples.PLAIN,
        answer=models.Changed,
        example=examples.CHANGED,
        refuses=(
            "no_such_conversation",
            "not_a_member",
            "no_such_message",
            "not_allowed",
            "beyond_head",
            "id_taken",
            "too_large",
        ),
    ),
)
async def retract_message(
    services: Edge,
    who: Who,
    talk: Talk,
    seq: Annotated[int, Path(ge=1, le=models.SEQ_MAX, description="The message's seq.")],
    body: Annotated[models.Plain, Depends(body_of(models.Plain))],
) -> Response:
    """Take a message back: one's own, or in a group, for owners and admins, anybody's.

    Its body is gone for everybody but those who have left before: they see the conversation as it was then.
    """
    command = RetractMessage(
        id=CommandId(body.id), conversation=talk, by=who.account, device=who.device, after=body.after, target=seq
    )
    return await change(services, who, command)


@router.get(
    "/events",
    **operation(answer=wire.Page, example=examples.PAGE, refuses=("no_such_conversation",)),
)
async def list_events(
    services: Edge,
    who: Who,
    talk: Talk,
    after: Annotated[int, Query(ge=0, le=models.SEQ_MAX, description="Events with a greater seq.")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX, description="How many events at most.")] = 200,
) -> Response:
    """A page of history, in order of seq: the same as a `page` of the live protocol.

    The next page is the one after `upto`; all is read when `upto` is `head`. It has only what the caller may see: what
    was sent while it was no member is missing, and `visible` of the conversation says so.
    """
    row = await inbox_row(services, who.account, talk)
    return answer(await page_of(services, row, after=after, limit=limit))


@router.get(
    "/receipts",
    **operation(answer=models.Receipts, example=examples.RECEIPTS, refuses=("no_such_conversation", "not_a_member")),
)
async def list_receipts(services: Edge, who: Who, talk: Talk) -> Response:
    """Up to where each member has got and read the conversation; for members.

    What could not be decrypted is named as far as it is among the 2,048 latest of all members and devices.
    """
    row = await inbox_row(services, who.account, talk)
    if row.role is None:
        raise Refusal("not_a_member")
    await services.catch_up("receipts")
    services.check_whole("receipts", conversation_stream(talk), receipts_stream(talk))
    marks = await services.receipts.marks(talk)
    members = {
        account: _shown(list(marks.get(account, {}).values()), row) for account in await services.inbox.members(talk)
    }
    return answer(models.Receipts(conversation=talk, members=members))


@router.get(
    "/undelivered",
    **operation(answer=models.Undelivered, example=examples.UNDELIVERED, refuses=("no_such_conversation",)),
)
async def list_undelivered(
    services: Edge,
    who: Who,
    talk: Talk,
    before: Annotated[int, Query(ge=0, le=models.SEQ_MAX, description="Seqs before this one; 0: the latest.")] = 0,
) -> Response:
    """What some other member could not decrypt, from the latest seq back.

    For authors whose ticks say that there is more than they name. A page may be empty and yet not the last one.
    """
    await inbox_row(services, who.account, talk)
    await services.catch_up("receipts")
    services.check_whole("receipts", conversation_stream(talk), receipts_stream(talk))
    page = await services.receipts.undelivered(
        talk, who.account, before=before or models.SEQ_MAX, limit=UNDELIVERED_ITEMS
    )
    return answer(models.Undelivered(conversation=talk, seqs=page.seqs, before=page.before))


def _shown(devices: list[Marks], row: InboxRow) -> models.MemberMarks:
    best = member_marks(devices, joined=0)
    seqs = [seq for seq in sorted(undelivered(devices)) if sees(row.visible, seq)]
    return models.MemberMarks(delivered=best.delivered, read=best.read, undelivered=seqs)
