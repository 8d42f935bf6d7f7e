"""What raw SQL must not do, tried on a real ClickHouse with both walls, and with the first one alone."""

import io
import json
from contextlib import suppress

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from ops.analytics.rawsql.guard import TEXT_BYTES_MAX, Refused, ask_by, ask_in_memory, check, in_words, read
from ops.analytics.rawsql.tree import Node, check_tree
from ops.analytics.warehouse import WarehouseError
from tests.ops.analytics.rawsql.analyst import CANARY, TABLES, Desk, desk
from tests.ops.analytics.rawsql.attacks import BOTH_HOLD, FIRST_LETS_THROUGH, NO_QUERIES, REFUSED_UNTRIED

__all__ = ["desk"]

READONLY = 164


def shown(attack: str) -> str:
    return attack.replace("CANARY", CANARY)


@pytest.mark.parametrize("attack", BOTH_HOLD + FIRST_LETS_THROUGH + REFUSED_UNTRIED)
def test_what_is_more_than_reading_our_tables_is_refused(desk: Desk, attack: str) -> None:
    with pytest.raises(Refused) as refused:
        desk.check(desk.said(shown(attack)))
    assert "Syntax error" not in str(refused.value), "an attack that ClickHouse doesn't understand shows nothing"
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("attack", BOTH_HOLD)
def test_the_first_wall_holds_most_of_it_alone(desk: Desk, attack: str) -> None:
    with pytest.raises(DatabaseError) as refused:
        desk.client.command(desk.said(attack))
    assert in_words(refused.value).code == READONLY, refused.value
    assert CANARY not in str(refused.value)
    assert desk.is_untouched()


@pytest.mark.parametrize("attack", FIRST_LETS_THROUGH)
def test_but_not_all(desk: Desk, attack: str) -> None:
    """So the second wall is needed; what ClickHouse comes to refuse may move up. None of it reaches the network."""
    desk.client.command(desk.said(shown(attack)))
    assert desk.is_untouched()


def test_nor_a_file_that_a_query_writes(desk: Desk) -> None:
    desk.client.command(desk.said("SELECT 1 INTO OUTFILE 'FOLDER/x'"))
    written = desk.folder / "x"
    assert written.exists()
    written.unlink()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT arrayMap(upper, ['SECRET']) FROM (SELECT 1 AS a) AS file",
        "WITH 1 AS upper SELECT arrayMap(upper, ['SECRET'])",
        "SELECT arrayMap(upper -> upper, ['SECRET']), (SELECT 1 AS file)",
    ],
)
def test_another_name_makes_no_function_of_a_file(desk: Desk, sql: str) -> None:
    """What passes for the name of a harmless function is that, or fails."""
    text = desk.check(desk.said(sql))
    with suppress(DatabaseError):
        assert CANARY not in str(desk.client.query(text).result_rows).lower()


@pytest.mark.parametrize("text", NO_QUERIES)
def test_what_is_no_query_is_refused_in_clickhouses_words(desk: Desk, text: str) -> None:
    with pytest.raises(Refused, match=r"Syntax error|Empty query"):
        desk.check(desk.said(text))
    assert desk.is_untouched()


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT file('x')", "the function 'file' may not be called"),
        ("SELECT 1 FROM hidden", "there is no table 'hidden' that may be read here; there are: messages, people"),
        ("SELECT 1 FROM url('x')", "the table function 'url' may not be used here: read a table, or use numbers"),
        ("SELECT 1 FORMAT CSV", "FORMAT is chosen by the command: leave it out"),
        ("SELECT 1 INTO OUTFILE 'x'", "INTO OUTFILE writes a file: leave it out"),
        ("SELECT 1 SETTINGS max_threads = 1", "SETTINGS are fixed here: leave them out"),
        ("SELECT {x:UInt8}", "a parameter in {} has no value here: write the value itself"),
        ("SHOW TABLES", "only a SELECT is run here"),
        ("DESCRIBE messages", "only a SELECT is run here"),
        ("SELECT arrayReduce('x', [1])", "arrayReduce needs the name of an aggregate function"),
        ("SELECT 1 FROM messages WHERE\nx x x", r"Syntax error: failed at position 32 \(x\) \(line 2, col 3\)"),
    ],
)
def test_what_is_said_names_the_part_and_what_may_be_used_instead(desk: Desk, sql: str, told: str) -> None:
    with pytest.raises(Refused, match=f"^{told}"):
        desk.check(sql)


