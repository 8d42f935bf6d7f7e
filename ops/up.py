"""`signet up`: run an engine until it is told to stop."""

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated

import msgspec
import typer
import uvloop

from ops.demo.demo import Demo, Link
from ops.garbage import calm_garbage_collector
from ops.node import Node
from ops.options import DataOption
from ops.rebuilding.upgrade import upgrade
from ops.settings import Settings, load_settings


def up(
    data: DataOption = None,
    host: Annotated[str | None, typer.Option(help="Address to bind to [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 for a free one [default: 8700]")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="With people who have talked already, and two links to log in as two of them")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line when it serves")] = False,
) -> None:
    """Run the engine, all of it in one process. All is kept in the data folder, but what settings put elsewhere.
    Stops on Ctrl-C or SIGTERM.

    Settings come from these options, else from the environment (SIGNET_PORT=9000), else from `signet.toml` in the data
    folder (`port = 9000`).

    `--demo` plays a part of a real day of #ubuntu into an empty data folder, end-to-end encrypted, and prints two
    log-in links: open one in a window of your browser and the other in a private one, and chat. Each works once, and
    until the engine stops; the next `signet up --demo` on the folder prints fresh ones.

    Examples: `signet up` · `signet up --demo` · `signet up --data /tmp/try --port 0 --json`
    """
    settings = load_settings(data, host=host, port=port)
    logging.basicConfig(
        level=settings.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("websockets").setLevel(logging.WARNING)  # it tells of every connection
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request of the demo's people
    logging.getLogger("botocore").setLevel(max(logging.INFO, logging.getLogger().level))  # it tells signed addresses
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, Demo(settings) if demo else None, json=json))


async def _serve(settings: Settings, demo: Demo | None, *, json: bool) -> None:
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Node.open(settings, more=demo.router if demo else None))
        if demo is not None:
            await demo.check(node.log)
            await stack.enter_async_context(demo)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, node.stop)
        running = asyncio.create_task(node.run())
        beginning = asyncio.create_task(_begin(node, settings, demo, json=json))
        upgrading = asyncio.create_task(_upgrade_after(beginning, settings))
        await asyncio.wait([running, beginning], return_when=asyncio.FIRST_COMPLETED)
        if beginning.done() and beginning.exception():
            node.stop()
        try:
            await running
            if beginning.done():
                beginning.result()
        finally:
            for task in (beginning, upgrading):
                task.cancel()
            await asyncio.wait([beginning, upgrading])


async def _begin(node: Node, settings: Settings, demo: Demo | None, *, json: bool) -> None:
    await node.started()
    calm_garbage_collector()
    links = await demo.begin(node.url) if demo is not None else []
    _announce(node.url, settings, links, json=json)


async def _upgrade_after(beginning: asyncio.Task[None], settings: Settings) -> None:
    await asyncio.wait([beginning])
    await upgrade(settings)


def _announce(url: str, settings: Settings, links: Sequence[Link], *, json: bool) -> None:
    if json:
        announced: dict[str, object] = {"url": url, "data": str(settings.data)}
        if links:
            announced["links"] = links
        print(msgspec.json.encode(announced).decode(), flush=True)
        return
    print(f"Signet serves at {url}  (data in {settings.data})", flush=True)
    if not links:
        print("Try it with two people: ./signet chat alice   and, in another terminal,   ./signet chat bob", flush=True)
        return
    print("Log in as two people, one in a window of your browser, the other in a private one:", flush=True)
    for link in links:
        print(f"  {link.name:10} {link.url}", flush=True)
    print("Each link works once. For fresh ones start it again.", flush=True)
