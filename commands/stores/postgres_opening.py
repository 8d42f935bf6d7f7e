"""What is looked at, and made where it is missing, when the event log on PostgreSQL is opened."""

import logging
from typing import NoReturn

import psycopg
from psycopg.sql import SQL, Identifier

from commands.stores.postgres_errors import explain
from commands.stores.postgres_recorder import COLUMNS, Recorder
from commands.stores.postgres_url import Address
from domain.log import NoLog, StoreError
from postgres.opening import Connection, Opening, in_time

_ONE_AT_A_TIME = 0x5369676E6574
"""The key of the advisory lock under which the table is made: IF NOT EXISTS fails where two begin together."""

_log = logging.getLogger(__name__)


def prepare(address: Address, recorder: Recorder, *, make: bool = True) -> None:
    """Makes the table where it is missing, if it may; without `make` nothing is changed. Blocks until the server has
    answered. Raises StoreError, NoLog where the table is missing and not made."""
    try:
        with psycopg.connect(address.conninfo, autocommit=True) as connection, in_time(connection):
            _Opening(address, recorder, connection).run(make=make)
    except psycopg.Error as error:
        raise StoreError(explain(address.place, str(error), error.sqlstate)) from error


class _Opening(Opening):
    def __init__(self, address: Address, recorder: Recorder, connection: Connection) -> None:
        super().__init__(connection)
        self._address = address
        self._recorder = recorder

    def run(self, *, make: bool) -> None:
        self._bound()
        self.check_server()
        if not self._address.read_only:
            self._check_role()
        if self.value("SELECT to_regclass(%s) IS NULL", self._recorder.table_name):
            self._check_may_make_table()
            if not make:
                raise NoLog(explain(self._address.place, "there is no event log yet: the engine makes it", ""))
            self._make_table()
        self._check_table()
        self._check_rights()

    def _bound(self) -> None:
        """No statement waits longer than those of the engine: somebody may hold a lock."""
        settings = "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)"
        self.value(settings, str(self._address.statement_timeout_ms), str(self._address.lock_timeout_ms))

    def _check_role(self) -> None:
        """Whether it takes what is asked of it here: writes, and those that last."""
        self.check_takes_writes()
        if self.value("SHOW fsync") == "off":
            _log.warning("the server of the event log has fsync off: a power cut loses events that were acknowledged")

    def _check_may_make_table(self) -> None:
        if self._address.read_only:
            reason = "there is no event log: correct the URL, or start the engine, which makes it"
            raise NoLog(explain(self._address.place, reason, ""))
        self.check_may_make_tables(self._address.schema)

    def _make_table(self) -> None:
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ONE_AT_A_TIME,))
            if self.lacks_schema(self._address.schema):
                self._connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(self._address.schema)))
            for statement in self._recorder.create_statements:
                self._connection.execute(statement)

    def _check_table(self) -> None:
        columns = self._connection.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            (self._recorder.table_name,),
        )
        if not COLUMNS.items() <= dict(columns.fetchall()).items():
            self.refuse(f"its table {self._recorder.table_name} is another program's: name another database or schema")

    def _check_rights(self) -> None:
        # LOCK TABLE asks for one of these, beside what INSERT asks for.
        to_lock = "UPDATE, DELETE, TRUNCATE" + (", MAINTAIN" if self._connection.info.server_version >= 170_000 else "")
        needed = ["SELECT"] if self._address.read_only else ["SELECT", "INSERT", to_lock]
        table = self._recorder.table_name
        missing = [each for each in needed if not self.value("SELECT has_table_privilege(%s, %s)", table, each)]
        if missing:
            rights = " and ".join(each.replace(", ", " or ") for each in missing)
            self.refuse(f"this user lacks rights: GRANT {rights} ON {table} to it, or name another user in the URL")
        sequence = self.value("SELECT pg_get_serial_sequence(%s, 'notification_id')", table)
        if not self._address.read_only and not self.value("SELECT has_sequence_privilege(%s, 'USAGE')", sequence):
            self.refuse(f"this user lacks rights: GRANT USAGE ON SEQUENCE {sequence} to it")

    def refuse(self, reason: str) -> NoReturn:
        raise StoreError(explain(self._address.place, reason, ""))
