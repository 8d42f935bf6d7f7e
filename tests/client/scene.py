"""One device before a fake server, and what it holds."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from signet_client import Client, Received
from signet_client.events import Event
from tests.client.fake import ME, PATIENCE_S, TALK, FakeServer

T = TypeVar("T")


def device(server: FakeServer, path: Path) -> Client:
    return Client.prepare(server.url, ME, path, device="phone", durable=False)


async def soon(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, PATIENCE_S)


def texts(client: Client) -> list[str | None]:
    return [message.text for message in client.messages(TALK)]


def seqs(heard: list[Event]) -> list[int]:
    return [event.item.seq for event in heard if isinstance(event, Received)]
