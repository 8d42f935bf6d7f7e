"""given / when / then for every command of a conversation: the right events, each refusal, silence when repeated."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from domain.conversation import (
    AddMembers,
    ChangeRole,
    Conversation,
    ConversationCommand,
    ConversationEvent,
    ConversationStarted,
    Known,
    LeaveConversation,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
    RemoveMember,
    RetractMessage,
    RoleChanged,
    SendMessage,
    SetTitle,
    StartConversation,
    Target,
    TitleSet,
    decide,
    evolve,
    topic_of,
)
from domain.entry import Entry, Sealed
from domain.errors import (
    BadMembers,
    BeyondHead,
    DeviceNotActive,
    IdTaken,
    LastOwner,
    NoSuchAccount,
    NoSuchConversation,
    NoSuchMessage,
    NotAGroup,
    NotAllowed,
    NotAMember,
    NotEncrypted,
    Rejected,
    StaleMembers,
    TooManyMembers,
)
from domain.ids import AccountId, CommandId, ConversationId, DeviceId
from domain.recent import RECENT_MIN, First

ANN, BEN, CAT, DAN = (AccountId(name) for name in ("ann", "ben", "cat", "dan"))
TALK = ConversationId("talk")
PHONE = DeviceId("phone")
TEXT = Sealed(key="k", box=b"sealed")
Done = tuple[str, ConversationEvent]


class Scenario:
    """A history, and what a command does to it."""

    def __init__(self, history: Sequence[ConversationEvent | Done]) -> None:
        self.state = Conversation()
        for number, done in enumerate(history):
            command, event = done if isinstance(done, tuple) else (f"c{number}", done)
            self.record(command, event)

    def record(self, command: str, event: ConversationEvent) -> None:
        version = self.state.version + 1
        evolve(self.state, version, Entry(v=1, id=f"e{version}", cmd=command, at=100 + version, e=event))

    def when(self, command: ConversationCommand, **known: Any) -> list[ConversationEvent]:
        return decide(self.state, command, Known(**known))

    def refuses(self, command: ConversationCommand, error: type[Rejected], **known: Any) -> None:
        with pytest.raises(error):
            self.when(command, **known)


def given(*history: ConversationEvent | Done) -> Scenario:
    return Scenario(history)


GROUP = ConversationStarted(
    by=ANN, kind="group", protection="none", members={ANN: "owner", BEN: "admin", CAT: "member"}, members_max=4
)
DIRECT = ConversationStarted(
    by=ANN, kind="direct", protection="none", members={ANN: "member", BEN: "member"}, members_max=4
)


SECRET = msgspec.structs.replace(GROUP, protection="end_to_end")


def say(
    by: AccountId = ANN,
    *,
    cmd: str = "m",
    digest: str = "d",
    after: int = 0,
    counts: bool = True,
    encrypted: bool = False,
) -> SendMessage:
    return SendMessage(
        id=CommandId(cmd), conversation=TALK, by=by, device=PHONE, after=after, header="{}", digest=digest,
        counts=counts, body=TEXT, encrypted=encrypted,
    )  # fmt: skip


def said(by: AccountId = ANN, *, ordinal: int = 1, own: int = 1, digest: str = "d", counts: bool = True) -> MessageSent:
    return MessageSent(
        by=by, device=PHONE, header="{}", digest=digest, counts=counts, body=TEXT, ordinal=ordinal, own=own,
        receipts=-1, account=0,
    )  # fmt: skip


def base(by: AccountId, cmd: str = "x", after: int = 0) -> dict[str, Any]:
    return {"id": CommandId(cmd), "conversation": TALK, "by": by, "device": PHONE, "after": after}


class TestStart:
    def start(self, **changed: Any) -> StartConversation:
        fields: dict[str, Any] = {
            **base(ANN), "kind": "group", "protection": "none", "others": [BEN], "members_max": 3,
        }  # fmt: skip
        return StartConversation(**{**fields, **changed})

    def test_a_group_has_its_creator_as_owner(self) -> None:
        assert given().when(self.start(title=TEXT)) == [
            ConversationStarted(
                by=ANN,
                kind="group",
                protection="none",
                members={ANN: "owner", BEN: "member"},
                members_max=3,
                title=TEXT,
            )
        ]

    def test_a_direct_conversation_has_two_plain_members(self) -> None:
        (event,) = given().when(self.start(kind="direct", protection="end_to_end"))
        assert isinstance(event, ConversationStarted)
        assert event.members == {ANN: "member", BEN: "member"}
        assert event.protection == "end_to_end"

    @pytest.mark.parametrize("by", [ANN, BEN])
    def test_started_again_by_either_side_it_is_silent(self, by: AccountId) -> None:
        scenario = given(DIRECT)
        command = self.start(kind="direct", by=by, others=[ANN if by == BEN else BEN])
        assert scenario.when(command) == []
        assert scenario.state.outcome_of(command) == First(seq=1, at=100, by=ANN, what="ConversationStarted")

    @pytest.mark.parametrize(
        ("changed", "error"),
        [
            ({"kind": "direct", "others": []}, BadMembers),
            ({"kind": "direct", "others": [BEN, CAT]}, BadMembers),
            ({"kind": "direct", "others": [ANN]}, BadMembers),
            ({"others": [BEN, BEN]}, BadMembers),
            ({"others": [ANN]}, BadMembers),
            ({"kind": "direct", "title": TEXT}, NotAGroup),
            ({"others": [BEN, CAT, DAN]}, TooManyMembers),
        ],
    )
    def test_refusals(self, changed: dict[str, Any], error: type[Rejected]) -> None:
        given().refuses(self.start(**changed), error)

    def test_refuses_unknown_accounts_and_devices(self) -> None:
        given().refuses(self.start(), NoSuchAccount, missing=frozenset({BEN}))
        given().refuses(self.start(), DeviceNotActive, device_active=False)


class TestSend:
    def test_numbers_messages(self) -> None:
        scenario = given(DIRECT, said(ANN), said(BEN, ordinal=2, own=1, digest="e"))
        assert scenario.when(say(BEN, digest="f"), receipts_version=4, account_version=7) == [
            MessageSent(
                by=BEN, device=PHONE, header="{}", digest="f", body=TEXT, ordinal=3, own=2, receipts=4, account=7
            )
        ]

    def test_one_that_does_not_count_moves_no_ordinal(self) -> None:
        (event,) = given(DIRECT, said(ANN)).when(say(ANN, counts=False))
        assert isinstance(event, MessageSent)
        assert (event.ordinal, event.own, event.counts) == (1, 1, False)

    def test_i2_repeated_it_is_silent_and_has_its_first_outcome(self) -> None:
        scenario = given(DIRECT, ("m", said(ANN)))
        assert scenario.when(say(ANN)) == []
        assert scenario.state.outcome_of(say(ANN)) == First(seq=2, at=101, by=ANN, what="d")

    def test_i2_repeated_after_a_removal_it_still_has_its_first_outcome(self) -> None:
        scenario = given(GROUP, ("m", said(CAT)), MemberRemoved(by=ANN, account=CAT))
        assert scenario.when(say(CAT), device_active=False) == []

    def test_i2_an_id_outside_the_window_is_known_by_the_look_up(self) -> None:
        earlier = First(seq=2, at=5, by=ANN, what="d")
        assert given(DIRECT).when(say(ANN), earlier=earlier) == []
        given(DIRECT).refuses(say(BEN), IdTaken, earlier=earlier)

    def test_the_same_id_with_another_sender_digest_or_verb_is_refused(self) -> None:
        scenario = given(GROUP, ("m", said(ANN)))
        scenario.refuses(say(BEN), IdTaken)
        scenario.refuses(say(ANN, digest="other"), IdTaken)
        scenario.refuses(LeaveConversation(**base(ANN, "m")), IdTaken)

    def test_i8_refusals(self) -> None:
        scenario = given(GROUP, MemberLeft(by=CAT))
        scenario.refuses(say(CAT), NotAMember)
        scenario.refuses(say(DAN), NoSuchConversation)
        scenario.refuses(say(ANN, after=3), BeyondHead)
        scenario.refuses(say(ANN), DeviceNotActive, device_active=False)
        given().refuses(say(ANN), NoSuchConversation)


class TestEncrypted:
    """What is sent to a conversation that is end-to-end encrypted."""

    def test_a_body_that_is_not_encrypted_is_refused(self) -> None:
        given(SECRET).refuses(say(after=1), NotEncrypted)
        assert given(SECRET).when(say(after=1, encrypted=True)) == [said()]

    def test_where_the_protection_is_none_either_is_fine(self) -> None:
        for encrypted in (False, True):
            assert given(GROUP, MemberLeft(by=CAT)).when(say(encrypted=encrypted)) == [said()]

    @pytest.mark.parametrize(
        "change",
        [
            MembersAdded(by=ANN, accounts=[DAN], visible_from=3),
            MemberRemoved(by=ANN, account=CAT),
            MemberLeft(by=CAT),
        ],
        ids=lambda change: type(change).__name__,
    )
    def test_i8_one_that_was_made_before_the_last_coming_or_going_is_refused(self, change: ConversationEvent) -> None:
        """Somebody who has gone would read it, or somebody who has come could not."""
        scenario = given(SECRET, said(), change, said(ordinal=2, own=2))
        for after in (0, 1, 2):
            scenario.refuses(say(after=after, encrypted=True), StaleMembers)
        for after in (3, 4):
            assert scenario.when(say(after=after, encrypted=True)) == [said(ordinal=3, own=3)]

    def test_nor_may_it_be_made_before_the_start(self) -> None:
        given(SECRET).refuses(say(after=0, encrypted=True), StaleMembers)

    @pytest.mark.parametrize(
        "change",
        [
            RoleChanged(by=ANN, account=CAT, role="admin"),
            TitleSet(by=ANN, title=TEXT),
            MessageRetracted(by=ANN, target=2, author=ANN),
            said(BEN, ordinal=2, own=1),
        ],
        ids=lambda change: type(change).__name__,
    )
    def test_whatever_changes_nothing_of_who_reads_it_does_no_harm(self, change: ConversationEvent) -> None:
        assert len(given(SECRET, said(), change).when(say(after=1, encrypted=True))) == 1

    def test_i2_repeated_it_still_has_its_first_outcome(self) -> None:
        """Though it would be refused by now."""
        scenario = given(SECRET, ("m", said()), MemberLeft(by=CAT))
        assert scenario.when(say(after=1, encrypted=True)) == []
        assert scenario.when(say(after=1)) == []
        assert scenario.state.outcome_of(say(after=1)) == First(seq=2, at=101, by=ANN, what="d")
        earlier = First(seq=2, at=5, by=ANN, what="e")
        assert scenario.when(say(cmd="n", digest="e"), earlier=earlier) == []

    def test_i8_who_may_not_send_learns_nothing_of_the_members(self) -> None:
        scenario = given(SECRET, MemberLeft(by=CAT))
        scenario.refuses(say(CAT), NotAMember)
        scenario.refuses(say(DAN), NoSuchConversation)
        scenario.refuses(say(after=3, encrypted=True), BeyondHead)


class TestRetract:
    def retract(self, by: AccountId, target: int = 2, cmd: str = "x") -> RetractMessage:
        return RetractMessage(**base(by, cmd), target=target)

    def test_the_author_and_those_who_manage_a_group(self) -> None:
        target = Target(author=CAT, counts=False)
        for by in (ANN, BEN, CAT):
            assert given(GROUP, said(CAT)).when(self.retract(by), target=target) == [
                MessageRetracted(by=by, target=2, author=CAT, counts=False)
            ]

    def test_refusals(self) -> None:
        target = Target(author=ANN, counts=True)
        given(GROUP, said(ANN)).refuses(self.retract(CAT), NotAllowed, target=target)
        given(DIRECT, said(ANN)).refuses(self.retract(BEN), NotAllowed, target=target)
        given(GROUP, said(ANN)).refuses(self.retract(ANN, 1), NoSuchMessage)
        newcomer = given(GROUP, said(ANN), MembersAdded(by=ANN, accounts=[DAN], visible_from=3))
        newcomer.record("r", RoleChanged(by=ANN, account=DAN, role="admin"))
        newcomer.refuses(self.retract(DAN), NoSuchMessage, target=target)

    def test_retracted_twice_it_is_silent(self) -> None:
        retracted = MessageRetracted(by=ANN, target=2, author=ANN)
        scenario = given(GROUP, said(ANN), ("x", retracted))
        assert scenario.when(self.retract(ANN), target=Target(author=ANN, counts=True)) == []
        assert scenario.when(self.retract(BEN, cmd="y"), target=Target(author=ANN, counts=True)) == []


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (say(CAT), said(CAT)),
        (AddMembers(**base(ANN, "m"), accounts=[DAN]), MembersAdded(by=ANN, accounts=[DAN], visible_from=2)),
        (RemoveMember(**base(ANN, "m"), account=CAT), MemberRemoved(by=ANN, account=CAT)),
        (LeaveConversation(**base(CAT, "m")), MemberLeft(by=CAT)),
        (ChangeRole(**base(ANN, "m"), account=BEN, role="member"), RoleChanged(by=ANN, account=BEN, role="member")),
        (SetTitle(**base(ANN, "m"), title=TEXT), TitleSet(by=ANN, title=TEXT)),
        (RetractMessage(**base(ANN, "m"), target=1), MessageRetracted(by=ANN, target=1, author=ANN)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_i2_every_command_said_again_is_silent(command: ConversationCommand, event: ConversationEvent) -> None:
    scenario = given(GROUP, ("m", event))
    assert scenario.when(command) == []
    assert scenario.state.outcome_of(command) == First(seq=2, at=101, by=event.by, what=topic_of(command))


class TestMembers:
    def test_add(self) -> None:
        add = AddMembers(**base(BEN), accounts=[DAN, CAT, DAN])
        assert given(GROUP).when(add) == [MembersAdded(by=BEN, accounts=[DAN], visible_from=2)]

    def test_add_of_those_who_are_in_is_recorded_and_adds_nobody(self) -> None:
        add = AddMembers(**base(ANN), accounts=[BEN, CAT])
        nobody = MembersAdded(by=ANN, accounts=[], visible_from=2)
        assert given(GROUP).when(add) == [nobody]
        assert given(GROUP, nobody).state.members == given(GROUP).state.members

    def test_i2_an_add_that_changed_nothing_lets_nobody_in_later(self) -> None:
        scenario = given(
            GROUP, ("x", MembersAdded(by=ANN, accounts=[], visible_from=2)), MemberRemoved(by=ANN, account=CAT)
        )
        assert scenario.when(AddMembers(**base(ANN), accounts=[CAT])) == []

    def test_add_refusals(self) -> None:
        given(GROUP).refuses(AddMembers(**base(CAT), accounts=[DAN]), NotAllowed)
        given(DIRECT).refuses(AddMembers(**base(ANN), accounts=[DAN]), NotAGroup)
        given(GROUP).refuses(AddMembers(**base(ANN), accounts=[DAN]), NoSuchAccount, missing=frozenset({DAN}))
        two = [DAN, AccountId("eve")]
        given(GROUP).refuses(AddMembers(**base(ANN), accounts=two), TooManyMembers)

    def test_remove(self) -> None:
        for by in (ANN, BEN):
            assert given(GROUP).when(RemoveMember(**base(by), account=CAT)) == [MemberRemoved(by=by, account=CAT)]

    def test_remove_refusals(self) -> None:
        given(GROUP).refuses(RemoveMember(**base(CAT), account=BEN), NotAllowed)
        given(GROUP).refuses(RemoveMember(**base(BEN), account=ANN), NotAllowed)
        given(GROUP).refuses(RemoveMember(**base(ANN), account=ANN), NotAllowed)
        given(DIRECT).refuses(RemoveMember(**base(ANN), account=BEN), NotAGroup)
        given(GROUP).refuses(RemoveMember(**base(ANN), account=DAN), NoSuchAccount)

    def test_leave(self) -> None:
        assert given(GROUP).when(LeaveConversation(**base(CAT))) == [MemberLeft(by=CAT)]
        alone = given(GROUP, MemberLeft(by=BEN), MemberLeft(by=CAT))
        assert alone.when(LeaveConversation(**base(ANN))) == [MemberLeft(by=ANN)]

    def test_leave_refusals(self) -> None:
        given(GROUP).refuses(LeaveConversation(**base(ANN)), LastOwner)
        given(DIRECT).refuses(LeaveConversation(**base(ANN)), NotAGroup)
        given(GROUP, MemberLeft(by=CAT)).refuses(LeaveConversation(**base(CAT)), NotAMember)

    def test_i8_who_comes_back_sees_what_it_was_there_for(self) -> None:
        scenario = given(
            GROUP, said(ANN), MemberRemoved(by=ANN, account=CAT), said(ANN, ordinal=2, own=2),
            MembersAdded(by=ANN, accounts=[CAT], visible_from=5),
        )  # fmt: skip
        assert scenario.state.visible[CAT] == [[1, 3], [5, 0]]
        assert scenario.state.visible_end(CAT) == 5
        assert scenario.state.visible_end(DAN) == 0

    def test_i8_a_leaving_said_twice_ends_what_one_sees_at_the_first(self) -> None:
        """`decide` refuses it, but `evolve` must cope with whatever a log holds."""
        scenario = given(
            GROUP, MemberLeft(by=CAT), MemberRemoved(by=ANN, account=CAT), MemberRemoved(by=ANN, account=DAN)
        )
        assert scenario.state.visible_end(CAT) == 2
        assert scenario.state.visible_end(DAN) == 0


class TestRoles:
    def test_the_owner_changes_roles(self) -> None:
        change = ChangeRole(**base(ANN), account=CAT, role="admin")
        assert given(GROUP).when(change) == [RoleChanged(by=ANN, account=CAT, role="admin")]

    def test_i2_a_change_that_changed_nothing_undoes_no_later_one(self) -> None:
        same = RoleChanged(by=ANN, account=BEN, role="admin")
        again = ChangeRole(**base(ANN), account=BEN, role="admin")
        assert given(GROUP).when(again) == [same]
        demoted = given(GROUP, ("x", same), RoleChanged(by=ANN, account=BEN, role="member"))
        assert demoted.when(again) == []

    def test_the_last_owner_may_be_made_owner_again(self) -> None:
        change = ChangeRole(**base(ANN), account=ANN, role="owner")
        assert given(GROUP).when(change) == [RoleChanged(by=ANN, account=ANN, role="owner")]

    def test_an_owner_steps_down_where_there_is_another(self) -> None:
        scenario = given(GROUP, RoleChanged(by=ANN, account=BEN, role="owner"))
        step_down = ChangeRole(**base(ANN), account=ANN, role="member")
        assert scenario.when(step_down) == [RoleChanged(by=ANN, account=ANN, role="member")]

    def test_refusals(self) -> None:
        given(GROUP).refuses(ChangeRole(**base(BEN), account=CAT, role="admin"), NotAllowed)
        given(GROUP).refuses(ChangeRole(**base(CAT), account=CAT, role="admin"), NotAllowed)
        given(GROUP).refuses(ChangeRole(**base(ANN), account=DAN, role="admin"), NoSuchAccount)
        given(GROUP).refuses(ChangeRole(**base(ANN), account=ANN, role="member"), LastOwner)
        given(DIRECT).refuses(ChangeRole(**base(ANN), account=BEN, role="admin"), NotAGroup)


class TestTitle:
    def test_owners_and_admins_rename(self) -> None:
        assert given(GROUP).when(SetTitle(**base(BEN), title=TEXT)) == [TitleSet(by=BEN, title=TEXT)]
        assert given(GROUP, ("x", TitleSet(by=BEN, title=TEXT))).when(SetTitle(**base(BEN), title=TEXT)) == []

    def test_refusals(self) -> None:
        given(GROUP).refuses(SetTitle(**base(CAT), title=TEXT), NotAllowed)
        given(DIRECT).refuses(SetTitle(**base(ANN), title=TEXT), NotAGroup)


def test_i2_the_window_of_known_ids_says_how_far_it_reaches() -> None:
    scenario = given(DIRECT)
    for number in range(2 * RECENT_MIN + 10):
        scenario.record(f"m{number}", said(ANN, ordinal=number + 1, own=number + 1))
    recent = scenario.state.recent
    assert 0 < recent.since <= scenario.state.seq - RECENT_MIN
    known = [number for number in range(2 * RECENT_MIN + 10) if recent.find(f"m{number}")]
    # Message number n has seq n + 2: everything behind `since` is known, and nothing else is promised.
    assert known[0] + 2 == recent.since + 1
    assert known == list(range(known[0], 2 * RECENT_MIN + 10))
