"""A connection to ClickHouse by clickhouse-connect: to a server, or to chDB in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

from ops.analytics.rawsql import guard
from ops.analytics.rawsql.limits import in_words
from ops.analytics.warehouse import Answer, Parameters, WarehouseError, WarehouseUnavailable, decode_answer
from projections.analytics.tables import TABLES

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

DATABASE: Final = "signet"
"""Where no other one is named."""
_INSERT_ID: Final = "signet-insert-"
"""How the ids of queries begin that insert."""
_INSERTING: Final = """
SELECT count() FROM system.processes WHERE startsWith(query_id, {prefix:String}) AND is_cancelled = 0
"""

ANSWERS: Final[dict[str, Any]] = {
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_denormals": 0,
    "join_use_nulls": 0,
}
SETTINGS: Final[dict[str, Any]] = {
    **ANSWERS,
    # What is inserted is one block, and one part: it is there as a whole or not at all.
    "async_insert": 0,
    "max_insert_block_size": 1_048_576,
    "min_insert_block_size_rows": 1_048_576,
    "min_insert_block_size_bytes": 0,
    "input_format_parallel_parsing": 0,
}
_READONLY: Final = 164
_NO_SETTINGS: Final = (
    "ClickHouse does not let this user change settings or write. To ask, a user needs SELECT on the database (and no "
    "readonly = 1, which forbids settings); to load, one needs to write"
)
_SETTLE_EVERY_S: Final = 0.1
CONNECT_MAX_S: Final = 10
ANSWER_MAX_S: Final = 600
"""The longest that a query or an insert may take."""


READABLE: Final = (*TABLES, "loads")
"""The tables that raw SQL may name."""


class ClickHouse:
    """Gives answers as ClickHouse wrote them, in JSONCompact: the keeper hands them on as they are."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.upto: int | None = None
        """The position up to which the tables are read; None: all that is there."""

    @classmethod
    def embedded(cls, folder: Path) -> Self:
        """chDB has one folder open in a process, and any number of such connections to it."""
        return cls(_embedded(folder, SETTINGS))

    def make(self, database: str) -> None:
        """Where there is none."""
        with explained():
            self._client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`", use_database=False)

    @property
    def _insert_id(self) -> str:
        return f"{_INSERT_ID}{self._client.database}-"

    def use(self, database: str) -> None:
        """For whatever is asked from here on."""
        self._client.database = database

    def command(self, sql: str) -> None:
        with explained():
            self._client.command(sql)

    def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        with explained():
            # Bytes the client would send once more where the connection breaks, though they may be there already; a
            # file it can't.
            self._client.raw_insert(
                table, columns, BytesIO(rows), {"query_id": f"{self._insert_id}{uuid4()}"}, "JSONCompactEachRow"
            )

    def read_upto(self, position: int) -> None:
        with explained():
            for name, value in only_upto(position).items():
                self._client.set_client_setting(name, value)
        self.upto = position

    def settle(self) -> None:
        given_up = time.monotonic() + ANSWER_MAX_S
        while self.select(_INSERTING, {"prefix": self._insert_id}).data != [[0]]:
            if time.monotonic() > given_up:
                raise WarehouseUnavailable(
                    "ClickHouse is still at an insert of an earlier load: system.processes tells which; then load again"
                )
            time.sleep(_SETTLE_EVERY_S)  # ClickHouse tells nobody when a query of another connection ends.

    def select(self, sql: str, parameters: Parameters | None = None) -> Answer:
        return decode_answer(self.select_raw(sql, parameters))

    def select_raw(self, sql: str, parameters: Parameters | None = None) -> bytes:
        with explained():
            return self._client.raw_query(sql, dict(parameters or {}), fmt="JSONCompact")

    def close(self) -> None:
        self._client.close()


def ask_embedded(folder: Path, sql: str, upto: int | None) -> Answer:
    """Raw SQL on the folder that this process has open. Raises Refused, WarehouseError."""
    with closing(_embedded(folder, {**ANSWERS, **only_upto(upto), **guard.READ_ONLY})) as client:
        client.database = DATABASE
        checked = guard.check(sql, database=DATABASE, tables=READABLE, ask=guard.ask_by(client))
        return guard.read(client, checked)


def only_upto(upto: int | None) -> dict[str, Any]:
    """The setting by which ClickHouse reads no rows beyond a position, wherever a query names a table."""
    if upto is None:
        return {}
    filters = ", ".join(f"'{name}': 'position <= {upto}'" for name in READABLE)
    return {"additional_table_filters": f"{{{filters}}}"}


def _embedded(folder: Path, settings: Mapping[str, Any]) -> Client:
    from clickhouse_connect import get_client

    return get_client(interface="chdb", path=str(folder), settings=dict(settings))


@contextmanager
def explained() -> Iterator[None]:
    """Errors of clickhouse-connect as ours."""
    from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

    try:
        yield
    except OperationalError as error:
        raise WarehouseUnavailable(f"ClickHouse can't be reached: {error.__cause__ or error}") from error
    except ClickHouseError as error:
        told = in_words(error)
        if told.code == _READONLY or "is readonly" in str(told):
            raise WarehouseError(_NO_SETTINGS, _READONLY) from error
        raise told from error
