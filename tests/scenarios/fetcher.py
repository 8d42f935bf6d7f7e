"""A client in a process of its own, which fetches the files of a conversation into a folder, by their seqs.

python -P -m tests.scenarios.fetcher STORE CONVERSATION SEQ FOLDER

Waits for the conversation up to SEQ; says by how much its memory has grown at the most, in bytes, since it held that.
"""

import asyncio
import sys
from pathlib import Path

from signet_client import Client
from tests.scenarios.courier import memory


async def fetch(store: Path, conversation: str, upto: int, folder: Path) -> None:
    async with Client.open(store, durable=False) as client:
        await client.held(conversation, upto)
        before = memory(field="VmRSS")
        for message in client.messages(conversation):
            if message.attachment is not None:
                await client.download(message, folder / str(message.seq))
        print(f"grown {memory() - before}", flush=True)


if __name__ == "__main__":
    store, conversation, upto, folder = sys.argv[1:]
    asyncio.run(fetch(Path(store), conversation, int(upto), Path(folder)))
