"""The recorder of the `eventsourcing` library in PostgreSQL: its table, its lock and its channel, with a statement of
our own to insert, that checks the expected version of each stream exactly and gets a batch as arrays in binary, and
rows as the port wants them. It only makes queries and reads results; `commands.stores.postgres` is the event log over
it.
"""

from collections.abc import Sequence
from struct import pack, unpack
from typing import Final, cast

from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.sql import SQL, Composed, Identifier

from commands.stores.postgres_session import Query
from commands.stores.postgres_url import Address
from domain.log import START, Append, Appended, Conflict, Outcome, RecordedEvent

BEGIN: Final = Query(b"begin")
LOCK: Final = Query(b"lock")
COMMIT: Final = Query(b"commit")
HEAD: Final = Query(b"head")
LISTEN: Final = Query(b"listen")

COLUMNS: Final = {
    "originator_id": "text",
    "originator_version": "bigint",
    "topic": "text",
    "state": "bytea",
    "notification_id": "bigint",
}
"""Of the library's table, with their types."""

_INT8_OID: Final = 20
_TEXT_OID: Final = 25
_BYTEA_OID: Final = 17

# Under READ COMMITTED each statement sees what was committed when it begins: here, after the lock. Defaults such as the
# next position are computed after the rows are sorted.
_INSERT: Final = """
WITH heads AS MATERIALIZED (
    SELECT number, stream, expected, coalesce(
        (SELECT max(originator_version) FROM {table} WHERE originator_id = stream), -1
    ) AS current
    FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS _ (stream, expected, number)
), added AS (
    INSERT INTO {table} (originator_id, originator_version, topic, state)
    SELECT stream, version, topic, state
    FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::bytea[])
        WITH ORDINALITY AS _ (number, version, topic, state, place)
    JOIN heads USING (number)
    WHERE current = expected
    ORDER BY place
    RETURNING notification_id
)
SELECT
    (SELECT array_agg(current ORDER BY number) FROM heads),
    (SELECT array_agg(notification_id ORDER BY notification_id) FROM added),
    pg_notify({channel}, '')
"""
_SELECT: Final = "SELECT notification_id, originator_id, originator_version, topic, state FROM {table} WHERE "
_STREAM: Final = _SELECT + "originator_id = $1 AND originator_version > $2 ORDER BY originator_version LIMIT $3::bigint"
_ALL: Final = _SELECT + "notification_id > $1 ORDER BY notification_id LIMIT $2::bigint"

_LAST: Final = _SELECT + "true ORDER BY notification_id DESC LIMIT $1::bigint"


class _Datastore(PostgresDatastore):
    """Its pool is never opened: connections are the event log's."""

    def register_type_adapters(self) -> None:
        """None is needed for arrays, and this would connect."""


class Recorder(PostgresApplicationRecorder):
    def __init__(self, schema: str) -> None:
        super().__init__(_Datastore("", "", "", "", "", schema=schema, originator_id_type="text"))
        self.table = Identifier(schema, self.events_table_name)
        self.table_name = self.table.as_string()

    @property
    def create_statements(self) -> list[Composed]:
        """Without the library's type and function, which nobody uses here: two that replace a function at once fail."""
        return [
            statement
            for statement in self.sql_create_statements
            if statement.as_string().startswith(("CREATE TABLE", "CREATE UNIQUE INDEX"))
        ]

    @property
    def write_statements(self) -> dict[bytes, bytes]:
        lock = cast(Composed, self.lock_table_statements[-1])
        return {
            BEGIN.name: b"BEGIN ISOLATION LEVEL READ COMMITTED",
            LOCK.name: lock.as_string().encode(),
            b"insert": self._sql(_INSERT),
            COMMIT.name: b"COMMIT",
        }

    @property
    def read_statements(self) -> dict[bytes, bytes]:
        return {
            b"stream": self._sql(_STREAM),
            b"all": self._sql(_ALL),
            b"last": self._sql(_LAST),
            HEAD.name: self.max_notification_id_statement.as_string().encode(),
            LISTEN.name: SQL("LISTEN {}").format(Identifier(self.channel_name)).as_string().encode(),
        }

    def _sql(self, statement: str) -> bytes:
        return SQL(statement).format(table=self.table, channel=self.channel_name).as_string().encode()


