"""Rows that are not what the log says: two databases of one read model, compared row by row."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from projections.database import Database, Row
from projections.readmodel import ReadModel, Table, scan


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One row. What it is found as, and what it is expected to be, name the columns that differ, or the whole row."""

    table: str
    key: dict[str, Any]
    found: dict[str, Any] | None
    """None: there is no such row."""
    expected: dict[str, Any] | None
    """None: there should be none."""


class Comparison:
    """Iterates over the differences; `rows` counts those that were looked at."""

    def __init__(self, kind: type[ReadModel], live: Database, expected: Database) -> None:
        self._kind = kind
        self._live = live
        self._expected = expected
        self.rows = 0

    def __iter__(self) -> Iterator[Difference]:
        for table in self._kind.tables:
            names, found = scan(self._live, table)
            _, expected = scan(self._expected, table)
            yield from self._table(table, names, found, expected)

    def _table(
        self, table: Table, names: Sequence[str], found: Iterator[Row], expected: Iterator[Row]
    ) -> Iterator[Difference]:
        """Both come in the order of the key, so each row meets its fellow, or the gap where that should be."""
        key = [names.index(column) for column in table.key]
        left, right = next(found, None), next(expected, None)
        while left is not None or right is not None:
            self.rows += 1
            at_left, at_right = _place(left, key), _place(right, key)
            if at_left == at_right:
                assert left is not None
                assert right is not None
                if left != right:
                    differing = [index for index in range(len(names)) if left[index] != right[index]]
                    yield _difference(table, names, left, right, differing)
                left, right = next(found, None), next(expected, None)
            elif at_left < at_right:
                yield _difference(table, names, left, None, range(len(names)))
                left = next(found, None)
            else:
                yield _difference(table, names, None, right, range(len(names)))
                right = next(expected, None)


_END: Final = ((9, b""),)
"""After all rows."""


def _place(row: Row | None, key: Sequence[int]) -> tuple[tuple[int, Any], ...]:
    """Where the databases put it: NULL, numbers, texts by their bytes, bytes. A value of a wrong type may be there."""
    return _END if row is None else tuple(_rank(row[index]) for index in key)


def _rank(value: str | bytes | float | None) -> tuple[int, Any]:
    match value:
        case None:
            return 0, 0
        case str():
            return 2, value.encode()
        case bytes():
            return 3, value
        case _:
            return 1, value


def _difference(
    table: Table, names: Sequence[str], found: Row | None, expected: Row | None, columns: Sequence[int]
) -> Difference:
    row = expected if expected is not None else found
    assert row is not None
    return Difference(
        table=table.name,
        key={column: row[names.index(column)] for column in table.key},
        found=_named(names, found, columns),
        expected=_named(names, expected, columns),
    )


def _named(names: Sequence[str], row: Row | None, columns: Sequence[int]) -> dict[str, Any] | None:
    return None if row is None else {names[index]: row[index] for index in columns}


def subject(model: ReadModel, difference: Difference) -> str | None:
    """The conversation that the row is about, or in rows of accounts the account; None where nobody could tell. `model`
    is the one with the expected rows."""
    row: Mapping[str, Any] = difference.key | (difference.expected or difference.found or {})
    named = row.get("conversation") or model.subject_of(row) or row.get("account")
    return None if named is None else str(named)
