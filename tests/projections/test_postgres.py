"""Read models in PostgreSQL: the same rows as in SQLite, one writer, and a server that dies and comes back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from time import monotonic
from typing import Any

import psycopg
import pytest
from hypothesis import given

from commands.stores.memory import Medium, MemoryLog
from domain.codec import Event
from postgres import opening
from projections import feed as feed_module
from projections import postgres as postgres_module
from projections import postgres_opening, postgres_session
from projections.database import CantOpen, DatabaseUnavailable, StatementFailed, is_file_trouble
from projections.directory import Directory
from projections.feed import Feed
from projections.inbox import Inbox
from projections.messages import Messages
from projections.postgres import PostgresDatabase, check_postgres, open_postgres
from projections.readmodel import ReadModel, ReadModelError, ReadModelStopped
from projections.receipts import Receipts
from projections.runner import Runner
from tests import postgres
from tests.postgres import ENGINE, PASSWORD, Server
from tests.projections import stores
from tests.projections.eventful import eventful
from tests.projections.histories import History, fold, record
from tests.projections.test_runner import until

MODELS: tuple[type[ReadModel], ...] = (Messages, Inbox, Receipts, Directory)
TIMEOUT_S = 30
NEVER_MS = 3_600_000


@pytest.fixture(scope="module")
def beside() -> Iterator[stores.Postgres]:
    made = stores.Postgres()
    yield made
    made.close()


@given(history=eventful())
def test_the_same_events_make_the_same_rows_on_both_stores(beside: stores.Postgres, history: History) -> None:
    """I9: equal hashes; also one by one here and in batches there."""
    for kind in MODELS:
        there = beside.model(kind)
        for first in range(0, len(history.events), 7):
            there.advance(history.events[first : first + 7])
        assert there.row_hash() == fold(kind, history.events).row_hash()


@pytest.fixture(scope="module")
def shared() -> Server:
    return postgres.shared(18)


@pytest.fixture
def url(shared: Server) -> str:
    return shared.url(shared.new_database())


def test_texts_are_in_the_order_of_their_bytes_whatever_the_database_s_language(shared: Server) -> None:
    with shared.admin() as admin:
        admin.execute(
            "CREATE DATABASE polyglot TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' OWNER engine"
        )
    with closing(Directory.open(shared.url("polyglot"))) as model:
        collations = model.db.query(
            "SELECT DISTINCT collname FROM pg_attribute JOIN pg_collation c ON c.oid = attcollation"
            " WHERE attrelid::regclass::text = ANY (ARRAY['accounts', 'devices'])"
        )
        assert collations == [("C",)]


def busy_history(texts: int) -> History:
    history = History()
    ann, *others = [history.register(f"account {number}") for number in range(20)]
    chats = [history.group(ann, *others), *(history.direct(ann, other) for other in others)]
    for number in range(texts):
        history.send(chats[number % len(chats)], ann, f"text {number}")
    return history


@pytest.mark.parametrize("kind", MODELS, ids=lambda each: each.name)
def test_a_batch_costs_few_trips_to_the_server(
    kind: type[ReadModel], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is made of: the loop waits for each."""
    history = busy_history(500)
    trips = 0
    settle = postgres_session.Session.settle

    def counted(session: postgres_session.Session, **options: Any) -> object:
        nonlocal trips
        trips += session._pending > 0
        return settle(session, **options)

    with closing(kind.open(url)) as model:
        model.advance(history.events[:100])
        monkeypatch.setattr(postgres_session.Session, "settle", counted)
        model.advance(history.events[100:300])
        trips = 0  # From here on all statements are prepared.
        model.advance(history.events[300:])
    assert trips <= 3


# Opening


def test_what_hinders_the_start_is_told_with_the_remedy(shared: Server, url: str) -> None:
    database = url.rpartition("/")[2]
    for wrong, told in {
        "mysql://ann:secret@here/db": r"can't be kept at mysql://ann:\*\*\*@here/db: write postgresql://",
        "postgresql://ann:secret@here": r"names no database: write postgresql://",
        "postgresql://ann:secret/x@here/db": r"ann:\*\*\*@here/db can't be read: .*a port is a number",
        "postgresql://ann:secret%zz@here/db": r"ann:\*\*\*@here/db can't be read: .*percent-encoded token: …",
        "postgresql://ann:secret@here/db?colour=blue": r"ann:\*\*\*@here/db\?colour=blue can't be read: .*invalid",
        shared.url(database, port=1): "no server is there",
        shared.url(database, password="wrong"): "correct user and password",
        shared.url("nowhere"): "CREATE DATABASE",
        shared.url("postgres"): r"may make no schema: GRANT CREATE ON DATABASE",
    }.items():
        with pytest.raises(ReadModelError, match=told) as failure:
            Inbox.open(wrong)
        assert "secret" not in str(failure.value)
        with pytest.raises(CantOpen, match=told):
            check_postgres(wrong, [Inbox.schema_name()])
    check_postgres(url, [Inbox.schema_name()])


