"""What a `postgresql://` URL says of the place of the read models, and what PostgreSQL's errors mean for them."""

from typing import Final

import msgspec
from psycopg.abc import ConnDict
from psycopg.conninfo import make_conninfo

from postgres.errors import Remedies
from postgres.url import EXAMPLE, WrongURL, place_of, read, redacted
from projections.database import CantOpen

_DEFAULTS: Final[ConnDict] = {
    "connect_timeout": 3, "application_name": "signet read models",
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
}  # fmt: skip
_FORCED: Final[ConnDict] = {"client_encoding": "UTF8"}

_REMEDIES: Final = Remedies("the read models", {
    "42501": "GRANT this user what is missing, make it the owner of the schema, or name another user",
    "55P03": "another session holds a lock: pg_locks tells which; end it, or wait for it",
    "57014": "the server is too slow: see what it does",
})  # fmt: skip

explain: Final = _REMEDIES.explain


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
        parts = _DEFAULTS | read(url, shown=redacted(url)) | _FORCED
    except WrongURL as wrong:
        raise CantOpen(str(wrong)) from None
    return Address(conninfo=make_conninfo("", **parts), place=place_of(parts))
