"""`signet up`: run an engine until it is told to stop."""

import asyncio
import logging
import signal
import sys
from typing import Annotated

import msgspec
import typer
import uvloop

from ops.garbage import calm_garbage_collector
from ops.node import Node
from ops.options import DataOption
from ops.rebuilding.upgrade import upgrade
from ops.settings import Settings, load_settings


def up(
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Address to bind to [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 for a free one [default: 8700]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line when it serves")] = False,
) -> None:
    """Run the engine, all of it in one process. All is kept in the data folder, but what settings put elsewhere.
    Stops on Ctrl-C or SIGTERM.

    Settings come from these options, else from the environment (SIGNET_PORT=9000), else from `signet.toml` in the data
    folder (`port = 9000`).

    Examples: `signet up` · `signet up --data /tmp/try --port 0 --json`
    """
    settings = load_settings(data, host=host, port=port)
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("websockets").setLevel(logging.WARNING)  # it tells of every connection
    logging.getLogger("botocore").setLevel(max(logging.INFO, logging.getLogger().level))  # it tells signed addresses
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, json=json))


async def _serve(settings: Settings, *, json: bool) -> None:
    async with Node.open(settings) as node:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, node.stop)
        running = asyncio.create_task(node.run())
        up = asyncio.create_task(node.started())
        await asyncio.wait([running, up], return_when=asyncio.FIRST_COMPLETED)
        if up.done():
            calm_garbage_collector()
            _announce(node.url, settings, json=json)
        up.cancel()
        upgrading = asyncio.create_task(upgrade(settings))
        try:
            await running
        finally:
            upgrading.cancel()
            await asyncio.wait([upgrading])


def _announce(url: str, settings: Settings, *, json: bool) -> None:
    if json:
        print(msgspec.json.encode({"url": url, "data": str(settings.data)}).decode(), flush=True)
        return
    print(f"Signet serves at {url}  (data in {settings.data})", flush=True)
    print("Try it with two people: ./signet chat alice   and, in another terminal,   ./signet chat bob", flush=True)