def tree_of(**select: object) -> Node:
    selects = {"type": "ExpressionList", "children": [{"type": "SelectQuery", **select}]}
    return {"type": "SelectWithUnionQuery", "list_of_selects": selects}


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"type": "New"},
        tree_of() | {"new": 1},
        {"type": "SelectWithUnionQuery", "list_of_selects": {"type": "ExpressionList", "new": []}},
        {"type": "SelectWithUnionQuery", "list_of_selects": {"type": "ExpressionList", "children": [{}]}},
        tree_of(new=1),
        tree_of(where={"type": "New"}),
        tree_of(where={"name": "x"}),
        tree_of(**{"with": {"type": "ExpressionList", "new": {"type": "Function", "name": "file"}}}),
        tree_of(where={"type": "TableIdentifier", "name": "hidden"}),
        tree_of(
            tables={"type": "TableExpression", "database_and_table_name": {"type": "Identifier", "name": "hidden"}}
        ),
        tree_of(tables={"type": "TableExpression", "table_function": {"type": "New", "name": "numbers"}}),
    ],
)
def test_what_a_newer_clickhouse_may_bring_is_refused(tree: Node) -> None:
    check_tree(tree_of(), database="signet", tables=TABLES)
    with pytest.raises(Refused):
        check_tree(tree, database="signet", tables=TABLES)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT " + "(" * 16_000,
        "SELECT " + "(" * 8_000 + "1" + ")" * 8_000,
        "SELECT " + "[" * 32_000,
        "SELECT 1" + "+1" * 16_000,
        "SELECT " + "abs(" * 450 + "1" + ")" * 450,
        "SELECT " + "abs(" * 900 + "1" + ")" * 900,
        "SELECT " + "NOT " * 8_000 + "1",
        "SELECT " + "CASE WHEN " * 3_000,
        "SELECT * FROM " + "(SELECT * FROM " * 2_000 + "people" + ")" * 2_000,
        "SELECT 1::" + "Array(" * 4_000 + "Int8" + ")" * 4_000,
        "SELECT 1" + " " * TEXT_BYTES_MAX,
        "SELECT '\udcff'",
        "SELECT '\\xff'",
    ],
)
def test_text_that_is_deep_long_or_broken_is_refused_at_once(desk: Desk, text: str) -> None:
    with pytest.raises(Refused) as refused:
        desk.check(text)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 IN (" + "1234," * 6_000 + "1)",
        "SELECT 1" + " OR 1" * 6_000,
        "SELECT " + "abs(" * 300 + "1" + ")" * 300,
        "SELECT 1" + " UNION ALL SELECT 1" * 1_700,
    ],
)
def test_and_what_is_long_within_reason_passes(desk: Desk, text: str) -> None:
    assert desk.check(text)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("SELECT count() FROM numbers(1000000000000)", "it took longer than"),
        ("SELECT arrayWithConstant(100000000, 1)", "it gives more than 100000 rows, or 64 MiB"),
        ("SELECT range(400000000)", "it needs more than 1 GiB of memory"),
        ("SELECT * FROM numbers(100001)", "it gives more than 100000 rows"),
        ("SELECT repeat('x', 100000) FROM numbers(1000)", "it gives more than 100000 rows, or 64 MiB"),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT n FROM r",
            "it is nested too deeply, or",
        ),
        ("SELECT nobody FROM messages", "Unknown expression identifier `nobody`"),
    ],
)
def test_a_limit_is_told_in_words(desk: Desk, sql: str, told: str) -> None:
    with pytest.raises(WarehouseError, match=f"^{told}"):
        desk.read(sql)


def test_a_clickhouse_that_holds_nothing_can_look_at_it() -> None:
    with ask_in_memory() as ask:
        text = check("SELECT  name FROM people", database="signet", tables=TABLES, ask=ask)
        assert text == "SELECT name FROM people"
        with pytest.raises(Refused):
            check("SELECT file('x')", database="signet", tables=TABLES, ask=ask)


def test_a_query_of_which_something_got_lost_on_the_way_is_refused() -> None:
    written = json.dumps(["SELECT 1", json.dumps(tree_of()), "SELECT 1 LIMIT 1 AFTER 2"])
    with pytest.raises(Refused, match="say it differently"):
        check("SELECT 1 LIMIT 1 AFTER 2", database="signet", tables=TABLES, ask=lambda _: written)


class BreaksOff:
    """A client whose answer ends within a line."""

    closed = False

    def query(self, query: str, /) -> object:
        raise AssertionError("an answer is read piece by piece")

    def raw_stream(self, query: str, /, *, fmt: str) -> io.BytesIO:
        return io.BytesIO(b'["one"]\n["UInt8"]\n[1')

    def close(self) -> None:
        self.closed = True


def test_an_answer_that_breaks_off_is_none() -> None:
    client = BreaksOff()
    with pytest.raises(WarehouseError, match="broke its answer off"):
        read(client, "SELECT 1 AS one")
    assert client.closed


def test_what_is_no_error_of_clickhouses_is_told_as_it_is() -> None:
    assert str(in_words(OSError("connection refused"))) == "connection refused"


@pytest.mark.parametrize("attack", ["TRUNCATE TABLE messages", "SELECT 1 INTO OUTFILE 'FOLDER/x'"])
def test_the_text_that_is_looked_at_is_not_run(desk: Desk, attack: str) -> None:
    """By a client that could: the one without walls."""
    with pytest.raises(Refused):
        check(desk.said(attack), database="signet", tables=TABLES, ask=ask_by(desk.maker))
    assert desk.is_untouched()
