"""An engine in a process of its own with failpoints in it, and short timeouts; orders come by its standard input.

python -m tests.scenarios.failing up --data DIR --port N --json
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from gateways import websocket
from ops import cli
from ops.engine import EngineProcess, engine
from tests.scenarios.failpoints import Action, Failpoints, Order, Point
from tests.scenarios.stage import UNBOUNDED, WAIT_S

TIMEOUTS: Final = partial(websocket.Timeouts, hello=3, ping=(1.0, 1.5), slow=3, close=1, tick=0.1)


class FailingEngine:
    def __init__(self, running: EngineProcess) -> None:
        self.url = running.url
        self.process = running.process

    async def happens(self, action: Action, point: Point, *, hit: int) -> None:
        """Returns when it has happened; after a kill, when the process is gone."""
        async with self.about_to(action, point, hit=hit):
            pass

    @asynccontextmanager
    async def about_to(self, action: Action, point: Point, *, hit: int) -> AsyncIterator[None]:
        """The order stands when the body begins; at its end it has happened."""
        assert self.process.stdin is not None
        order = Order(point=point, action=action, hit=hit)
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        await self._told(order)
        yield
        await self._told(order)
        if action is Action.KILL:
            await asyncio.wait_for(self.process.wait(), WAIT_S)

    async def _told(self, order: Order) -> None:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), WAIT_S)
        assert msgspec.json.decode(line, type=Order) == order


@asynccontextmanager
async def failing_engine(data: Path, *, port: int = 0) -> AsyncIterator[FailingEngine]:
    async with engine(data, {"log_level": "error", **UNBOUNDED}, port=port, module=__name__) as running:
        yield FailingEngine(running)


def listen(failpoints: Failpoints) -> None:
    for line in sys.stdin:
        failpoints.take(msgspec.json.decode(line, type=Order))


def tell(order: Order) -> None:
    os.write(sys.stdout.fileno(), msgspec.json.encode(order) + b"\n")


def main() -> None:
    failpoints = Failpoints(tell)
    failpoints.arm()
    setattr(websocket, "Timeouts", TIMEOUTS)  # noqa: B010 - a name of a type
    threading.Thread(target=listen, args=[failpoints], daemon=True).start()
    cli.main()


if __name__ == "__main__":
    main()
