"""What PostgreSQL's errors mean to whoever runs the engine: a remedy for each that is known."""

from collections.abc import Mapping
from typing import Final

_BY_SQLSTATE: Final = {
    "25006": "it is only to be read: name the primary in the URL, or see to default_transaction_read_only",
    "53100": "make room on the server's disk",
    "53300": "end other programs' connections, or raise max_connections",
}

# While it connects, libpq tells no SQLSTATE. The server may speak another language; then there is no remedy.
_BY_TEXT: Final = {
    "password authentication failed": "correct user and password in the URL",
    "no password supplied": "name the user's password in the URL, or in ~/.pgpass",
    "no pg_hba.conf entry": "let this user and address in, in the server's pg_hba.conf, or correct the URL",
    "is not permitted to log in": "ALTER ROLE … LOGIN, or name another user",
    "permission denied for database": "GRANT CONNECT ON DATABASE … to this user, or name another user",
    "too many connections": "end other programs' connections, or raise the limit",
    "too many clients": "end other programs' connections, or raise max_connections",
    "connection slots are reserved": "end other programs' connections, or raise max_connections",
    "starting up": "wait for it",
    "shutting down": "start it again",
    "recovery mode": "wait for it",
    "refused": "no server is there: start it, or correct host and port in the URL",
    "resolve host": "correct the host in the URL",
    "translate host": "correct the host in the URL",
    "timeout expired": "no server answers there: correct host and port in the URL, or see to the network",
    "No such file": "no server is there: start it, or correct the host in the URL",
    'database "': "correct the URL, or make it: CREATE DATABASE … ENCODING 'UTF8'",
    'role "': "correct the user in the URL",
    "SSL": "see the options sslmode and sslrootcert of libpq",
}  # fmt: skip


class Remedies:
    """For the errors of what is kept there."""

    def __init__(self, what: str, by_sqlstate: Mapping[str, str]) -> None:
        """`what` is kept there, for people. `by_sqlstate`: the remedies that are its own."""
        self._what = what
        self._by_sqlstate = {**_BY_SQLSTATE, **by_sqlstate}

    def explain(self, place: str, message: str, sqlstate: str | None = None) -> str:
        """Where it happened, what, and what to do."""
        remedy = self._by_sqlstate.get(sqlstate or "")
        if remedy is None and sqlstate is None:
            remedy = next((remedy for text, remedy in _BY_TEXT.items() if text in message), None)
        # libpq goes on with advice of its own, or with the failures at other addresses.
        line = " ".join(message.strip().split("\n")[0].removeprefix("connection failed:").split())
        return f"{self._what} at {place}: {line}" + (f" ({remedy})" if remedy else "")
