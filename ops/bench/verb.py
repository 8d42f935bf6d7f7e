"""The verb itself: runs, their spread, and how they are shown."""

import asyncio
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from commands.stores import Store, store_of
from ops.bench.crypto import measure_crypto
from ops.bench.history import HistoryMeasured, measure_history
from ops.bench.load import BODY_BYTES, PEOPLE, WINDOW, Kind, Measured, measure
from ops.bench.media import MIB, measure_media
from ops.bench.store import StoreServer
from ops.engine import engine
from ops.errors import OpsError

BENCHES: Final[tuple[Kind, ...]] = ("double_tick", "direct")
_FIGURES: Final = ("cpu_us_per_message", "messages_per_s", "p50_ms", "p99_ms")
HISTORY: Final = "history"
CRYPTO: Final = "crypto"
MEDIA: Final = "media"
EVENTS: Final = 1_000_000
SECONDS: Final = 10.0
QUICK_SECONDS: Final = 3.0
UNBOUNDED: Final = dict.fromkeys(
    ("limit_commands_device", "limit_commands_account", "limit_receipts_device"), "100000/s burst 100000"
)
"""40 people send as fast as the engine takes it; each limit is looked at all the same."""


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="double_tick, direct, history, crypto, media [default: the first two]")
    ] = None,
    store: Annotated[Store, typer.Option(help="Where the events are kept; all but sqlite need --url")] = "sqlite",
    url: Annotated[str | None, typer.Option(help="The store's URL, as in SIGNET_EVENTS; it is filled")] = None,
    runs: Annotated[int, typer.Option(min=1, max=50, help="How often each is run, on a fresh engine")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One run of 3 s instead of 5 of 10 s")] = False,
    events: Annotated[int, typer.Option(min=10_000, help="For history: how long the log is")] = EVENTS,
    mib: Annotated[int, typer.Option(min=1, max=2_000, help="For media: how large the file is")] = MIB,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Measure what a message costs: the engine in a process of its own with everything on, load from this one.

    direct: a message goes from one person to another (sent, on disk, accepted, pushed). double_tick: the other one's
    device acknowledges it, and the sender gets its second tick. 40 people in 20 pairs, bodies of 200 bytes, 32 messages
    of each person under way at a time. CPU is that of all the engine's processes, per message. The limits on how much a
    device and an account may send are set too high to be met. A run that lost, doubled or reordered a message gives no
    figures, and the exit code is 1. The CPU of a store's server is told apart, where it runs on this machine.

    history: a log of --events events is written by the real writer, with a third of receipts; then every read model is
    rebuilt and compared, every row is checked, and an engine is started on it. It takes some minutes, once.

    crypto: what encryption costs a client, in this process, without an engine: messages encrypted and stored, received
    and stored, a conversation's key given to 100 devices.

    media: a file of --mib MiB of random bytes from one client to another, in turn with a plain PUT and GET of as many
    bytes at the same S3 server, the engine's own. How much memory client and engine grew by is from before the first
    file to the most that they took.

    Examples: `signet bench --quick` · `signet bench double_tick --runs 10 --json` · `signet bench media --mib 200` ·
    `signet bench --store postgres --url postgresql://signet:secret@127.0.0.1:5432/bench`
    """
    if names == [HISTORY]:
        _show_history(asyncio.run(measure_history(events)), json=json)
        return
    if names == [CRYPTO]:
        _show_crypto(measure_crypto(1 if quick else runs), json=json)
        return
    if names == [MEDIA]:
        _show_media(asyncio.run(measure_media(1 if quick else runs, mib)), json=json)
        return
    chosen = _chosen(names)
    place = place_of(store, url)
    results: dict[str, list[Measured]] = {}
    for name in chosen:
        results[name] = []
        for run in range(1 if quick else runs):
            print(f"bench: {name}, run {run + 1} …", file=sys.stderr, flush=True)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                results[name].append(runner.run(_run(name, QUICK_SECONDS if quick else SECONDS, place)))
    if json:
        print(msgspec.json.encode({name: summary(each) for name, each in results.items()}).decode())
    else:
        _show(results)


def _chosen(names: list[str] | None) -> list[Kind]:
    chosen = [known for known in BENCHES if not names or known in names]
    unknown = set(names or ()) - set(BENCHES)
    if unknown:
        raise OpsError(
            f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}, and by themselves "
            f"{HISTORY}, {CRYPTO} and {MEDIA}"
        )
    return chosen


def place_of(store: Store, url: str | None) -> str:
    """The URL of the events; empty for SQLite in the data folder."""
    if store == "sqlite":
        if url is not None:
            raise OpsError("sqlite needs no --url: each run has a data folder of its own")
        return ""
    if url is None or store_of(url) != store:
        scheme = {"postgres": "postgresql", "kurrentdb": "kurrentdb"}[store]
        raise OpsError(f"--store {store} needs --url {scheme}://…, a store that may be filled with messages")
    return url


def _show_history(measured: HistoryMeasured, *, json: bool) -> None:
    if json:
        print(msgspec.json.encode({HISTORY: measured}).decode())
        return
    rates = ", ".join(f"{name} {rate:,}" for name, rate in measured.rebuild_events_per_s.items())
    equal = "all equal" if measured.equal else "NOT ALL EQUAL"
    print(f"{measured.events:,} events, written {measured.written_per_s:,} a second")
    print(f"rebuilt, events a second: {rates}; all in {measured.rebuild_all_s:g} s, {equal}")
    print(f"every row checked in {measured.check_s:g} s; an engine serves after {measured.start_s:g} s")


def _with_spread(measured: dict[str, Any], name: str) -> str:
    low, high = measured["spread"][name]
    return f"{measured[name]:,g} ({low:,g} to {high:,g})"


def _show_crypto(measured: dict[str, Any], *, json: bool) -> None:
    if json:
        print(msgspec.json.encode(measured).decode())
        return
    figure = partial(_with_spread, measured)

    print(f"encrypted and stored: {figure('client_messages_per_s')} messages a second")
    print(f"received, decrypted and stored: {figure('received_messages_per_s')} messages a second")
    print(
        f"a key shared with 100 devices: {figure('share_100_devices_ms')} ms, {measured['share_100_devices_kb']:g} kB"
    )


def _show_media(measured: dict[str, Any], *, json: bool) -> None:
    if json:
        print(msgspec.json.encode(measured).decode())
        return
    figure = partial(_with_spread, measured)

    for way in ("upload", "download"):
        client, engine_ = measured[f"client_{way}_cpu_s_per_gb"], measured[f"engine_{way}_cpu_s_per_gb"]
        plain = figure(f"raw_{way}_mb_s")
        print(f"{way}: {figure(f'{way}_mb_s')} MB/s, {figure(f'{way}_ratio')} times the plain one's {plain}")
        print(f"  CPU seconds per GB: the client {client:g}, the engine with its S3 server {engine_:g}")
    grown = f"{measured['client_grown_mb']:g} MB in the client, {measured['engine_grown_mb']:g} in the engine"
    print(f"memory grew by {grown}; the S3 server took {measured['s3_peak_mb']:g} MB at most")


async def _run(name: Kind, seconds: float, place: str) -> Measured:
    with tempfile.TemporaryDirectory(prefix="signet-bench-") as folder:
        settings = {"log_level": "warning", "events": place, **UNBOUNDED}
        async with engine(Path(folder) / "data", settings) as running:
            return await measure(name, running, seconds=seconds, store=StoreServer.at(place) if place else None)


def summary(runs: list[Measured]) -> dict[str, Any]:
    """The medians, their spread, and every run."""
    stores = [run.store_us_per_message for run in runs if run.store_us_per_message is not None]
    return {
        **({"store_us_per_message": statistics.median(stores)} if stores else {}),
        **{figure: statistics.median(getattr(run, figure) for run in runs) for figure in _FIGURES},
        "spread": {
            figure: [min(getattr(run, figure) for run in runs), max(getattr(run, figure) for run in runs)]
            for figure in _FIGURES
        },
        "people": PEOPLE,
        "window": WINDOW,
        "body_bytes": BODY_BYTES,
        "runs": runs,
    }


def _show(results: dict[str, list[Measured]]) -> None:
    table = Table(title="Medians, with the lowest and the highest run")
    for column in ("", "CPU µs a message", "messages/s", "p50 ms", "p99 ms", "runs"):
        table.add_column(column, justify="right" if column else "left")
    for name, runs in results.items():
        figures = summary(runs)
        cells = [
            f"{figures[each]:g} ({figures['spread'][each][0]:g} to {figures['spread'][each][1]:g})" for each in _FIGURES
        ]
        if "store_us_per_message" in figures:
            cells[0] += f", store {figures['store_us_per_message']:g}"
        table.add_row(name, *cells, str(len(runs)))
    Console().print(table)
