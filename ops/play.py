"""`signet play irc`: a day of real chat through real client connections."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ops.datafolder import running_url
from ops.engine import engine
from ops.errors import OpsError
from ops.playing.crowd import Crowd, allow_files
from ops.playing.figures import Figures, figures, strays
from ops.playing.journal import Journal
from ops.playing.plan import Plan, read_plan
from ops.playing.player import Player
from signet_client import SignetError
from signet_client.wire import Protection

SPEED: Final = 20.0
_SHARED_MEMORY: Final = Path("/dev/shm")

app = typer.Typer(help="Play real chat through real client connections.", no_args_is_help=True)


@app.callback()
def play() -> None:
    """Play real chat through real client connections."""


@app.command()
def irc(
    files: Annotated[
        list[Path], typer.Argument(exists=True, dir_okay=False, help="Raw logs of one channel, in their order")
    ],
    speed: Annotated[float, typer.Option(min=0, help="Messages a second; 0: as fast as it goes")] = SPEED,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="End to end: the engine can't read a word")] = False,
    journal: Annotated[
        Path | None, typer.Option(help="Folder for what each client stored and which ticks it saw, as JSON lines")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
    data: Annotated[Path | None, typer.Option(help="Play on the engine that runs on this data folder")] = None,
    url: Annotated[str | None, typer.Option(help="Play on the engine at this URL")] = None,
) -> None:
    """Play the logs of an IRC channel, as Ubuntu's are: each nick is a client that sends, acknowledges and reads.

    A person is in the channel from its join, or its first line, until "has left"; a rename keeps the account; actions
    are messages. Without --data or --url it starts an engine of its own, and removes it afterwards. Exit code 0: every
    client has every message of its time once, in order, and every sender its ticks. A delivery is a message stored by
    another client than its sender's; p50 and p99 are the times from sending to that.

    Examples: `signet play irc tests/data/ubuntu-irc/2005-02-08.train-a.raw.txt --speed 0` ·
    `signet play irc day.raw.txt --encrypted --journal /tmp/journal --json`
    """
    plan = read_plan(files)
    allow_files(len(plan.names))
    try:
        with Journal(journal) as written, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result, failures = runner.run(_play(plan, written, speed=speed, data=data, url=url, encrypted=encrypted))
    except SignetError as error:
        raise OpsError(f"a client failed: {error}") from error
    print(msgspec.json.encode(result).decode() if json else _table(result))
    for failure in failures:
        print(f"signet: {failure}", file=sys.stderr)
    if failures or not result.flawless:
        raise typer.Exit(1)


async def _play(
    plan: Plan, journal: Journal, *, speed: float, data: Path | None, url: str | None, encrypted: bool
) -> tuple[Figures, list[str]]:
    with (
        tempfile.TemporaryDirectory(prefix="signet-play-") as temporary,
        tempfile.TemporaryDirectory(prefix="signet-play-", dir=_memory()) as stores,
        _progress() as progress,
    ):
        async with (
            _engine(plan, Path(temporary), data, url) as where,
            Crowd(where, Path(stores), journal) as crowd,
        ):
            arriving = progress.add_task("clients", total=len(plan.names))
            protection: Protection = "end_to_end" if encrypted else "none"
            await crowd.arrive(plan.names, lambda: progress.advance(arriving), protection=protection)
            playing = progress.add_task("messages", total=plan.messages)
            player = Player(crowd, interval_s=1 / speed if speed else 0.0, on_message=lambda: progress.advance(playing))
            failures = await _play_through(player, plan)
            if stray := strays(player, crowd):
                failures.append(f"{stray} messages came to clients whose persons were not in the channel")
            if crowd.forged:
                failures.append(f"{len(crowd.forged)} things were not what they should be, first: {crowd.forged[0]}")
            crowd.write_ticks()
            return figures(plan, player, crowd), failures


async def _play_through(player: Player, plan: Plan) -> list[str]:
    """What went wrong: the journal and the figures of a play that broke off are worth having too."""
    try:
        await player.play(plan.steps)
        await player.settle()
    except (OpsError, SignetError) as error:
        return [f"the play broke off after {len(player.accepted)} messages: {error}"]
    return []


@asynccontextmanager
async def _engine(plan: Plan, folder: Path, data: Path | None, url: str | None) -> AsyncIterator[str]:
    if data is not None and url is not None:
        raise OpsError("--data and --url both say which engine is meant; give one of them")
    if data is not None or url is not None:
        yield url or running_url((data or Path()).expanduser().absolute())
        return
    # All who are in at the same time, and the channel's owner.
    members_max = max(plan.members_max + 1, 2)
    settings = {
        "log_level": "warning",
        "group_members_max": str(members_max),
        # The channel's owner lets everybody in, as fast as the day is played.
        **dict.fromkeys(("limit_commands_device", "limit_commands_account"), "1000/s burst 10000"),
    }
    async with engine(folder / "engine", settings) as running:
        yield running.url


def _memory() -> str | None:
    """A file system in memory for the clients' stores, where there is one: hundreds of devices have hundreds of disks,
    and this machine has one, which the engine needs."""
    return str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK) else None


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4)


def _table(result: Figures) -> str:
    skipped = ", ".join(f"{count} {reason}" for reason, count in result.skipped.items()) or "none"
    return "\n".join(
        (
            f"{result.messages} messages in {result.lines} lines by {result.clients} clients; lines skipped: {skipped}",
            f"accepted {result.accepted}, stored by others {result.deliveries} times; "
            f"{result.messages_per_s} messages/s",
            f"from sending to stored: p50 {result.p50_ms} ms, p99 {result.p99_ms} ms",
            f"missing {result.missing}, doubled {result.doubled}, out of order {result.out_of_order}, "
            f"ticks missing {result.ticks_missing}",
        )
    )
