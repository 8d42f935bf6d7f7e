"""The list of functions against what a real ClickHouse has: what a new release brings shows here."""

import re
from typing import Final

import pytest

from ops.analytics.rawsql.functions import AGGREGATES, CALLS_FIRST, FUNCTIONS, TABLE_FUNCTIONS, is_aggregate, is_pure
from ops.analytics.rawsql.guard import Refused, ask_by
from ops.analytics.warehouse import WarehouseError
from tests.ops.analytics.rawsql.analyst import Desk, desk

__all__ = ["desk"]

OF_SYNTAX: Final = {"exists", "grouping", "lambda", "untuple"}
IMPURE: Final = {
    "AI",
    "Dictionary",
    "Embedded Dictionary",
    "Internal",
    "Introspection",
    "Machine Learning",
    "Time Series",
}


def told(desk: Desk, column: str, where: str = "1", table: str = "functions") -> set[str]:
    rows = desk.maker.query(f"SELECT {column} FROM system.{table} WHERE {where}").result_rows
    return {str(name) for (name,) in rows}


def test_each_that_may_be_called_is_there(desk: Desk) -> None:
    there = {name.lower() for name in told(desk, "name")}
    assert (FUNCTIONS | AGGREGATES) - there == OF_SYNTAX
    assert {name.lower() for name in told(desk, "name", table="table_functions")} > TABLE_FUNCTIONS


def test_an_aggregate_is_one(desk: Desk) -> None:
    assert {name.lower() for name in told(desk, "name", "is_aggregate OR alias_to != ''")} > AGGREGATES
    assert not FUNCTIONS & {name.lower() for name in told(desk, "name", "is_aggregate")}


def test_none_is_of_a_family_that_does_more_than_compute(desk: Desk) -> None:
    families = ", ".join(f"'{family}'" for family in IMPURE)
    found = {name for name in told(desk, "name", f"categories IN ({families})") if is_pure(name)}
    # For `CASE x WHEN …`; and two that have lost their old family.
    assert found <= {"caseWithExpression", "stochasticLinearRegression", "stochasticLogisticRegression"}


def test_all_others_are_refused_by_name(desk: Desk) -> None:
    """No other name becomes one that may be called, by its case or by what looks like a combinator in it."""
    others = {name for name in told(desk, "name") if not is_pure(name)}
    assert {"file", "getSetting", "hostName", "dictGet", "joinGet", "sleep", "aiGenerate", "formatRow"} <= others
    for name in others:
        with pytest.raises(Refused, match=r"may not be called"):
            desk.check(f"SELECT `{name}`(1)")


def test_combinators_are_those_of_clickhouse(desk: Desk) -> None:
    for combinator in told(desk, "name", table="aggregate_function_combinators"):
        assert is_aggregate("sum" + combinator)
        assert is_aggregate("sum" + combinator + "If")
        assert not is_pure("file" + combinator)
    assert not is_aggregate("sumFile")


def test_who_calls_what_its_first_argument_names_is_known(desk: Desk) -> None:
    assert {name.lower() for name in told(desk, "name", "higher_order")} == CALLS_FIRST


@pytest.mark.parametrize("arguments", ["file, ['SECRET']", "['SECRET'], file", "file, 'SECRET'"])
def test_and_nobody_else_does(desk: Desk, arguments: str) -> None:
    """Whatever else is given the name of a function takes it for a column, which isn't there."""
    ask = ask_by(desk.maker)
    for name in sorted(told(desk, "name", "NOT higher_order")):
        if is_pure(name):
            with pytest.raises(WarehouseError) as failed:
                ask(desk.said(f"SELECT {name}({arguments})"))
            assert re.search("file|Syntax error|constant|argument", str(failed.value)), (name, str(failed.value))
