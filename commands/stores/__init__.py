"""The adapters of the event log, chosen by URL. The port, and what it promises, is `domain.log`."""

from urllib.parse import urlsplit

from commands.stores.sqlite import open_sqlite
from domain.log import EventLog, StoreError

__all__ = ["open_log"]


def open_log(url: str, *, read_only: bool = False) -> EventLog:
    """Opens the log that the URL names, and makes it where there is none yet; `read_only`: beside a running engine, and
    it must exist. Raises StoreError.

    `sqlite:///absolute/path/to/log.db`, `kurrentdb://host:port?Tls=false`, `kurrentdb+discover://…`.
    """
    match urlsplit(url).scheme:
        case "sqlite":
            return open_sqlite(url, read_only=read_only)
        case "kurrentdb" | "kurrentdb+discover" | "kdb" | "kdb+discover":
            # It brings gRPC with 40 MB of memory: only for those who use it.
            from commands.stores.kurrentdb import open_kurrentdb

            return open_kurrentdb(url)
        case _:
            raise StoreError(
                f"no event store is known by the URL {url!r}: use sqlite:///absolute/path/to/log.db or "
                "kurrentdb://host:2113?Tls=false"
            )
