"""How a device that connects catches up without a gap: pages up to a position, then live.

    1 hold      the connection is in the hub, and from here on its pushes are held
    2 welcome   the read models show at least what was published before step 1: the conversations, with heads and marks;
                and the device's mail, which has the keys of what is in the pages
    3 pages     of each conversation what the device lacks up to its head, as the socket drains
    4 let go    `live`, then the held pushes that lie beyond the heads

An event is in the pages or among the held pushes, some are in both, none is in neither. What is held is bounded: at the
bound it is dropped, and there is another round from step 1 with the cursors that were reached.

A conversation of which events are parked gets no pages, and its pushes show the device that it has a hole there.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from domain.ids import AccountId, ConversationId, DeviceId, conversation_stream
from gateways.history import page_of
from gateways.items import overview_of
from gateways.services import Services
from projections.inbox import InboxRow
from signet_client import wire

PAGE_ITEMS: Final = 200

HELD_BYTES_MAX: Final = 1_048_576
"""How much one connection may hold while it resumes."""


class HeldPushes:
    """The pushes of a connection that is resuming."""

    __slots__ = ("_bytes", "_pushes", "overflowed")

    def __init__(self) -> None:
        self._pushes: list[tuple[ConversationId, int, bytes]] = []
        self._bytes = 0
        self.overflowed = False
        """Some were dropped: what is held is worth nothing."""

    def add(self, conversation: ConversationId, seq: int, data: bytes) -> None:
        if self.overflowed:
            return
        self._bytes += len(data)
        if self._bytes > HELD_BYTES_MAX:
            self.overflowed = True
            self._pushes.clear()
            return
        self._pushes.append((conversation, seq, data))

    def beyond(self, heads: Mapping[ConversationId, int]) -> Iterator[bytes]:
        """In order, those that the pages have not shown already; pushes that are no events all."""
        for conversation, seq, data in self._pushes:
            if not seq or seq > heads.get(conversation, 0):
                yield data


class Device(Protocol):
    """The connection that resumes: `Connection` in gateways/connection.py."""

    account: AccountId
    device: DeviceId

    def hold(self) -> HeldPushes:
        """From here on pushes go there."""
        ...

    async def welcome(self, frame: wire.Welcome) -> None:
        """Sends it, and the mail that waits; the device may send commands from now on."""
        ...

    async def show(self, page: wire.Page) -> None:
        """Sends it, and returns when the socket takes more."""
        ...

    def go_live(self, heads: Mapping[ConversationId, int]) -> None:
        """Sends `live`, then what is held beyond the heads; from here on pushes go to the socket."""
        ...


async def resume(
    services: Services, device: Device, cursors: Mapping[str, int], *, partial: bool = False, epoch: str = ""
) -> None:
    """`partial`: only the named conversations get pages; `epoch`: the one that the device knows. Raises
    Refusal(`unavailable`) where the read models don't come."""
    reached = dict(cursors)
    messages = services.runners["messages"]
    while True:
        # 1 hold
        held = device.hold()
        # 2 welcome
        await services.catch_up("inbox", "receipts", "attestations")
        rows = await services.inbox.conversations(device.account)
        kept = await _kept(services, epoch, rows)
        for conversation, seq in kept.items():
            reached[conversation] = min(reached.get(conversation, 0), seq)
        epoch = ""  # The next welcome has no more to say of it.
        await device.welcome(wire.Welcome(conversations=await _overviews(services, device, rows, kept)))
        # 3 pages
        rows = [row for row in rows if not messages.is_parked(conversation_stream(row.conversation))]
        for row in rows:
            if partial and row.conversation not in cursors:
                continue
            await _show_pages(services, device, row, after=max(0, reached.get(row.conversation, 0)))
            reached[row.conversation] = row.head
        # 4 let go
        if not held.overflowed:
            device.go_live({row.conversation: row.head for row in rows})
            return


async def _kept(services: Services, epoch: str, rows: list[InboxRow]) -> dict[str, int]:
    """Up to which seqs a device of an earlier epoch holds what the server holds, too; empty for any other."""
    if not epoch or epoch == services.epoch.id:
        return {}
    # What it was told has come to the inbox, so it is on its way to the messages.
    await services.catch_up("messages")
    kept: dict[str, int] = {}
    for row in rows:
        seq = await services.epoch.kept(epoch, services.messages, row.conversation)
        assert seq is not None
        kept[row.conversation] = seq
    return kept


async def _overviews(
    services: Services, device: Device, rows: list[InboxRow], kept: Mapping[str, int]
) -> list[wire.Overview]:
    ticks = await services.receipts.ticks_of(device.account)
    delivered = await services.receipts.delivered(device.account, device.device)
    return [
        overview_of(
            row,
            ticks.get(row.conversation),
            delivered=delivered.get(row.conversation, 0),
            kept=kept.get(row.conversation),
            sealer=services.sealer,
        )
        for row in rows
    ]


async def _show_pages(services: Services, device: Device, row: InboxRow, *, after: int) -> None:
    while after < row.head:
        page = await page_of(services, row, after=after, limit=PAGE_ITEMS)
        await device.show(page)
        after = page.upto
