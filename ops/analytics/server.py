"""A connection to a ClickHouse server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import msgspec

from ops.analytics import frames
from ops.analytics.clickhouse import (
    ANSWER_MAX_S,
    ANSWERS,
    CONNECT_MAX_S,
    DATABASE,
    READABLE,
    SETTINGS,
    ClickHouse,
    explained,
    only_upto,
)
from ops.analytics.rawsql import guard
from ops.analytics.warehouse import Answer

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Of a server, and a database on it."""

    host: str
    port: int
    secure: bool
    user: str
    password: str
    database: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """That of the setting `analytics`."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        return cls(
            host=parts.hostname or "", port=parts.port or (8443 if secure else 8123), secure=secure,
            user=unquote(parts.username or "default"), password=unquote(parts.password or ""),
            database=unquote(parts.path.strip("/")) or DATABASE,
        )  # fmt: skip


class Server(ClickHouse):
    def __init__(self, url: str, role: frames.Role) -> None:
        """`url`: that of the setting `analytics`. A loader makes the database where there is none. Raises
        WarehouseError."""
        self._address = Address.parse(url)
        super().__init__(_connect(self._address, SETTINGS if role == "loader" else ANSWERS))
        if role == "loader":
            self.make(self._address.database)
        self.use(self._address.database)

    def ask(self, sql: str) -> Answer:
        # The server may be of a release that can't tell how it reads the text, so an embedded one does.
        with guard.ask_in_memory() as ask:
            checked = guard.check(sql, database=self._address.database, tables=READABLE, ask=ask)
        settings = {**ANSWERS, **only_upto(self.upto), **guard.READ_ONLY}
        with closing(_connect(self._address, settings)) as client:
            client.database = self._address.database
            return guard.read(client, checked)


def _connect(address: Address, settings: Mapping[str, Any]) -> Client:
    from clickhouse_connect import get_client

    with explained():
        return get_client(
            host=address.host, port=address.port, secure=address.secure, username=address.user,
            password=address.password, settings=dict(settings), autogenerate_session_id=False,
            connect_timeout=CONNECT_MAX_S, send_receive_timeout=ANSWER_MAX_S, query_retries=0,
        )  # fmt: skip
