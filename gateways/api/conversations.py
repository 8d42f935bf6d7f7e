"""Conversations and who is in them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from domain.conversation import (
    AddMembers,
    ChangeRole,
    ConversationCommand,
    LeaveConversation,
    RemoveMember,
    SetTitle,
    StartConversation,
)
from domain.entry import Sealed
from domain.ids import AccountId, CommandId, ConversationId, direct_id, group_id, is_uuid
from gateways import models
from gateways.api import examples
from gateways.api.edge import Edge, QueryId, Talk, Who, answer, body_of, check_text, execute
from gateways.auth import Caller
from gateways.history import inbox_row
from gateways.items import overview_of, sealed
from gateways.openapi import operation
from gateways.refusal import Refusal
from gateways.services import Services

router = APIRouter(prefix="/conversations", tags=["conversations"])

_CHANGE_REFUSES = ("no_such_conversation", "not_a_member", "beyond_head", "id_taken", "too_large")
_GROUP_REFUSES = (*_CHANGE_REFUSES, "not_a_group", "not_allowed")
_CHANGED: dict[str, Any] = {"answer": models.Changed, "example": examples.CHANGED}


@router.get("", **operation(answer=models.Conversations, example=examples.CONVERSATIONS))
async def list_conversations(services: Edge, who: Who) -> Response:
    """All conversations that the caller is or was in, the most recent first."""
    await services.catch_up("inbox", "receipts")
    rows = await services.inbox.conversations(who.account)
    ticks = await services.receipts.ticks_of(who.account)
    overviews = [overview_of(row, ticks.get(row.conversation), delivered=0, sealer=services.sealer) for row in rows]
    return answer(models.Conversations(conversations=overviews))


@router.post(
    "",
    **operation(
        body=models.Start,
        body_example=examples.START,
        refuses=(
            "bad_members",
            "no_such_account",
            "not_a_group",
            "too_many_members",
            "too_many_conversations",
            "too_large",
        ),
        **_CHANGED,
    ),
)
async def start_conversation(
    services: Edge, who: Who, body: Annotated[models.Start, Depends(body_of(models.Start))]
) -> Response:
    """Start a group, or the direct conversation with somebody.

    Two accounts have one direct conversation: if it exists, it is the answer. A group's creator is its owner.
    """
    others = _accounts(services, body.members)
    command = StartConversation(
        id=CommandId(body.id),
        conversation=_new_id(who, body, others),
        by=who.account,
        device=who.device,
        kind=body.kind,
        protection=body.protection,
        others=others,
        title=None if body.title is None else _title(services, who, body.title),
        members_max=services.settings.members_max,
    )
    await services.catch_up("inbox")
    async with services.admission.start(command.conversation, who.account, others, group=body.kind == "group"):
        return await change(services, who, command)


def _new_id(who: Caller, body: models.Start, others: list[AccountId]) -> ConversationId:
    if body.kind == "group":
        return group_id(creator=who.account, command_id=CommandId(body.id))
    if len(others) != 1:
        raise Refusal("bad_members")
    return direct_id(protection=body.protection, one=who.account, other=others[0])


@router.get(
    "/{conversation}",
    **operation(answer=models.ConversationShown, example=examples.CONVERSATION, refuses=("no_such_conversation",)),
)
async def show_conversation(services: Edge, who: Who, talk: Talk) -> Response:
    """One conversation, and who is in it.

    A former member sees it as it was when it left, without the members.
    """
    row = await inbox_row(services, who.account, talk)
    await services.catch_up("receipts")
    ticks = await services.receipts.ticks(talk, who.account)
    overview = overview_of(row, ticks, delivered=0, sealer=services.sealer)
    members = None if row.role is None else await services.inbox.members(talk)
    return answer(models.ConversationShown(overview=overview, members=members))


@router.post(
    "/{conversation}/members",
    **operation(
        body=models.AddPeople,
        body_example=examples.ADD_PEOPLE,
        refuses=(*_GROUP_REFUSES, "no_such_account", "too_many_members", "too_many_conversations"),
        **_CHANGED,
    ),
)
async def add_members(
    services: Edge, who: Who, talk: Talk, body: Annotated[models.AddPeople, Depends(body_of(models.AddPeople))]
) -> Response:
    """Add people to a group; for owners and admins. They see what comes from here on, and not what was."""
    accounts = _accounts(services, body.accounts)
    command = AddMembers(**_stamp(who, talk, body.id, body.after), accounts=accounts)
    await services.catch_up("inbox")
    async with services.admission.add(talk, who.account, accounts):
        return await change(services, who, command)


@router.delete(
    "/{conversation}/members/{account}",
    **operation(refuses=(*_GROUP_REFUSES, "no_such_account"), **_CHANGED),
)
async def remove_member(
    services: Edge,
    who: Who,
    talk: Talk,
    account: str,
    command_id: QueryId,
    after: Annotated[int, Query(ge=0, le=models.SEQ_MAX, description="As in a body: the last seq known.")] = 0,
) -> Response:
    """Remove somebody from a group: owners anybody, admins plain members. Nobody removes itself; that is leaving."""
    stamp = _stamp(who, talk, command_id, after)
    return await change(services, who, RemoveMember(**stamp, account=AccountId(account)))


@router.post(
    "/{conversation}/leave",
    **operation(
        body=models.Plain,
        body_example=examples.PLAIN,
        refuses=(*_CHANGE_REFUSES, "not_a_group", "last_owner"),
        **_CHANGED,
    ),
)
async def leave_conversation(
    services: Edge, who: Who, talk: Talk, body: Annotated[models.Plain, Depends(body_of(models.Plain))]
) -> Response:
    """Leave a group. What the caller could see up to here it can see for ever."""
    return await change(services, who, LeaveConversation(**_stamp(who, talk, body.id, body.after)))


@router.put(
    "/{conversation}/members/{account}/role",
    **operation(
        body=models.SetRole,
        body_example=examples.SET_ROLE,
        refuses=(*_GROUP_REFUSES, "no_such_account", "last_owner"),
        **_CHANGED,
    ),
)
async def change_role(
    services: Edge,
    who: Who,
    talk: Talk,
    account: str,
    body: Annotated[models.SetRole, Depends(body_of(models.SetRole))],
) -> Response:
    """Give a member another role; for owners."""
    stamp = _stamp(who, talk, body.id, body.after)
    return await change(services, who, ChangeRole(**stamp, account=AccountId(account), role=body.role))


@router.put(
    "/{conversation}/title",
    **operation(body=models.Retitle, body_example=examples.RETITLE, refuses=_GROUP_REFUSES, **_CHANGED),
)
async def set_title(
    services: Edge, who: Who, talk: Talk, body: Annotated[models.Retitle, Depends(body_of(models.Retitle))]
) -> Response:
    """Rename a group; for owners and admins."""
    title = _title(services, who, body.title)
    return await change(services, who, SetTitle(**_stamp(who, talk, body.id, body.after), title=title))


async def change(services: Services, who: Caller, command: ConversationCommand) -> Response:
    """Executes a command and says what became of it. Raises Refusal."""
    accepted = await execute(services, command, turn=who)
    return answer(models.Changed(id=command.id, conversation=command.conversation, seq=accepted.seq, at=accepted.at))


def _stamp(who: Caller, talk: ConversationId, command_id: str, after: int) -> dict[str, Any]:
    """What every command to a conversation carries."""
    return {
        "id": CommandId(command_id), "conversation": talk, "by": who.account, "device": who.device, "after": after,
    }  # fmt: skip


def _accounts(services: Services, texts: list[str]) -> list[AccountId]:
    if len(texts) > services.settings.members_max:
        raise Refusal("too_many_members")
    if not all(is_uuid(text) for text in texts):
        raise Refusal("no_such_account")
    return [AccountId(text) for text in texts]


def _title(services: Services, who: Caller, text: str) -> Sealed:
    check_text("title", text, services.settings.title_chars_max)
    return sealed(text, who.account, services.sealer)
