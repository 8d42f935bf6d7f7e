"""Five people with eight devices between them, each behind a proxy of its own, for many groups one after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self

from domain.codec import Event
from domain.receipts import ReceiptsAdvanced
from ops.node import Node
from signet_client import Client
from tests.proxy import Proxy
from tests.scenarios.group import Marks
from tests.scenarios.stage import following, register

OWNERS: Final = (0, 0, 1, 1, 2, 2, 3, 4)
"""To which of the accounts each of the devices belongs."""
PEOPLE: Final = len(set(OWNERS))


class Device:
    """It is open or closed; its store outlives both."""

    def __init__(self, client: Client, path: Path, proxy: Proxy, hear: Callable[[], None]) -> None:
        self.client = client
        self.proxy = proxy
        self.is_open = False
        self.at_work = asyncio.Lock()
        """It does one thing after the other, but for sending: it closes when it has its answer."""
        self._path = path
        self._hear = hear

    @property
    def account(self) -> str:
        return self.client.account

    @property
    def key(self) -> tuple[str, str]:
        return self.client.account, self.client.device

    async def open(self) -> None:
        async with self.at_work:
            if not self.is_open:
                self.is_open = True
                self.client.listen(lambda _: self._hear())
                await self.client.__aenter__()

    async def close(self) -> None:
        async with self.at_work:
            if self.is_open:
                self.is_open = False
                await self.client.close()
                # A client runs once: this is the one that runs next, and shows till then what is in the store.
                self.client = Client.open(self._path, durable=False)

    async def shut(self) -> None:
        await self.client.close()


class Cast:
    def __init__(self, patience_s: float) -> None:
        self.devices: list[Device] = []
        self.people: list[str] = []
        self.receipts: dict[str, dict[tuple[str, str], Marks]] = {}
        """What the log has: conversation → account and device → marks."""
        self.patience_s = patience_s
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def gather(cls, node: Node, folder: Path, *, patience_s: float) -> AsyncIterator[Self]:
        folder.mkdir()  # noqa: ASYNC240 - a test may
        cast = cls(patience_s)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(following(node.log, cast._follow))
            for number, owner in enumerate(OWNERS):
                proxy = await stack.enter_async_context(Proxy.to(int(node.url.rpartition(":")[2])))
                device = await cast._join(owner, f"device-{number}", folder, proxy)
                stack.push_async_callback(device.shut)
            yield cast

    async def _join(self, owner: int, name: str, folder: Path, proxy: Proxy) -> Device:
        if owner == len(self.people):
            client = await register(proxy.url, name, folder)
            self.people.append(client.account)
        else:
            account, path = self.people[owner], folder / f"{name}.db"
            client = Client.prepare(proxy.url, account, path, durable=False)
            first = next(device for device in self.devices if device.account == account)
            await first.client.link_device(client.device, client.key)
        device = Device(client, folder / f"{name}.db", proxy, self._news.set)
        self.devices.append(device)
        return device

    def of(self, account: str) -> list[Device]:
        return [device for device in self.devices if device.account == account]

    def marks(self, conversation: str) -> dict[str, Marks]:
        """How far each account is, by its receipts in the log."""
        marks: dict[str, Marks] = {}
        for (account, _), each in self.receipts.get(conversation, {}).items():
            best = marks.get(account, Marks())
            marks[account] = Marks(max(best.delivered, each.delivered), max(best.read, each.read))
        return marks

    async def settle(self, lacks: Callable[[], Sequence[object]]) -> None:
        """Returns when nothing is lacking; it is looked at whenever a device or the log has news."""
        try:
            async with asyncio.timeout(self.patience_s):
                while lacks():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {lacks()}") from None

    def _follow(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event.entry.e, ReceiptsAdvanced):
                marks = self.receipts.setdefault(event.stream.removeprefix("receipts-"), {})
                for receipt in event.entry.e.receipts:
                    before = marks.get((receipt.account, receipt.device), Marks())
                    # They may only grow (I6), whatever the log says.
                    assert receipt.delivered >= before.delivered
                    assert receipt.read >= before.read
                    marks[receipt.account, receipt.device] = Marks(receipt.delivered, receipt.read)
        self._news.set()
