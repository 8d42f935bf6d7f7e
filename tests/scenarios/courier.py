"""A client in a process of its own, which sends files until it is killed.

python -P -m tests.scenarios.courier STORE CONVERSATION FOLDER NUMBER…

Sends the file of each number, says `posted NUMBER` when it is in the store, and ends when all that waits is accepted;
then it says by how much its memory has grown at the most since it was connected, in bytes.
"""

import asyncio
import random
import sys
from pathlib import Path
from typing import Final

from signet_client import Client

SIZE_MAX: Final = 6_000_000


def content(number: int) -> bytes:
    """The file of this number."""
    chance = random.Random(number)
    return chance.randbytes(chance.choice((0, 1, 70_000, chance.randrange(SIZE_MAX))))


def memory(pid: int | str = "self", field: str = "VmHWM") -> int:
    """Of a process, in bytes: the most that it ever had, or VmRSS."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1_024
    raise ValueError(field)


async def carry(store: Path, conversation: str, folder: Path, numbers: list[int]) -> None:
    async with Client.open(store, durable=False) as client:
        await client.caught_up()
        before = memory(field="VmRSS")
        for number in numbers:
            path = folder / str(number)
            if not path.exists():
                path.write_bytes(content(number))
            await client.post_file(conversation, path)
            print(f"posted {number}", flush=True)
        await client.until(lambda: not client.uploads() and not client.outbox())
        print(f"grown {memory() - before}", flush=True)


if __name__ == "__main__":
    store, conversation, folder, *numbers = sys.argv[1:]
    asyncio.run(carry(Path(store), conversation, Path(folder), [int(number) for number in numbers]))
