"""`signet rebuild`: read models made anew from the log, while the engine runs."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from ops.datafolder import read_server_file
from ops.errors import OpsError
from ops.options import DataOption, JsonOption
from ops.parking import check_model
from ops.progress import progress_bar
from ops.rebuilding.build import OnProgress, Progressed, Rebuilt, drop_earlier, go_back, rebuild
from ops.rebuilding.listing import Listed, listed
from ops.settings import Settings, load_settings
from projections.models import MODELS

_Work = Callable[[Settings, str, OnProgress], Coroutine[Any, Any, Rebuilt]]


def rebuild_verb(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(MODELS)}")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, one after the other")] = False,
    show: Annotated[bool, typer.Option("--list", help="Only list them: what serves, and what is kept")] = False,
    data: DataOption = None,
    json: JsonOption = False,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    """Make read models anew from the log, also while the engine runs: it serves meanwhile, and nobody waits.

    Each is built beside the one that serves. At one position the rows of both are compared, by a hash over all of them;
    then the new one takes over. Where they were equal the old one is deleted half a minute later; else it is kept for
    `signet rollback`, and what differed is worth a look: `signet check` names it.

    It may be interrupted (Ctrl-C, kill -9) and called again: it goes on where it stopped.

    Examples: `signet rebuild inbox` · `signet rebuild --all --json` · `signet rebuild --list`
    """
    if until_eof:
        _end_with_stdin()
    settings = _settings(data)
    if show:
        _show(listed(settings), json=json)
        return
    if bool(names) == everything:
        raise OpsError(f"name read models, of {', '.join(MODELS)}, or all of them by --all")
    results = {}
    for name in dict.fromkeys(names or MODELS):
        check_model(name)
        results[name] = _run(settings, name, rebuild)
    _print(results, json=json)


def rollback(
    name: Annotated[str, typer.Argument(help=f"Of {', '.join(MODELS)}")],
    drop: Annotated[bool, typer.Option("--drop", help="Delete what is kept to go back to, instead")] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Go back to the read model that served before the last one took over, also while the engine runs.

    It catches up with the log first. No newer version takes its place by itself then; `signet rebuild NAME` goes
    forward again. What is kept takes room: --drop deletes it.

    Examples: `signet rollback inbox` · `signet rollback inbox --drop`
    """
    settings = _settings(data)
    check_model(name)
    if drop:
        dropped = drop_earlier(settings, name)
        print(msgspec.json.encode({"dropped": dropped}).decode() if json else f"{name} of {dropped} is deleted")
        return
    _print({name: _run(settings, name, go_back)}, json=json)


def _run(settings: Settings, name: str, work: _Work) -> Rebuilt:
    with progress_bar("events") as bar, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        task = bar.add_task(name, total=None)
        try:
            return runner.run(work(settings, name, partial(_advance, bar, task)))
        except KeyboardInterrupt:
            bar.console.print(f"interrupted: what is built of {name} stays, and the next call goes on with it")
            raise


def _end_with_stdin() -> None:
    """For the engine's own call: without the engine nobody waits for it."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def _advance(bar: Progress, task: TaskID, progress: Progressed) -> None:
    bar.update(task, total=progress.head, completed=progress.position, done=progress.events)


def _print(results: dict[str, Rebuilt], *, json: bool) -> None:
    if json:
        print(msgspec.json.encode(results).decode())
        return
    for name, result in results.items():
        rate = f", {result.events_per_s:,} a second" if result.events_per_s else ""
        print(f"{name}: version {result.version}, build {result.build} serves, up to position {result.position}")
        print(f"  {result.events:,} events read{rate}; {_comparison(result)}")


def _comparison(result: Rebuilt) -> str:
    match result.equal:
        case None:
            return "nothing to compare it with"
        case True:
            return f"equal to what served (SHA-256 {result.hash_live})"
        case False:
            return (
                f"NOT equal to what served ({result.hash_live}; rebuilt: {result.hash_rebuilt}), which is kept:"
                " signet rollback goes back to it"
            )


def _show(models: list[Listed], *, json: bool) -> None:
    if json:
        print(msgspec.json.encode(models).decode())
        return
    table = Table()
    for column in ("read model", "serves", "position", "MB", "to go back to"):
        table.add_column(column, justify="right" if column in ("position", "MB") else "left")
    for each in models:
        remark = " (held)" if each.held else "" if each.serving.version == each.newest_version else " (being replaced)"
        table.add_row(
            each.name, f"{each.serving}{remark}", "-" if each.position is None else f"{each.position:,}",
            "-" if each.size_bytes is None else f"{each.size_bytes / 1e6:,.1f}", str(each.earlier or "-"),
        )  # fmt: skip
    Console().print(table)


def _settings(data: Path | None) -> Settings:
    settings = load_settings(data)
    if read_server_file(settings.data) is None:
        raise OpsError(f"no engine has run on {settings.data} yet; name the folder of your server by --data")
    return settings
