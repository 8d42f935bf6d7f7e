"""The tables in ClickHouse, and up to which position of the log they are loaded.

`loads` gets a row with each block of events whose rows are in the tables; the last one counts, and is what is kept.
Rows of later positions are half a block, of a load that was broken off: nobody is shown them, and they are deleted
before the next load begins.
"""

from typing import Final

import msgspec

from domain.log import START
from ops.analytics.warehouse import Warehouse, WarehouseError
from ops.errors import OpsError
from projections.analytics.tables import SCHEMA, TABLES, Column, Table

_DURABLE: Final = "fsync_after_insert = 1, fsync_part_directory = 1, compress_marks = 1"
"""What `loads` tells must not survive a power cut that the rows don't."""
_LOADS: Final = f"""
CREATE TABLE IF NOT EXISTS loads (
    position UInt64 COMMENT 'All events of the log up to this position are in the tables.',
    stream String COMMENT 'Of the event at it.', version UInt32 COMMENT 'The same.', event String COMMENT 'Its id.',
    events UInt64 COMMENT 'How many events that are.', schema UInt32 COMMENT 'Of the tables.',
    loader String COMMENT 'Of which data folder.',
    loaded_at DateTime64(6, 'UTC') DEFAULT now64(6)
) ENGINE = ReplacingMergeTree(position) ORDER BY schema SETTINGS {_DURABLE}
"""
_MARK: Final = (
    "SELECT position, stream, version, event, events, schema, loader FROM loads ORDER BY position DESC LIMIT 1"
)
_UNKNOWN_TABLE: Final = (60, 81)
"""ClickHouse's numbers for: no such table, no such database."""


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """How far the tables are loaded."""

    position: int = START
    stream: str = ""
    version: int = 0
    event: str = ""
    events: int = 0
    schema: int = SCHEMA
    loader: str = ""
    """Which data folder loads these tables."""


_EXISTING: Final = "SELECT name FROM system.tables WHERE database = currentDatabase()"


def make_tables(warehouse: Warehouse) -> None:
    """Where there are none. Raises OpsError where some are missing."""
    if ["loads"] in warehouse.select(_EXISTING).data:
        check_tables(warehouse)
        return
    # What a deletion left that was broken off, perhaps of another release.
    drop_tables(warehouse)
    for table in TABLES.values():
        warehouse.command(definition(table))
    warehouse.command(_LOADS)


def drop_tables(warehouse: Warehouse) -> None:
    """`loads` first: without it nothing counts that is in the others."""
    for name in ("loads", *TABLES):
        warehouse.command(f"DROP TABLE IF EXISTS {name} SYNC")


def check_tables(warehouse: Warehouse) -> None:
    """Whether all are there that a mark tells of. Raises OpsError."""
    existing = {name for [name] in warehouse.select(_EXISTING).data}
    if missing := TABLES.keys() - existing:
        raise OpsError(
            f"ClickHouse lacks the tables {', '.join(sorted(missing))}, which somebody has deleted; make all anew from "
            "the log: signet analytics load --anew"
        )


def read_mark(warehouse: Warehouse) -> Mark | None:
    """None: there are no tables. Raises OpsError where they are another release's."""
    try:
        rows = warehouse.select(_MARK).data
    except WarehouseError as error:
        if error.code in _UNKNOWN_TABLE:
            return None
        raise
    mark = msgspec.convert(rows[0], Mark) if rows else Mark()
    if mark.schema != SCHEMA:
        raise OpsError(
            f"the tables are of another release (schema {mark.schema}; this one has {SCHEMA}); make them anew from the "
            "log: signet analytics load --anew"
        )
    return mark


def write_mark(warehouse: Warehouse, mark: Mark) -> None:
    warehouse.insert("loads", Mark.__struct_fields__, msgspec.json.encode(mark))


def delete_beyond(warehouse: Warehouse, position: int) -> int:
    """What was inserted of a block that is not marked: how many rows that were."""
    deleted = 0
    for name in TABLES:
        [[rows]] = warehouse.select(
            f"SELECT count() FROM {name} WHERE position > {{position:UInt64}}", {"position": position}
        ).data
        if rows:
            warehouse.command(f"DELETE FROM {name} WHERE position > {position}")
            deleted += rows
    return deleted


def definition(table: Table) -> str:
    """The statement that makes it. Times are inserted as microseconds, by a column that is not kept."""
    columns = [part for name, column in table.columns.items() for part in _columns(name, column)]
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name} ({', '.join(columns)}) ENGINE = MergeTree "
        f"ORDER BY ({', '.join(table.order)}) SETTINGS {_DURABLE} COMMENT {_quoted(table.about)}"
    )


def columns_of(table: Table) -> list[str]:
    """As they are named where rows are inserted."""
    return [_inserted(name) if column.is_time else name for name, column in table.columns.items()]


def _columns(name: str, column: Column) -> list[str]:
    rest = f"COMMENT {_quoted(column.about)} CODEC({column.codec})"
    if not column.is_time:
        return [f"{name} {column.type} {rest}"]
    inserted = _inserted(name)
    return [
        f"{inserted} Int64 EPHEMERAL",
        f"{name} {column.type} DEFAULT fromUnixTimestamp64Micro({inserted}, 'UTC') {rest}",
    ]


def _inserted(name: str) -> str:
    return f"{name}_us"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
