"""What a `postgresql://user:password@host:port/database` URL names, without telling the password to anybody."""

import re
from typing import Final

import psycopg
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_to_dict

EXAMPLE: Final = "postgresql://user:password@host:5432/database"


class WrongURL(ValueError):
    """What is wrong with it, and what to write."""


def read(url: str, *, shown: str) -> ConnDict:
    """Its parts, as libpq understands them. `shown`: how messages tell the URL. Raises WrongURL."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise unreadable(shown, error) from None
    if not re.fullmatch("[0-9,]*", str(parts.get("port", ""))):
        raise WrongURL(f"{shown} can't be read: write {EXAMPLE} (a port is a number)")
    if "dbname" not in parts and "service" not in parts:
        raise WrongURL(f"{shown} names no database: write {EXAMPLE}")
    return parts


def unreadable(shown: str, error: psycopg.Error) -> WrongURL:
    # What libpq quotes may be the password.
    reason = re.sub('"[^"]*"', "…", str(error).strip())
    return WrongURL(f"{shown} can't be read: write {EXAMPLE} ({reason})")


def place_of(parts: ConnDict) -> str:
    """For people: without user and password."""
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def redacted(url: str) -> str:
    """Without the password."""
    return re.sub(r"(password=)[^&\s]*", r"\1***", re.sub(r"(://[^:/?#\s]*):.*@", r"\1:***@", url))
