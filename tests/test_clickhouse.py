"""The servers that tests get answer clickhouse-connect as ClickHouse does, and survive a SIGKILL."""

import gzip
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen
from uuid import UUID, uuid4

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from tests.clickhouse import READER, Server, execute, new_database, owns_server, shared

WAIT_S: Final = 20
COLUMNS: Final = """id UUID, at DateTime64(6, 'UTC'), members Array(UInt32), text LowCardinality(String),
    kind Enum8('direct' = 1, 'group' = 2), size Nullable(UInt64)"""
ROWS: Final[list[list[Any]]] = [
    [UUID(int=1), datetime(2026, 5, 4, 3, 2, 1, 123456, UTC), [1, 2, 2**32 - 1], "täglich\t'\\", "direct", None],
    [UUID(int=2), datetime(1970, 1, 1, tzinfo=UTC), [], "", "group", 2**64 - 1],
]


def connect(url: str, **options: Any) -> Client:
    return clickhouse_connect.get_client(dsn=url, **options)


@pytest.fixture
def url() -> Iterator[str]:
    with new_database() as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with closing(connect(url)) as client:
        yield client


@pytest.fixture
def own_server() -> Iterator[Server]:
    server = Server.start()
    yield server
    server.stop()


def rows(client: Client, query: str, **options: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in client.query(query, **options).result_rows]


def test_it_is_a_recent_one_and_answers_pings(client: Client) -> None:
    assert client.ping()
    assert int(rows(client, "SELECT version()")[0][0].split(".")[0]) >= 24


def test_parameters_travel_apart_from_the_query(client: Client) -> None:
    parameters = {"text": "a'; DROP\\ --", "numbers": [1, 2], "id": UUID(int=3)}
    query = "SELECT {text:String}, {numbers:Array(UInt32)}, {id:UUID}"
    assert rows(client, query, parameters=parameters) == [("a'; DROP\\ --", [1, 2], UUID(int=3))]


def test_each_type_comes_back_as_it_was_inserted(client: Client) -> None:
    client.command(f"CREATE TABLE t ({COLUMNS}) ENGINE = MergeTree ORDER BY id")
    summary = client.insert("t", ROWS)
    assert summary.written_rows == len(ROWS)
    assert rows(client, "SELECT * FROM t ORDER BY id", tz_mode="aware") == [tuple(row) for row in ROWS]


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_body_of_json_is_inserted(client: Client, compression: str | None) -> None:
    client.command("CREATE TABLE t (a UInt64, b Array(String)) ENGINE = MergeTree ORDER BY a")
    body = b'[1, ["x", "y"]]\n[18446744073709551615, []]\n'
    sent = gzip.compress(body) if compression else body
    client.raw_insert("t", ["a", "b"], sent, fmt="JSONCompactEachRow", compression=compression)
    assert client.raw_query("SELECT a, b FROM t ORDER BY a", fmt="JSONCompactEachRow") == (
        b'[1, ["x","y"]]\n[18446744073709551615, []]\n'
    )


@pytest.mark.parametrize("method", ["lz4", "zstd", "gzip", False])
def test_answers_and_inserts_may_be_compressed(url: str, method: str | bool) -> None:
    with closing(connect(url, compress=method)) as client:
        client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        client.insert("t", [[number] for number in range(10_000)])
        assert rows(client, "SELECT a FROM t ORDER BY a") == [(number,) for number in range(10_000)]


def test_a_statement_without_an_answer_tells_what_it_wrote(client: Client) -> None:
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    summary = client.query("INSERT INTO t SELECT number FROM numbers(10)").summary
    assert summary["written_rows"] == "10"


@pytest.mark.parametrize(
    ("statement", "code"),
    [("SELECT * FROM nowhere", 60), ("SELEC 1", 62), ("SELECT throwIf(number = 3) FROM numbers(5)", 395)],
)
def test_an_error_has_the_code_of_clickhouse(client: Client, statement: str, code: int) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query(statement)
    assert raised.value.code == code


