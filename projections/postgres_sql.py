"""The read models' SQL in PostgreSQL's words: the whole difference between the two stores."""

import re
from functools import cache
from itertools import count
from typing import Final

_TYPES: Final = {
    "TEXT": 'TEXT COLLATE "C"',  # compared by bytes, whatever the database's own collation
    "BLOB": "BYTEA",
    "INTEGER": "BIGINT",
    " WITHOUT ROWID": "",
}
_IN_SCHEMA: Final = re.compile(r"\bTEXT\b|\bBLOB\b|\bINTEGER\b| WITHOUT ROWID\b")


@cache
def translated(sql: str) -> bytes:
    """Of a constant statement. No literal in it has a question mark, and no comment of a schema a type's name."""
    if sql.lstrip().startswith("CREATE TABLE"):
        return _IN_SCHEMA.sub(lambda found: _TYPES[found.group()], sql).encode()
    number = count(1)
    return re.sub(r"\?", lambda _: f"${next(number)}", sql).encode()
