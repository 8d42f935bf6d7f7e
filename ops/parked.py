"""`signet parked`: events that a read model could not apply, and what to do about them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from commands.stores import open_log
from domain.log import StoreError
from ops.control import NoEngine, ask
from ops.datafolder import read_server_file
from ops.errors import OpsError
from ops.options import DataOption, JsonOption
from ops.parking import Outcome, ParkingDesk, Which, check_model, desk_without_engine
from ops.settings import Settings, load_settings
from ops.terminal import printable
from projections.catalogue import find_serving, serving_kind
from projections.database import DATABASE_ERRORS
from projections.models import MODELS
from projections.parking import Parked, Parking, Skipped, rests_on
from projections.readmodel import ReadModelError

HELP = """Events that a read model could not apply, and what to do about them.

An event that can't be applied is **parked** with the reason, and with it the later events of its stream (receipts wait
behind their conversation too). Everything else goes on; reads of that conversation or account are refused
`unavailable`. Nothing is lost: the events stand in the log.

Mostly a read model has a bug: update, then `signet parked retry`. Where an event can't be mended, `signet parked skip`
goes on without it. `list` and `show` read beside the running engine; `retry` and `skip` ask it, or do it themselves
where none runs.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="markdown")

ModelOption = Annotated[
    str | None,
    typer.Option("--model", help=f"Only in this read model: {', '.join(MODELS)}"),
]
StreamArgument = Annotated[str, typer.Argument(help="The stream's name, as `list` shows it: conversation-<uuid>")]


class ParkedBy(Parked, frozen=True, kw_only=True):
    """A parked stream, and the read model that could not apply it."""

    model: str
    waiting: int
    """So many of its events are not in the rows."""
    behind: str | None
    """The stream that is to be retried first."""


class SkippedBy(Skipped, frozen=True, kw_only=True):
    model: str


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A read model that no engine has made yet, or somebody has thrown away."""

    model: str
    place: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    parked: list[ParkedBy]
    skipped: list[SkippedBy]
    missing: list[Missing]
    """Of these nothing is known."""


@app.command("list")
def show_all(data: DataOption = None, model: ModelOption = None, json: JsonOption = False) -> None:
    """List the parked streams, and the events that were skipped.

    Examples: `signet parked list` · `signet parked list --model inbox --json`
    """
    report = _read(load_settings(data), Which(model=model))
    if json:
        _print_json(report)
        return
    for missing in report.missing:
        print(_missing(missing))
    if not report.parked and len(report.missing) < (len(MODELS) if model is None else 1):
        print("nothing is parked")
    for parked in report.parked:
        print(_line(parked))
    for skipped in report.skipped:
        print(f"skipped {_time(skipped.skipped_at)}  {skipped.model:<9}  {skipped.stream}  {_what(skipped)}")


@app.command()
def show(stream: StreamArgument, data: DataOption = None, model: ModelOption = None, json: JsonOption = False) -> None:
    """Show one parked stream: the reason, and the event as it stands in the log (sealed texts stay sealed).

    Example: `signet parked show conversation-6ba7b810-9dad-41d1-80b4-00c04fd430c8`
    """
    settings = load_settings(data)
    report = _read(settings, Which(stream=stream, model=model))
    if not report.parked and not report.skipped:
        said = [f"{stream} is not parked; `signet parked list` tells what is", *map(_missing, report.missing)]
        raise OpsError("\n".join(said))
    found: list[ParkedBy | SkippedBy] = [*report.parked, *report.skipped]
    events = asyncio.run(_events(settings, found))
    if json:
        _print_json({"parked": report.parked, "skipped": report.skipped, "events": events})
        return
    for each in found:
        for name, value in msgspec.structs.asdict(each).items():
            if value is not None:
                print(f"{name:<10} {_time(value) if name in ('at', 'skipped_at') else printable(str(value))}")
        print(f"{'in the log':<10} {printable(str(events[str(each.version)]))}\n")


@app.command()
def retry(
    stream: Annotated[str | None, typer.Argument(help="One stream [default: all that is parked]")] = None,
    data: DataOption = None,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Apply parked events again, in order; each stream stops at the first that fails again.

    Exit code 0: nothing of what was meant is parked any more.

    Examples: `signet parked retry` · `signet parked retry conversation-6ba7b810-9dad-41d1-80b4-00c04fd430c8`
    """
    _change(load_settings(data), "retry", Which(stream=stream, model=model), json=json)


@app.command()
def skip(stream: StreamArgument, data: DataOption = None, model: ModelOption = None, json: JsonOption = False) -> None:
    """Drop the event that a stream is parked for, and apply the others.

    The read model is without this event until it is rebuilt, and `list` goes on to show it. In the log it stays.
    Exit code 0: nothing of the stream is parked any more.

    Example: `signet parked skip conversation-6ba7b810-9dad-41d1-80b4-00c04fd430c8 --model inbox`
    """
    _change(load_settings(data), "skip", Which(stream=stream, model=model), json=json)


