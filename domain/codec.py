"""Events as bytes: short stable topics, JSON, and upcasting of old schema versions before they are decoded.

A topic is the name under which an event class stands in the log; moving or renaming the class never orphans history.
An event's schema version is the entry's `v`, the first field of its JSON. When an event's shape changes, its class gets
a new version in `_TOPICS` and an upcaster `(topic, old version)`, which turns the old JSON object into that of the next
version.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from domain.account import AccountEvent, AccountRegistered, DeviceLinked, DeviceRevoked, ProfileChanged
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
from domain.entry import Entry
from domain.keys import DeviceKeysPublished, FallbackKeyPublished, OneTimeKeyClaimed, OneTimeKeysPublished
from domain.log import NewEvent, RecordedEvent
from domain.media import MediaDeleted, MediaEvent, MediaExpired, MediaReserved, MediaStored
from domain.receipts import ReceiptsAdvanced

DomainEvent = ConversationEvent | ReceiptsAdvanced | AccountEvent | MediaEvent
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Gets and gives an event's facts (the entry's `e`) as decoded JSON."""

_TOPICS: Final[dict[type[DomainEvent], tuple[str, int]]] = {
    ConversationStarted: ("ConversationStarted", 1),
    MembersAdded: ("MembersAdded", 1),
    MemberRemoved: ("MemberRemoved", 1),
    MemberLeft: ("MemberLeft", 1),
    RoleChanged: ("RoleChanged", 1),
    TitleSet: ("TitleSet", 1),
    MessageSent: ("MessageSent", 1),
    MessageRetracted: ("MessageRetracted", 1),
    ReceiptsAdvanced: ("ReceiptsAdvanced", 1),
    AccountRegistered: ("AccountRegistered", 1),
    DeviceLinked: ("DeviceLinked", 1),
    DeviceRevoked: ("DeviceRevoked", 1),
    ProfileChanged: ("ProfileChanged", 1),
    DeviceKeysPublished: ("DeviceKeysPublished", 1),
    OneTimeKeysPublished: ("OneTimeKeysPublished", 1),
    FallbackKeyPublished: ("FallbackKeyPublished", 1),
    OneTimeKeyClaimed: ("OneTimeKeyClaimed", 1),
    MediaReserved: ("MediaReserved", 1),
    MediaStored: ("MediaStored", 1),
    MediaExpired: ("MediaExpired", 1),
    MediaDeleted: ("MediaDeleted", 1),
}


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event of the log, decoded."""

    position: int
    stream: str
    version: int
    entry: Entry[DomainEvent]


class UnknownEvent(Exception):
    """The log holds an event that this release can't read: a newer one wrote it, or the bytes are damaged."""


class Codec:
    """Turns entries into stored events and back. `topics` and `upcasters` are given by tests alone."""

    def __init__(
        self,
        topics: Mapping[type[Any], tuple[str, int]] = _TOPICS,
        upcasters: Mapping[tuple[str, int], Upcaster] | None = None,
    ) -> None:
        self._topics = {event_type: topic for event_type, (topic, _) in topics.items()}
        self.versions: Mapping[type[Any], int] = {event_type: version for event_type, (_, version) in topics.items()}
        """The schema version under which events of each class are written."""
        self._upcasters = dict(upcasters or {})
        self._encode = msgspec.json.Encoder().encode
        self._readers = {
            topic: _Reader(version, event_type, b'{"v":%d,' % version)
            for event_type, (topic, version) in topics.items()
        }

    def encode(self, entry: Entry[Any]) -> NewEvent:
        return NewEvent(id=entry.id, topic=self._topics[type(entry.e)], data=self._encode(entry), cause=entry.cmd)

    def decode(self, recorded: RecordedEvent) -> Event:
        """Raises UnknownEvent."""
        return Event(
            position=recorded.position,
            stream=recorded.stream,
            version=recorded.version,
            entry=self.decode_entry(recorded.topic, recorded.data),
        )

    def decode_entry(self, topic: str, data: bytes) -> Entry[Any]:
        """Raises UnknownEvent."""
        reader = self._readers.get(topic)
        if reader is None:
            raise UnknownEvent(f"no event is known under the topic {topic!r}")
        try:
            if data.startswith(reader.prefix):
                entry: Entry[Any] = reader.decoder.decode(data)
                return entry
            return self._upcast(topic, reader, msgspec.json.decode(data))
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise UnknownEvent(f"an event {topic} can't be decoded: {error}") from error

    def _upcast(self, topic: str, reader: "_Reader", raw: dict[str, Any]) -> Entry[Any]:
        while raw["v"] < reader.version:
            upcaster = self._upcasters.get((topic, raw["v"]))
            if upcaster is None:
                raise UnknownEvent(f"nothing upcasts {topic} from version {raw['v']}")
            raw = {**raw, "v": raw["v"] + 1, "e": upcaster(raw["e"])}
        if raw["v"] != reader.version:
            raise UnknownEvent(f"{topic} has version {raw['v']}, and {reader.version} is the newest known here")
        entry: Entry[Any] = msgspec.convert(raw, reader.entry_type)
        return entry


class _Reader:
    """How the events of one topic are decoded."""

    def __init__(self, version: int, event_type: type[Any], prefix: bytes) -> None:
        self.version = version
        self.prefix = prefix
        self.entry_type: type[Entry[Any]] = Entry[event_type]  # type: ignore[valid-type]  # chosen at run time
        self.decoder = msgspec.json.Decoder(self.entry_type)


CODEC: Final = Codec()
