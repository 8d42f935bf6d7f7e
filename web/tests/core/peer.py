"""A device of the Python client, driven over stdin and stdout: one JSON object a line, each answered by one.

register url name | direct account | group title accounts | add conversation accounts | remove conversation account
post conversation text | retract conversation seq | texts conversation | tick conversation seq | read conversation
withhold (the next keys get lost)
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "client")]

from signet_client import Client  # noqa: E402


class Peer:
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    async def register(self, url: str, name: str) -> str:
        self._client = await Client.register(url, name, Path(self._folder) / "peer.db")
        await self._client.__aenter__()
        await self._client.caught_up()
        return self._client.account

    async def direct(self, account: str) -> str:
        return await self.client.start_direct(account)

    async def group(self, title: str, accounts: list[str]) -> str:
        return await self.client.start_group(accounts, title=title)

    async def post(self, conversation: str, text: str) -> int:
        return (await self.client.send(conversation, text)).seq

    async def withhold(self) -> None:
        machine = self.client._machine
        post = machine.post

        def lose(contents: Any, type_: str = "") -> None:
            machine.post = post  # type: ignore[method-assign]

        machine.post = lose  # type: ignore[method-assign]

    async def texts(self, conversation: str) -> list[Any]:
        """A message that can't be read says why instead."""
        return [each.text or each.undecryptable or "retracted" for each in self.client.messages(conversation)]

    async def add(self, conversation: str, accounts: list[str]) -> None:
        await self.client.add(conversation, accounts)

    async def remove(self, conversation: str, account: str) -> None:
        await self.client.remove(conversation, account)

    async def retract(self, conversation: str, seq: int) -> None:
        await self.client.retract(conversation, seq)

    async def read(self, conversation: str) -> None:
        self.client.read(conversation, self.client.marks(conversation).cursor)

    async def tick(self, conversation: str, seq: int) -> str:
        return self.client.ticks_of(conversation, seq)


async def main() -> None:
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(folder)
        while line := await lines.readline():
            name, *arguments = json.loads(line)
            try:
                answer: dict[str, Any] = {"answer": await getattr(peer, name)(*arguments)}
            except Exception as error:
                answer = {"error": repr(error)}
            print(json.dumps(answer), flush=True)


asyncio.run(main())
