"""What is PostgreSQL's own: unknown outcomes, a server that dies or hangs, locks, notifications, reading beside."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import psycopg
import pytest

from commands.stores import open_log
from commands.stores import postgres as adapter
from commands.stores.postgres import PostgresLog, open_postgres
from commands.stores.postgres_session import Query
from domain.log import (
    Append,
    Appended,
    Conflict,
    EventLog,
    LogWentBack,
    StoreUnavailable,
    Unavailable,
    Unknown,
)
from tests.commands.stores.appends import (
    append_until_known,
    datas,
    follow,
    must_append,
    new_append,
    new_stream,
    read_until_answered,
    write,
)
from tests.commands.stores.wires import Way, Wires
from tests.postgres import Server, shared

QUICK = "?deadline_ms=300"


@pytest.fixture
def database() -> str:
    return shared(18).new_database()


@pytest.fixture
def url(database: str) -> str:
    return shared(18).url(database)


@pytest.fixture
async def log(url: str) -> AsyncIterator[PostgresLog]:
    log = open_postgres(url)
    yield log
    await log.close()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """One that may be killed."""
    server = Server.start(18)
    yield server
    server.stop()


@asynccontextmanager
async def opened(url: str, *, read_only: bool = False) -> AsyncIterator[PostgresLog]:
    """While the loop goes on: there may be a proxy in it."""
    log = await asyncio.to_thread(open_postgres, url, read_only=read_only)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def wired(database: str, options: str = "") -> AsyncIterator[tuple[Wires, PostgresLog]]:
    """A log behind a proxy, with its connections made."""
    async with (
        Wires.to(shared(18).port) as wires,
        opened(shared(18).url(database, port=wires.port) + options) as log,
    ):
        await must_append(log, new_append(new_stream()))
        await log.head()
        yield wires, log


async def stored_once(log: EventLog, append: Append) -> None:
    assert datas(await log.read_stream(append.stream, limit=100)) == datas(append.events)


# Unknown outcomes


async def test_a_lost_answer(database: str) -> None:
    """I2: the append is stored, which the same append tells."""
    async with wired(database) as (wires, log):
        append = new_append(new_stream(), events=3)
        wires.stop(Way.DOWN, after=0, resets=True)
        [outcome] = await log.append([append])
        assert isinstance(outcome, Unknown)
        [again] = await log.append([append])
        # The connection broke at the first byte of the answer, which comes when all is done.
        assert again == Conflict(expected=-1, current=2)
        await stored_once(log, append)


async def test_a_lost_request(database: str) -> None:
    async with wired(database) as (wires, log):
        append = new_append(new_stream(), events=3)
        wires.stop(Way.UP, after=0, resets=True)
        [outcome] = await log.append([append])
        assert isinstance(outcome, Unknown)
        assert isinstance((await log.append([append]))[0], Appended)
        await stored_once(log, append)


async def test_an_append_that_comes_after_its_own_repetition(database: str) -> None:
    """I2: it is held back, the repetition is stored, and then it comes."""
    async with wired(database, QUICK) as (wires, log):
        append = new_append(new_stream(), events=2)
        wires.stop(Way.UP, after=100, resets=False)
        [outcome] = await log.append([append])
        assert isinstance(outcome, Unknown)
        assert "no answer within 0.3 s" in outcome.reason
        async with opened(shared(18).url(database)) as other:
            await must_append(other, append)
            wires.release()
            await append_until_known(log, append)
            await must_append(other, new_append(append.stream, expected=1))
            assert len(await other.read_stream(append.stream, limit=10)) == 3


async def test_a_batch_larger_than_all_buffers(log: PostgresLog) -> None:
    """Its connection takes it piece by piece."""
    batch = [new_append(new_stream()) for _ in range(20)]
    large = [
        Append(stream=append.stream, expected=-1, events=[type(event)(id=event.id, topic="T", data=bytes(1 << 20))])
        for append in batch
        for event in append.events
    ]
    assert [type(outcome) for outcome in await log.append(large)] == [Appended] * 20
    assert len((await log.read_stream(large[-1].stream, limit=1))[0].data) == 1 << 20


async def test_a_log_that_went_back_ends_its_readers(database: str, log: PostgresLog) -> None:
    """A standby that was behind has taken over: what was read is not there, so nothing may be added."""
    for _ in range(3):
        await must_append(log, new_append(new_stream()))
    async with aclosing(log.subscribe()) as batches:
        await anext(batches)
        with shared(18).admin(database) as admin:
            admin.execute("DELETE FROM stored_events WHERE notification_id > 1")
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid != pg_backend_pid()",
                (database,),
            )
        with pytest.raises(LogWentBack, match=r"ends at 1, and was read up to 3 already: .* older backup"):
            await anext(batches)


# A server that dies, hangs and comes back


async def test_while_the_server_is_away(own_server: Server) -> None:
    """I2: it is said at once, and everything goes on by itself when the server is there again."""
    async with opened(own_server.url(own_server.new_database())) as log:
        append = new_append(new_stream())
        await must_append(log, append)
        subscription = log.subscribe(after=await log.head())
        waiting = asyncio.ensure_future(anext(subscription))
        own_server.kill()
        [outcome] = await log.append([new_append(new_stream())])
        assert isinstance(outcome, Unavailable)
        assert "start it, or correct host and port" in outcome.reason
        with pytest.raises(StoreUnavailable):
            await log.read_stream(append.stream, limit=1)
        with pytest.raises(StoreUnavailable):
            await waiting

        own_server.restart()
        await append_until_known(log, new_append(append.stream, expected=0))
        assert len(await read_until_answered(log, append.stream)) == 2


async def test_a_server_that_was_away_meanwhile(own_server: Server) -> None:
    """Nobody asked it, so nobody is told."""
    async with opened(own_server.url(own_server.new_database())) as log:
        append = new_append(new_stream())
        await must_append(log, append)
        assert len(await log.read_stream(append.stream, limit=9)) == 1
        own_server.kill()
        own_server.restart()
        await must_append(log, new_append(append.stream, expected=0))
        assert len(await log.read_stream(append.stream, limit=9)) == 2


@pytest.mark.slow
async def test_a_server_that_is_killed_under_appends(own_server: Server) -> None:
    """I1, I2: what was acknowledged is there; the rest is stored once, when it is tried again."""
    url = own_server.url(own_server.new_database())
    async with opened(url) as log:
        kept: list[Append] = []
        for _ in range(3):
            enough = asyncio.Event()
            writing = asyncio.create_task(write_until_broken(log, kept, enough))
            await enough.wait()
            own_server.kill()
            broken = await writing
            own_server.restart()
            await append_until_known(log, broken)
            kept.append(broken)
        for append in kept:
            await stored_once(log, append)


async def write_until_broken(log: EventLog, kept: list[Append], enough: asyncio.Event) -> Append:
    while True:
        append = new_append(new_stream(), events=2)
        [outcome] = await log.append([append])
        if not isinstance(outcome, Appended):
            return append
        kept.append(append)
        if len(kept) % 20 == 0:
            enough.set()


async def test_a_server_that_hangs(own_server: Server) -> None:
    async with opened(own_server.url(own_server.new_database()) + QUICK + "&connect_timeout=2") as log:
        stream = new_stream()
        await must_append(log, new_append(stream))
        await log.head()
        own_server.freeze()
        append = new_append(stream, expected=0)
        async with asyncio.timeout(10):
            [outcome] = await log.append([append])
            assert isinstance(outcome, Unknown)
            with pytest.raises(StoreUnavailable, match=r"no answer within 0.3 s|timeout expired"):
                await log.head()
        own_server.thaw()
        await append_until_known(log, append)
        assert len(await read_until_answered(log, stream)) == 2


async def test_connections_that_the_server_closes(log: PostgresLog, database: str) -> None:
    stream = new_stream()
    await must_append(log, new_append(stream))
    await log.head()
    with shared(18).admin() as admin:
        ended = admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", [database]
        )
        assert ended.fetchall() == [(True,), (True,)]
    await must_append(log, new_append(stream, expected=0))
    assert len(await log.read_stream(stream, limit=9)) == 2


# What the server refuses


async def test_a_lock_that_another_session_holds(url: str) -> None:
    """Appends are refused after a while, and reads answered."""
    log = open_postgres(url + "?lock_timeout_ms=50")
    stream = new_stream()
    await must_append(log, new_append(stream))
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE stored_events IN EXCLUSIVE MODE")
        [outcome] = await log.append([new_append(stream, expected=0)])
        assert isinstance(outcome, Unavailable)
        assert "another session holds a lock" in outcome.reason
        assert len(await log.read_stream(stream, limit=9)) == 1
    await must_append(log, new_append(stream, expected=0))
    await log.close()


TRIGGERS = {
    "a full disk": ("RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'", "", "make room on the server's disk"),
    "a slow server": ("PERFORM pg_sleep(60)", "", "the server is too slow"),
    "at COMMIT": ("RAISE EXCEPTION 'not now'", "CONSTRAINT", "not now"),
}


@pytest.mark.parametrize(("fault", "kind", "said"), TRIGGERS.values(), ids=TRIGGERS)
async def test_what_fails_in_the_server_is_not_stored(url: str, fault: str, kind: str, said: str) -> None:
    """A constraint trigger that is deferred fails at COMMIT."""
    log = open_postgres(url + "?statement_timeout_ms=100")
    deferred = ("AFTER", "DEFERRABLE INITIALLY DEFERRED") if kind else ("BEFORE", "")
    with psycopg.connect(url) as owner:
        body = f"BEGIN {fault}; END".replace("'", "''")
        owner.execute(f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS '{body}'".encode())
        owner.execute(
            f"CREATE {kind} TRIGGER failing {deferred[0]} INSERT ON stored_events {deferred[1]} "
            "FOR EACH ROW EXECUTE FUNCTION fail()".encode()
        )
    append = new_append(new_stream(), events=2)
    [outcome] = await log.append([append])
    assert isinstance(outcome, Unavailable)
    assert said in outcome.reason
    assert await log.read_stream(append.stream, limit=1) == []
    with psycopg.connect(url) as owner:
        owner.execute("DROP TRIGGER failing ON stored_events")
    await must_append(log, append)
    await log.close()


async def test_a_lost_table(log: PostgresLog, url: str) -> None:
    with psycopg.connect(url) as owner:
        owner.execute("DROP TABLE stored_events")
    [outcome] = await log.append([new_append(new_stream())])
    assert isinstance(outcome, Unavailable)
    with pytest.raises(StoreUnavailable, match="the table is gone"):
        await log.head()


async def test_an_answer_means_that_it_is_on_disk(log: PostgresLog, url: str, database: str) -> None:
    """I1: whatever is set for the database."""
    with psycopg.connect(url) as owner:
        owner.execute(f"ALTER DATABASE {database} SET synchronous_commit = off".encode())
    session = await log._writing.session()
    session.set_up(b"SELECT 1", {b"how": b"SHOW synchronous_commit"})
    [result] = await session.ask(Query(b"how"))
    assert result.get_value(0, 0) == b"on"


# Whoever no longer waits


async def test_an_append_that_is_cancelled_may_be_stored_and_disturbs_nobody(log: PostgresLog) -> None:
    stream = new_stream()
    for _ in range(20):
        appending = asyncio.ensure_future(log.append([new_append(new_stream(), events=5)]))
        await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
    await write(log, stream, 20)
    assert len(await log.read_stream(stream, limit=100)) == 20


async def test_a_read_that_is_cancelled_disturbs_nobody(log: PostgresLog) -> None:
    append = new_append(new_stream(), events=5)
    await must_append(log, append)
    reads = [asyncio.ensure_future(log.read_stream(append.stream, limit=n)) for n in range(1, 6)]
    await asyncio.sleep(0)
    for read in reads[::2]:
        read.cancel()
    answers = await asyncio.gather(*reads, return_exceptions=True)
    assert [len(answer) for answer in answers if isinstance(answer, list)] == [2, 4]


# Notifications


async def test_a_subscription_in_the_same_process_waits_for_no_timer(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "POLL_S", 3_600)
    stream = new_stream()
    seen = asyncio.create_task(follow(log, {stream}, 20, after=0))
    await write(log, stream, 20)
    assert len(await seen) == 20


async def test_a_subscription_hears_of_what_others_append(
    log: PostgresLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "POLL_S", 3_600)
    stream = new_stream()
    seen = asyncio.create_task(follow(log, {stream}, 20, after=0))
    async with opened(url) as other:
        await write(other, stream, 20)
    assert len(await seen) == 20


async def test_a_subscription_without_notifications_looks_by_the_clock(
    log: PostgresLog, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_hear", lambda pid: None)
    append = new_append(new_stream())
    async with opened(url) as other, aclosing(log.subscribe(after=await log.head())) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await log.head()  # It has read before.
        await must_append(other, append)
        assert datas(await waiting) == datas(append.events)


# Reading beside the engine


async def test_a_read_only_log_follows_the_engine_and_writes_nothing(log: PostgresLog, url: str, database: str) -> None:
    """Its user may do nothing but read."""
    stream = new_stream()
    await must_append(log, new_append(stream))
    user = f"reader_of_{database}"
    with shared(18).admin(database) as admin:
        admin.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'x'".encode())
        admin.execute(f"GRANT SELECT ON stored_events TO {user}".encode())
    async with opened(shared(18).url(database, user=user, password="x"), read_only=True) as beside:
        seen = asyncio.create_task(follow(beside, {stream}, 3, after=0))
        await must_append(log, new_append(stream, expected=0, events=2))
        assert await seen == await log.read_stream(stream, limit=10) == await beside.read_stream(stream, limit=10)
        [outcome] = await beside.append([new_append(stream, expected=2)])
        assert isinstance(outcome, Unavailable)
        assert "it was opened to be read only" in outcome.reason


async def test_a_standby_can_be_read(url: str) -> None:
    server = Server.start(16)
    try:
        primary = server.url(server.new_database())
        async with opened(primary) as log:
            append = new_append(new_stream(), events=2)
            await must_append(log, append)
        server.kill()
        server.restart(standby=True)
        with pytest.raises(Exception, match="it is a standby"):
            open_log(primary)
        async with opened(primary, read_only=True) as beside:
            assert datas(await follow(beside, {append.stream}, 2, after=0)) == datas(append.events)
    finally:
        server.stop()


async def test_what_is_measured(log: PostgresLog) -> None:
    await write(log, new_stream(), 3)
    await log.append([new_append(new_stream(), expected=7)])
    assert sum(log.commits.counts) == 4
