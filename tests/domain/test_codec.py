"""Events as bytes: stable topics, every event there and back, and old versions upcast before they are decoded."""

from typing import Any

import msgspec
import pytest

from domain.codec import CODEC, Codec, DomainEvent, UnknownEvent
from domain.entry import Entry, Sealed
from domain.log import RecordedEvent

SEALED: dict[str, Any] = {"key": "k", "box": "AAEC"}
STORED: dict[str, dict[str, Any]] = {
    # The bytes of schema version 1, as they stand in logs: this table may grow, and never change.
    "ConversationStarted": {
        "by": "a", "kind": "group", "protection": "none", "members": {"a": "owner"}, "members_max": 9, "title": SEALED,
    },
    "MembersAdded": {"by": "a", "accounts": ["b"], "visible_from": 2},
    "MemberRemoved": {"by": "a", "account": "b"},
    "MemberLeft": {"by": "a"},
    "RoleChanged": {"by": "a", "account": "b", "role": "admin"},
    "TitleSet": {"by": "a", "title": SEALED},
    "MessageSent": {
        "by": "a", "device": "d", "header": "{}", "digest": "x", "counts": False, "body": SEALED, "signature": "s",
        "signer": "d", "ordinal": 1, "own": 1, "receipts": -1, "account": 2, "media": ["m"],
    },
    "MessageRetracted": {"by": "a", "target": 2, "author": "b", "counts": False},
    "ReceiptsAdvanced": {
        "receipts": [{"account": "a", "device": "d", "delivered": 2, "read": 1, "undecryptable": [1]}],
    },
    "AccountRegistered": {"name": SEALED},
    "DeviceLinked": {"device": "d", "key": "K", "by": "c", "signature": "s"},
    "DeviceRevoked": {"device": "d", "by": "c"},
    "ProfileChanged": {"name": SEALED},
    "DeviceKeysPublished": {"device": "d", "keys": "{}"},
    "OneTimeKeysPublished": {"device": "d", "keys": {"B": "{}", "A": "{}"}, "left": 2},
    "FallbackKeyPublished": {"device": "d", "id": "C", "key": "{}"},
    "OneTimeKeyClaimed": {
        "device": "d", "id": "B", "key": "{}", "by": "b", "by_device": "e", "left": 1, "fallback_unused": True,
    },
    "MediaReserved": {"by": "a", "device": "d", "kind": "image", "size": 3, "digest": "x"},
    "MediaStored": {"by": "a", "size": 3, "digest": "x"},
    "MediaExpired": {},
    "MediaDeleted": {},
}  # fmt: skip


def recorded(topic: str, entry: dict[str, Any]) -> RecordedEvent:
    return RecordedEvent(position=7, stream="s", version=3, topic=topic, data=msgspec.json.encode(entry))


def entry(facts: dict[str, Any], v: int = 1) -> dict[str, Any]:
    return {"v": v, "id": "e", "cmd": "c", "at": 5, "e": facts}


def test_every_topic_has_its_sample() -> None:
    assert set(STORED) == {event.__name__ for event in DomainEvent.__args__}


@pytest.mark.parametrize("topic", STORED)
def test_a_stored_event_is_decoded_and_encoded_to_the_same_bytes(topic: str) -> None:
    stored = recorded(topic, entry(STORED[topic]))
    event = CODEC.decode(stored)
    assert (event.position, event.stream, event.version) == (7, "s", 3)
    again = CODEC.encode(event.entry)
    assert (again.id, again.topic, again.data) == ("e", topic, stored.data)


def test_occurred_at_survives() -> None:
    stored: dict[str, Any] = {"v": 1, "id": "e", "cmd": "c", "at": 5, "occ": 3, "e": {"by": "a"}}
    assert CODEC.decode(recorded("MemberLeft", stored)).entry.occ == 3


class Renamed(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose third version names things otherwise."""

    who: str
    title: Sealed
    loud: bool


UPCASTERS: dict[tuple[str, int], Any] = {
    ("TitleSet", 1): lambda facts: {"who": facts["by"], "title": facts["title"]},
    ("TitleSet", 2): lambda facts: {**facts, "loud": False},
}


def test_an_old_event_is_upcast_step_by_step_and_a_new_one_is_not() -> None:
    codec = Codec({Renamed: ("TitleSet", 3)}, UPCASTERS)
    title = Sealed(key="k", box=b"\x00\x01\x02")
    stored = {
        1: entry(STORED["TitleSet"]),
        2: entry({"who": "b", "title": SEALED}, v=2),
        3: entry({"who": "b", "title": SEALED, "loud": True}, v=3),
    }
    read: dict[int, Any] = {v: codec.decode_entry("TitleSet", msgspec.json.encode(each)) for v, each in stored.items()}
    assert read[1] == Entry(v=3, id="e", cmd="c", at=5, e=Renamed(who="a", title=title, loud=False))
    assert read[2].e == Renamed(who="b", title=title, loud=False)
    assert read[3].e == Renamed(who="b", title=title, loud=True)


@pytest.mark.parametrize(
    ("topic", "stored"),
    [
        ("Nothing", entry({})),
        ("TitleSet", entry(STORED["TitleSet"], v=2)),
        ("TitleSet", entry({"by": "a"})),
        ("TitleSet", entry(STORED["TitleSet"], v=0)),
        ("TitleSet", {"id": "e"}),
    ],
    ids=["unknown topic", "newer version", "a field is missing", "older than the first", "no version"],
)
def test_what_cannot_be_read_says_so(topic: str, stored: dict[str, Any]) -> None:
    with pytest.raises(UnknownEvent):
        CODEC.decode(recorded(topic, stored))


def test_damaged_bytes_say_so() -> None:
    with pytest.raises(UnknownEvent):
        CODEC.decode(RecordedEvent(position=1, stream="s", version=0, topic="TitleSet", data=b'{"v":1,"id"'))
