"""`signet import`: chat from elsewhere becomes part of the log."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

import msgspec
import typer
import uvloop
from rich.progress import TaskID

from domain.errors import KeyringUnavailable
from domain.log import StoreError
from ops.errors import OpsError
from ops.garbage import calm_garbage_collector
from ops.importing.files import DayLog, day_logs
from ops.importing.importer import Counts
from ops.importing.run import Imported, import_logs
from ops.options import DataOption, JsonOption
from ops.progress import progress_bar
from ops.rebuilding.build import Progressed
from ops.settings import Settings, load_settings

app = typer.Typer(help="Put chat from elsewhere into the log, with its times.", no_args_is_help=True)


@app.callback()
def import_() -> None:
    """Put chat from elsewhere into the log, with its times."""


@app.command()
def irc(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", exists=True, help="Raw logs, folders of them, or tar archives")
    ],
    channel: Annotated[
        str, typer.Option(help="The channel that they are of; it becomes the group's title")
    ] = "#ubuntu",
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Import the logs of an IRC channel, as Ubuntu's are: the channel becomes a group, and each nick an account.

    A raw log is named for its day (`2005-02-08.raw.txt`); within a folder or an archive the order is that of the names.
    A person is in the channel from its join, or its first line, until "has left"; a rename keeps the account; actions
    are messages. Events bear the time of their line beside that of the import. Where an `….annotation.txt` lies beside
    a `….raw.txt`, `1002 1003 -` in it says that line 1003 answers line 1002, counted from 0. Nobody can log in as an
    imported person. Every line is accounted for: stored, or counted under a reason.

    The engine must not run meanwhile. Run again, it adds nothing; killed (Ctrl-C, kill -9), it goes on where it was. To
    add later days name all of them again, in order: files are known by their names, and who is in the channel comes
    from the days before.

    Examples: `signet import irc logs/` · `signet import irc train.tar.xz --channel '#ubuntu' --json` ·
    `signet import irc tests/data/ubuntu-irc --data /tmp/try`
    """
    settings = load_settings(data)
    if not channel:
        raise OpsError("a channel has a name: give it by --channel")
    calm_garbage_collector()
    try:
        with day_logs(paths) as logs, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            imported = runner.run(_show_import(settings, logs, channel))
    except (StoreError, KeyringUnavailable) as error:
        raise OpsError(f"{error}. What was imported stays: run the same command again, and it goes on.") from error
    print(msgspec.json.encode(imported).decode() if json else _told(imported))


async def _show_import(settings: Settings, logs: Sequence[DayLog], channel: str) -> Imported:
    with _Bars(channel) as bars:
        return await import_logs(settings, logs, channel, on_chunk=bars.chunk, on_position=bars.position)


class _Bars:
    """That of the import, then those of the read models: rich shows one group at a time."""

    def __init__(self, channel: str) -> None:
        self._import = progress_bar("messages")
        self._channel = self._import.add_task(channel, total=None)
        self._readmodels = progress_bar("events")
        self._models: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._import.start()
        return self

    def __exit__(self, *_: object) -> None:
        (self._readmodels if self._models else self._import).stop()

    def chunk(self, counts: Counts, messages: int) -> None:
        self._import.update(self._channel, total=messages, completed=counts.messages, done=counts.added)

    def position(self, name: str, progress: Progressed) -> None:
        if not self._models:
            self._import.stop()
            self._readmodels.start()
        if name not in self._models:
            self._models[name] = self._readmodels.add_task(name, total=progress.head)
        self._readmodels.update(self._models[name], completed=progress.position, done=progress.events)


def _told(imported: Imported) -> str:
    return "\n".join(
        (
            f"{imported.lines:,} lines: {imported.messages:,} messages by {imported.persons:,} persons, "
            f"{imported.changes:,} joins, leaves and renames; skipped: {_listed(imported.skipped)}",
            f"{imported.replies:,} messages say what they answer; links dropped: {_listed(imported.links_dropped)}",
            f"added {imported.events:,} events in {imported.seconds:.1f} s, {imported.messages_per_s:,} messages/s; "
            f"read models up to date after another {imported.readmodels_s:.1f} s",
            f"the conversation is {imported.conversation}",
        )
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "none"
