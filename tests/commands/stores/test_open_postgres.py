"""Opening a log on PostgreSQL: what is wrong is said, and what to do about it; never the password. `check_store` says
the same of it, and changes nothing."""

import asyncio
import socket

import psycopg
import pytest

from commands.stores import check_store, open_log
from commands.stores import postgres_opening as opening
from commands.stores.postgres import open_postgres
from commands.stores.postgres_url import parse
from domain.log import NoLog, StoreError, Unavailable
from postgres import opening as postgres_opening
from postgres.url import redacted
from tests.commands.stores.appends import must_append, new_append, new_stream
from tests.postgres import Server, shared


@pytest.fixture
def server() -> Server:
    return shared(18)


@pytest.fixture
def database(server: Server) -> str:
    return server.new_database()


@pytest.fixture
def role(server: Server, database: str) -> str:
    """A user with the password `x`, who owns nothing."""
    name = f"someone_at_{database}"
    with server.admin() as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'".encode())
    return name


def refusal(url: str, *, read_only: bool = False) -> str:
    """Of the opening, and of the check of what the engine opens."""
    with pytest.raises(StoreError) as refused:
        open_log(url, read_only=read_only)
    if url.startswith("postgresql:") and not read_only:
        with pytest.raises(StoreError) as checked:
            check_store(url)
        assert str(checked.value) == str(refused.value)
    return str(refused.value)


