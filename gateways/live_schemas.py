"""The schemas of the live protocol's frames, with bounds.

A struct's docstrings describe it and its fields. What many frames have in common, and the bounds, is said here: the
wire structs check no bounds, since a command that breaks one is refused with a reason and not cut off as no frame.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from domain.receipts import EXCEPTIONS_MAX
from gateways.history import PAGE_ITEMS_MAX
from gateways.models import UUID_PATTERN
from gateways.schemas import schemas_of
from gateways.sends import HEADER_CHARS_MAX, SEQ_MAX, SIGNER_CHARS_MAX
from gateways.services import EdgeSettings
from signet_client import payloads, wire

Schema = Mapping[str, Any]


class _Field(NamedTuple):
    text: str
    bounds: Schema = MappingProxyType({})


_UUID: Final = {"pattern": UUID_PATTERN, "minLength": 36, "maxLength": 36}
_SEQ: Final = {"minimum": 1, "maximum": SEQ_MAX}
_MARK: Final = {"minimum": 0, "maximum": SEQ_MAX}
_COUNT: Final = {"minimum": 0}
_SIGNATURE: Final = {"pattern": "^[A-Za-z0-9+/]{86}$"}
_SEQS: Final = {"maxItems": EXCEPTIONS_MAX, "items": {"type": "integer", **_SEQ}}

_FIELDS: Final[dict[str, _Field]] = {
    "t": _Field("What kind of frame it is."),
    "c": _Field("The conversation's id.", _UUID),
    "seq": _Field("The event's number in its conversation.", _SEQ),
    "at": _Field("When the server recorded the event, in microseconds since 1970, UTC.", _COUNT),
    "occurred": _Field("When it happened, as an importer claimed, in microseconds since 1970, UTC."),
    "head": _Field("The last seq that the account may see.", _MARK),
    "upto": _Field("The statement holds for every seq up to this one.", _MARK),
    "read": _Field("The read mark: everything up to this seq has been seen.", _MARK),
    "delivered": _Field("The delivered mark: everything up to this seq is stored.", _MARK),
    "undelivered": _Field("Seqs that some member could not decrypt; an author picks its own."),
    "unread": _Field("How many counting messages of others lie after the read mark.", _COUNT),
    "ticks": _Field("How far the account's own messages have come."),
    "account": _Field("The account's id.", _UUID),
    "device": _Field("The device's name, as it was registered or linked.", {"minLength": 1}),
    "signature": _Field("Ed25519, 64 bytes.", _SIGNATURE),
    "signer": _Field(
        "Which of the sender's keys signed, by a name of the clients' own.", {"maxLength": SIGNER_CHARS_MAX}
    ),
    "body": _Field("Opaque text; the header has its digest."),
    "unreadable": _Field("Why the server can't show a body that it has: its key is gone, or body or key are damaged."),
    "header": _Field("As its sender signed it."),
    "ordinal": _Field("", _COUNT),
    "own": _Field("", _COUNT),
    "retracted": _Field("", _SEQ),
    "kept": _Field("", _MARK),
    "target": _Field("", _SEQ),
    "kind": _Field("A talk of two, or a group."),
    "protection": _Field("Whether the bodies are encrypted end to end; for ever."),
    "title": _Field("A group's title."),
    "what": _Field("What happened."),
    "by": _Field("The account that did it.", _UUID),
    "conversations": _Field("All that the account is or was in, the most recent first."),
    "items": _Field("The events, in order of seq."),
    "nonce": _Field("To be signed with the hello; good for one log-in within a minute."),
    "server": _Field("The server's name, which every signature names."),
    "code": _Field("One of the reply codes; a client may meet one that it doesn't know."),
    "text": _Field("What is wrong and what to do, for a person."),
    "retry": _Field("Whether the very same command, with the same id, may succeed later."),
    "id": _Field("Of the client's choosing; the answer has it, too."),
    "Hello.signature": _Field(
        "By the device's key, over `signet.hello.v1`, nonce, server, account and device, one a line.", _SIGNATURE
    ),
    "Hello.cursors": _Field("", {"additionalProperties": {"type": "integer", **_MARK}}),
    "Send.header": _Field(
        "A `Header` as JSON text: exactly these bytes are signed, stored and handed on.",
        {"maxLength": HEADER_CHARS_MAX, "contentMediaType": "application/json"},
    ),
    "Ack.undecryptable": _Field("", _SEQS),
    "Ack.repaired": _Field("", _SEQS),
    "Fetch.after": _Field("", _MARK),
    "Fetch.limit": _Field("How many events at most.", {"minimum": 1, "maximum": PAGE_ITEMS_MAX}),
    "Ack.upto": _Field("This device has stored everything up to here.", _MARK),
    "Read.upto": _Field("The person has seen everything up to here.", _MARK),
    "n": _Field("", _MARK),
    "Took.upto": _Field("The last number of what it has taken in.", _MARK),
    "sender": _Field("Matrix's id of an account."),
    "left": _Field("", _COUNT),
    "DeviceLists.accounts": _Field("Their ids.", {"items": {"type": "string", **_UUID}}),
    "Refused.c": _Field(""),
    "Accepted.id": _Field("The header's."),
    "Header.id": _Field("", _UUID),
    "Header.s": _Field("The sending account: the one that is logged in.", _UUID),
    "Header.d": _Field("The sending device: the one that is logged in."),
    "Header.a": _Field("", _MARK),
    "Header.b": _Field("", _SEQ),
    "Header.h": _Field("", {"pattern": "^[A-Za-z0-9+/]{43}$"}),
}
"""By struct and name on the wire, for one field: the text instead of its docstring, if that is for readers of the code.
By the name alone, for all others: the text where they have no docstring."""


def live_schemas(frames: Iterable[type[msgspec.Struct]], settings: EdgeSettings) -> dict[str, Any]:
    """The schemas of the frames, of what they hold, and of the header, by the structs' names."""
    schemas = schemas_of([*frames, payloads.Header], wire, payloads)
    for struct, schema in schemas.items():
        for name, field in schema["properties"].items():
            _say(field, _FIELDS.get(f"{struct}.{name}"), _FIELDS.get(name))
        # OpenAPI's alone.
        schema["properties"].get("items", {}).get("items", {}).pop("discriminator", None)
    schemas["Send"]["properties"]["body"] |= {
        "maxLength": settings.body_bytes_max,
        "description": f"Opaque text, at most {settings.body_bytes_max} bytes as UTF-8.",
    }
    return schemas


def _say(field: dict[str, Any], own: _Field | None, common: _Field | None) -> None:
    said = own or common
    if said is None:
        return
    _bound(field, said.bounds)
    if said.text and (own or "description" not in field):
        field["description"] = said.text


def _bound(field: dict[str, Any], bounds: Schema) -> None:
    """Adds the bounds to a field, or to what an optional one holds if it holds something."""
    target = next((each for each in field.get("anyOf", ()) if each.get("type") != "null"), field)
    target.update(bounds)
