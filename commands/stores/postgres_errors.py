"""What PostgreSQL's errors mean for the event log."""

from typing import Final

from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from postgres.errors import Remedies

_REMEDIES: Final = Remedies("the event log", {
    "42501": "let the table's owner grant this user what is missing, or name another user",
    "42P01": "the table is gone: restore it from a backup",
    "55P03": "another session holds a lock: pg_locks tells which; end it, or wait for it",
    "57014": "the server is too slow: see what it does, or raise statement_timeout_ms in the URL",
})  # fmt: skip

explain: Final = _REMEDIES.explain


def explain_result(place: str, result: PGresult) -> str:
    return explain(place, result.get_error_message().removeprefix("ERROR:"), sqlstate(result))


def sqlstate(result: PGresult) -> str | None:
    """None where libpq itself complains, of a connection that is lost."""
    state = result.error_field(DiagnosticField.SQLSTATE)
    return None if state is None else state.decode()
