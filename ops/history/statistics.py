"""`signet statistics`: how much each member of a conversation writes, day by day, and who answers whom."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ops.errors import OpsError
from ops.history.listing import NAME, JsonOption, Unseal, name_of, opened
from ops.options import DataOption
from ops.settings import load_settings
from ops.terminal import printable
from projections.database import Database
from projections.statistics import ANSWERS, DAYS

_COLUMNS_MAX: Final = 4
"""How many members have a column of their own: those who write most."""
_ANSWERS_MAX: Final = 20
_FIND: Final = "SELECT DISTINCT conversation FROM days WHERE conversation >= ? AND conversation < ? LIMIT 2"
_EPOCH: Final = date(1970, 1, 1)


class Day(msgspec.Struct, frozen=True, kw_only=True):
    day: str
    """Of UTC."""
    account: str
    name: str
    messages: int


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str
    answers: str
    """The account that is answered."""
    answers_name: str
    times: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    conversation: str
    days: list[Day]
    answers: list[Answers]


def statistics(
    conversation: Annotated[str, typer.Argument(help="Its id, or how it begins")],
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Print how many messages each member wrote by day (UTC), and who answers whom how often.

    It reads the read model beside the running engine. `signet conversations` lists the ids.

    Examples: `signet statistics 6ba7b810` · `signet statistics 6ba7b810 --json`
    """
    with opened(load_settings(data), "statistics", "directory") as (unseal, (db, directory)):
        report = _report(unseal, db, directory, _find(db, conversation.lower()))
    if json:
        print(msgspec.json.encode(report).decode())
        return
    console = Console()
    console.print(_day_table(report.days))
    console.print(_answer_table(report.answers))


def _find(db: Database, wanted: str) -> str:
    if not re.fullmatch("[0-9a-f-]{4,36}", wanted):
        raise OpsError(f"{wanted!r} is no id: give the id, or at least 4 characters of its beginning")
    # `g` comes after all that an id is made of.
    found = [row[0] for row in db.query(_FIND, (wanted, f"{wanted}g"))]
    if not found:
        raise OpsError(f"nobody has written in a conversation {wanted} yet; `signet conversations` lists the ids")
    if len(found) > 1:
        raise OpsError(f"{wanted} is the beginning of more than one id; give more of it: {', '.join(found)}, …")
    return str(found[0])


def _report(unseal: Unseal, db: Database, directory: Database, conversation: str) -> Report:
    days, answers = db.query(DAYS, (conversation,)), db.query(ANSWERS, (conversation,))
    accounts = sorted({row[1] for row in days} | {row[1] for row in answers})
    rows = directory.query_each(NAME, [(account,) for account in accounts])
    names = {account: name_of(unseal, account, found) for account, found in zip(accounts, rows, strict=True)}
    return Report(
        conversation=conversation,
        days=[
            Day(day=str(_EPOCH + timedelta(days=day)), account=account, name=names[account], messages=messages)
            for day, account, messages in days
        ],
        answers=[
            Answers(account=by, name=names[by], answers=whom, answers_name=names[whom], times=times)
            for by, whom, times in answers
        ],
    )


def _day_table(days: Sequence[Day]) -> Table:
    totals: Counter[str] = Counter()
    by_day: dict[str, Counter[str]] = {}
    for each in days:
        totals[each.account] += each.messages
        by_day.setdefault(each.day, Counter())[each.account] += each.messages
    names = {each.account: each.name for each in days}
    shown = [account for account, _ in totals.most_common(_COLUMNS_MAX)]
    columns = [*(escape(printable(names[account])) for account in shown), "others", "all"]
    # Whatever the terminal's width, a day can be read.
    table = Table(Column("day", min_width=10), *(Column(name, justify="right") for name in columns))
    for day, counts in by_day.items():
        own = [counts[account] for account in shown]
        table.add_row(day, *map(str, own), str(counts.total() - sum(own)), str(counts.total()))
    return table


def _answer_table(answers: Sequence[Answers]) -> Table:
    table = Table("who answers", "whom", "times")
    for each in answers[:_ANSWERS_MAX]:
        table.add_row(escape(printable(each.name)), escape(printable(each.answers_name)), str(each.times))
    return table
