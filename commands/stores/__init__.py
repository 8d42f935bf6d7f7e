"""The adapters of the event log, chosen by URL. The port, and what it promises, is `domain.log`."""

from typing import Final, Literal

from commands.stores.sqlite import open_sqlite
from domain.log import EventLog, StoreError

__all__ = ["Store", "check_store", "open_log", "store_of"]

Store = Literal["sqlite", "postgres", "kurrentdb"]

_STORES: Final[dict[str, Store]] = {
    "sqlite": "sqlite",
    "postgresql": "postgres",
    "postgres": "postgres",
    "kurrentdb": "kurrentdb",
    "kurrentdb+discover": "kurrentdb",
    "kdb": "kurrentdb",
    "kdb+discover": "kurrentdb",
}
"""By the scheme of the URL."""


def store_of(url: str) -> Store | None:
    """Which one the URL names; None: none that is known."""
    return _STORES.get(url.partition(":")[0])


def check_store(url: str) -> None:
    """Whether an engine may write the log that the URL names, or make it; changes nothing. Raises StoreError, NoLog
    where the engine would make it. Only PostgreSQL tells it beforehand: elsewhere `open_log` and a read tell all."""
    if store_of(url) == "postgres":
        from commands.stores.postgres import check_postgres

        check_postgres(url)


def open_log(url: str, *, read_only: bool = False) -> EventLog:
    """Opens the log that the URL names, and makes it where there is none yet; `read_only`: beside a running engine, and
    it must exist. Raises StoreError.

    `sqlite:///absolute/path/to/log.db`, `postgresql://user:password@host:port/database`, `kurrentdb://host:port` or
    `kurrentdb+discover://host:port`.
    """
    # What the servers' adapters bring (gRPC: 40 MB of memory) is only for those who use them.
    match store_of(url):
        case "sqlite":
            return open_sqlite(url, read_only=read_only)
        case "postgres":
            from commands.stores.postgres import open_postgres

            return open_postgres(url, read_only=read_only)
        case "kurrentdb":
            from commands.stores.kurrentdb import open_kurrentdb

            return open_kurrentdb(url)
        case None:
            scheme = url.partition(":")[0]
            raise StoreError(
                f"no event store is known by a URL that begins with {scheme!r}: use sqlite:///absolute/path/to/log.db, "
                "postgresql://user:password@host:5432/database or kurrentdb://host:2113?Tls=false"
            )
