"""How a read model's schema in PostgreSQL is opened: what is looked at, made where it is missing, and locked."""

from collections.abc import Mapping, Sequence
from typing import Final, NoReturn
from zlib import crc32

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.sql import SQL, Identifier

from postgres.opening import Connection, Opening, in_time
from projections.database import CantOpen
from projections.postgres_address import Address, explain
from projections.postgres_session import SILENCE_MAX_S, Session

STATEMENT_TIMEOUT_MS: Final = 1_000
"""In the server; the loop's thread waits for it."""
assert STATEMENT_TIMEOUT_MS < SILENCE_MAX_S * 1_000
LOCK_WAIT_MS: Final = 2_000
"""How long an engine that starts waits for the end of the one that wrote the schema until now."""

_SETTINGS: Final = {
    "synchronous_commit": "off",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": "100",  # nobody holds one for long but an operator, and whoever waits keeps the loop
    "idle_in_transaction_session_timeout": "10000",
    "jit": "off",  # statements are short
    "client_min_messages": "warning",
    # A session of an engine that is gone must not keep the schema's lock for long.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_WRITERS: Final = 0x5369676E
"""The first key of the advisory lock that the one who writes a schema holds; the second is made of its name."""


def connect(address: Address, schema: str, *, read_only: bool) -> Session:
    """A session that sees this schema alone; one that may write makes it, and holds its lock. Blocks until the server
    has answered. Raises CantOpen."""
    try:
        connection = psycopg.connect(address.conninfo, autocommit=True)
    except psycopg.Error as error:
        raise CantOpen(explain(address.place, str(error), error.sqlstate)) from error
    try:
        with in_time(connection):
            _Opening(address, schema, connection).run(read_only=read_only)
        return Session(connection)
    except psycopg.Error as error:
        connection.close()
        raise CantOpen(explain(address.place, str(error), error.sqlstate)) from error
    except BaseException:
        connection.close()
        raise


def check(address: Address, schemas: Sequence[str]) -> None:
    """Whether they could be opened to be written, but for their locks. Changes nothing. Raises CantOpen."""
    try:
        with psycopg.connect(address.conninfo, autocommit=True) as connection, in_time(connection):
            for schema in schemas:
                _Opening(address, schema, connection).check()
    except psycopg.Error as error:
        raise CantOpen(explain(address.place, str(error), error.sqlstate)) from error


def drop(address: Address, schema: str) -> None:
    """Deletes the schema. Raises CantOpen, also where somebody writes it."""
    try:
        with psycopg.connect(address.conninfo, autocommit=True) as connection:
            with in_time(connection):
                _Opening(address, schema, connection).lock()
            connection.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(schema)))
    except psycopg.Error as error:
        raise CantOpen(explain(address.place, str(error), error.sqlstate)) from error


class _Opening(Opening):
    def __init__(self, address: Address, schema: str, connection: Connection) -> None:
        super().__init__(connection)
        self._address = address
        self._schema = schema

    def check(self) -> None:
        self.check_server()
        self._set(_SETTINGS)
        self.check_takes_writes()
        self._check_rights()

    def run(self, *, read_only: bool) -> None:
        self.check_server()
        settings = _SETTINGS | {"search_path": Identifier(self._schema).as_string()}
        if read_only:
            # Nobody waits for whoever only reads: a look at all rows may take its time.
            settings |= {"default_transaction_read_only": "on", "idle_in_transaction_session_timeout": "0"}
        self._set(settings)
        if read_only:
            self._check_usage()
        else:
            self.check_takes_writes()
            self.lock()
            self._check_rights()
            if self.lacks_schema(self._schema):
                self._connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(self._schema)))

    def lock(self) -> None:
        keys = (_WRITERS, crc32(self._schema.encode()) - 2**31)
        self._set({"lock_timeout": str(LOCK_WAIT_MS), "statement_timeout": "0"})
        try:
            self.value("SELECT pg_advisory_lock(%s, %s)", *keys)
        except LockNotAvailable as error:
            raise CantOpen(explain(self._address.place, self._writer(*keys), "")) from error
        self._set({name: _SETTINGS[name] for name in ("lock_timeout", "statement_timeout")})

    def _writer(self, *keys: int) -> str:
        row = self._connection.execute(
            "SELECT pid, client_addr FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory'"
            " AND granted AND classid::bigint = %s AND objid::bigint = %s & 4294967295::bigint",
            keys,
        ).fetchone()
        who = f" (session {row[0]}, from {row[1] or 'somewhere'})" if row else ""
        return f"another engine writes the schema {self._schema}{who}: stop it, or name another database in the URL"

    def _check_rights(self) -> None:
        """To make what is missing, and to write what is there."""
        if self._check_usage():
            tables, forbidden = self._tables()
            if forbidden:
                rights = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {self._schema} TO it"
                self.refuse(f"this user lacks rights: {rights}, or name another user")
            if tables:
                return
        self.check_may_make_tables(self._schema)

    def _check_usage(self) -> bool:
        """Whether there is the schema; and it must be one that this user may look into."""
        if self.lacks_schema(self._schema):
            return False
        if not self.value("SELECT has_schema_privilege(%s, 'USAGE')", self._schema):
            self.refuse(f"the schema {self._schema} is another user's: ALTER SCHEMA … OWNER TO …, or name that user")
        return True

    def _tables(self) -> tuple[int, int]:
        """How many there are in the schema, and how many of them this user may not read and write."""
        may = " AND ".join(f"has_table_privilege(oid, '{each}')" for each in ("SELECT", "INSERT", "UPDATE", "DELETE"))
        row = self._connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE NOT ({may})) FROM pg_class WHERE relkind = 'r'"
            " AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)".encode(),
            (self._schema,),
        ).fetchone()
        assert row is not None
        return row[0], row[1]

    def _set(self, settings: Mapping[str, str]) -> None:
        query = "SELECT " + ", ".join(["set_config(%s, %s, false)"] * len(settings))
        self.value(query, *(part for setting in settings.items() for part in setting))

    def refuse(self, reason: str) -> NoReturn:
        raise CantOpen(explain(self._address.place, reason, ""))
