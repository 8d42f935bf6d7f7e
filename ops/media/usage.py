"""`signet media usage`: who has how much there."""

import asyncio
from typing import Final

import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Column, Table

from ops.media.reading import Reading, Whole, reading
from ops.options import DataOption, JsonOption
from ops.terminal import printable

_USAGE: Final = """
SELECT account, phase, shown, COUNT(*), SUM(size) FROM (
    SELECT account, phase, size, EXISTS (SELECT 1 FROM named WHERE named.media = media.media) AS shown FROM media
    WHERE phase IN ('reserved', 'stored', 'expired')
) AS used GROUP BY account, phase, shown
"""
_COLUMNS: Final = ("stored", "unnamed", "reserved", "expired")


class Amount(msgspec.Struct, kw_only=True):
    count: int = 0
    bytes: int = 0


class Used(msgspec.Struct, kw_only=True):
    """What one account has, or all."""

    stored: Amount = msgspec.field(default_factory=Amount)
    """It is there and stays. What has expired is among it where a message shows it all the same."""
    unnamed: Amount = msgspec.field(default_factory=Amount)
    """The part of the stored that no message names: it will expire."""
    reserved: Amount = msgspec.field(default_factory=Amount)
    """Announced; it may be there in part, or not at all."""
    expired: Amount = msgspec.field(default_factory=Amount)
    """It waits to be deleted."""

    @property
    def bytes(self) -> int:
        return self.stored.bytes + self.reserved.bytes + self.expired.bytes

    def add(self, phase: str, count: int, size: int, *, shown: bool) -> None:
        for amount in self._amounts(phase, shown=shown):
            amount.count += count
            amount.bytes += size

    def _amounts(self, phase: str, *, shown: bool) -> list[Amount]:
        if phase == "reserved":
            return [self.reserved]
        if phase == "expired" and not shown:
            return [self.expired]
        return [self.stored] if shown else [self.stored, self.unnamed]


class UsedBy(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str
    used: Used


class Report(msgspec.Struct, frozen=True, kw_only=True):
    accounts: list[UsedBy]
    """The largest first."""
    total: Used
    readmodel: Whole


def usage(data: DataOption = None, json: JsonOption = False) -> None:
    """Print how many media and bytes each account has, the largest first.

    **stored**: it is there; **unnamed** is the part of it that no message names, which expires after the setting
    `media_grace_s`. **reserved**: a device has announced it, and may be uploading it. **expired**: it waits to be
    deleted. Bytes are of ciphertext.

    Examples: `signet media usage` · `signet media usage --json`
    """
    with reading(data) as read:
        report = _report(read, asyncio.run(read.whole()))
    if json:
        print(msgspec.json.encode(report).decode())
        return
    if report.accounts:
        Console().print(_table(report))
    else:
        print("there are no media: nobody has uploaded any, or all are deleted")
    for doubt in report.readmodel.doubts():
        print(doubt)


def _report(read: Reading, whole: Whole) -> Report:
    by_account: dict[str, Used] = {}
    total = Used()
    for account, phase, shown, count, size in read.rows.query(_USAGE):
        for used in (by_account.setdefault(account, Used()), total):
            used.add(phase, count, int(size), shown=bool(shown))
    order = sorted(by_account, key=lambda account: (-by_account[account].bytes, account))
    names = read.names(order)
    return Report(
        accounts=[UsedBy(account=account, name=names[account], used=by_account[account]) for account in order],
        total=total,
        readmodel=whole,
    )


def _table(report: Report) -> Table:
    table = Table("account", "name", *(Column(name, justify="right") for name in _COLUMNS))
    for each in report.accounts:
        table.add_row(each.account[:8], escape(printable(each.name)), *_cells(each.used))
    table.add_section()
    table.add_row("", "all", *_cells(report.total))
    return table


def _cells(used: Used) -> list[str]:
    amounts: list[Amount] = [getattr(used, name) for name in _COLUMNS]
    return [f"{amount.count:,}: {decimal(amount.bytes)}" if amount.count else "–" for amount in amounts]
