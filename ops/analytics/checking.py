"""`signet analytics status` and `verify`: how far the tables are, and whether they are what the log says."""

import asyncio
from contextlib import closing
from typing import Final

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress
from rich.table import Column, Table

from ops.analytics.opening import loaded, opened_log, settings_of
from ops.analytics.place import connect
from ops.analytics.verifier import Verified, Verifier
from ops.options import DataOption, JsonOption
from ops.progress import progress_bar
from ops.settings import Settings
from projections.analytics.tables import TABLES

SHOWN_MAX: Final = 20

_PARTS: Final = """
SELECT table, sum(bytes_on_disk), sum(data_uncompressed_bytes) FROM system.parts
WHERE active AND database = currentDatabase() GROUP BY table
"""
_LOADED_AT: Final = "SELECT max(loaded_at) FROM loads"


class TableStatus(msgspec.Struct, frozen=True, kw_only=True):
    rows: int = 0
    bytes: int = 0
    """On disk."""
    uncompressed_bytes: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    clickhouse: str
    """Where it is."""
    position: int
    head: int
    """The log's last position."""
    events: int
    """Loaded."""
    loaded_at: str
    """When the last block was, UTC."""
    tables: dict[str, TableStatus]


def status(data: DataOption = None, json: JsonOption = False) -> None:
    """Tell how far the tables are loaded, and how large they are.

    Examples: `signet analytics status` · `signet analytics status --json`
    """
    settings = settings_of(data)
    found = _status(settings)
    if json:
        print(msgspec.json.encode(found).decode())
        return
    behind = "all of the log" if found.position == found.head else f"the log ends at {found.head:,}"
    print(f"ClickHouse: {found.clickhouse}")
    print(
        f"loaded: {found.events:,} events up to position {found.position:,} ({behind}); last at {found.loaded_at} UTC"
    )
    table = Table("table", *(Column(name, justify="right") for name in ("rows", "on disk", "bytes a row")))
    for name, each in found.tables.items():
        a_row = f"{each.bytes / each.rows:.1f}" if each.rows else "–"
        table.add_row(name, f"{each.rows:,}", decimal(each.bytes), a_row)
    Console().print(table)


async def _head(settings: Settings) -> int:
    async with opened_log(settings) as log:
        return await log.head()


def _status(settings: Settings) -> Status:
    head = asyncio.run(_head(settings))
    with loaded(settings) as (warehouse, mark):
        parts = {name: sizes for name, *sizes in warehouse.select(_PARTS).data}
        [[loaded_at]] = warehouse.select(_LOADED_AT).data
        return Status(
            clickhouse=settings.analytics_shown, position=mark.position, head=head, events=mark.events,
            loaded_at=loaded_at.partition(".")[0],
            tables={
                name: TableStatus(
                    rows=warehouse.select(f"SELECT count() FROM {name}").data[0][0], bytes=size,
                    uncompressed_bytes=uncompressed,
                )
                for name in TABLES
                for size, uncompressed in [parts.get(name, (0, 0))]
            },
        )  # fmt: skip


def verify(data: DataOption = None, json: JsonOption = False) -> None:
    """Compare the tables with the log, row by row: every event that is loaded is made into rows anew.

    What is missing, doubled or changed is named by table and position of the event. `signet analytics load --anew`
    mends it. Exit code 1: something differs.

    Examples: `signet analytics verify` · `signet analytics verify --json`
    """
    settings = settings_of(data)
    with progress_bar("events") as bar, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_verify(settings, bar))
    print(msgspec.json.encode(found).decode() if json else "\n".join(_lines(found)))
    if not found.equal:
        raise typer.Exit(1)


async def _verify(settings: Settings, bar: Progress) -> Verified:
    task = bar.add_task("verifying", total=None)
    with closing(connect(settings, "reader")) as warehouse:
        async with opened_log(settings) as log:
            verifier = Verifier(
                log,
                warehouse,
                lambda position, upto, events: bar.update(task, total=upto, completed=position, done=events),
            )
            return await verifier.verify()


def _lines(found: Verified) -> list[str]:
    lines = [f"{found.events:,} events, up to position {found.position:,}, compared with the tables:"]
    for name, table in found.tables.items():
        told = f"{table.differ:,} DIFFER" if table.differ else "all as the log says"
        lines.append(f"  {name}: {table.rows:,} rows, {told}")
    for each in found.differences[:SHOWN_MAX]:
        lines.append(f"  {each.table}: a row of the event at position {each.position:,} is {each.what}")
    left = sum(table.differ for table in found.tables.values()) - min(SHOWN_MAX, len(found.differences))
    if left:
        lines.append(f"  and {left:,} more (--json names up to 1,000)")
    if not found.equal:
        lines.append("  to mend it: signet analytics load --anew")
    return lines