# The URL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql:", "can't be read: write postgresql://user:password@host:5432/database"),
        ("postgresql://h", "names no database"),
        ("postgresql://h/", "names no database"),
        ("postgresql://u:secret@h:1:2/db", "can't be read"),
        ("postgresql://u:secret@h/db?colour=red", "an option that is not known here, 'colour'"),
        ("postgresql://u:secret@h/db?client_encoding=latin1", "an option that is not known here, 'client_encoding'"),
        ("postgresql://u:secret@h/db?mode=ro", "an option that is not known here, 'mode'"),
        ("postgresql://u:secret@h/db?deadline_ms=0", "deadline_ms is a number of milliseconds, and not '0'"),
        ("postgresql://u:secret@h/db?lock_timeout_ms=2s", "lock_timeout_ms is a number of milliseconds, and not '2s'"),
        ("postgresql://u:secret@h/db?connect_timeout=soon", "can't be read"),
        ("postgresql://u:%zzsecret@h/db", "can't be read"),
        ("postgress://u:secret@h/db", "postgresql://user:password@host:5432/database or"),
    ],
)
def test_a_wrong_url(url: str, said: str) -> None:
    refused = refusal(url)
    assert said in refused
    assert "secret" not in refused


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p@@s:s/@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@h/db?password=p&schema=log", "postgresql://u@h/db?password=***&schema=log"),
        ("postgresql://h:5432/db", "postgresql://h:5432/db"),
        ("postgresql:///db?host=/run", "postgresql:///db?host=/run"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_what_a_url_says() -> None:
    address = parse(
        "postgresql://u:p%40%20w@a,b:6000/db?schema=log&deadline_ms=700&connect_timeout=4&sslmode=require",
        read_only=True,
    )
    given = psycopg.conninfo.conninfo_to_dict(address.conninfo)
    assert given["password"] == "p@ w"
    assert (given["host"], given["port"], given["sslmode"]) == ("a,b", ",6000", "require")
    assert (address.schema, address.read_only, address.deadline_ms) == ("log", True, 700)
    assert (address.lock_timeout_ms, address.statement_timeout_ms) == (2_000, 4_000)
    assert address.connect_deadline_s == 8.7
    assert address.place == "a,b:,6000/db"


# The server


def test_no_server(server: Server, database: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        said = refusal(server.url(database, port=free.getsockname()[1]))
    assert "no server is there: start it, or correct host and port in the URL" in said


def test_a_server_that_does_not_answer(server: Server, database: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        said = refusal(server.url(database, port=silent.getsockname()[1]) + "?connect_timeout=2")
    assert "no server answers there" in said


def test_a_server_that_falls_silent_after_the_login(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_opening, "OPENING_MAX_S", 0.2)
    with server.admin(database) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", (opening._ONE_AT_A_TIME,))
        with pytest.raises(StoreError, match=r"after the login the server said no more \(no server answers there"):
            open_log(server.url(database))


def test_a_wrong_host(database: str) -> None:
    assert "correct the host in the URL" in refusal(f"postgresql://nobody.invalid/{database}")


def test_a_wrong_password(server: Server, database: str) -> None:
    said = refusal(server.url(database, password="guess me"))
    assert "correct user and password in the URL" in said
    assert "guess" not in said


def test_an_unknown_user(server: Server, database: str) -> None:
    assert "correct user and password" in refusal(server.url(database, user="who"))


def test_an_unknown_database(server: Server) -> None:
    assert "or make it: CREATE DATABASE" in refusal(server.url("nowhere"))


def test_a_user_who_may_not_connect(server: Server, database: str, role: str) -> None:
    with server.admin() as admin:
        admin.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC".encode())
    assert "GRANT CONNECT ON DATABASE" in refusal(server.url(database, user=role, password="x"))


def test_an_old_server(server: Server, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_opening, "SERVER_MIN", 19)
    assert "it is PostgreSQL 18: version 19 or newer is needed" in refusal(server.url(database))


def test_another_encoding(server: Server, database: str) -> None:
    with server.admin() as admin:
        admin.execute(f"CREATE DATABASE {database}_ascii ENCODING 'SQL_ASCII' TEMPLATE template0".encode())
    assert "make the database with ENCODING 'UTF8'" in refusal(server.url(f"{database}_ascii"))


def test_a_server_that_does_not_sync(server: Server, database: str, caplog: pytest.LogCaptureFixture) -> None:
    """I1: it is told. The servers of the tests are such."""
    open_log(server.url(database))
    assert "has fsync off: a power cut loses events" in caplog.text


# The table


def test_a_read_only_log_is_not_made(server: Server, database: str) -> None:
    assert "there is no event log: correct the URL, or start the engine" in refusal(
        server.url(database), read_only=True
    )
    with server.admin(database) as admin:
        assert admin.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'stored_events'").fetchone() == (0,)


def test_a_table_of_another_program(server: Server, database: str) -> None:
    """Of the same library too, with uuids."""
    with server.admin(database) as admin:
        admin.execute(
            "CREATE TABLE stored_events (originator_id uuid, originator_version bigint, topic text, state bytea, "
            "notification_id bigserial)"
        )
    for read_only in (False, True):
        said = refusal(server.url(database), read_only=read_only)
        assert "another program's: name another database or schema" in said


def test_no_right_to_make_the_table(server: Server, database: str, role: str) -> None:
    url = server.url(database, user=role, password="x")
    assert 'may make no table: GRANT CREATE ON SCHEMA "public" TO it' in refusal(url)
    assert "may make no schema: GRANT CREATE ON DATABASE" in refusal(f"{url}?schema=another")


def test_the_right_to_make_is_asked_for_only_where_something_is_to_be_made(
    server: Server, database: str, role: str
) -> None:
    """A table in a schema that stands needs no right to make schemas, and one that stands none at all."""
    url = server.url(database, user=role, password="x") + "?schema=log"
    with server.admin(database) as admin:
        admin.execute(f"CREATE SCHEMA log; GRANT USAGE, CREATE ON SCHEMA log TO {role}".encode())
        with pytest.raises(NoLog):
            check_store(url)
        open_log(url)
        admin.execute(f"REVOKE CREATE ON SCHEMA log FROM {role}".encode())
    check_store(url)
    open_log(url)


def test_a_check_makes_nothing(server: Server, database: str) -> None:
    with pytest.raises(NoLog, match="there is no event log yet: the engine makes it"):
        check_store(server.url(database))
    with server.admin(database) as admin:
        assert admin.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'stored_events'").fetchone() == (0,)
    open_log(server.url(database))
    check_store(server.url(database))


def only_to_be_read(server: Server, database: str, setting: str) -> None:
    with server.admin() as admin:
        admin.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = {setting}".encode())


def test_a_database_that_is_only_to_be_read(server: Server, database: str) -> None:
    """Before the first start and later; it can be read all the same."""
    url = server.url(database)
    said = "it is only to be read: ALTER DATABASE (or ROLE) … SET default_transaction_read_only = off"
    only_to_be_read(server, database, "on")
    assert said in refusal(url)
    only_to_be_read(server, database, "off")
    open_log(url)
    only_to_be_read(server, database, "on")
    assert said in refusal(url)
    open_log(url, read_only=True)


async def test_a_database_that_becomes_only_to_be_read_and_to_be_written_again(server: Server, database: str) -> None:
    """An operator's word counts for an engine that runs, too: from its next connection on."""
    log = open_log(server.url(database))
    append = new_append(new_stream())
    only_to_be_read(server, database, "on")
    [outcome] = await log.append([append])
    assert isinstance(outcome, Unavailable)
    assert "see to default_transaction_read_only" in outcome.reason
    assert await log.read_all(limit=1) == []
    only_to_be_read(server, database, "off")
    await must_append(log, append)
    await log.close()


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ("lock_timeout_ms=100", "another session holds a lock: pg_locks tells which; end it, or wait for it"),
        ("statement_timeout_ms=100", "see what it does, or raise statement_timeout_ms in the URL"),
    ],
)
def test_a_start_behind_a_lock_ends_in_time(server: Server, database: str, options: str, remedy: str) -> None:
    """While another one makes the table, and while somebody maintains what the checks read."""
    url = f"{server.url(database)}?{options}"
    with server.admin(database) as admin:
        with admin.transaction():
            admin.execute("SELECT pg_advisory_xact_lock(%s)", (opening._ONE_AT_A_TIME,))
            with pytest.raises(StoreError) as refused:
                open_log(url)
            assert remedy in str(refused.value)
        open_log(url)
        with admin.transaction():
            admin.execute("LOCK TABLE pg_depend IN ACCESS EXCLUSIVE MODE")
            assert remedy in refusal(url)


RIGHTS = {
    "none": ("", "GRANT SELECT and INSERT and UPDATE or DELETE or TRUNCATE or MAINTAIN ON", "GRANT SELECT ON"),
    "to read": ("SELECT", "GRANT INSERT and UPDATE or DELETE or TRUNCATE or MAINTAIN ON", None),
    "but not to lock": ("SELECT, INSERT", "GRANT UPDATE or DELETE or TRUNCATE or MAINTAIN ON", None),
    "but not to give positions": ("SELECT, INSERT, MAINTAIN", "GRANT USAGE ON SEQUENCE public.stored_events", None),
}


@pytest.mark.parametrize(("given", "to_write", "to_read"), RIGHTS.values(), ids=RIGHTS)
def test_missing_rights(
    server: Server, database: str, role: str, given: str, to_write: str, to_read: str | None
) -> None:
    open_log(server.url(database))
    if given:
        with server.admin(database) as admin:
            admin.execute(f"GRANT {given} ON stored_events TO {role}".encode())
    url = server.url(database, user=role, password="x")
    assert to_write in refusal(url)
    if to_read is None:
        open_log(url, read_only=True)
    else:
        assert to_read in refusal(url, read_only=True)


async def test_enough_rights(server: Server, database: str, role: str) -> None:
    open_log(server.url(database))
    with server.admin(database) as admin:
        admin.execute(f"GRANT SELECT, INSERT, UPDATE ON stored_events TO {role}".encode())
        admin.execute(f"GRANT USAGE ON SEQUENCE stored_events_notification_id_seq TO {role}".encode())
    log = open_log(server.url(database, user=role, password="x"))
    await must_append(log, new_append(new_stream()))
    await log.close()


async def test_several_that_open_it_at_once_for_the_first_time(server: Server, database: str) -> None:
    for schema in ("public", "a_new_one"):
        url = f"{server.url(database)}?schema={schema}"
        await asyncio.gather(*(asyncio.to_thread(open_postgres, url) for _ in range(8)))


async def test_a_schema_of_its_own(server: Server, database: str) -> None:
    here, there = (open_log(f"{server.url(database)}?schema={name}") for name in ('Odd "name" ü', "other"))
    append = new_append(new_stream())
    await must_append(here, append)
    assert await there.read_all(limit=9) == []
    await must_append(there, append)
    await here.close()
    await there.close()


@pytest.fixture
def database_with_limit(server: Server) -> str:
    name = server.new_database()
    with server.admin() as admin:
        admin.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 1".encode())
    return name


def test_too_many_connections(server: Server, database_with_limit: str) -> None:
    with psycopg.connect(server.url(database_with_limit)):
        said = refusal(server.url(database_with_limit))
    assert "too many connections" in said
    assert "end other programs' connections" in said
