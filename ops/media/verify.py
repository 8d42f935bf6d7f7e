"""`signet media verify`: is everything there that the log says is stored."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from rich.filesize import decimal
from rich.progress import Progress

from commands.stores import open_log
from gateways.media.objects import ObjectStore
from gateways.media.place import Place
from ops.datafolder import MEDIA
from ops.media.reading import Reading, Whole, reading
from ops.media.verifier import NAMED_MAX, Fault, Folder, Objects, Stray, Verifier
from ops.options import DataOption, JsonOption
from ops.progress import progress_bar
from ops.rclone import BUCKET
from ops.settings import Settings
from ops.terminal import printable

SHOWN_MAX: Final = 20
"""How many faults, and how many strays, are printed."""
MESSAGES_MAX: Final = 5
"""How many messages a line names."""

_WRONG: Final = {
    "missing": "is missing",
    "wrong_size": "has another size",
    "wrong_digest": "has other bytes, by its SHA-256",
}

_MENDING: Final = (
    "  To mend it, bring the objects back from a backup of the bucket, as objects/<its first two digits>/<media id>.",
    "  If they lie in the data folder, start the engine anew then: its media server remembers what was there. Without",
    "  a backup, who has sent a file must send it again: the engine has no key to make it anew.",
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    place: str
    """Where it was looked."""
    looked: int
    bytes: int
    """Of all that was looked at, as the log says."""
    read: bool
    """Whether the bytes were read, and not only counted."""
    wrong: int
    strays: int
    strays_bytes: int
    faults: list[Fault]
    stray_objects: list[Stray]
    readmodel: Whole


def verify(
    data: DataOption = None,
    read: Annotated[bool, typer.Option("--read", help="Read all bytes, and compare their SHA-256")] = False,
    json: JsonOption = False,
) -> None:
    """Look whether the object store has what the log says is stored: each object, with its size.

    What is missing or wrong is named: media, account, and the messages that show it, by conversation and seq. Told are
    also strays: objects that no log knows of. It changes nothing, works beside the running engine, and has no quarrel
    with what is uploaded or deleted meanwhile. Settings must be the engine's: they say where its media are. Exit code
    1: something is missing or wrong.

    Examples: `signet media verify` · `signet media verify --read --json`
    """
    with reading(data) as opened, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(_verify(opened, read=read))
        names = opened.names(sorted({fault.account for fault in report.faults}))
    print(msgspec.json.encode(report).decode() if json else "\n".join(_lines(report, names)))
    if report.wrong:
        raise typer.Exit(1)


async def _verify(opened: Reading, *, read: bool) -> Report:
    settings = opened.settings
    whole = await opened.whole()
    log = open_log(settings.events_url, read_only=True)
    try:
        async with _objects(settings) as objects:
            with progress_bar("MB" if read else "objects") as bar:
                moved = _Moved(bar, in_bytes=read)
                verifier = Verifier(rows=opened.rows, log=log, objects=objects, read=read, moved=moved)
                moved.begin(*verifier.count())
                await verifier.run()
    finally:
        await log.close()
    return Report(
        place=settings.media_shown,
        looked=verifier.looked,
        bytes=verifier.bytes,
        read=read,
        wrong=verifier.wrong,
        strays=verifier.strays,
        strays_bytes=verifier.strays_bytes,
        faults=verifier.faults,
        stray_objects=verifier.stray_objects,
        readmodel=whole,
    )


@asynccontextmanager
async def _objects(settings: Settings) -> AsyncIterator[Objects]:
    """Raises ObjectsUnavailable."""
    if not settings.media:
        yield Folder(settings.data / MEDIA / BUCKET)
        return
    store = ObjectStore(Place.parse(settings.media))
    try:
        await store.open(make=False)
        yield store
    finally:
        await store.close()


class _Moved:
    """Draws how far it is."""

    def __init__(self, bar: Progress, *, in_bytes: bool) -> None:
        self._bar = bar
        self._in_bytes = in_bytes
        self._done = 0

    def begin(self, count: int, size: int) -> None:
        self._task = self._bar.add_task("verify", total=size if self._in_bytes else count, done=0)

    def __call__(self, size: int) -> None:
        self._done += size if self._in_bytes else 1
        shown = self._done / 1e6 if self._in_bytes else self._done
        self._bar.update(self._task, completed=self._done, done=shown)


# Words


def _lines(report: Report, names: dict[str, str]) -> Iterator[str]:
    how = "read" if report.read else "looked at"
    good = "all as the log says" if not report.wrong else f"{report.wrong:,} MISSING OR WRONG"
    yield f"{report.place}: {report.looked:,} media of {decimal(report.bytes)} {how}, {good}"
    for fault in report.faults[:SHOWN_MAX]:
        yield from _fault_lines(fault, names[fault.account])
    if report.wrong > SHOWN_MAX:
        yield f"  and {report.wrong - SHOWN_MAX:,} more (--json names up to {NAMED_MAX:,})"
    if report.wrong:
        yield from _remedy(report)
    if report.strays:
        yield from _stray_lines(report)
    yield from report.readmodel.doubts()


def _fault_lines(fault: Fault, name: str) -> Iterator[str]:
    found = f", {fault.found:,} were found" if fault.fault == "wrong_size" else ""
    yield f"  {fault.media} {_WRONG[fault.fault]}: {fault.kind} of {fault.size:,} bytes{found}"
    yield f"    of {printable(name)}, account {fault.account}"
    for message in fault.named[:MESSAGES_MAX]:
        yield f"    shown by conversation {message.conversation} seq {message.seq}"
    if len(fault.named) > MESSAGES_MAX:
        yield f"    and by {len(fault.named) - MESSAGES_MAX:,} more messages"
    if not fault.named:
        yield "    shown by no message"


def _remedy(report: Report) -> Iterator[str]:
    if report.wrong == report.looked and all(fault.fault == "missing" for fault in report.faults):
        yield "  None of them is there: does the engine have its media elsewhere (setting media, SIGNET_MEDIA)?"
    yield from _MENDING


def _stray_lines(report: Report) -> Iterator[str]:
    yield f"strays: {report.strays:,} objects of {decimal(report.strays_bytes)}, of which no event tells:"
    for stray in report.stray_objects[:SHOWN_MAX]:
        yield f"  {stray.media}, {stray.size:,} bytes"
    if report.strays > SHOWN_MAX:
        yield f"  and {report.strays - SHOWN_MAX:,} more (--json names up to {NAMED_MAX:,})"
    yield "  They take room and do no other harm: delete them. After a restore keep them for a while, for devices send"
    yield "  again what the backup lacks."
