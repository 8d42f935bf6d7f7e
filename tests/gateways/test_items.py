"""What is stored and what is pushed look the same on the wire."""

from typing import Any, cast
from uuid import uuid4

import pytest

from commands.keyring import MemoryKeyring, SealingKey
from commands.sealing import Sealer
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
from domain.entry import Entry, Sealed
from domain.errors import KeyringUnavailable
from domain.ids import AccountId, CommandId, ConversationId, DeviceId, conversation_stream
from gateways.items import item_of, pushed_item, sealed, unsealed
from gateways.refusal import Refusal
from projections.messages import StoredChange, StoredMessage
from signet_client import wire

ROOM = ConversationId(str(uuid4()))
ANN, BOB = AccountId("ann"), AccountId("bob")
KEYRING = MemoryKeyring()
SEALER = Sealer(KEYRING, lambda: 0)
TITLE = SEALER.seal(ANN, "Rowing")

CHANGES: list[tuple[ConversationEvent, dict[str, Any]]] = [
    (
        ConversationStarted(
            by=ANN, kind="group", protection="none", members={ANN: "owner", BOB: "member"}, members_max=9, title=TITLE
        ),
        {
            "what": "started", "accounts": [ANN, BOB], "roles": ["owner", "member"], "kind": "group",
            "protection": "none", "title": "Rowing",
        },
    ),
    (
        MembersAdded(by=ANN, accounts=[BOB], visible_from=7),
        {"what": "added", "accounts": [BOB], "roles": ["member"]},
    ),
    (MemberRemoved(by=ANN, account=BOB), {"what": "removed", "accounts": [BOB]}),
    (MemberLeft(by=ANN), {"what": "left", "accounts": [ANN]}),
    (RoleChanged(by=ANN, account=BOB, role="admin"), {"what": "role", "accounts": [BOB], "roles": ["admin"]}),
    (TitleSet(by=ANN, title=TITLE), {"what": "title", "title": "Rowing"}),
    (MessageRetracted(by=ANN, target=3, author=BOB), {"what": "retracted", "target": 3}),
]  # fmt: skip


def event(fact: ConversationEvent) -> Event:
    entry = Entry(v=1, id=str(uuid4()), cmd="c-1", at=70, occ=60, e=cast(Any, fact))
    return Event(position=1, stream=conversation_stream(ROOM), version=6, entry=entry)


@pytest.mark.parametrize(("fact", "shown"), CHANGES)
def test_changes(fact: ConversationEvent, shown: dict[str, Any]) -> None:
    expected = wire.Change(c=ROOM, seq=7, at=70, occurred=60, by=ANN, id="c-1", **shown)
    stored = StoredChange(conversation=ROOM, seq=7, at=70, occurred=60, command=CommandId("c-1"), event=fact)
    assert item_of(stored, SEALER) == pushed_item(event(fact), ROOM, SEALER) == expected


def message(body: Sealed) -> MessageSent:
    return MessageSent(
        by=ANN, device=DeviceId("laptop"), header='{"x":1}', digest="", body=body, signature="s", signer="d",
        ordinal=5, own=2, receipts=-1, account=0,
    )  # fmt: skip


def test_messages() -> None:
    body = SEALER.seal(ANN, "hello")
    sent = message(body)
    stored = StoredMessage(
        conversation=ROOM, seq=7, at=70, occurred=60, command=CommandId("c-1"), sender=ANN,
        ordinal=5, own=2, header=sent.header, body=body, signature="s", signer="d", retracted=None,
    )  # fmt: skip
    expected = wire.Message(
        c=ROOM, seq=7, at=70, occurred=60, ordinal=5, own=2, header='{"x":1}', body="hello", signature="s", signer="d"
    )
    assert item_of(stored, SEALER) == pushed_item(event(sent), ROOM, SEALER) == expected


def test_a_text_that_can_not_be_unsealed_is_none(caplog: pytest.LogCaptureFixture) -> None:
    assert unsealed(None, SEALER) is None
    assert unsealed(Sealed(key="destroyed", box=TITLE.box), SEALER) is None
    assert caplog.text == ""
    assert unsealed(Sealed(key=TITLE.key, box=TITLE.box[:-1]), SEALER) is None
    assert "can't be unsealed" in caplog.text


def test_a_message_that_can_not_be_read_says_why_and_goes_on() -> None:
    """Whatever became of its text: the seq, the header and what follows stay whole."""
    lost = message(Sealed(key="destroyed", box=TITLE.box))
    shown = pushed_item(event(lost), ROOM, SEALER)
    assert isinstance(shown, wire.Message)
    assert (shown.body, shown.unreadable, shown.header) == (None, "key_missing", lost.header)
    damaged = pushed_item(event(message(Sealed(key=TITLE.key, box=TITLE.box[:-1]))), ROOM, SEALER)
    assert isinstance(damaged, wire.Message)
    assert (damaged.body, damaged.unreadable) == (None, "damaged")


class AwayKeyring(MemoryKeyring):
    """Its file can't be read now."""

    def current(self, subject: str, period: str) -> SealingKey:
        raise KeyringUnavailable("the keyring can't be used now")

    def find(self, name: str) -> bytes | None:
        raise KeyringUnavailable("the keyring can't be used now")


def test_while_the_keyring_can_not_be_read_it_is_said_so() -> None:
    """It may be read again soon, so nobody is told that a text is lost."""
    away = Sealer(AwayKeyring(), lambda: 0)
    with pytest.raises(Refusal) as refused:
        unsealed(TITLE, away)
    assert (refused.value.code, refused.value.reply.retry) == ("unavailable", True)
    with pytest.raises(Refusal) as refused:
        sealed("hello", ANN, away)
    assert refused.value.code == "unavailable"
