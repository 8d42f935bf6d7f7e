"""`signet analytics query`, `sql` and `tables`: what is asked of the tables, and how it is shown."""

import sys
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ops.analytics.names import Names, with_names
from ops.analytics.opening import loaded, settings_of
from ops.analytics.questions import QUESTIONS, Question
from ops.analytics.warehouse import Answer
from ops.errors import OpsError
from ops.options import DataOption, JsonOption
from ops.settings import Settings
from ops.terminal import printable
from projections.analytics.tables import TABLES

NamesOption = Annotated[
    bool, typer.Option("--names", help="Names and titles beside the ids: unsealed by the keyring, not in ClickHouse")
]
_WIDE: Final = 1_000
SHOWN_MAX: Final = 200
"""Rows; --json gives all."""


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    position: int
    """Up to which the tables were loaded when it was asked."""
    columns: list[str]
    types: list[str]
    """ClickHouse's."""
    rows: list[list[Any]]


def query(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="[default: list them]")] = None,
    parameters: Annotated[list[str] | None, typer.Argument(metavar="PARAMETER=VALUE")] = None,
    names: NamesOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Ask one of the ready questions, or list them with their parameters.

    Days and hours are of the time zone `zone`, UTC where none is given. Columns that end with `_s` are seconds.

    Examples: `signet analytics query` · `signet analytics query messages-by-day from=2005-02-01 to=2005-02-28` ·
    `signet analytics query who-answers-whom limit=5 --names`
    """
    if name is None:
        _list_questions()
        return
    question = QUESTIONS.get(name)
    if question is None:
        raise OpsError(f"there is no question {name!r}; there are {', '.join(QUESTIONS)}")
    values = question.values(given(parameters or ()))
    settings = settings_of(data)
    with loaded(settings) as (warehouse, mark):
        answer = warehouse.select(question.sql, values)
    _show(settings, answer, mark.position, names=names, json=json)


def sql(
    text: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; - reads it from stdin")],
    names: NamesOption = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Ask in ClickHouse's SQL. It can only read the tables: `signet analytics tables` lists them.

    Nothing can be written, no file read, no address reached; a query may take 30 s, 1 GiB of memory, and give 100,000
    rows.

    Examples: `signet analytics sql "SELECT count() FROM messages"` ·
    `signet analytics sql "SELECT author, count() FROM messages GROUP BY author ORDER BY 2 DESC LIMIT 5" --names`
    """
    settings = settings_of(data)
    asked = sys.stdin.read() if text == "-" else text
    with loaded(settings) as (warehouse, mark):
        answer = warehouse.ask(asked)
    _show(settings, answer, mark.position, names=names, json=json)


def tables(json: JsonOption = False) -> None:
    """List the tables with their columns.

    Examples: `signet analytics tables` · `signet analytics tables --json`
    """
    if json:
        print(msgspec.json.encode({name: _described(table.columns) for name, table in TABLES.items()}).decode())
        return
    console = Console()
    for name, table in TABLES.items():
        shown = Table("column", "type", "what it is", title=f"{name}: {table.about}", title_justify="left")
        for column, kept in table.columns.items():
            shown.add_row(column, kept.type, kept.about)
        console.print(shown)


def _described(columns: dict[str, Any]) -> list[dict[str, str]]:
    return [{"column": name, "type": column.type, "about": column.about} for name, column in columns.items()]


def given(parameters: list[str] | tuple[str, ...]) -> dict[str, str]:
    given = {}
    for each in parameters:
        name, equals, value = each.partition("=")
        if not equals:
            raise OpsError(f"{each!r} is no parameter: write NAME=VALUE, as limit=5")
        given[name] = value
    return given


def _list_questions() -> None:
    shown = Table("question", "what it answers", "parameters, with what they are where none is given")
    for question in QUESTIONS.values():
        shown.add_row(question.name, question.about, ", ".join(_parameters(question)))
    Console().print(shown)


def _parameters(question: Question) -> list[str]:
    return [f"{each.name}={each.default}" for each in question.parameters]


def _show(settings: Settings, answer: Answer, position: int, *, names: bool, json: bool) -> None:
    if names:
        with Names.opened(settings) as known:
            answer = with_names(answer, known)
    if json:
        types = [field.type for field in answer.meta]
        told = Answered(position=position, columns=answer.names, types=types, rows=answer.data)
        print(msgspec.json.encode(told).decode())
        return
    # What is read by a program must not be folded to the width of some terminal.
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table_of(answer, short_ids=names))
    if len(answer.data) > SHOWN_MAX:
        print(f"and {len(answer.data) - SHOWN_MAX:,} more rows; --json gives all")


def table_of(answer: Answer, *, short_ids: bool = False) -> Table:
    right = [_is_number(field.type) for field in answer.meta]
    table = Table(
        *(
            Column(escape(printable(name)), justify="right" if is_right else "left", overflow="fold")
            for name, is_right in zip(answer.names, right, strict=True)
        )
    )
    ids = [short_ids and field.type == "UUID" for field in answer.meta]
    for row in answer.data[:SHOWN_MAX]:
        table.add_row(*(_cell(value)[:8] if is_id else _cell(value) for value, is_id in zip(row, ids, strict=True)))
    return table


def _is_number(kind: str) -> bool:
    return kind.removeprefix("Nullable(").startswith(("UInt", "Int", "Float", "Decimal"))


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "–" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    # Times have six digits after the second; messages of other systems have none.
    text = value.removesuffix(".000000") if isinstance(value, str) else msgspec.json.encode(value).decode()
    return escape(printable(text))
