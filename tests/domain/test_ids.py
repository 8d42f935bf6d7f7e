"""Ids are derived from what they name: the same parts give the same id for ever, others another one."""

from uuid import UUID

from domain.ids import AccountId, CommandId, account_id, direct_id, group_id, is_uuid

COMMAND = CommandId("1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
OTHER_COMMAND = CommandId("2b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
ANN, BEN = AccountId("7d9a3c0e-5b1f-5f0a-9c43-0d1b7a8e2f11"), AccountId("2f6c1b7e-90ad-5d3e-8a77-6a5d4c3b2a10")


def test_they_stay_what_they_are() -> None:
    """A change would part every account and conversation from its history."""
    assert account_id(command_id=COMMAND, key="key") == "f8493db6-5f48-5c81-bd84-e1de87832fd3"
    assert direct_id(protection="none", one=ANN, other=BEN) == "65f64348-7d76-5380-ac3c-e9cb17ab22a4"
    assert group_id(creator=ANN, command_id=COMMAND) == "9e54e88b-6294-5893-8fb1-454dc4af27a7"


def test_each_part_counts() -> None:
    made = [
        account_id(command_id=COMMAND, key="key"),
        account_id(command_id=COMMAND, key="other"),
        account_id(command_id=OTHER_COMMAND, key="key"),
        direct_id(protection="none", one=ANN, other=BEN),
        direct_id(protection="end_to_end", one=ANN, other=BEN),
        direct_id(protection="none", one=ANN, other=ANN),
        group_id(creator=ANN, command_id=COMMAND),
        group_id(creator=BEN, command_id=COMMAND),
        group_id(creator=ANN, command_id=OTHER_COMMAND),
    ]
    assert len(set(made)) == len(made)
    assert all(is_uuid(each) and UUID(each).version == 5 for each in made)


def test_both_sides_of_a_direct_conversation_have_one_id() -> None:
    assert direct_id(protection="none", one=ANN, other=BEN) == direct_id(protection="none", one=BEN, other=ANN)


def test_only_the_canonical_form_is_a_uuid() -> None:
    assert is_uuid(ANN)
    assert is_uuid("01234567-89ab-cdef-0000-ffffffffffff")
    for text in (ANN.upper(), ANN.replace("-", ""), f"{ANN}\n", f" {ANN}", f"{{{ANN}}}", "", "x" + ANN[1:]):
        assert not is_uuid(text)
    for other in ("g", "A", "-", "?", "\n", "\0", "é", "٣", "\ud800"):
        assert not any(is_uuid(ANN[:place] + other + ANN[place + 1 :]) for place in range(36) if ANN[place] != other)
