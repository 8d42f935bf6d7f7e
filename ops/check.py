"""`signet check`: every row of the read models against the log."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
import uvloop
from rich.progress import Progress

from commands.stores import open_log
from domain.ids import ConversationId, conversation_stream
from domain.log import EventLog, StoreError
from ops.datafolder import read_server_file
from ops.errors import OpsError
from ops.options import DataOption, JsonOption
from ops.parking import check_model
from ops.progress import progress_bar
from ops.settings import Settings, load_settings
from projections.building import Builder, position_of
from projections.catalogue import find_serving, serving_kind
from projections.database import DATABASE_ERRORS, Database
from projections.drift import Comparison, Difference, subject
from projections.models import MODELS
from projections.parking import Parking, ParkingError, rests_on
from projections.readmodel import ReadModel, ReadModelError

NAMED_MAX: Final = 1_000
"""How many rows of a read model are named; the others are counted."""
SHOWN_MAX: Final = 20


class Drifted(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not what the log says."""

    model: str
    subject: str | None
    """The conversation that it is about, or the account; None where only its key tells."""
    position: int
    """Of the event that it is about, where it names one; else that up to which the rows were compared."""
    table: str
    key: dict[str, Any]
    found: dict[str, Any] | None
    """The columns that differ; None: the row is missing."""
    expected: dict[str, Any] | None
    """None: there should be no such row."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """One read model."""

    position: int
    """Up to which it was compared."""
    events: int
    rows: int
    drift: int
    parked: int
    """How many rows differ since events of their stream are parked, or were skipped: no drift, `signet parked` is the
    place for them."""
    rows_drifted: list[Drifted]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    checked: int
    """Rows."""
    drift: int
    models: dict[str, Checked]


def check(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(MODELS)} [default: all]")] = None,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Compare every row of the read models with what the log says, also while the engine runs: it is not disturbed.

    Each is made anew in a temporary file in the data folder, up to the position at which the rows are read. What
    differs is named: read model, conversation, position, and what is found and expected. `signet rebuild NAME` mends
    it. Exit code 1: something differs.

    Examples: `signet check` · `signet check inbox receipts --json`
    """
    settings = load_settings(data)
    if read_server_file(settings.data) is None:
        raise OpsError(f"no engine has run on {settings.data} yet; name the folder of your server by --data")
    models = {}
    with progress_bar("events") as bar, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for name in dict.fromkeys(names or MODELS):
            check_model(name)
            with _explained(name):
                models[name] = runner.run(_check(settings, name, bar))
    report = Report(
        checked=sum(each.rows for each in models.values()), drift=sum(each.drift for each in models.values()),
        models=models,
    )  # fmt: skip
    print(msgspec.json.encode(report).decode() if json else "\n".join(_lines(report)))
    if report.drift:
        raise typer.Exit(1)


async def _check(settings: Settings, name: str, bar: Progress) -> Checked:
    serving = find_serving(settings.readmodels_place, name)
    kind = serving_kind(serving)
    log = open_log(settings.events_url, read_only=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="check-", dir=settings.data) as folder,
            closing(kind.database(settings.readmodels_place, serving.build.number, read_only=True)) as live,
            closing(kind.open(Path(folder))) as expected,
        ):
            if not live.has_table("readmodel"):
                raise OpsError(f"there is no read model {name!r} yet: start the engine, which makes it")
            with live.snapshot():
                return await _compare(log, live, expected, bar)
    finally:
        await log.close()


async def _compare(log: EventLog, live: Database, expected: ReadModel, bar: Progress) -> Checked:
    position, head = position_of(live), await log.head()
    if position > head:
        raise OpsError(
            f"the read model {expected.name!r} stands at position {position}, and the log ends at {head}: its row of"
            f" the position was changed, or it is of another log. Rebuild it: signet rebuild {expected.name}"
        )
    task = bar.add_task(expected.name, total=position)
    builder = Builder(log, expected, on_batch=lambda each: bar.update(task, completed=each.position, done=each.events))
    await builder.fill(position)
    parked = Parking(live).lacking()
    comparison = Comparison(type(expected), live, expected.db)
    drifted: list[Drifted] = []
    drift = held_back = 0
    for difference in comparison:
        about = subject(expected, difference)
        if about is not None and _is_parked(about, parked):
            held_back += 1
            continue
        drift += 1
        if len(drifted) < NAMED_MAX:
            at = await _position_of(log, about, difference, otherwise=position)
            drifted.append(
                Drifted(model=expected.name, subject=about, position=at, **msgspec.structs.asdict(difference))
            )
    return Checked(
        position=position, events=builder.events, rows=comparison.rows, drift=drift, parked=held_back,
        rows_drifted=drifted,
    )  # fmt: skip


def _is_parked(about: str, parked: set[str]) -> bool:
    return any(stream.endswith(about) or (rests_on(stream) or "").endswith(about) for stream in parked)


async def _position_of(log: EventLog, about: str | None, difference: Difference, *, otherwise: int) -> int:
    seq = difference.key.get("seq")
    if about is None or not isinstance(seq, int) or seq < 1:
        return otherwise
    found = await log.read_stream(conversation_stream(ConversationId(about)), after=seq - 2, limit=1)
    return found[0].position if found else otherwise


def _lines(report: Report) -> Iterator[str]:
    for name, model in report.models.items():
        told = f"{name}: {model.rows:,} rows of {model.events:,} events, up to position {model.position}"
        waiting = f"; {model.parked} rows lack parked or skipped events" if model.parked else ""
        yield f"{told}: {f'{model.drift} DIFFER from the log' if model.drift else 'all as the log says'}{waiting}"
        for each in model.rows_drifted[:SHOWN_MAX]:
            yield f"  {each.subject or 'somewhere'} at position {each.position}, {each.table} {_shown(each.key)}:"
            yield f"    found {_shown(each.found)}, expected {_shown(each.expected)}"
        if model.drift > SHOWN_MAX:
            yield f"  and {model.drift - SHOWN_MAX} more (--json names up to {NAMED_MAX})"
        if model.drift:
            yield f"  to mend it: signet rebuild {name}"


def _shown(row: dict[str, Any] | None) -> str:
    return "no row" if row is None else ", ".join(f"{column} {value!r}" for column, value in row.items())


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (ReadModelError, StoreError, ParkingError) as error:
        raise OpsError(str(error)) from error
    except DATABASE_ERRORS as error:
        raise OpsError(f"the read model {name!r} can't be read: {error}") from error
