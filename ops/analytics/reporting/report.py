"""`signet analytics report`: the ready questions as one page of plots."""

import os
import tempfile
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.filesize import decimal

from ops.analytics.opening import loaded, settings_of
from ops.analytics.place import made_folder
from ops.analytics.questions import QUESTIONS
from ops.errors import OpsError
from ops.options import DataOption, JsonOption
from ops.progress import progress_bar
from ops.settings import Settings

FILE_NAME: Final = "report.html"


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    bytes: int
    position: int
    """Up to which the tables were loaded."""
    plots: dict[str, int]
    """By the question: how many rows its answer has; where it has none, a sentence stands instead of the plot."""


def report(
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The file [default: analytics/report.html in the data folder]"),
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", metavar="DAY", help="The first day, YYYY-MM-DD")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The last day, YYYY-MM-DD")] = None,
    zone: Annotated[str, typer.Option("--zone", help="Time zone of days and hours, as Europe/Berlin")] = "UTC",
    conversation: Annotated[
        str | None, typer.Option("--conversation", metavar="ID", help="Of this one alone, by its whole id")
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Names and titles instead of ids: they are unsealed into the file")
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Make one HTML file of plots: messages, people, delays, answers, groups, devices.

    It holds all that it needs (5 MB, most of it plotly) and asks no other place for anything: it can be opened without
    a network, sent, and printed. Only you can read the file, and it takes the place of an older one only when it is
    complete. Of one conversation it leaves out the busiest conversations and the devices.

    Examples: `signet analytics report` · `signet analytics report --names --output report.html` ·
    `signet analytics report --from 2005-02-01 --to 2005-02-28 --zone Europe/Berlin`
    """
    # Here, since plotly takes a while to import, which the other verbs have no use for.
    from ops.analytics.reporting.composing import Composer

    settings = settings_of(data)
    file = _place(settings, output)
    given = {"from": from_, "to": to, "zone": zone, "conversation": conversation}
    composer = Composer({name: value for name, value in given.items() if value is not None})
    with progress_bar("questions") as bar, loaded(settings) as (warehouse, mark):
        for question, values in bar.track(composer.asks, description="asking"):
            composer.take(question, warehouse.select(QUESTIONS[question].sql, values))
    composed = composer.compose(settings, mark, names=names)
    write_whole(file, composed.html.encode())
    told = Reported(path=str(file), bytes=file.stat().st_size, position=mark.position, plots=composed.plots)
    print(msgspec.json.encode(told).decode() if json else f"{file}  ({decimal(told.bytes)})")


def _place(settings: Settings, output: Path | None) -> Path:
    """Raises OpsError where no file can be put there."""
    if output is None:
        return made_folder(settings) / FILE_NAME
    file = output.resolve()
    if file.is_dir():
        raise OpsError(f"{file} is a folder: name a file in it, as --output {file / FILE_NAME}")
    if file.exists() and not file.is_file():
        raise OpsError(f"{file} is no file that can be replaced: name another one by --output")
    if not file.parent.is_dir():
        raise OpsError(f"there is no folder {file.parent}: make it first, or name a file elsewhere by --output")
    return file


def write_whole(file: Path, content: bytes) -> None:
    """For the owner alone to read; whatever happens, the file is as it was or complete. Raises OpsError."""
    try:
        descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")
        try:
            with open(descriptor, "wb") as opened:
                opened.write(content)
            os.replace(draft, file)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise OpsError(f"can't write {file}: {error}; name a file elsewhere by --output") from error
