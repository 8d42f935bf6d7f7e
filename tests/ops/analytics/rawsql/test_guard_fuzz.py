"""What may not be called, put into random places, is refused each time."""

from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ops.analytics.rawsql.guard import Refused
from tests.ops.analytics.rawsql.analyst import Desk, desk

__all__ = ["desk"]

HOLE: Final = "◊"

FORBIDDEN: Final = (
    "file('x')",
    "`file`('x')",
    "hostName()",
    "getSetting('readonly')",
    "aiGenerate('x')",
    "dictGet('d', 'a', 1)",
    "my_own(1)",
    "sleep(3)",
    "globalVariable('version')",
    "arrayMap(file, ['x'])",
    "arrayFilter((file), ['x'])",
    "arrayFold(joinGet AS plus, ['x'], '')",
    "mapApply(file, map(1, 2))",
    "arrayReduce('flameGraph', [1])",
    "arrayReduce('su' || 'm', [1])",
    "(1 IN hidden)",
    "(1 NOT IN signet.hidden)",
    "(1 GLOBAL IN system.one)",
    "notIn(1, (hidden))",
    "(WITH hidden AS people SELECT 1 IN people)",
    "(WITH file AS upper SELECT arrayMap(upper, ['x']))",
    "(SELECT 1 FROM hidden)",
    "(SELECT 1 FROM system.one)",
    "(SELECT 1 FROM url('http://127.0.0.1/'))",
    "(SELECT 1 FROM file('x') AS t JOIN people ON 1)",
    "(SELECT 1 FROM people JOIN file('x') AS t ON 1)",
    "(SELECT 1 FROM view(SELECT 1))",
    "(SELECT 1 SETTINGS readonly = 0)",
    "(WITH hidden AS (SELECT * FROM hidden) SELECT 1 FROM hidden)",
    "(SELECT * APPLY (file) FROM people)",
    "(SELECT * FROM (EXPLAIN SELECT 1))",
    "{x:UInt8}",
)

EXPRESSIONS: Final = (
    "(◊)",
    "(◊ AS a1, 1)",
    "1 + ◊",
    "-◊",
    "NOT ◊",
    "◊ AND 1",
    "◊ = 1",
    "◊ || 'x'",
    "◊ IS NULL",
    "◊ BETWEEN 1 AND 2",
    "1 BETWEEN 0 AND ◊",
    "◊ LIKE 'x'",
    "'x' ILIKE ◊",
    "◊ IN (1, 2)",
    "1 IN (◊, 2)",
    "1 IN (SELECT ◊)",
    "1 = ANY (SELECT ◊)",
    "EXISTS (SELECT ◊)",
    "if(◊, 1, 2)",
    "1 ? ◊ : 2",
    "CASE WHEN 1 THEN ◊ ELSE 2 END",
    "CASE WHEN ◊ THEN 1 END",
    "CASE ◊ WHEN 1 THEN 2 END",
    "CASE 1 WHEN ◊ THEN 2 END",
    "CAST(◊ AS String)",
    "(◊)::String",
    "toString(◊)",
    "coalesce(NULL, ◊)",
    "[1, ◊]",
    "[◊][1]",
    "[1][◊]",
    "(1, ◊)",
    "(1, ◊).2",
    "map('k', ◊)",
    "arrayMap(x -> ◊, [1])",
    "arrayMap((x, y) -> x + ◊, [1], [2])",
    "arrayMap(upper, [◊])",
    "arrayExists(x -> x = ◊, [1])",
    "arrayJoin([◊])",
    "sum(◊)",
    "sumIf(1, ◊)",
    "count() FILTER (WHERE ◊)",
    "count(DISTINCT ◊)",
    "quantile(0.5)(◊)",
    "groupArray(◊)(1)",
    "sum(◊) OVER (PARTITION BY 1)",
    "sum(1) OVER (PARTITION BY ◊)",
    "sum(1) OVER (ORDER BY ◊)",
    "sum(1) OVER (ORDER BY 1 ROWS BETWEEN ◊ PRECEDING AND CURRENT ROW)",
    "INTERVAL ◊ DAY",
    "EXTRACT(YEAR FROM ◊)",
    "TRIM(BOTH 'x' FROM ◊)",
    "SUBSTRING(◊ FROM 1 FOR 2)",
    "(SELECT ◊)",
    "(SELECT 1 UNION ALL SELECT ◊)",
    "(SELECT 1 EXCEPT SELECT ◊)",
    "(WITH ◊ AS w SELECT w)",
    "(WITH w AS (SELECT ◊) SELECT 1 FROM w)",
    "(WITH x -> ◊ AS w SELECT 1)",
    "untuple((◊, 1))",
    "grouping(◊)",
    "arrayReduce('sum', [◊])",
    "date_trunc('day', ◊)",
    "position(◊ IN 'x')",
    "'x' NOT LIKE ◊",
    "◊ DIV 2",
    "◊ <=> 1",
    "◊ AT TIME ZONE 'UTC'",
)

