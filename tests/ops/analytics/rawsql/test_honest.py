"""What analysts ask in earnest passes the guard, and is answered as it would be without it."""

from contextlib import closing
from typing import Any

import pytest

from ops.analytics.rawsql.guard import read
from ops.analytics.warehouse import Answer, Field
from tests.ops.analytics.rawsql.analyst import Desk, analyst, desk

__all__ = ["desk"]

HONEST: tuple[tuple[str, list[list[Any]]], ...] = (
    # Counting and grouping.
    ("SELECT count() FROM messages", [[100]]),
    ("select Count(*), SUM(size), Max(id) from signet.messages", [[100, 4950, 99]]),
    ('SELECT count() FROM "signet"."messages" AS m WHERE m.`sender` = \'anna\'', [[34]]),
    ("SELECT sender, count() AS c FROM messages GROUP BY sender HAVING c > 33 ORDER BY c DESC", [["anna", 34]]),
    ("SELECT conversation, count() FROM messages GROUP BY ALL ORDER BY ALL", [["c0", 50], ["c1", 50]]),
    ("SELECT count(DISTINCT sender), uniqExact(sender), countDistinct(conversation) FROM messages", [[3, 3, 2]]),
    ("SELECT count() FILTER (WHERE size > 89), countIf(size > 89), sumIf(size, id < 3) FROM messages", [[10, 10, 3]]),
    ("SELECT conversation, count() FROM messages GROUP BY conversation WITH TOTALS ORDER BY 1 LIMIT 1", [["c0", 50]]),
    (
        "SELECT conversation, grouping(conversation), count() FROM messages GROUP BY ROLLUP (conversation)"
        " ORDER BY ALL",
        [["", 1, 100], ["c0", 0, 50], ["c1", 0, 50]],
    ),
    ("SELECT count() FROM (SELECT 1 FROM messages GROUP BY GROUPING SETS ((sender), (conversation)))", [[5]]),
    ("SELECT count() FROM (SELECT 1 FROM messages GROUP BY CUBE (sender, conversation))", [[12]]),
    ("SELECT DISTINCT conversation FROM messages ORDER BY conversation", [["c0"], ["c1"]]),
    ("SELECT DISTINCT ON (sender) sender FROM messages ORDER BY sender", [["anna"], ["ben"], ["cem"]]),
    # Aggregates with parameters and combinators.
    ("SELECT quantile(0.5)(size), quantilesExact(0, 1)(size), median(size) FROM messages", [[49.5, [0, 99], 49.5]]),
    (
        "SELECT argMax(sender, at), groupArray(2)(id), anyLast(size), topK(1)(conversation) FROM messages WHERE id < 3",
        [["cem", [0, 1], 2, ["c0"]]],
    ),
    (
        "SELECT sumMap(reactions), uniqArray(tags), avgOrNull(size), sumOrDefault(size) FROM messages WHERE id < 3",
        [[{"yes": 3}, 2, 1, 3]],
    ),
    ("SELECT first_value(size) IGNORE NULLS FROM messages WHERE id = 7", [[7]]),
    ("SELECT windowFunnel(7200)(at, sender = 'anna', sender = 'ben') FROM messages", [[2]]),
    (
        "SELECT retention(size > 1, size > 2), sequenceMatch('(?1).*(?2)')(at, size = 1, size = 5) FROM messages",
        [[[1, 1], 1]],
    ),
    ("SELECT corr(id, size), round(simpleLinearRegression(id, size).1, 3) FROM messages", [[1, 1]]),
    # Time.
    ("SELECT toDate(at) AS day, count() FROM messages GROUP BY day ORDER BY day LIMIT 1", [["2024-01-01", 24]]),
    (
        "SELECT toStartOfInterval(max(at), INTERVAL 1 WEEK), formatDateTime(min(at), '%Y-%m') FROM messages",
        [["2024-01-01", "2024-01"]],
    ),
    (
        "SELECT at + INTERVAL 1 DAY, EXTRACT(YEAR FROM at), date_trunc('month', at), toDayOfWeek(at) FROM"
        " messages LIMIT 1",
        [["2024-01-02 00:00:00", 2024, "2024-01-01", 1]],
    ),
    ("SELECT DATE '2024-02-01' - toDate('2024-01-01'), dateDiff('hour', min(at), max(at)) FROM messages", [[31, 99]]),
    ("SELECT toHour(at AT TIME ZONE 'Europe/Zurich') FROM messages LIMIT 1", [[1]]),
    ("SELECT now() > toDateTime('2024-01-01'), today() > yesterday(), rand() >= 0", [[1, 1, 1]]),
    (
        "SELECT toStartOfHour(at) AS h, count() FROM messages WHERE id IN (0, 2) GROUP BY h ORDER BY h WITH"
        " FILL STEP 3600",
        [["2024-01-01 00:00:00", 1], ["2024-01-01 01:00:00", 0], ["2024-01-01 02:00:00", 1]],
    ),
    (
        "SELECT id AS i, size AS s FROM messages WHERE id IN (1, 3) ORDER BY i WITH FILL FROM 1 TO 4"
        " INTERPOLATE (s AS s + 1)",
        [[1, 1], [2, 2], [3, 3]],
    ),
    # Windows.
    (
        "SELECT id, sum(size) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM messages ORDER"
        " BY id LIMIT 3",
        [[0, 0], [1, 1], [2, 3]],
    ),
    (
        "SELECT sender, row_number() OVER w, lagInFrame(id, 1, 7) OVER w FROM messages WINDOW w AS (PARTITION"
        " BY sender ORDER BY at) ORDER BY id LIMIT 1",
        [["anna", 1, 7]],
    ),
    (
        "SELECT id FROM messages QUALIFY row_number() OVER (PARTITION BY sender ORDER BY at DESC) = 1 ORDER BY id",
        [[97], [98], [99]],
    ),
    (
        "SELECT max(size) OVER (ORDER BY id RANGE BETWEEN CURRENT ROW AND 5 FOLLOWING) FROM messages ORDER BY"
        " id LIMIT 1",
        [[5]],
    ),
    # Parts of several.
    (
        "WITH busy AS (SELECT sender, count() AS c FROM messages GROUP BY sender), 33 AS least SELECT sender"
        " FROM busy WHERE c > least",
        [["anna"]],
    ),
    ("WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT b.x, a.x FROM a, b", [[2, 1]]),
    ("WITH t (x, y) AS (SELECT 1, 2) SELECT x + y FROM t", [[3]]),
    ("WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 5) SELECT sum(x) FROM r", [[15]]),
    ("WITH (SELECT max(size) FROM messages) AS top SELECT id FROM messages WHERE size = top", [[99]]),
    ("SELECT id FROM messages WHERE size = (SELECT max(size) FROM messages)", [[99]]),
    ("SELECT count() FROM messages WHERE sender IN (SELECT name FROM people)", [[67]]),
    ("SELECT count() FROM messages WHERE (sender, id) NOT IN (SELECT sender, id FROM messages WHERE id < 90)", [[10]]),
    (
        "WITH few AS (SELECT name FROM people WHERE name = 'ben') SELECT count() FROM messages WHERE sender IN few",
        [[33]],
    ),
    (
        "SELECT count() FROM messages WHERE sender IN ('anna', 'ben') AND NOT EXISTS (SELECT 1 FROM people"
        " WHERE name = 'cem')",
        [[67]],
    ),
    ("SELECT 0 = ANY (SELECT id FROM messages), 200 > ALL (SELECT id FROM messages)", [[1, 1]]),
    ("SELECT id FROM messages WHERE id < 2 INTERSECT SELECT id FROM messages WHERE id > 0", [[1]]),
    ("(SELECT 1 AS x UNION DISTINCT SELECT 1) EXCEPT SELECT 2", [[1]]),
    ("SELECT * FROM (SELECT 1 AS a) AS t (b)", [[1]]),
    # Joins.
    (
        "SELECT p.name, count() FROM messages AS m JOIN people AS p ON m.sender = p.name GROUP BY p.name ORDER BY 1",
        [["anna", 34], ["ben", 33]],
    ),
    ("SELECT count() FROM messages LEFT ANTI JOIN people ON sender = name", [[33]]),
    (
        "SELECT b.id FROM people AS a ASOF JOIN messages AS b ON a.name = b.sender AND b.at >= a.born ORDER BY 1",
        [[0], [1]],
    ),
    ("SELECT count() FROM messages AS a JOIN messages AS b USING (id)", [[100]]),
    ("SELECT count() FROM messages AS a CROSS JOIN numbers(2) AS b", [[200]]),
    ("SELECT count() FROM messages AS a, people AS b WHERE a.sender = b.name", [[67]]),
    ("SELECT m.* EXCEPT (id, text, at, tags, reactions) FROM messages AS m LIMIT 1", [["anna", "c0", 0]]),
    # Arrays, maps, lambdas.
    ("SELECT id, tag FROM messages ARRAY JOIN tags AS tag WHERE id = 1 ORDER BY tag", [[1, "a"], [1, "b"]]),
    ("SELECT arrayJoin(tags) AS tag, count() FROM messages GROUP BY tag ORDER BY tag", [["a", 100], ["b", 100]]),
    (
        "SELECT arrayMap(x -> upper(x), tags), arrayMap(upper, tags), tags[1], has(tags, 'b') FROM messages LIMIT 1",
        [[["A", "B"], ["A", "B"], "a", 1]],
    ),
    (
        "SELECT arrayFilter((x, y) -> y > 1, ['a', 'b'], [1, 2]), arraySort(x -> -x, [1, 3, 2]), arraySum([1, 2])",
        [[["b"], [3, 2, 1], 3]],
    ),
    (
        "SELECT arrayReduce('sumIf', [1, 2], [1, 0]), arrayReduce('quantile(0.5)', [1, 3]), arrayFold((a, x)"
        " -> a + x, [1, 2], 0::Int64)",
        [[1, 2, 3]],
    ),
    (
        "SELECT reactions['yes'], mapKeys(reactions), mapApply((k, v) -> (k, v + 1), reactions) FROM messages"
        " WHERE id = 4",
        [[4, ["yes"], {"yes": 5}]],
    ),
    ("SELECT (1, 'a').2, tuple(1, 2), untuple((3, 4)), [1, 2], map('k', 1)", [["a", [1, 2], 3, 4, [1, 2], {"k": 1}]]),
    # Texts, JSON, numbers, conditions.
    (
        "SELECT lower(text), length(text), text ILIKE 'HELLO%', match(text, '\\\\d$'), splitByChar(' ',"
        " text)[2] FROM messages LIMIT 1",
        [["hello 0", 7, 1, 1, "0"]],
    ),
    (
        "SELECT replaceRegexpAll(text, 'l+', 'L'), extractAll('a1b22', '[0-9]+'), position(text, 'lo'), text"
        " || '!' FROM messages LIMIT 1",
        [["HeLo 0", ["1", "22"], 4, "Hello 0!"]],
    ),
    (
        "SELECT formatReadableSize(2048), bar(5, 0, 10, 4), format('{} of {}', 1, 2), TRIM(BOTH 'x' FROM 'xax')",
        [["2.00 KiB", "██", "1 of 2", "a"]],
    ),
    (
        "SELECT JSONExtractInt('{\"a\": {\"b\": 3}}', 'a', 'b'), JSONExtract('[1, 2]', 'Array(Int8)'), '{\"x\":"
        " 1}'::JSON.x",
        [[3, [1, 2], 1]],
    ),
    (
        "SELECT CASE WHEN size > 5 THEN 'much' ELSE 'little' END, CASE id WHEN 0 THEN 'first' END, if(id = 0,"
        " 1, 2), id > 0 ? 1 : 2 FROM messages LIMIT 1",
        [["little", "first", 1, 2]],
    ),
    (
        "SELECT size BETWEEN 1 AND 2, size IS NULL, coalesce(NULL, size), size::String, CAST(size AS"
        " Float64), -size, NOT size FROM messages WHERE id = 2",
        [[1, 0, 2, "2", 2, -2, 0]],
    ),
    (
        "SELECT 7 DIV 2, 7 MOD 4, 7 / 2, 7 % 4, 2 * 3 - 1, 0x1F, 1e3, 'it''s', 'a\\nb', round(2.5), 1 <> 2",
        [[3, 3, 3.5, 3, 5, 31, 1000, "it's", "a\nb", 2, 1]],
    ),
    (
        "SELECT cityHash64('a') = cityHash64('a'), domain('https://signet.example/x'), toTypeName(1)",
        [[1, "signet.example", "UInt8"]],
    ),
    ("SELECT 'привет 🙂' AS \"слово\"", [["привет 🙂"]]),
    # How much, and which columns.
    ("SELECT sender, id FROM messages ORDER BY id LIMIT 1 BY sender LIMIT 2", [["anna", 0], ["ben", 1]]),
    ("SELECT id FROM messages ORDER BY id LIMIT 2 OFFSET 1", [[1], [2]]),
    ("SELECT id FROM messages ORDER BY id OFFSET 1 ROW FETCH FIRST 1 ROWS ONLY", [[1]]),
    ("SELECT conversation FROM messages ORDER BY conversation LIMIT 49, 1 WITH TIES", [["c0"]]),
    ("SELECT id FROM messages ORDER BY sender DESC NULLS LAST COLLATE 'en', id LIMIT 1", [[2]]),
    ("SELECT count() FROM messages FINAL PREWHERE size > 9 WHERE id > 19", [[80]]),
    ("SELECT count() > 0 FROM messages SAMPLE 1/2 OFFSET 0", [[1]]),
    (
        "SELECT * EXCEPT ('text|^at|tags|reactions') REPLACE (id + 1 AS id) FROM messages ORDER BY messages.id LIMIT 1",
        [[1, "anna", "c0", 0]],
    ),
    ("SELECT COLUMNS('^s') APPLY (max), COLUMNS(id, size) APPLY (x -> min(x) + 1) FROM messages", [["cem", 99, 1, 1]]),
    ("FROM people SELECT name ORDER BY born LIMIT 1", [["anna"]]),
    ("SELECT sum(number) FROM numbers(5)", [[10]]),
    ("SELECT count() FROM generate_series(1, 5)", [[5]]),
    ("SELECT b FROM values('a UInt8, b String', (1, 'x'), (2, 'y')) WHERE a = 2", [["y"]]),
    ("SELECT count() FROM (VALUES (1, 'a'), (2, 'b'))", [[2]]),
    ("-- all of it\nSELECT /* ; DROP TABLE people */ 1 -- INTO OUTFILE 'x'\n;\n", [[1]]),
    (
        "SELECT 'SELECT file(\\'x\\') INTO OUTFILE SETTINGS FORMAT', 1 AS file, 2 AS `system.one`",
        [["SELECT file('x') INTO OUTFILE SETTINGS FORMAT", 1, 2]],
    ),
)


@pytest.mark.parametrize(("sql", "rows"), HONEST)
def test_it_passes_and_is_answered(desk: Desk, sql: str, rows: list[list[Any]]) -> None:
    with closing(analyst()) as client:
        answer = read(client, desk.check(sql))
        assert answer.data == rows
        assert read(client, sql.rstrip("\n;")) == answer or "rand" in sql, "as without the guard, names of columns too"


def test_an_answer_names_its_columns_and_types(desk: Desk) -> None:
    with closing(analyst()) as client:
        answer = read(client, desk.check("SELECT id, sender AS who, nan, unhex('ff') FROM messages WHERE id = 0"))
    meta = [Field("id", "UInt64"), Field("who", "String"), Field("nan", "Float64"), Field("unhex('ff')", "String")]
    assert answer == Answer(meta, [[0, "anna", None, "\ufffd"]])
