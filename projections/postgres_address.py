"""What a `postgresql://` URL says of the place of the read models, and what PostgreSQL's errors mean to operators."""

import re
from typing import Final

import msgspec
import psycopg
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from projections.database import CantOpen

EXAMPLE: Final = "postgresql://user:password@host:5432/database"

_DEFAULTS: Final[ConnDict] = {
    "connect_timeout": 3, "application_name": "signet read models",
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
}  # fmt: skip
_FORCED: Final[ConnDict] = {"client_encoding": "UTF8"}

_BY_SQLSTATE: Final = {
    "25006": "it is a standby, or only to be read: name the primary in the URL",
    "42501": "GRANT this user what is missing, make it the owner of the schema, or name another user",
    "53100": "make room on the server's disk",
    "53300": "end other programs' connections, or raise max_connections",
    "55P03": "another session holds a lock: pg_locks tells which; end it, or wait for it",
    "57014": "the server is too slow: see what it does",
}

# While it connects, libpq tells no SQLSTATE. The server may speak another language; then there is no remedy.
_BY_TEXT: Final = {
    "password authentication failed": "correct user and password in the URL",
    "no password supplied": "name the user's password in the URL, or in ~/.pgpass",
    "no pg_hba.conf entry": "let this user and address in, in the server's pg_hba.conf, or correct the URL",
    "is not permitted to log in": "ALTER ROLE … LOGIN, or name another user",
    "permission denied for database": "GRANT CONNECT ON DATABASE … to this user, or name another user",
    "database \"": "correct the URL, or make it: CREATE DATABASE … ENCODING 'UTF8'",
    "role \"": "correct the user in the URL",
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
    "SSL": "see the options sslmode and sslrootcert of libpq",
}  # fmt: skip


class Address(msgspec.Struct, frozen=True, kw_only=True):
    conninfo: str
    """As libpq wants it, with the password."""
    place: str
    """For people: without user and password."""


def parse(url: str) -> Address:
    """Raises CantOpen, which doesn't tell the password."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise CantOpen(f"read models can't be kept at {redacted(url)}: write {EXAMPLE}, or nothing: SQLite")
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        # What libpq quotes may be the password.
        reason = re.sub('"[^"]*"', "…", str(error).strip())
        raise CantOpen(f"{redacted(url)} can't be read: write {EXAMPLE} ({reason})") from None
    if not re.fullmatch("[0-9,]*", str(parts.get("port", ""))):
        raise CantOpen(f"{redacted(url)} can't be read: write {EXAMPLE} (a port is a number)")
    if "dbname" not in parts and "service" not in parts:
        raise CantOpen(f"{redacted(url)} names no database: write {EXAMPLE}")
    parts = _DEFAULTS | parts | _FORCED
    return Address(
        conninfo=make_conninfo("", **parts),
        place=f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}",
    )


def redacted(url: str) -> str:
    """Without the password."""
    return re.sub(r"(password=)[^&\s]*", r"\1***", re.sub(r"(://[^:/?#\s]*):.*@", r"\1:***@", url))


def explain(place: str, message: str, sqlstate: str | None = None) -> str:
    """Where it happened, what, and what to do."""
    remedy = _BY_SQLSTATE.get(sqlstate or "")
    if remedy is None and sqlstate is None:
        remedy = next((remedy for text, remedy in _BY_TEXT.items() if text in message), None)
    # libpq goes on with advice of its own, or with the failures at other addresses.
    what = " ".join(message.strip().split("\n")[0].removeprefix("connection failed:").split())
    return f"the read models at {place}: {what}" + (f" ({remedy})" if remedy else "")