def test_a_schema_of_somebody_else_is_told(shared: Server, url: str) -> None:
    database = url.rpartition("/")[2]
    with shared.admin(database) as admin:
        admin.execute(f"CREATE SCHEMA {Inbox.schema_name()}")
        admin.execute(f"CREATE TABLE {Inbox.schema_name()}.readmodel (name TEXT, version INT, position INT)")
    for read_only in (False, True):
        with pytest.raises(ReadModelError, match=rf"{Inbox.schema_name()} is another user's: ALTER SCHEMA"):
            Inbox.database(url, read_only=read_only)
    with shared.admin(database) as admin:
        admin.execute(f"GRANT ALL ON SCHEMA {Inbox.schema_name()} TO {ENGINE}".encode())
    refused(url, r"lacks rights: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA")


def refused(url: str, told: str) -> None:
    """By the opening, and by the check of it."""
    with pytest.raises(ReadModelError, match=told):
        Inbox.open(url)
    with pytest.raises(CantOpen, match=told):
        check_postgres(url, [Inbox.schema_name()])


def test_the_right_to_make_is_asked_for_only_where_something_is_to_be_made(shared: Server, url: str) -> None:
    """A schema that stands needs no right to make schemas, and tables that stand none at all."""
    database, schema = url.rpartition("/")[2], Inbox.schema_name()
    user = f"tenant_of_{database}"
    theirs = shared.url(database, user=user)
    with shared.admin(database) as admin:
        admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'".encode())
        refused(theirs, "may make no schema: GRANT CREATE ON DATABASE")
        admin.execute(f"CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO {user}".encode())
        refused(theirs, f'may make no table: GRANT CREATE ON SCHEMA "{schema}" TO it')
        admin.execute(f"GRANT CREATE ON SCHEMA {schema} TO {user}".encode())
        check_postgres(theirs, [schema])
        Inbox.open(theirs).close()
        admin.execute(f"REVOKE CREATE ON SCHEMA {schema} FROM {user}".encode())
    check_postgres(theirs, [schema])
    Inbox.open(theirs).close()


def test_a_database_that_is_only_to_be_read(shared: Server, url: str) -> None:
    """Before it has the schema and later; `signet parked` reads it all the same."""
    told = r"only to be read: ALTER DATABASE .* SET default_transaction_read_only = off"
    alter = f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_read_only = "
    with shared.admin() as admin:
        admin.execute(f"{alter} on".encode())
        refused(url, told)
        admin.execute(f"{alter} off".encode())
        Inbox.open(url).close()
        admin.execute(f"{alter} on".encode())
        refused(url, told)
    Inbox.database(url, read_only=True).close()