STATEMENTS: Final = (
    "SELECT ◊",
    "SELECT 1, ◊ AS a2, 2",
    "SELECT DISTINCT ◊",
    "SELECT DISTINCT ON (◊) 1 FROM people",
    "SELECT 1 FROM people WHERE ◊",
    "SELECT 1 FROM people PREWHERE ◊",
    "SELECT 1 FROM people GROUP BY ◊",
    "SELECT 1 FROM people GROUP BY GROUPING SETS ((name), (◊))",
    "SELECT 1 FROM people GROUP BY ROLLUP (◊)",
    "SELECT 1 FROM people GROUP BY name HAVING ◊",
    "SELECT 1 FROM people QUALIFY ◊",
    "SELECT 1 FROM people ORDER BY ◊",
    "SELECT 1 FROM people ORDER BY name, ◊ DESC",
    "SELECT 1 AS n ORDER BY n WITH FILL FROM ◊ TO 5",
    "SELECT 1 AS n ORDER BY n WITH FILL FROM 1 TO ◊",
    "SELECT 1 AS n ORDER BY n WITH FILL STEP ◊",
    "SELECT 1 AS n ORDER BY n WITH FILL STALENESS ◊",
    "SELECT 1 AS n, 2 AS m ORDER BY n WITH FILL FROM 1 TO 5 INTERPOLATE (m AS ◊)",
    "SELECT 1 FROM people LIMIT ◊",
    "SELECT 1 FROM people LIMIT 1 OFFSET ◊",
    "SELECT 1 FROM people LIMIT 1 BY ◊",
    "SELECT 1 FROM people LIMIT ◊ BY name",
    "SELECT 1 FROM people WINDOW w AS (PARTITION BY ◊)",
    "SELECT 1 FROM people WINDOW w AS (ORDER BY ◊)",
    "SELECT 1 FROM people JOIN messages ON ◊",
    "SELECT 1 FROM people LEFT JOIN (SELECT ◊ AS j) AS t ON 1",
    "SELECT 1 FROM people ASOF JOIN messages ON name = sender AND born < ◊",
    "SELECT 1 FROM people ARRAY JOIN [◊] AS a3",
    "SELECT 1 FROM people LEFT ARRAY JOIN ◊",
    "SELECT 1 FROM (SELECT ◊)",
    "SELECT 1 FROM (SELECT ◊) AS t (a4)",
    "SELECT 1 FROM numbers(◊)",
    "SELECT 1 FROM numbers(1, ◊) AS n, people",
    "SELECT 1 FROM values('a String', ◊)",
    "SELECT 1 FROM (VALUES (1, ◊), (2, 3))",
    "WITH ◊ AS w SELECT 1",
    "WITH w AS (SELECT ◊) SELECT 1 FROM w",
    "WITH w (a5) AS (SELECT ◊) SELECT 1 FROM w",
    "WITH RECURSIVE w AS (SELECT 1 AS n UNION ALL SELECT n + ◊ FROM w) SELECT 1 FROM w",
    "WITH x -> ◊ AS w SELECT 1",
    "WITH people AS (SELECT ◊) SELECT 1",
    "SELECT 1 UNION ALL SELECT ◊",
    "SELECT ◊ UNION DISTINCT SELECT 1",
    "(SELECT ◊) INTERSECT SELECT 1",
    "SELECT 1 EXCEPT (SELECT 2 UNION ALL SELECT ◊)",
    "SELECT * REPLACE (◊ AS name) FROM people",
    "SELECT * APPLY (x -> ◊) FROM people",
    "SELECT COLUMNS('n') APPLY (x -> toString(◊)) FROM people",
    "SELECT p.* REPLACE (◊ AS name) FROM people AS p",
    "SELECT COLUMNS(name, born) REPLACE (◊ AS name) FROM people",
    "FROM people SELECT ◊",
    "SELECT 1 FROM people WHERE name IN (SELECT name FROM people WHERE ◊)",
    "SELECT /* harmless */ ◊ -- 'really'\n",
)


def put(inner: str, places: list[str], statement: str) -> str:
    for place in places:
        inner = place.replace(HOLE, f"({inner})")
    return statement.replace(HOLE, f"({inner})")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_in_each_part_of_a_query(desk: Desk, statement: str) -> None:
    for forbidden in FORBIDDEN:
        refuses(desk, put(forbidden, [], statement))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_in_each_kind_of_expression(desk: Desk, expression: str) -> None:
    for forbidden in FORBIDDEN:
        refuses(desk, put(forbidden, [expression], f"SELECT {HOLE}"))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_each_part_is_harmless_by_itself(desk: Desk, statement: str) -> None:
    """Else what stands in them would show nothing."""
    desk.check(put("1", [], statement))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_is_harmless_by_itself(desk: Desk, expression: str) -> None:
    desk.check(put("1", [expression], f"SELECT {HOLE}"))


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FORBIDDEN), st.lists(st.sampled_from(EXPRESSIONS), max_size=6), st.sampled_from(STATEMENTS))
@example("arrayMap(file, ['x'])", ["arrayMap(x -> ◊, [1])"], "SELECT * APPLY (x -> ◊) FROM people")
def test_and_in_any_place_within_any_other(desk: Desk, forbidden: str, places: list[str], statement: str) -> None:
    refuses(desk, put(forbidden, places, statement))


def refuses(desk: Desk, sql: str) -> None:
    with pytest.raises(Refused) as refused:
        desk.check(sql)
    assert "rror" not in str(refused.value), f"not a query: {sql}"
