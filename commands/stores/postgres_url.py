"""What a `postgresql://user:password@host:port/database` URL says: where the server is, and how long it may take.

    schema=public               where the table is; it is made where it is missing
    lock_timeout_ms=2000        how long an append, or the opening, waits in the server for locks of others
    statement_timeout_ms=4000   how long a statement may take in the server
    deadline_ms=5000            how long an answer may take, seen from here
    connect_timeout=3           seconds for each host (libpq's own)

All other options are libpq's: sslmode, sslrootcert, several hosts with target_session_attrs, and so on.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
import psycopg
from psycopg import pq
from psycopg.abc import ConnDict
from psycopg.conninfo import make_conninfo, timeout_from_conninfo

from domain.log import StoreError
from postgres.url import WrongURL, place_of, read, redacted, unreadable

CONNECT_TIMEOUT_S: Final = 3
"""Of one try at one host; libpq's own option."""

_TIMES_MS: Final = {"lock_timeout_ms": 2_000, "statement_timeout_ms": 4_000, "deadline_ms": 5_000}
_OWN: Final = ("schema", *_TIMES_MS)
_DEFAULTS: Final[ConnDict] = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "signet"}
_FORCED: Final[ConnDict] = {"client_encoding": "UTF8"}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    conninfo: str
    """As libpq wants it, with the password."""
    place: str
    """For people: without user and password."""
    schema: str
    read_only: bool
    lock_timeout_ms: int
    statement_timeout_ms: int
    deadline_ms: int
    """Then the connection is given up."""
    connect_deadline_s: float
    """How long it may take to connect, to whichever of the hosts."""


def parse(url: str, *, read_only: bool = False) -> Address:
    """Raises StoreError, which doesn't tell the password."""
    base, _, query = url.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    own = {name: value for name, value in given if name in _OWN}
    libpq = [(name, value) for name, value in given if name not in _OWN]
    _check_names([name for name, _ in libpq], url)
    shown = redacted(url)
    try:
        plain = base + ("?" + urlencode(libpq, quote_via=quote) if libpq else "")
        parts = _DEFAULTS | read(plain, shown=shown) | _FORCED
        connect_timeout_s = timeout_from_conninfo(parts)
    except psycopg.Error as error:
        raise StoreError(str(unreadable(shown, error))) from None
    except WrongURL as wrong:
        raise StoreError(str(wrong)) from None
    times = {name: _milliseconds(name, own.get(name, str(default)), url) for name, default in _TIMES_MS.items()}
    hosts = str(parts.get("host", "")).count(",") + 1
    return Address(
        conninfo=make_conninfo("", **parts),
        place=place_of(parts),
        schema=own.get("schema", "public"),
        read_only=read_only,
        connect_deadline_s=hosts * connect_timeout_s + times["deadline_ms"] / 1_000,
        **times,
    )


def _check_names(names: list[str], url: str) -> None:
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} - set(_FORCED)
    for name in names:
        if name not in known:
            raise StoreError(
                f"{redacted(url)} has an option that is not known here, {name!r}: there are "
                f"{', '.join(_OWN)}, and those of libpq, such as connect_timeout and sslmode"
            )


def _milliseconds(name: str, value: str, url: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,6}", value):
        raise StoreError(f"{redacted(url)}: {name} is a number of milliseconds, and not {value!r}")
    return int(value)