def test_an_older_server_and_another_encoding_are_told(
    shared: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared.admin() as admin:
        admin.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(ReadModelError, match="encoding is LATIN1: make the database with ENCODING 'UTF8'"):
        Inbox.open(shared.url("latin"))
    monkeypatch.setattr(opening, "SERVER_MIN", 19)
    with pytest.raises(ReadModelError, match="is PostgreSQL 18: version 19 or newer"):
        Inbox.open(url)


def test_two_engines_don_t_write_one_schema(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_opening, "LOCK_WAIT_MS", 10)
    with closing(Inbox.open(url)), closing(Messages.open(url)):
        with pytest.raises(
            ReadModelError, match=rf"another engine writes the schema {Inbox.schema_name()} \(session \d+, from 127"
        ):
            Inbox.open(url)
        Inbox.database(url, read_only=True).close()
    Inbox.open(url).close()


def test_a_server_that_falls_silent_after_the_login(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPENING_MAX_S", 0.2)
    with closing(Inbox.open(url)), pytest.raises(ReadModelError, match="after the login the server said no more"):
        Inbox.open(url)


# Trouble


def test_what_takes_too_long_is_nobody_s_fault(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "BUSY_PAUSE_S", 0)
    with closing(open_postgres(url, "some")) as db:
        db.execute("SET statement_timeout = 10")
        with pytest.raises(DatabaseUnavailable, match="the server is too slow") as failure, db.transaction():
            db.query("SELECT pg_sleep(1)")
        assert is_file_trouble(failure.value)
        assert not db.lost
        assert db.query("SELECT 1") == [(1,)]


def test_what_the_server_refuses_is_told_in_its_own_words(url: str) -> None:
    with (
        closing(open_postgres(url, "some")) as db,
        pytest.raises(StatementFailed, match=r"^column .nonsense. does not"),
    ):
        db.query("SELECT nonsense")


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server that may be killed."""
    server = Server.start(18)
    yield server
    server.stop()


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_RETRY_MAX_S", 0.1)


class Scene:
    """A read model with its runner, and a feed that a test publishes to."""

    def __init__(self, server: Server, kind: type[ReadModel]) -> None:
        self.log = MemoryLog(Medium())
        self.feed = Feed(self.log)
        self.url = server.url(server.new_database())
        self.model = kind.open(self.url)
        self.runner = Runner(self.feed, self.model, gather_ms=1)
        self.events: list[Event] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.model.close()

    async def publish(self, events: list[Event]) -> None:
        recorded = await record(self.log, events)
        self.events += recorded
        self.feed.publish(recorded)

    async def caught_up(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    await self.runner.wait(self.events[-1].position)
                except ReadModelStopped:
                    await asyncio.sleep(0.01)  # it has delays of its own
                else:
                    break

    def check_whole(self, kind: type[ReadModel]) -> None:
        assert self.runner.parked == 0
        assert self.model.row_hash() == fold(kind, self.events, batch_max=500).row_hash()


async def until_lost(scene: Scene) -> None:
    """A query is the first to notice, unless the runner was."""
    with pytest.raises(DatabaseUnavailable):
        scene.model.parking.count()
    assert scene.model.db.lost


@pytest.mark.usefixtures("fast_retries")
@pytest.mark.parametrize("kind", MODELS, ids=lambda each: each.name)
async def test_a_server_that_dies_and_comes_back_loses_nothing(mortal: Server, kind: type[ReadModel]) -> None:
    """I9, I11: queries are refused meanwhile, nothing is parked, and the runner goes on by itself."""
    history = busy_history(300)
    scene = Scene(mortal, kind)
    async with scene.running():
        await scene.publish(history.events[:100])
        await scene.caught_up()
        mortal.kill()
        await until_lost(scene)
        await scene.publish(history.events[100:200])
        with pytest.raises(ReadModelStopped, match=r"tries again: .*refused"):
            async with asyncio.timeout(TIMEOUT_S):
                await scene.runner.wait(scene.events[-1].position)
        mortal.restart()
        await scene.caught_up()
        assert scene.runner.stopped is None
        await scene.publish(history.events[200:])
        await scene.caught_up()
        scene.check_whole(kind)


@pytest.mark.usefixtures("fast_retries")
@pytest.mark.parametrize(
    ("kind", "tables"), list(zip(MODELS, ["with tables", "without", "with tables", "without"], strict=True))
)
async def test_commits_that_a_dead_server_had_not_on_disk_are_made_again(
    mortal: Server, kind: type[ReadModel], tables: str
) -> None:
    """I9: the engine lives on with a position that the rows no longer have; also where nothing new happens."""
    history = busy_history(300)
    mortal.kill()
    mortal.restart("wal_writer_delay=10s", "wal_buffers=16MB")
    scene = Scene(mortal, kind)
    async with scene.running():
        for first in range(0, 200, 20):
            await scene.publish(history.events[first : first + 20])
            await scene.caught_up()
            if first == 100 and tables == "with tables":
                with closing(mortal.admin()) as admin:
                    admin.execute("CHECKPOINT")
        if isinstance(scene.model, Messages):
            assert len(scene.model._talks) > 1
        mortal.kill()
        mortal.restart()
        assert position_in(scene, kind) == (scene.events[119].position if tables == "with tables" else None)
        await until_lost(scene)
        await until(lambda: not scene.model.db.lost and scene.runner.position == scene.events[-1].position)
        scene.check_whole(kind)
        await scene.publish(history.events[200:])
        await scene.caught_up()
        scene.check_whole(kind)


def position_in(scene: Scene, kind: type[ReadModel]) -> int | None:
    with closing(kind.database(scene.url, read_only=True)) as db:
        return db.query("SELECT position FROM readmodel")[0][0] if db.has_table("readmodel") else None


async def test_a_server_that_no_longer_answers_is_given_up(mortal: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: whoever waits for it keeps the loop from everybody else."""
    monkeypatch.setattr(postgres_session, "SILENCE_MAX_S", 0.1)
    monkeypatch.setattr(feed_module, "_RETRY_MAX_S", 0.1)
    history = busy_history(50)
    scene = Scene(mortal, Inbox)
    async with scene.running():
        await scene.publish(history.events[:60])
        await scene.caught_up()
        mortal.freeze()
        with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.1 s"):
            scene.model.parking.count()
        monkeypatch.undo()
        await scene.publish(history.events[60:])
        mortal.thaw()
        await scene.caught_up()
        scene.check_whole(Inbox)


async def test_a_server_that_says_nothing_to_one_read_model_is_waited_for_once(
    mortal: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: four of them would keep the loop four times as long. What stands elsewhere is not concerned."""
    other_server = postgres.shared(18)
    url, elsewhere = mortal.url(mortal.new_database()), other_server.url(other_server.new_database())
    one, other, third = open_postgres(url, "one"), open_postgres(url, "other"), open_postgres(elsewhere, "one")
    heard: list[str] = []
    other.on_lost = lambda: heard.append("other")
    monkeypatch.setattr(postgres_session, "SILENCE_MAX_S", 0.1)
    mortal.freeze()
    with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.1 s"):
        one.query("SELECT 1")
    monkeypatch.setattr(postgres_session, "SILENCE_MAX_S", 1_000)
    with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.1 s"):
        other.query("SELECT 1")
    assert (other.lost, other.undone, heard) == (True, 1, ["other"])
    assert third.query("SELECT 1") == [(1,)]
    mortal.thaw()
    for each in (one, other):
        await each.reconnect()
        assert each.query("SELECT 1") == [(1,)]
    for each in (one, other, third):
        each.close()


async def test_a_lock_that_somebody_holds_is_waited_for_once(mortal: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: whoever waits keeps the loop from everybody else, and anybody may ask, again and again."""
    url = mortal.url(mortal.new_database())
    model = Inbox.open(url)
    monkeypatch.setattr(postgres_module, "BUSY_PAUSE_S", 1_000)
    with psycopg.connect(url) as operator:
        operator.execute(f"LOCK TABLE {Inbox.schema_name()}.readmodel".encode())
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            assert model.position
    with pytest.raises(DatabaseUnavailable, match="lock timeout"):
        assert model.position
    assert not model.db.lost
    monkeypatch.setattr(postgres_module, "monotonic", lambda: monotonic() + 1_001)
    assert model.position == 0
    model.close()


@pytest.mark.usefixtures("fast_retries")
async def test_a_schema_that_is_dropped_under_a_running_engine_is_made_again(mortal: Server) -> None:
    """I9: an operator may throw the rows away at any time."""
    history = busy_history(60)
    scene = Scene(mortal, Inbox)
    async with scene.running():
        await scene.publish(history.events[:80])
        await scene.caught_up()
        with psycopg.connect(scene.url) as operator:
            operator.execute(f"DROP SCHEMA {Inbox.schema_name()} CASCADE".encode())
        with pytest.raises(DatabaseUnavailable):
            scene.model.parking.count()
        await scene.publish(history.events[80:])
        await scene.caught_up()
        scene.check_whole(Inbox)


@pytest.mark.usefixtures("fast_retries")
async def test_it_is_well_again_though_no_event_comes(mortal: Server) -> None:
    """Nobody says anything while an engine is thought to be ill."""
    scene = Scene(mortal, Inbox)
    async with scene.running():
        await scene.publish(busy_history(10).events)
        await scene.caught_up()
        mortal.kill()
        await until_lost(scene)
        await until(lambda: scene.runner.stopped is not None)
        await until(lambda: not scene.runner.connected)
        mortal.restart()
        await until(lambda: scene.runner.stopped is None)
        await until(lambda: scene.runner.connected)
        assert scene.runner.tries == 0


async def test_what_reconnects_while_it_is_closed_leaves_no_session(mortal: Server) -> None:
    """The lock would go with it."""
    url = mortal.url(mortal.new_database())
    db = open_postgres(url, "some")
    terminate(mortal, db)
    with pytest.raises(DatabaseUnavailable, match=r"terminat|closed the connection"):
        db.query("SELECT 1")
    await db.reconnect()
    assert db.query("SELECT 1") == [(1,)]
    await db.reconnect()  # It is connected.
    terminate(mortal, db)
    with pytest.raises(DatabaseUnavailable):
        db.query("SELECT 1")
    reconnecting = asyncio.create_task(db.reconnect())
    await asyncio.sleep(0)
    db.close()
    with pytest.raises(DatabaseUnavailable, match="was closed"):
        await reconnecting
    open_postgres(url, "some").close()


async def test_a_reconnection_that_is_given_up_leaves_no_session(mortal: Server) -> None:
    url = mortal.url(mortal.new_database())
    db = open_postgres(url, "some")
    terminate(mortal, db)
    with pytest.raises(DatabaseUnavailable):
        db.query("SELECT 1")
    reconnecting = asyncio.create_task(db.reconnect())
    await asyncio.sleep(0)
    reconnecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reconnecting
    async with asyncio.timeout(TIMEOUT_S):
        await db.reconnect()
    assert db.query("SELECT 1") == [(1,)]
    db.close()


def terminate(server: Server, db: PostgresDatabase) -> None:
    """Ends its session, as an operator may; returns when it is gone."""
    assert db._session is not None
    pid = db._session._pgconn.backend_pid
    with server.admin() as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
