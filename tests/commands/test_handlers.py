"""What a decision is told of other streams."""

import pytest

from commands.handlers import stream_of
from domain.account import ChangeProfile, LinkDevice, RevokeDevice
from domain.conversation import AddMembers, MessageRetracted, MessageSent, RetractMessage
from domain.ids import AccountId, ConversationId, DeviceId
from tests.commands.helpers import (
    ANN,
    BEN,
    CAT,
    PHONE,
    TEXT,
    Desk,
    Watched,
    advance,
    entries,
    new_id,
    register,
    send,
    seqs,
    start_group,
)


@pytest.mark.parametrize(
    ("command", "stream"),
    [
        (register(ANN), "account-ann"),
        (LinkDevice(id=new_id(), account=ANN, by=PHONE, device=DeviceId("t"), key="t", signature="s"), "account-ann"),
        (RevokeDevice(id=new_id(), account=ANN, by=PHONE, device=PHONE), "account-ann"),
        (ChangeProfile(id=new_id(), account=ANN, by=PHONE, name=TEXT), "account-ann"),
        (advance(ConversationId("talk"), ANN), "receipts-talk"),
        (send(ConversationId("talk")), "conversation-talk"),
        (start_group(ANN, conversation=ConversationId("talk")), "conversation-talk"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_command_has_one_stream(command: object, stream: str) -> None:
    assert stream_of(command) == stream  # type: ignore[arg-type]


async def test_a_message_names_the_versions_that_it_was_checked_against(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(send(talk))
    for seq in (1, 2):
        await desk.accepted(advance(talk, BEN, delivered=seq))
    await desk.accepted(ChangeProfile(id=new_id(), account=ANN, by=PHONE, name=TEXT))
    await desk.accepted(send(talk))
    first, second = [event.entry.e for event in (await entries(log, talk))[1:]]
    assert isinstance(first, MessageSent)
    assert isinstance(second, MessageSent)
    assert (first.receipts, first.account) == (-1, 1)
    assert (second.receipts, second.account) == (1, 2)


async def test_only_accounts_that_exist_are_added(desk: Desk) -> None:
    talk = await desk.talk(ANN)
    await desk.accepted(register(BEN))

    def add(*accounts: AccountId) -> AddMembers:
        return AddMembers(id=new_id(), conversation=talk, by=ANN, device=PHONE, after=1, accounts=list(accounts))

    assert await desk.refused(add(BEN, CAT)) == "no_such_account"
    await desk.accepted(add(BEN))


async def test_a_receipt_goes_no_further_than_its_account_may_see(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(register(CAT))
    before = await log.head()
    # Not beyond the head, and not from a stranger.
    assert seqs(await desk.all(advance(talk, BEN, delivered=2), advance(talk, CAT, delivered=1))) == [0, 0]
    assert await log.head() == before
    await desk.accepted(advance(talk, BEN, delivered=1, read=1))
    assert await log.head() > before


def retract(talk: ConversationId, target: int, by: AccountId = ANN) -> RetractMessage:
    return RetractMessage(id=new_id(), conversation=talk, by=by, device=PHONE, after=1, target=target)


async def test_a_retraction_tells_whose_message_it_was_and_whether_it_counted(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.all(send(talk, BEN), send(talk, counts=False))
    await desk.accepted(retract(talk, 2))
    await desk.accepted(retract(talk, 3))
    retracted = [event.entry.e for event in (await entries(log, talk))[3:]]
    assert retracted == [
        MessageRetracted(by=ANN, target=2, author=BEN, counts=True),
        MessageRetracted(by=ANN, target=3, author=ANN, counts=False),
    ]


@pytest.mark.parametrize("target", [-7, 0, 1, 3, 4, 1_000])
async def test_only_messages_can_be_retracted(desk: Desk, target: int) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(send(talk))
    await desk.accepted(retract(talk, 2))
    assert await desk.refused(retract(talk, target)) == "no_such_message"


async def test_others_messages_are_retracted_by_managers_only(desk: Desk) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(send(talk))
    assert await desk.refused(retract(talk, 2, BEN)) == "not_allowed"
