"""A load in a process of its own, in small blocks: `python -m tests.ops.analytics.loading DATA [URL]`. It prints a line
after each insert, so that it can be killed between any two."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ops.analytics.loader import Loader
from ops.analytics.place import loader_name, only_loader
from ops.analytics.warehouse import Answer, Parameters, Warehouse
from ops.settings import Settings
from tests.ops.analytics.loads import log_of

BLOCK = 40
KEPT = 500


class Telling:
    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self.command = warehouse.command
        self.settle = warehouse.settle
        self.ask = warehouse.ask
        self.read_upto = warehouse.read_upto
        self.close = warehouse.close

    def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        self._warehouse.insert(table, columns, rows)
        print(table, flush=True)

    def select(self, sql: str, parameters: Parameters | None = None) -> Answer:
        return self._warehouse.select(sql, parameters)


async def main(settings: Settings) -> None:
    async with log_of(settings) as log:
        with (
            only_loader(settings) as warehouse,
            closing(
                Loader(log, Telling(warehouse), name=loader_name(settings), block_max=BLOCK, kept_max=KEPT)
            ) as loader,
        ):
            await loader.begin()
            await loader.load()


if __name__ == "__main__":
    asyncio.run(main(Settings(data=Path(sys.argv[1]), analytics="".join(sys.argv[2:]))))
