"""The write side of an engine without its edges: for verbs that put much into a log in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from commands.keyring import FileKeyring, KeyringError
from commands.lookup import StreamLookup
from commands.sealing import Sealer
from commands.stores import open_log
from commands.writer import Writer
from domain.log import START, EventLog, StoreError
from ops.clock import clock
from ops.datafolder import KEYRING, DataFolder
from ops.errors import OpsError
from ops.settings import Settings


@dataclass(frozen=True, kw_only=True)
class WriteSide:
    log: EventLog
    writer: Writer
    running: asyncio.Task[None]
    """The writer's run: it ends before its time only by an error."""
    keyring: FileKeyring
    sealer: Sealer


@asynccontextmanager
async def write_side(settings: Settings) -> AsyncIterator[WriteSide]:
    """Owns the data folder meanwhile, and makes what a new one lacks. At the end all that was submitted is answered.
    Raises OpsError."""
    async with AsyncExitStack() as stack:
        folder = DataFolder(settings.data)
        stack.callback(folder.close)
        folder.server(settings.server_name)
        try:
            log = open_log(settings.events_url)
            stack.push_async_callback(log.close)
            keyring = FileKeyring(settings.data / KEYRING, must_exist=await log.head() > START)
        except (StoreError, KeyringError) as error:
            raise OpsError(str(error)) from error
        stack.callback(keyring.close)
        # Nobody hears of it, so members don't make a batch any dearer.
        writer = Writer(
            log, lookup=StreamLookup(log), keyring=keyring, hand_over=None, clock=clock, hearers_max=2**31,
        )  # fmt: skip
        running = asyncio.create_task(writer.run())
        try:
            yield WriteSide(log=log, writer=writer, running=running, keyring=keyring, sealer=Sealer(keyring, clock))
        finally:
            writer.stop()
            await running
