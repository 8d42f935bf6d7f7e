"""A connection to a ClickHouse server."""

from typing import Self

from ops.analytics import frames
from ops.analytics.clickhouse import Address, ClickHouse, ask_server
from ops.analytics.warehouse import Answer


class Server(ClickHouse):
    address: Address

    @classmethod
    def connect(cls, url: str, role: frames.Role) -> Self:
        """`url`: that of the setting `analytics`. A loader makes the database where there is none. Raises
        WarehouseError."""
        address = Address.parse(url)
        server = cls.server(address, inserts=role == "loader")
        server.address = address
        if role == "loader":
            server.make(address.database)
        server.use(address.database)
        return server

    def ask(self, sql: str) -> Answer:
        return ask_server(self.address, sql, self.upto)
