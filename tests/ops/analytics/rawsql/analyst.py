"""An analyst's desk: a ClickHouse with our tables, a file that it must not read, a folder, and a port that listens."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import clickhouse_connect
import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from ops.analytics.rawsql.guard import READ_ONLY, ask_by, check, read

CANARY: Final = "the canary"
TABLES: Final = {"messages", "people"}
_ROWS: Final = 100
_MADE: Final = (
    "CREATE DATABASE signet",
    """CREATE TABLE signet.messages (id UInt64, sender String, conversation String, text String,
       at DateTime('UTC'), size UInt32, tags Array(String), reactions Map(String, UInt32))
       ENGINE = ReplacingMergeTree ORDER BY id SAMPLE BY id""",
    f"""INSERT INTO signet.messages SELECT number, ['anna', 'ben', 'cem'][number % 3 + 1], 'c' || toString(number % 2),
        'Hello ' || toString(number), toDateTime('2024-01-01 00:00:00', 'UTC') + number * 3600, number,
        ['a', 'b'], map('yes', number) FROM numbers({_ROWS})""",
    "CREATE TABLE signet.people (name String, born Date) ENGINE = MergeTree ORDER BY name",
    "INSERT INTO signet.people VALUES ('anna', '1990-02-03'), ('ben', '2000-11-30')",
    "CREATE TABLE signet.hidden (secret String) ENGINE = MergeTree ORDER BY secret",
    f"INSERT INTO signet.hidden VALUES ('{CANARY}')",
)


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    client: Client
    """As analyst() makes it."""

    maker: Client
    """Without any."""

    secret: Path
    """A file of one line, CANARY."""

    folder: Path
    """Empty, and to stay so."""

    listener: socket.socket

    def check(self, sql: str) -> str:
        return check(sql, database="signet", tables=TABLES, ask=ask_by(self.client))

    def read(self, sql: str) -> list[list[Any]]:
        """Through both walls."""
        with closing(analyst()) as client:
            return read(client, self.check(sql)).data

    def said(self, attack: str) -> str:
        """The attack, on what stands on this desk."""
        for name, value in {"SECRET": self.secret, "FOLDER": self.folder, "PORT": self.port}.items():
            attack = attack.replace(name, str(value))
        return attack

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def is_untouched(self) -> bool:
        """Whether nothing was written, and nobody has connected."""
        self.listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.listener.accept()
        rows = self.maker.query("SELECT count() FROM signet.messages").result_rows
        return not list(self.folder.iterdir()) and list(rows) == [(_ROWS,)]


def analyst() -> Client:
    """Beside a desk: with the first wall, but less time."""
    settings = READ_ONLY | {"max_execution_time": 2}
    return clickhouse_connect.get_client(interface="chdb", path=":memory:", database="signet", settings=settings)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    root = tmp_path_factory.mktemp("desk")
    secret, folder = root / "secret", root / "folder"
    secret.write_text(CANARY + "\n")
    folder.mkdir()
    maker = clickhouse_connect.get_client(interface="chdb", path=":memory:")
    for statement in _MADE:
        maker.command(statement)
    client = analyst()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Desk(client=client, maker=maker, secret=secret, folder=folder, listener=listener)
    client.close()
    maker.close()
