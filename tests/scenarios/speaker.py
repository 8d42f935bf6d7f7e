"""A client in a process of its own, which says things as fast as it can until it is killed.

python -P -m tests.scenarios.speaker STORE CONVERSATION FIRST COUNT
"""

import asyncio
import sys
from pathlib import Path

from signet_client import Client


async def speak(store: Path, conversation: str, first: int, count: int) -> None:
    """Says the numbers from `first` on, and returns when all that is in the outbox is accepted."""
    async with Client.open(store, durable=False) as client:
        for number in range(first, first + count):
            client.post(conversation, str(number))
            # As people do: some while the client connects, some while keys are shared, some while others are sent.
            await asyncio.sleep(0)
        print("posted", flush=True)
        await client.until(lambda: not client.outbox())


if __name__ == "__main__":
    store, conversation, first, count = sys.argv[1:]
    asyncio.run(speak(Path(store), conversation, int(first), int(count)))