def test_a_setting_holds_for_its_request_alone(client: Client) -> None:
    query = "SELECT getSetting('max_threads')"
    before = rows(client, query)
    assert rows(client, query, settings={"max_threads": 7}) == [(7,)]
    assert rows(client, query) == before


def test_a_query_that_takes_too_long_is_ended(client: Client) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query("SELECT sum(cityHash64(number)) FROM numbers(1e15)", settings={"max_execution_time": 0.1})
    assert raised.value.code == 159


def test_a_running_query_can_be_killed_by_its_id(url: str, client: Client) -> None:
    query_id = str(uuid4())

    def ask() -> None:
        with closing(connect(url)) as other:
            other.query("SELECT sum(cityHash64(number)) FROM numbers(1e15)", settings={"query_id": query_id})

    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask)
        while not asking.done():  # It kills nothing before the query has begun.
            client.command(f"KILL QUERY WHERE query_id = '{query_id}' SYNC")
        with pytest.raises(DatabaseError) as raised:
            asking.result()
    assert raised.value.code == 394


def test_queries_run_beside_each_other(url: str, client: Client) -> None:
    running = "SELECT count() FROM system.processes WHERE startsWith(query, 'SELECT sleepEachRow')"
    ready = threading.Barrier(4, timeout=WAIT_S)

    def ask(number: int) -> list[tuple[Any, ...]]:
        with closing(connect(url)) as other:
            ready.wait()
            return rows(other, f"SELECT sleepEachRow(0.1) + {number} FROM numbers(10) LIMIT 1 BY 1")

    most = 0
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        while not all(each.done() for each in asking):
            most = max(most, rows(client, running)[0][0])
        assert [each.result() for each in asking] == [[(number,)] for number in range(4)]
    assert most > 1


def test_who_has_a_wrong_password_is_refused(url: str) -> None:
    user, server = url.removeprefix("http://").split("@")
    with pytest.raises(DatabaseError) as raised:
        connect(f"http://{user.split(':')[0]}:wrong@{server}")
    assert raised.value.code == 516


@owns_server
def test_the_reader_reads_and_does_nothing_else(url: str, client: Client) -> None:
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    client.insert("t", [[1]])
    with closing(connect(shared().url(url.rsplit("/", 1)[1], user=READER))) as reader:
        assert rows(reader, "SELECT a FROM t") == [(1,)]
        with pytest.raises(DatabaseError) as raised:
            reader.command("TRUNCATE TABLE t")
    assert raised.value.code == 164


@owns_server
def test_who_is_nobody_may_read_no_table() -> None:
    with pytest.raises(RuntimeError, match=r"^Code: 497\."):
        execute(shared().url(user="default", password=""), "SELECT name FROM system.users")


@owns_server
def test_what_was_acknowledged_is_there_after_a_kill(own_server: Server) -> None:
    with closing(connect(own_server.url())) as client:
        client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        client.insert("t", [[1]])
        own_server.kill()
        with pytest.raises((OperationalError, DatabaseError)):
            client.query("SELECT 1")
        own_server.restart()
        assert rows(client, "SELECT a FROM t") == [(1,)]


@owns_server
def test_a_killed_one_refuses_connections(own_server: Server) -> None:
    address = f"http://127.0.0.1:{own_server.port}/ping"
    with urlopen(address) as response:
        assert response.read() == b"Ok.\n"
    own_server.kill()
    with pytest.raises(URLError, match="refused"):
        urlopen(address)


@owns_server
def test_a_frozen_one_answers_when_it_is_thawed(own_server: Server) -> None:
    own_server.freeze()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(execute, own_server.url(), "SELECT 1")
        with pytest.raises(TimeoutError):
            asking.result(timeout=0.2)
        own_server.thaw()
        assert asking.result() == "1\n"


def test_a_database_is_gone_in_the_end() -> None:
    with new_database() as url:
        name = url.rsplit("/", 1)[1]
        assert execute(url, "SELECT currentDatabase()") == f"{name}\n"
        base = url.removesuffix(name) + "default"
    assert execute(base, f"SELECT count() FROM system.databases WHERE name = '{name}'") == "0\n"
