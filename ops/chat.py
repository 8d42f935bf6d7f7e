"""`signet chat`: talk in a terminal."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated

import typer

from ops.chatting.addresses import Addresses
from ops.chatting.screen import Screen
from ops.chatting.talk import Talk
from ops.datafolder import running_url
from ops.errors import OpsError
from ops.options import DataOption
from ops.settings import data_folder
from signet_client import SignetError


def chat(
    name: Annotated[str, typer.Argument(help="Who you are: made at the first start, remembered afterwards")],
    to: Annotated[str | None, typer.Option(help="Whom to talk to: a name on this machine, or an address")] = None,
    data: DataOption = None,
    url: Annotated[str | None, typer.Option(help="The engine, where it isn't that of --data")] = None,
    invitation: Annotated[str | None, typer.Option(help="Its code, where the engine asks for one")] = None,
) -> None:
    """Chat in the terminal, to try the engine with two people on one machine.

    ✓ the engine has your message on disk; ✓✓ it has reached everybody; ✓✓ read: everybody has seen it. What comes
    while you are away comes when you are back, once and in order; kill it as hard as you like. `/help` lists what can
    be typed.

    Examples: `signet chat alice`, and in another terminal `signet chat bob --to alice`
    """
    folder = data_folder(data)
    try:
        asyncio.run(_chat(name, to, folder, url or running_url(folder), invitation))
    except SignetError as error:
        raise OpsError(str(error)) from error


async def _chat(name: str, to: str | None, folder: Path, url: str, invitation: str | None) -> None:
    addresses, screen = Addresses(folder), Screen()
    client = await addresses.client(name, url, invitation=invitation)
    talk = Talk(client, addresses, screen)
    async with client:
        screen.notice(f"you are {name}; /help lists what can be typed")
        await talk.begin(to)
        showing = asyncio.create_task(talk.show_events())
        typing = asyncio.create_task(_type(talk))
        try:
            done, _ = await asyncio.wait([showing, typing], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (showing, typing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OpsError):
                    await task
            await talk.close()


async def _type(talk: Talk) -> None:
    async for line in _lines():
        if not await talk.obey(line):
            return


async def _lines() -> AsyncIterator[str]:
    """What is typed, line by line."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def deliver(line: str | None) -> None:
        with contextlib.suppress(RuntimeError):  # the chat is over, and its loop closed
            loop.call_soon_threadsafe(lines.put_nowait, line)

    # A thread, since a terminal that doesn't block wouldn't block for what is printed either: it is one file. A daemon
    # that reads the bare file, since it hangs there when the chat ends and nothing must wait for it.
    threading.Thread(target=_read_lines, args=(sys.stdin.fileno(), deliver), daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line


def _read_lines(file: int, deliver: Callable[[str | None], None]) -> None:
    rest = b""
    while data := os.read(file, 65_536):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            deliver(line.decode(errors="replace").rstrip("\r"))
    if rest:
        deliver(rest.decode(errors="replace"))
    deliver(None)
