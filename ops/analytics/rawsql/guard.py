"""Raw SQL of analysts, that can read our tables and do nothing else.

There are two walls, and each holds most of it by itself:

1. READ_ONLY, the settings of the handle that runs it (`limits`). With them ClickHouse refuses what writes, sets, or
   takes a file or an address for a table, and stops what costs too much. It lets through `INTO OUTFILE`, which writes a
   file, `file('/etc/passwd')`, `arrayMap(file, …)`, `Python(…)`, `KILL QUERY`, `USE`, the functions named ai… and
   system.*.
2. check() has ClickHouse write the text anew from its tree, and looks through the tree of that for nothing but what is
   known to be harmless. What was written is what is to be run: so nothing runs but what was looked at. To get there
   the text isn't run; it is a string, in hexadecimal digits, that functions of ClickHouse take apart.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from typing import Final

import msgspec

from ops.analytics.rawsql.limits import READ_ONLY, TOO_DEEP, Client, in_words, read
from ops.analytics.rawsql.tree import Refused, check_tree
from ops.analytics.warehouse import WarehouseError

__all__ = ["READ_ONLY", "Ask", "Refused", "ask_by", "ask_in_memory", "check", "in_words", "read"]

Ask = Callable[[str], str]
"""Has some ClickHouse evaluate a SELECT of one string, and gives that string. Raises WarehouseError."""

TEXT_BYTES_MAX: Final = 32 << 10

_NO_SELECT: Final = 36  # the code of parseQueryToJSON for what it has no JSON for

_TAKE_APART: Final = """
WITH unhex('%s') AS sql, formatQueryFromJSON(parseQueryToJSON(sql)) AS text
SELECT toJSONString([text, parseQueryToJSON(text), formatQuerySingleLine(sql)])
"""


def check(sql: str, *, database: str, tables: Collection[str], ask: Ask) -> str:
    """The text to run instead of `sql`, which means the same. It must be run with `database` as the current one, of
    whose tables `tables` may be read. Raises Refused, with what may not be and what may, or with ClickHouse's words on
    an error of syntax."""
    if len(sql.encode(errors="replace")) > TEXT_BYTES_MAX:
        raise Refused(f"a query may have {TEXT_BYTES_MAX >> 10} KiB, and this one is longer")
    text, tree, same = _take_apart(sql, ask)
    try:
        check_tree(msgspec.json.decode(tree), database=database, tables=tables)
    except RecursionError:
        raise Refused(TOO_DEEP) from None
    if _without_brackets(text) != _without_brackets(same):
        raise Refused("ClickHouse would write this query in another way than it read it: say it differently")
    return text


def _take_apart(sql: str, ask: Ask) -> list[str]:
    """What ClickHouse writes from the JSON of the tree of `sql`; the tree of that; and what it writes from the tree
    itself, of which the JSON might lose something."""
    try:
        return msgspec.json.decode(ask(_TAKE_APART % sql.encode().hex()), type=list[str])
    except WarehouseError as failed:
        told = "only a SELECT is run here, and this is another statement" if failed.code == _NO_SELECT else str(failed)
        raise Refused(told) from failed
    except (UnicodeEncodeError, msgspec.DecodeError):
        raise Refused("this query has bytes that are no UTF-8: write them as unhex('…')") from None


def _without_brackets(text: str) -> str:
    """In JSON a tree doesn't say which brackets stood there without need."""
    return re.sub(r"[() ]", "", text)


def ask_by(client: Client) -> Ask:
    """By a client of clickhouse-connect, whose ClickHouse has parseQueryToJSON: that of chDB 4.4 does. It may be the
    client that runs the query then."""

    def ask(query: str) -> str:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            return str(client.query(query).result_rows[0][0])
        except ClickHouseError as error:
            raise in_words(error) from error

    return ask


@contextmanager
def ask_in_memory() -> Iterator[Ask]:
    """By a chDB that holds nothing, for where the query goes to a server. A process has one chDB at a time."""
    import clickhouse_connect

    with closing(clickhouse_connect.get_client(interface="chdb", path=":memory:", settings=READ_ONLY)) as client:
        yield ask_by(client)
