"""Loads the log's events into the tables, exactly once.

1. The tables are those of this log and this data folder, and nothing that an earlier load inserted can come any more
   (`Warehouse.settle`).
2. What it left of a block that is not marked is deleted.
3. A block of events is read after the mark, and made into rows.
4. Its rows are inserted, table by table, and then the mark. While that goes on the next block is read.

Killed at any moment, or cut off from ClickHouse, the next load begins at 1.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from typing import Final

import msgspec

from domain.codec import CODEC, UnknownEvent
from domain.log import EventLog, RecordedEvent
from ops.analytics.recall import Recall
from ops.analytics.schema import (
    Mark,
    columns_of,
    delete_beyond,
    drop_tables,
    make_tables,
    read_mark,
    write_mark,
)
from ops.analytics.warehouse import Warehouse
from ops.errors import OpsError
from projections.analytics.fold import KEPT_MAX, Fold
from projections.analytics.tables import TABLE_OF, Row

PAGE: Final = 8_000
BLOCK_MAX: Final = 64_000
"""Events. Each block is a part in each table, which ClickHouse merges later; and it is what a kill loses."""
PAUSE_S: Final = 1.0
"""Between two blocks while it follows: many small parts cost much."""

OnBlock = Callable[[Mark], None]


class Loader:
    """One load, by a connection that nobody else uses."""

    def __init__(
        self,
        log: EventLog,
        warehouse: Warehouse,
        on_block: OnBlock = lambda mark: None,
        *,
        name: str = "",
        check_room: Callable[[], None] = lambda: None,
        block_max: int = BLOCK_MAX,
        kept_max: int = KEPT_MAX,
    ) -> None:
        """`on_block` hears of the mark that is found, and of each that is written; `name`: of the data folder that
        loads; `check_room` raises where there is none for another block; `block_max` counts events; `kept_max`: see
        `Fold`."""
        self._log = log
        self._warehouse = warehouse
        self._on_block = on_block
        self._name = name
        self._check_room = check_room
        self._block_max = block_max
        self._fold = Fold(Recall(warehouse, self._settle), kept_max=kept_max)
        self._encode = msgspec.json.Encoder().encode_lines
        self._thread = ThreadPoolExecutor(1)
        self._inserting: Future[None] | None = None
        self.mark = Mark(loader=name)
        self.deleted = 0
        """Rows of a load that was broken off."""

    async def begin(self, *, anew: bool = False) -> None:
        """`anew`: with empty tables. Raises OpsError, WarehouseError, StoreUnavailable."""
        await asyncio.to_thread(self._prepare, anew)
        await check_log(self._log, self.mark)
        self.deleted = await asyncio.to_thread(delete_beyond, self._warehouse, self.mark.position)
        self._on_block(self.mark)

    def _prepare(self, anew: bool) -> None:
        self._warehouse.settle()
        if anew:
            drop_tables(self._warehouse)
        make_tables(self._warehouse)
        found = read_mark(self._warehouse) or Mark()
        if found.events and found.loader != self._name:
            raise OpsError(
                "these tables are loaded by another data folder, and two loaders would double every row. Let that one "
                "do it, or take them over, made anew from the log: signet analytics load --anew"
            )
        self.mark = msgspec.structs.replace(found, loader=self._name)

    async def load(self) -> None:
        """All that the log has by now. Raises WarehouseError, StoreUnavailable."""
        mark = self.mark
        while block := await self._read(mark.position):
            self._check_room()
            # Beside the loop, which hears of signals meanwhile.
            rows = await asyncio.to_thread(self._fold.rows, block)
            last = block[-1]
            mark = msgspec.structs.replace(
                mark, position=last.position, stream=last.stream, version=last.version, event=_id_of(last),
                events=mark.events + len(block),
            )  # fmt: skip
            await asyncio.to_thread(self._settle)
            self._inserting = self._thread.submit(self._insert, rows, mark)
        await asyncio.to_thread(self._settle)

    async def follow(self) -> None:
        """Loads what comes, until cancelled. Raises as `load`."""
        while True:
            async with aclosing(self._log.subscribe(after=self.mark.position)) as news:
                await anext(news)
            await self.load()
            await asyncio.sleep(PAUSE_S)

    @property
    def unreadable(self) -> int:
        """Events that this release can't decode, of those that were loaded."""
        return self._fold.unreadable

    def close(self) -> None:
        self._thread.shutdown()

    async def _read(self, after: int) -> list[RecordedEvent]:
        block: list[RecordedEvent] = []
        while len(block) < self._block_max:
            page = await self._log.read_all(after=after, limit=min(PAGE, self._block_max - len(block)))
            block += page
            if not page:
                break
            after = page[-1].position
        return block

    def _settle(self) -> None:
        """Waits for the block that is being inserted; what went wrong with it is raised here."""
        if self._inserting is not None:
            inserting, self._inserting = self._inserting, None
            inserting.result()

    def _insert(self, rows: Sequence[Row], mark: Mark) -> None:
        by_table: defaultdict[type[Row], list[Row]] = defaultdict(list)
        for row in rows:
            by_table[type(row)].append(row)
        for kind, its_rows in by_table.items():
            table = TABLE_OF[kind]
            self._warehouse.insert(table.name, columns_of(table), self._encode(its_rows))
        if (read_mark(self._warehouse) or Mark()).position != self.mark.position:
            raise OpsError("somebody else loads these tables at the same time; verify them: signet analytics verify")
        write_mark(self._warehouse, mark)
        self.mark = mark
        self._on_block(mark)


async def check_log(log: EventLog, mark: Mark) -> None:
    """Whether the tables are of this log. Raises OpsError, StoreUnavailable."""
    if not mark.event:
        return
    read = await log.read_stream(mark.stream, after=mark.version - 1, limit=1)
    if not read or read[0].position != mark.position or _id_of(read[0]) != mark.event:
        raise OpsError(
            f"the tables are of another log, or this one was restored from a backup that ends before position "
            f"{mark.position:,}; make them anew: signet analytics load --anew"
        )


def _id_of(recorded: RecordedEvent) -> str:
    try:
        return CODEC.decode_entry(recorded.topic, recorded.data).id
    except UnknownEvent:
        return recorded.topic
