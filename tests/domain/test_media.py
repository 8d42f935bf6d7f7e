"""given / when / then for media: what is reserved, stored, expired and deleted, and who may name it in a message."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.entry import Entry
from domain.errors import (
    DeviceNotActive,
    IdTaken,
    MediaGone,
    NoSuchMedia,
    NotUploaded,
    Rejected,
    WrongDigest,
    WrongSize,
)
from domain.ids import AccountId, CommandId, DeviceId, MediaId, media_id
from domain.media import (
    DeleteMedia,
    ExpireMedia,
    Media,
    MediaCommand,
    MediaDeleted,
    MediaEvent,
    MediaExpired,
    MediaReserved,
    MediaStored,
    ReserveMedia,
    StoreMedia,
    decide,
    evolve,
)

ANN, BEN = AccountId("ann"), AccountId("ben")
PHONE = DeviceId("phone")
PICTURE = MediaId("picture")

RESERVED = MediaReserved(by=ANN, device=PHONE, kind="image", size=1_000, digest="D")
STORED = MediaStored(by=ANN, size=1_000, digest="D")
EXPIRED, DELETED = MediaExpired(), MediaDeleted()


def reserve(**changes: Any) -> ReserveMedia:
    facts: dict[str, Any] = {"by": ANN, "device": PHONE, "kind": "image", "size": 1_000, "digest": "D"}
    return ReserveMedia(id=CommandId("c"), media=PICTURE, **(facts | changes))


def store(**changes: Any) -> StoreMedia:
    facts: dict[str, Any] = {"by": ANN, "device": PHONE, "size": 1_000, "digest": "D"}
    return StoreMedia(id=CommandId("c"), media=PICTURE, **(facts | changes))


EXPIRE = ExpireMedia(id=CommandId("c"), media=PICTURE)
DELETE = DeleteMedia(id=CommandId("c"), media=PICTURE)


class Scenario:
    def __init__(self, history: tuple[MediaEvent, ...]) -> None:
        self.state = Media()
        for version, event in enumerate(history):
            evolve(self.state, version, Entry(v=1, id=f"e{version}", cmd=f"c{version}", at=version, e=event))

    def does(self, command: MediaCommand) -> list[MediaEvent]:
        return decide(self.state, command)

    def refuses(self, command: MediaCommand, error: type[Rejected], *, device_active: bool = True) -> None:
        with pytest.raises(error):
            decide(self.state, command, device_active=device_active)


def given(*history: MediaEvent) -> Scenario:
    return Scenario(history)


def test_is_reserved_once() -> None:
    assert given().does(reserve()) == [RESERVED]
    assert given(RESERVED).does(reserve()) == []
    assert given(RESERVED, STORED).does(reserve()) == []


@pytest.mark.parametrize("change", [{"size": 1_001}, {"digest": "E"}, {"kind": "file"}, {"by": BEN}], ids=str)
def test_an_id_is_not_reserved_for_two_things(change: dict[str, Any]) -> None:
    given(RESERVED).refuses(reserve(**change), IdTaken)
    given(RESERVED, STORED).refuses(reserve(**change), IdTaken)


def test_a_device_that_was_revoked_neither_reserves_nor_stores() -> None:
    given().refuses(reserve(), DeviceNotActive, device_active=False)
    given(RESERVED).refuses(store(), DeviceNotActive, device_active=False)


def test_is_stored_where_the_very_bytes_are_there() -> None:
    assert given(RESERVED).does(store()) == [STORED]
    assert given(RESERVED, STORED).does(store()) == []


def test_is_stored_by_any_device_of_its_account() -> None:
    assert given(RESERVED).does(store(device=DeviceId("tablet"))) == [STORED]


def test_what_is_not_there_or_something_else_is_not_stored() -> None:
    given(RESERVED).refuses(store(size=None, digest=""), NotUploaded)
    given(RESERVED).refuses(store(size=999), WrongSize)
    given(RESERVED).refuses(store(digest="E"), WrongDigest)


def test_nobody_else_stores_it_and_nobody_learns_whether_it_exists() -> None:
    given(RESERVED).refuses(store(by=BEN), NoSuchMedia)
    given().refuses(store(), NoSuchMedia)


def test_expires_and_then_is_deleted() -> None:
    assert given(RESERVED).does(EXPIRE) == [EXPIRED]
    assert given(RESERVED, STORED).does(EXPIRE) == [EXPIRED]
    assert given(RESERVED, STORED, EXPIRED).does(EXPIRE) == []
    assert given(RESERVED, STORED, EXPIRED).does(DELETE) == [DELETED]
    assert given(RESERVED, STORED, EXPIRED, DELETED).does(DELETE) == []


def test_nothing_is_deleted_that_has_not_expired() -> None:
    assert given(RESERVED, STORED).does(DELETE) == []
    assert given().does(EXPIRE) == []


@pytest.mark.parametrize(
    "history", [(RESERVED, EXPIRED), (RESERVED, STORED, EXPIRED, DELETED)], ids=["expired", "deleted"]
)
def test_comes_back_only_by_being_reserved_anew(history: tuple[MediaEvent, ...]) -> None:
    """Whoever was away for long still has what it had sealed."""
    given(*history).refuses(store(), MediaGone)
    given(*history).refuses(reserve(size=7), IdTaken)
    assert given(*history).does(reserve()) == [RESERVED]
    assert given(*history, RESERVED).does(store()) == [STORED]
    assert given(*history, RESERVED, STORED).state.may_be_named(ANN)


def test_may_be_named_by_its_account_while_it_is_stored() -> None:
    assert given(RESERVED, STORED).state.may_be_named(ANN)
    assert not given(RESERVED, STORED).state.may_be_named(BEN)
    for history in [(), (RESERVED,), (RESERVED, EXPIRED), (RESERVED, STORED, EXPIRED), (RESERVED, EXPIRED, DELETED)]:
        assert not given(*history).state.may_be_named(ANN)


def test_its_id_is_known_before_it_is_reserved() -> None:
    """docs/media.md gives this very id as its example."""
    account = AccountId("7d9a3c0e-5b1f-5f0a-9c43-0d1b7a8e2f11")
    command = CommandId("1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b")
    assert media_id(account=account, command_id=command) == "101106d6-8da2-59d5-9203-5191ebed6b7f"


COMMANDS = st.sampled_from(
    [reserve(), reserve(digest="E"), store(), store(size=None), store(size=7), store(digest="E"), EXPIRE, DELETE]
)


@for_all(st.lists(COMMANDS, max_size=12))
def test_phases_follow_one_another_as_they_may_whatever_is_asked(commands: list[MediaCommand]) -> None:
    may_follow = {
        "none": {"reserved"}, "reserved": {"stored", "expired"}, "stored": {"expired"},
        "expired": {"deleted", "reserved"}, "deleted": {"reserved"},
    }  # fmt: skip
    state, version, phases = Media(), -1, ["none"]
    for command in commands:
        try:
            events = decide(state, command)
        except Rejected:
            continue
        for event in events:
            version += 1
            evolve(state, version, Entry(v=1, id=f"e{version}", cmd=command.id, at=version, e=event))
            phases.append(state.phase)
    assert all(after in may_follow[before] for before, after in pairwise(phases))