# Reading, beside whoever owns the folder


def _read(settings: Settings, which: Which) -> Report:
    check_model(which.model)
    _check_folder(settings)
    parked: list[ParkedBy] = []
    skipped: list[SkippedBy] = []
    missing: list[Missing] = []
    for name, parking in _parkings(settings, which.model):
        if isinstance(parking, Missing):
            missing.append(parking)
            continue
        all_parked = {each.stream: each for each in parking.all()}
        parked += (_parked_by(name, each, all_parked) for each in all_parked.values())
        skipped += (SkippedBy(model=name, **msgspec.structs.asdict(each)) for each in parking.skipped())
    return Report(
        parked=[each for each in parked if which.stream in (None, each.stream)],
        skipped=[each for each in skipped if which.stream in (None, each.stream)],
        missing=missing,
    )


def _check_folder(settings: Settings) -> None:
    """A folder that is not the one that is meant would have nothing parked."""
    if read_server_file(settings.data) is None:
        raise OpsError(f"no engine has run on {settings.data} yet; name the folder of your server by --data")


def _parkings(settings: Settings, wanted: str | None) -> Iterator[tuple[str, Parking | Missing]]:
    place = settings.readmodels_place
    for name in MODELS:
        if wanted not in (None, name):
            continue
        try:
            serving = find_serving(place, name)
            kind, number = serving_kind(serving), serving.build.number
            if isinstance(place, Path) and not (file := kind.file_in(place, number)).exists():
                yield name, Missing(model=name, place=str(file))
                continue
            with closing(kind.database(place, number, read_only=True)) as db:
                is_made = db.has_table("skipped")  # else no engine has opened it since
                yield name, Parking(db) if is_made else Missing(model=name, place=db.place)
        except ReadModelError as error:
            raise OpsError(str(error)) from error
        except DATABASE_ERRORS as error:
            raise OpsError(f"the read model {name!r} can't be read: {error}") from error


def _parked_by(model: str, parked: Parked, others: dict[str, Parked]) -> ParkedBy:
    first = rests_on(parked.stream)
    return ParkedBy(
        model=model,
        waiting=parked.upto - parked.version + 1,
        behind=first if first in others else None,
        **msgspec.structs.asdict(parked),
    )


async def _events(settings: Settings, wanted: Iterable[ParkedBy | SkippedBy]) -> dict[str, Any]:
    """The events by their version, as they stand in the log."""
    events = {}
    try:
        log = open_log(settings.events_url, read_only=True)
        try:
            for each in wanted:
                [recorded] = await log.read_stream(each.stream, after=each.version - 1, limit=1)
                events[str(each.version)] = {"topic": recorded.topic, "data": _decoded(recorded.data)}
        finally:
            await log.close()
    except StoreError as error:
        raise OpsError(str(error)) from error
    return events


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.MsgspecError:
        return repr(data)


# Changing, by the engine or in its place


def _change(settings: Settings, verb: str, which: Which, *, json: bool) -> None:
    try:
        outcomes = ask(settings.data, f"parked.{verb}", which, list[Outcome])
    except NoEngine:
        _check_folder(settings)
        outcomes = asyncio.run(_change_here(settings, verb, which))
    if json:
        _print_json({"outcomes": outcomes})
    else:
        _print_outcomes(outcomes)
    if any(outcome.parked for outcome in outcomes):
        raise typer.Exit(1)


async def _change_here(settings: Settings, verb: str, which: Which) -> list[Outcome]:
    async with desk_without_engine(settings) as desk:
        return await {"retry": ParkingDesk.retry, "skip": ParkingDesk.skip}[verb](desk, which)


def _print_outcomes(outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        print("nothing is parked")
    for outcome in outcomes:
        print(f"{outcome.model:<9}  {outcome.stream}  {outcome.applied} applied")
        for parked in outcome.parked:
            print(f"  still parked: {_line(_parked_by(outcome.model, parked, {}))}")


# Words


def _line(parked: ParkedBy) -> str:
    behind = f"waits behind {parked.behind}" if parked.behind else "not tried yet: retry it"
    why = f"{_what(parked)} failed: {parked.reason}" if parked.reason else behind
    return printable(f"{_time(parked.at)}  {parked.model:<9}  {parked.stream}  {parked.waiting} events  {why}")


def _missing(missing: Missing) -> str:
    return (
        f"{missing.model:<9}  nothing is known of it: {missing.place} is not there, or has no tables; an engine that "
        "starts makes it from the log"
    )


def _what(event: Parked | Skipped) -> str:
    return f"{event.topic} {event.version}"


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _print_json(value: Any) -> None:
    print(msgspec.json.encode(value).decode())
