"""The tables against the log: rows are made anew from the whole log, up to the position that is loaded, and compared.

Each side is summed up in buckets of positions: how many rows, and the sum of their hashes (64 bits of the MD5 of a
row's text, modulo 2^64). Where a bucket differs, its rows are compared one by one. What must be known of conversations
is kept in memory: 16 bytes for each message, and about 300 for each of their members.
"""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

import msgspec

from domain.log import START, EventLog
from ops.analytics.loader import check_log
from ops.analytics.schema import Mark, check_tables, read_mark
from ops.analytics.warehouse import Warehouse
from ops.errors import OpsError
from projections.analytics.fold import Fold, NoPast
from projections.analytics.tables import SEPARATOR, TABLE_OF, TABLES, Column, Row, Table, text_of

BUCKET: Final = 65_536
"""Positions."""
PAGE: Final = 8_000
NAMED_MAX: Final = 1_000
"""How many differences are named; the others are counted."""

What = Literal["missing", "surplus", "changed"]
Sums = tuple[int, int]
"""How many rows, and the sum of their hashes."""
Rows = Counter[tuple[int, int]]
"""Position and hash of each row."""

_HASH: Final = "reinterpretAsUInt64(substring(MD5(concatWithSeparator('{separator}', {parts})), 1, 8))"
_SUMS: Final = """
SELECT intDiv(position, {bucket}) AS bucket, count(), sum({hash}) FROM {table} WHERE position <= {{upto:UInt64}}
GROUP BY bucket
"""
_ROWS: Final = """
SELECT position, {hash} FROM {table} WHERE position BETWEEN {{first:UInt64}} AND {{last:UInt64}}
"""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not what the log says."""

    table: str
    position: int
    """Of its event."""
    what: What
    """surplus: the log has no such row, or has it fewer times."""


class VerifiedTable(msgspec.Struct, frozen=True, kw_only=True):
    rows: int
    """As the log has them."""
    differ: int


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    equal: bool
    position: int
    """Up to which the two were compared: all that is loaded."""
    events: int
    head: int
    """The log's."""
    tables: dict[str, VerifiedTable]
    differences: list[Difference]


class Verifier:
    def __init__(self, log: EventLog, warehouse: Warehouse, on_page: Callable[[int, int, int], None]) -> None:
        """`on_page` hears of the position, that of the end, and how many events were read."""
        self._log = log
        self._warehouse = warehouse
        self._on_page = on_page
        self._differences: list[Difference] = []
        self._differ: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._events = 0

    async def verify(self) -> Verified:
        """Raises OpsError, WarehouseError, StoreUnavailable."""
        mark = read_mark(self._warehouse)
        if mark is None or not mark.events:
            raise OpsError("nothing is loaded yet: ./signet analytics load")
        check_tables(self._warehouse)
        await check_log(self._log, mark)
        sums = {name: self._sums(table, mark.position) for name, table in TABLES.items()}
        async for bucket, made in self._buckets(mark):
            for name, table in TABLES.items():
                self._compare(table, bucket, made[name], sums[name].pop(bucket, (0, 0)), mark.position)
        for name, left in sums.items():
            for bucket, its_sums in left.items():
                self._compare(TABLES[name], bucket, Counter(), its_sums, mark.position)
        if self._events != mark.events:
            self._differ["loads"] += 1
            self._differences.append(Difference(table="loads", position=mark.position, what="changed"))
        return Verified(
            equal=not self._differ, position=mark.position, events=self._events, head=await self._log.head(),
            tables={name: VerifiedTable(rows=self._rows[name], differ=self._differ[name]) for name in TABLES},
            differences=self._differences,
        )  # fmt: skip

    async def _buckets(self, mark: Mark) -> AsyncIterator[tuple[int, dict[str, Rows]]]:
        """The rows of the log, bucket by bucket; a bucket without any event is left out."""
        fold = Fold(NoPast(), kept_max=None)
        bucket, made, after = 0, _no_rows(), START
        while after < mark.position and (page := await self._log.read_all(after=after, limit=PAGE)):
            after = page[-1].position
            page = [recorded for recorded in page if recorded.position <= mark.position]
            self._events += len(page)
            for row in fold.rows(page):
                if row.position // BUCKET != bucket:
                    yield bucket, made
                    bucket, made = row.position // BUCKET, _no_rows()
                made[TABLE_OF[type(row)].name][row.position, hash_of(row)] += 1
            self._on_page(min(after, mark.position), mark.position, self._events)
        yield bucket, made

    def _sums(self, table: Table, upto: int) -> dict[int, Sums]:
        sql = _SUMS.format(bucket=BUCKET, hash=_hash(table), table=table.name)
        return {bucket: (rows, hashed) for bucket, rows, hashed in self._warehouse.select(sql, {"upto": upto}).data}

    def _compare(self, table: Table, bucket: int, made: Rows, stored: Sums, upto: int) -> None:
        self._rows[table.name] += made.total()
        expected = made.total(), sum(hashed * times for (_, hashed), times in made.items()) % 2**64
        if expected != stored:
            self._name(table, made, self._stored(table, bucket, upto))

    def _stored(self, table: Table, bucket: int, upto: int) -> Rows:
        span = {"first": bucket * BUCKET, "last": min(upto, bucket * BUCKET + BUCKET - 1)}
        sql = _ROWS.format(hash=_hash(table), table=table.name)
        return Counter((at, hashed) for at, hashed in self._warehouse.select(sql, span).data)

    def _name(self, table: Table, made: Rows, stored: Rows) -> None:
        missing = Counter(at for at, _ in (made - stored).elements())
        surplus = Counter(at for at, _ in (stored - made).elements())
        found: dict[What, Counter[int]] = {
            "changed": missing & surplus, "missing": missing - surplus, "surplus": surplus - missing
        }  # fmt: skip
        for what, rows in found.items():
            self._differ[table.name] += rows.total()
            room = NAMED_MAX - len(self._differences)
            self._differences += (
                Difference(table=table.name, position=at, what=what) for at in sorted(rows.elements())[:room]
            )


def hash_of(row: Row) -> int:
    digest = hashlib.md5(text_of(row).encode(errors="surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little")


def _no_rows() -> dict[str, Rows]:
    return {name: Counter() for name in TABLES}


def _hash(table: Table) -> str:
    parts = ", ".join(_text(name, column) for name, column in table.columns.items())
    return _HASH.format(separator=SEPARATOR, parts=parts)


def _text(name: str, column: Column) -> str:
    return f"toString({f'toUnixTimestamp64Micro({name})' if column.is_time else name})"