def settings(address: Address, server_version: int, *, read_only: bool) -> bytes:
    """A query that sets them for the session."""
    wanted: dict[str, object] = {
        "statement_timeout": address.statement_timeout_ms,
        "lock_timeout": address.lock_timeout_ms,
        # A client that stops in the middle of an append doesn't keep the lock.
        "idle_in_transaction_session_timeout": address.deadline_ms,
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
        # Each statement has its index, whatever the table's statistics say, and is planned once.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "jit": "off",
    }
    if read_only:  # else it is as the server wants it
        wanted["default_transaction_read_only"] = "on"
    if server_version >= 170_000:
        wanted["transaction_timeout"] = 2 * address.deadline_ms
    calls = [f"set_config('{name}', '{value}', false)" for name, value in wanted.items()]
    # Where the server answers before it has written, an answer says nothing.
    calls.append("set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false)")
    return f"SELECT {', '.join(calls)}".encode()


def insertion(batch: Sequence[Append]) -> Query:
    """All events whose streams are where they are expected to be."""
    numbers, versions, topics, datas = [], [], [], []
    for number, append in enumerate(batch, 1):
        for version, event in enumerate(append.events, append.expected + 1):
            numbers.append(number)
            versions.append(version)
            topics.append(event.topic.encode())
            datas.append(event.data)
    return Query(
        b"insert",
        [
            _array(_TEXT_OID, [append.stream.encode() for append in batch]),
            _integers([append.expected for append in batch]),
            _integers(numbers),
            _integers(versions),
            _array(_TEXT_OID, topics),
            _array(_BYTEA_OID, datas),
        ],
    )


def inserted(batch: Sequence[Append], result: PGresult) -> list[Outcome]:
    """What the insertion has done, once it is committed."""
    versions, positions = _integers_of(result.get_value(0, 0)), _integers_of(result.get_value(0, 1))
    outcomes: list[Outcome] = []
    used = 0
    for append, current in zip(batch, versions, strict=True):
        if current != append.expected:
            outcomes.append(Conflict(expected=append.expected, current=current))
            continue
        end = used + len(append.events)
        outcomes.append(Appended(version=current + end - used, positions=positions[used:end]))
        used = end
    assert used == len(positions), "each event that was inserted has a position"
    return outcomes


def of_stream(stream: str, after: int, limit: int) -> Query:
    return Query(b"stream", [stream.encode(), pack(">q", after), pack(">q", limit)])


def of_all(after: int, limit: int) -> Query:
    return Query(b"all", [pack(">q", after), pack(">q", limit)])


def of_last(limit: int) -> Query:
    """The last one comes first."""
    return Query(b"last", [pack(">q", limit)])


def events(result: PGresult) -> list[RecordedEvent]:
    get = result.get_value
    return [
        RecordedEvent(
            position=_integer_of(get(row, 0)),
            stream=_bytes_of(get(row, 1)).decode(),
            version=_integer_of(get(row, 2)),
            topic=_bytes_of(get(row, 3)).decode(),
            data=_bytes_of(get(row, 4)),
        )
        for row in range(result.ntuples)
    ]


def position(result: PGresult) -> int:
    value = result.get_value(0, 0)
    return START if value is None else _integer_of(value)


def failed(result: PGresult) -> bool:
    return result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


# PostgreSQL's binary formats: a one-dimensional array is its number of dimensions, whether it has NULLs, the type of
# its elements, how many there are, the first index, and then for each element its length in bytes and those.


def _integers(numbers: Sequence[int]) -> bytes:
    count = len(numbers)
    return pack(f">5i{'iq' * count}", 1, 0, _INT8_OID, count, 1, *(part for number in numbers for part in (8, number)))


def _array(oid: int, elements: Sequence[bytes]) -> bytes:
    return pack(">5i", 1, 0, oid, len(elements), 1) + b"".join(
        part for element in elements for part in (len(element).to_bytes(4, "big"), element)
    )


def _integers_of(array: bytes | None) -> list[int]:
    if array is None:
        return []
    [count] = unpack(">12xi4x", array[:20])
    return list(unpack(f">20x{'4xq' * count}", array))


def _integer_of(value: bytes | None) -> int:
    return int.from_bytes(_bytes_of(value), "big", signed=True)


def _bytes_of(value: bytes | None) -> bytes:
    assert value is not None, "a column of the event log is NULL"
    return value
