"""Rows that were changed by hand are found and named, wherever they are."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from domain.ids import DeviceId
from projections.database import Database
from projections.drift import Comparison, Difference, subject
from projections.models import newest_of_all
from projections.readmodel import ReadModel, scan
from tests.projections.histories import History, fold

pytestmark = pytest.mark.usefixtures("each_store")

LAPTOP = DeviceId("laptop")
TEXT, NUMBER, BYTES = "changed by hand", 987_654_321, b"changed by hand"


@pytest.fixture(scope="module")
def history() -> History:
    history = History()
    ann, ben, cho = (history.register(name) for name in ("ann", "ben", "cho"))
    history.link(ann, LAPTOP)
    history.rename(ben, "Ben")
    history.publish_keys(ann, "A", "B", device=LAPTOP, fallback="F")
    history.publish_keys(ben, "A")
    history.claim_key(ann, ben, device=LAPTOP)
    group, direct = history.group(ann, ben, cho), history.direct(ben, cho)
    for number in range(300):  # more than one block of the command ids' index
        history.send(group, (ann, ben, cho)[number % 3], about=number if number % 5 == 0 else None)
    history.send(direct, ben)
    history.send(group, ann, media=[history.upload(ann), history.upload(ann)])
    history.upload(ben)
    history.retract(group, ann, 5)
    history.set_title(group, ann, "another title")
    history.receive(group, ben, delivered=200, read=100)
    history.receive(group, cho, delivered=150, read=10, undecryptable=(7,))
    history.receive(group, ben, delivered=250, read=90, signature="signed by Ben")
    history.receive(group, ben, delivered=240, read=120, signature="signed by Ben again")
    history.receive(group, cho, delivered=160, undecryptable=(9,), signature="signed by Cho")
    history.remove(group, ann, cho)
    history.add(group, ann, cho)
    return history


def differences(live: ReadModel, expected: ReadModel) -> list[Difference]:
    return list(Comparison(type(live), live.db, expected.db))


@pytest.mark.parametrize("kind", newest_of_all(), ids=lambda kind: kind.name)
def test_equal_rows_do_not_differ(kind: type[ReadModel], history: History) -> None:
    live, expected = fold(kind, history.events), fold(kind, history.events, batch_max=100)
    comparison = Comparison(kind, live.db, expected.db)
    assert list(comparison) == []
    assert comparison.rows == sum(live.db.query(f"SELECT count(*) FROM {table.name}")[0][0] for table in kind.tables)


@pytest.mark.parametrize("kind", newest_of_all(), ids=lambda kind: kind.name)
def test_each_change_of_each_column_is_found_and_named(kind: type[ReadModel], history: History) -> None:
    live, expected = fold(kind, history.events, batch_max=100), fold(kind, history.events, batch_max=100)
    rng = random.Random(1)
    for table, names, rows in tables(live):
        for column in names:
            row = rng.choice(rows)
            key = dict(zip(names, row, strict=True))
            changed = _another(key[column], live.db)
            if changed is None:
                continue
            where = " AND ".join(f"{name} = ?" for name in table.key)
            values = [key[name] for name in table.key]
            live.db.execute(f"UPDATE {table.name} SET {column} = ? WHERE {where}", (changed, *values))
            found = differences(live, expected)
            about = {(each.table, *each.key.values()) for each in found}
            assert (table.name, *values) in about, column
            if column not in table.key:
                [difference] = found
                assert (difference.found, difference.expected) == ({column: changed}, {column: key[column]})
            named = [subject(expected, each) for each in found if each.expected is not None]
            assert all(each in history.conversations or each in history.accounts for each in named), column
            undo = " AND ".join(f"{name} = ?" for name in table.key)
            now = [changed if name == column else key[name] for name in table.key]
            live.db.execute(f"UPDATE {table.name} SET {column} = ? WHERE {undo}", (key[column], *now))
            assert differences(live, expected) == []


@pytest.mark.parametrize("kind", newest_of_all(), ids=lambda kind: kind.name)
def test_rows_that_are_missing_or_too_many_are_found(kind: type[ReadModel], history: History) -> None:
    live, expected = fold(kind, history.events, batch_max=100), fold(kind, history.events, batch_max=100)
    for table, names, rows in tables(live):
        for row in (rows[0], rows[-1]):
            where = " AND ".join(f"{name} = ?" for name in table.key)
            values = [row[names.index(name)] for name in table.key]
            live.db.execute(f"DELETE FROM {table.name} WHERE {where}", values)
            [missing] = differences(live, expected)
            assert (missing.table, missing.found) == (table.name, None)
            [too_many] = differences(expected, live)
            assert (too_many.key, too_many.expected) == (missing.key, None)
            marks = ", ".join("?" * len(names))
            live.db.execute(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", row)


def tables(model: ReadModel) -> Iterator[tuple[Any, list[str], list[Sequence[Any]]]]:
    for table in model.tables:
        names, rows = scan(model.db, table)
        yield table, names, [tuple(row) for row in rows]


def _another(value: object, db: Database) -> str | int | bytes | None:
    """None: its type can't be told, so no value is known to fit."""
    match value:
        case str():
            return TEXT
        case int():
            return NUMBER
        case bytes():
            return BYTES
        case _:
            return None
