"""What every event carries beside its facts, and what a personal text looks like in an event."""

from typing import Generic, TypeVar

import msgspec

E = TypeVar("E")


class Sealed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A personal text, sealed with a key of the keyring: destroying the key erases it everywhere, and the log stays
    as it is."""

    key: str
    """The opaque name of the key."""
    box: bytes
    """Nonce and ciphertext."""


def seals_in(facts: msgspec.Struct) -> list[Sealed]:
    """The sealed texts of an event or a command."""
    return [value for name in facts.__struct_fields__ if isinstance(value := getattr(facts, name), Sealed)]


class Entry(msgspec.Struct, Generic[E], frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One event with its provenance, as it stands in the log. `v` comes first, so that an old schema version shows in
    the first bytes."""

    v: int
    """Schema version of the event, from 1 on."""
    id: str
    """The event's own id, a uuid: an append that is tried again carries the same one."""
    cmd: str
    """The id of the command that caused it."""
    at: int
    """`recorded_at`, microseconds since 1970 UTC: set by the writer, monotone in a stream."""
    occ: int | None = None
    """`occurred_at`, microseconds: claimed, and allowed only to an importer."""
    e: E
