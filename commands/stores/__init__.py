"""The adapters of the event log, chosen by URL. The port, and what it promises, is `domain.log`."""

from urllib.parse import urlsplit

from commands.stores.sqlite import open_sqlite
from domain.log import EventLog, StoreError

__all__ = ["open_log"]


def open_log(url: str) -> EventLog:
    """Opens the log that the URL names, and makes it where there is none yet.

    `sqlite:///absolute/path/to/log.db`, with `?mode=ro` to read beside a running engine. Raises StoreError.
    """
    match urlsplit(url).scheme:
        case "sqlite":
            return open_sqlite(url)
        case _:
            raise StoreError(f"no event store is known by the URL {url!r}: use sqlite:///absolute/path/to/log.db")
