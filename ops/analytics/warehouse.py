"""The port to ClickHouse: what we ask of it, wherever it is.

WarehouseError            it refused what it was asked, in its own words
└── WarehouseUnavailable  it is not there, or went away: what was asked may have been done, or not
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from ops.errors import OpsError

Parameters = Mapping[str, Any]
"""Values of the placeholders `{name:Type}` in a query; ClickHouse puts them in, not we."""


class WarehouseError(OpsError):
    def __init__(self, text: str, code: int = 0) -> None:
        """`code`: ClickHouse's own number for it."""
        super().__init__(text)
        self.code = code


class WarehouseUnavailable(WarehouseError):
    pass


class Field(msgspec.Struct, frozen=True):
    name: str
    type: str
    """As ClickHouse calls it."""


class Answer(msgspec.Struct, frozen=True):
    """ClickHouse's format JSONCompact."""

    meta: list[Field]
    data: list[list[Any]]

    @property
    def names(self) -> list[str]:
        return [field.name for field in self.meta]


class Warehouse(Protocol):
    """One connection, for one thread."""

    def command(self, sql: str) -> None:
        """Raises WarehouseError."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        """Rows in the format JSONCompactEachRow: all of them or none. Raises WarehouseError; after WarehouseUnavailable
        they may be there, or come yet."""
        ...

    def settle(self) -> None:
        """Returns when nothing can come any more that somebody inserted who is gone. Raises WarehouseError."""
        ...

    def read_upto(self, position: int) -> None:
        """From here on the tables are read up to this position alone: beyond it may be half a block. Raises
        WarehouseError."""
        ...

    def select(self, sql: str, parameters: Parameters | None = None) -> Answer:
        """Times come as texts, `2005-02-08 09:30:00`. Raises WarehouseError."""
        ...

    def ask(self, sql: str) -> Answer:
        """Raw SQL, of an analyst. Raises `rawsql.guard.Refused` where it may not be asked, WarehouseError."""
        ...

    def close(self) -> None: ...


_DECODE: Final = msgspec.json.Decoder(Answer).decode


def decode_answer(raw: bytes) -> Answer:
    return _DECODE(raw)
