"""The tables: a class for each, whose fields are its columns. `signet analytics tables` prints what stands here.

Ids, times, sizes and counts alone: no text that people wrote, no names, no keys. Each row bears the position of the
event that it was made of, by which loading is exactly once. Orders and codecs were chosen by the figures in
docs/analytics.md.
"""

from typing import Annotated, Any, ClassVar, Final, get_type_hints

import msgspec

SCHEMA: Final = 1
"""Of all tables together: grows when other rows are made of the same events; then they are loaded anew."""

_RISING: Final = "Delta, ZSTD(1)"
_SMALL: Final = "T64, ZSTD(1)"


class Column(msgspec.Struct, frozen=True):
    """How ClickHouse keeps a field."""

    type: str
    about: str
    codec: str = "ZSTD(1)"

    @property
    def is_time(self) -> bool:
        return self.type == _TIME


_TIME: Final = "DateTime64(6, 'UTC')"

At = Annotated[int, Column(_TIME, "When it happened: what an importer claims, else `recorded_at`.", _RISING)]
RecordedAt = Annotated[int, Column(_TIME, "When the log took it, by the server's clock.", _RISING)]
ConversationColumn = Annotated[str, Column("UUID", "The conversation.")]
By = Annotated[str, Column("UUID", "The account that did it.")]


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Its fields are in the order of the columns; the first is the position. Times are microseconds since 1970."""

    ORDER: ClassVar[tuple[str, ...]]
    """The columns by which ClickHouse sorts the rows: they tell them apart."""

    position: Annotated[int, Column("UInt64", "Of the event in the log.", _RISING)]


class EventRow(Row, frozen=True, array_like=True, gc=False):
    """Every event of the log, of whatever kind."""

    ORDER = ("position",)

    type: Annotated[str, Column("LowCardinality(String)", "Of event, as MessageSent or MembersAdded.")]
    stream: Annotated[
        str, Column("LowCardinality(String)", "What it belongs to: a conversation, receipts, an account, or media.")
    ]
    subject: Annotated[str, Column("UUID", "The id of that conversation (of receipts, too), account, or media.")]
    version: Annotated[int, Column("UInt32", "Counts the events of its stream, from 0 on.", _SMALL)]
    at: At
    recorded_at: RecordedAt


class ConversationRow(Row, frozen=True, array_like=True, gc=False):
    """Every conversation."""

    ORDER = ("conversation",)

    conversation: ConversationColumn
    at: At
    recorded_at: RecordedAt
    by: By
    kind: Annotated[str, Column("Enum8('direct' = 1, 'group' = 2)", "For two people, or for many.")]
    protection: Annotated[
        str, Column("Enum8('end_to_end' = 1, 'none' = 2)", "Whether only the members' devices can read it.")
    ]


class MessageRow(Row, frozen=True, array_like=True, gc=False):
    """Every message that was sent, also one that was retracted later."""

    ORDER = ("conversation", "seq")

    conversation: ConversationColumn
    seq: Annotated[int, Column("UInt32", "Its number in the conversation, counted over all events of it.", _RISING)]
    at: At
    recorded_at: RecordedAt
    author: Annotated[str, Column("UUID", "The account that sent it.")]
    device: Annotated[str, Column("LowCardinality(String)", "The author's device.")]
    counts: Annotated[bool, Column("Bool", "False: an edit, a reaction or a vote, which is no message of its own.")]
    bytes: Annotated[int, Column("UInt32", "The body's size as it is stored, sealed.", _SMALL)]
    media: Annotated[int, Column("UInt8", "How many files it shows.", _SMALL)]
    answers: Annotated[
        int, Column("UInt32", "The seq of the message that it answers, where protection is none; else 0.", _SMALL)
    ]


class RetractionRow(Row, frozen=True, array_like=True, gc=False):
    """Every message that was taken back."""

    ORDER = ("conversation", "seq")

    conversation: ConversationColumn
    seq: Annotated[int, Column("UInt32", "That of the message.", _RISING)]
    at: At
    recorded_at: RecordedAt
    by: By
    author: Annotated[str, Column("UUID", "The account that sent the message.")]


class ReceiptRow(Row, frozen=True, array_like=True, gc=False):
    """Every statement of a device about what it has stored and its person has read, with the delays that it ended."""

    ORDER = ("conversation", "account", "position", "number")

    number: Annotated[int, Column("UInt16", "Tells apart what one event holds, from 0 on.", _SMALL)]
    conversation: ConversationColumn
    account: Annotated[str, Column("UUID", "The recipient.")]
    device: Annotated[str, Column("LowCardinality(String)", "Its device that states this.")]
    recorded_at: RecordedAt
    delivered: Annotated[int, Column("UInt32", "The device has everything up to this seq.", _SMALL)]
    read: Annotated[int, Column("UInt32", "The person has read up to this seq.", _SMALL)]
    undecryptable: Annotated[list[int], Column("Array(UInt32)", "Seqs that the device could not decrypt.", _SMALL)]
    repaired: Annotated[list[int], Column("Array(UInt32)", "Seqs among those that it now could.", _SMALL)]
    delivery_ms: Annotated[
        list[int],
        Column(
            "Array(UInt64)",
            "For each message of others that now first reached the account: milliseconds since the log took it.",
            _SMALL,
        ),
    ]
    reading_ms: Annotated[list[int], Column("Array(UInt64)", "The same for each that it has now read.", _SMALL)]


class MembershipRow(Row, frozen=True, array_like=True, gc=False):
    """Every coming, going and change of a role; what changed nothing is left out."""

    ORDER = ("conversation", "position", "number")

    number: Annotated[int, Column("UInt32", "Tells apart what one event holds, from 0 on.", _SMALL)]
    conversation: ConversationColumn
    seq: Annotated[int, Column("UInt32", "The event's number in the conversation.", _RISING)]
    at: At
    recorded_at: RecordedAt
    account: Annotated[str, Column("UUID", "Whom it is about.")]
    by: By
    change: Annotated[str, Column("Enum8('joined' = 1, 'left' = 2, 'removed' = 3, 'role' = 4)", "What happened.")]
    role: Annotated[str, Column("Enum8('none' = 0, 'member' = 1, 'admin' = 2, 'owner' = 3)", "Its role from then on.")]
    members: Annotated[int, Column("UInt32", "How many members the conversation has from then on.", _SMALL)]


class DeviceRow(Row, frozen=True, array_like=True, gc=False):
    """Everything that happened to devices and their public keys."""

    ORDER = ("account", "position")

    account: Annotated[str, Column("UUID", "Whose device it is.")]
    device: Annotated[str, Column("LowCardinality(String)", "The device.")]
    at: At
    recorded_at: RecordedAt
    change: Annotated[
        str,
        Column(
            "Enum8('linked' = 1, 'revoked' = 2, 'keys' = 3, 'one_time_keys' = 4, 'fallback_key' = 5, 'claimed' = 6)",
            "What happened; claimed: somebody was given one of its keys, to begin to encrypt to it.",
        ),
    ]
    keys: Annotated[int, Column("UInt16", "How many keys it is about.", _SMALL)]
    left: Annotated[int, Column("UInt16", "How many one-time keys it has from then on, where that is told.", _SMALL)]


class Table(msgspec.Struct, frozen=True):
    name: str
    row: type[Row]
    columns: dict[str, Column]

    @property
    def about(self) -> str:
        return (self.row.__doc__ or "").strip()

    @property
    def order(self) -> tuple[str, ...]:
        return self.row.ORDER


def _table(name: str, row: type[Row]) -> Table:
    hints = get_type_hints(row, include_extras=True)
    return Table(name, row, {field: hints[field].__metadata__[0] for field in row.__struct_fields__})


TABLES: Final = {
    table.name: table
    for table in (
        _table("events", EventRow),
        _table("conversations", ConversationRow),
        _table("messages", MessageRow),
        _table("retractions", RetractionRow),
        _table("membership", MembershipRow),
        _table("receipts", ReceiptRow),
        _table("devices", DeviceRow),
    )
}

TABLE_OF: Final[dict[type[Row], Table]] = {table.row: table for table in TABLES.values()}

SEPARATOR: Final = "\x1f"
"""No text of a row holds it."""


def text_of(row: Row) -> str:
    """The row as `ops/analytics` has ClickHouse write it, too: to compare the two."""
    return SEPARATOR.join([each if type(each) is str else _text(each) for each in msgspec.structs.astuple(row)])


def _text(value: Any) -> str:
    if value is True or value is False:
        return "true" if value else "false"
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
