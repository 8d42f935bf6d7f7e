"""What every device that is open shows of a group, and what the server says of it, against what must be."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, get_args

from signet_client import Change, Message
from tests.scenarios.cast import Cast, Device
from tests.scenarios.group import Group, Marks, Tick

_TICKS: Final[tuple[Tick, ...]] = get_args(Tick)


async def check_shown(cast: Cast, talk: str, groups: Sequence[Group]) -> None:
    """Waits until all that is under way has come, then compares. `groups`: after each seq, all that there are; nobody
    asks for anything meanwhile."""
    look = _Look(cast, talk, groups)
    await asyncio.gather(*map(look.hold, look.inside))
    await cast.settle(lambda: [each for device in look.inside for each in look.lacks(device)])
    for device in look.devices:
        look.check_items(device)
        look.check_stored(device)
    accounts = {device.account for device in look.devices}
    await asyncio.gather(*map(look.check_members, look.inside), *map(look.check_overview, accounts))


class _Look:
    def __init__(self, cast: Cast, talk: str, groups: Sequence[Group]) -> None:
        self._cast = cast
        self._talk = talk
        self._groups = groups
        self._group = groups[-1]
        self.devices = [device for device in cast.devices if device.is_open]
        self.inside = [device for device in self.devices if device.account in self._group.sees]

    async def hold(self, device: Device) -> None:
        """Returns when the device holds all that it may see, and knows what the group is called."""
        client, talk = device.client, self._talk
        end, title = self._group.end(device.account), self._group.title(device.account)
        try:
            async with asyncio.timeout(self._cast.patience_s):
                await client.held(talk, end)
                await client.until(lambda: _title(device, talk) == title)
        except TimeoutError:
            shown = client.marks(talk), client.conversation(talk)
            raise AssertionError(f"{device.key} does not come to {end} and {title}: {shown}") from None

    def lacks(self, device: Device) -> Iterator[tuple[object, ...]]:
        """Of acknowledgements, read marks and ticks, what is to come yet."""
        group, account, talk = self._group, device.account, self._talk
        marks, shown = self._cast.marks(talk), device.client.marks(talk)
        due = max(group.of_others(account), default=0)
        if self._stated(device).delivered < due:
            yield device.key, "acknowledges", due
        if shown.read != (read := marks.get(account, Marks()).read):
            yield device.key, "has read", shown.read, "in the log", read
        for seq, tick in group.ticks(account, marks).items():
            if not self._is_tick(device, seq, tick):
                yield device.key, "shows at", seq, device.client.ticks_of(talk, seq), "is", tick

    def _stated(self, device: Device) -> Marks:
        """The receipts of a device, in the log."""
        return self._cast.receipts.get(self._talk, {}).get(device.key, Marks())

    def _is_tick(self, device: Device, seq: int, tick: Tick) -> bool:
        shown = device.client.ticks_of(self._talk, seq)
        if device.account in self._group.roles:
            return shown == tick
        # Whoever has left hears of no further ticks until it connects again.
        return _TICKS.index(shown) <= _TICKS.index(tick)

    def check_items(self, device: Device) -> None:
        """I3, I4, I8: messages and changes, in order, without a hole, and nothing that is not for the account."""
        items = [_shown(item) for item in device.client.history(self._talk)]
        if device.account not in self._group.sees:
            assert items == [], device.key
            assert device.client.conversation(self._talk) is None
        else:
            assert items == list(self._due(device.account)), device.key

    def _due(self, account: str) -> Iterator[tuple[object, ...]]:
        for seq in sorted(self._group.sees[account]):
            deed, retraction = self._group.deed(seq), self._group.retraction(account, seq)
            if deed.what == "message":
                yield seq, "message", deed.by, deed.text if retraction is None else None, retraction
            else:
                yield seq, deed.what, deed.by, deed.whom or None, deed.text or None, deed.target or None

    def check_stored(self, device: Device) -> None:
        """I5: delivered means stored."""
        assert self._stated(device).delivered <= device.client.marks(self._talk).cursor, device.key

    async def check_members(self, device: Device) -> None:
        """I8"""
        client, account = device.client, device.account
        roles = self._groups[self._group.end(account) - 1].roles
        # After the account has come in, the device doesn't know them, until it has asked.
        assert client.known_members(self._talk) in ({}, roles), device.key
        if account in self._group.roles:
            assert await client.members(self._talk) == roles, device.key

    async def check_overview(self, account: str) -> None:
        """I7, I8: what the server says to an account."""
        group = self._group
        client = next(device.client for device in self.devices if device.account == account)
        shown = {each.c: each for each in await client.overviews()}.get(self._talk)
        if account not in group.sees:
            assert shown is None, account
            return
        assert shown is not None, account
        read = self._cast.marks(self._talk).get(account, Marks()).read
        assert (shown.head, shown.role, shown.title, shown.read, shown.unread) == (
            group.end(account), group.roles.get(account), group.title(account), read, group.unread(account, read)
        ), account  # fmt: skip


def _title(device: Device, talk: str) -> str | None:
    known = device.client.conversation(talk)
    return known.title if known is not None else None


def _shown(item: Message | Change) -> tuple[object, ...]:
    if isinstance(item, Message):
        return item.seq, "message", item.sender, item.text, item.retracted
    whom = None if item.what == "left" else tuple(item.accounts) or None
    return item.seq, item.what, item.by, whom, item.title, item.target
