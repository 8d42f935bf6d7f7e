"""I14: totals in ClickHouse equal the log at the position that they name, exactly once, after any crash."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tuned
from hypothesis import strategies as st

from domain.log import START
from ops.analytics.loader import Loader
from ops.analytics.place import connect, loader_name, only_loader
from ops.analytics.schema import Mark, delete_beyond, drop_tables, read_mark
from ops.analytics.verifier import Difference
from ops.errors import OpsError
from ops.settings import Settings
from projections.analytics.tables import TABLES
from tests.clickhouse import new_database
from tests.kurrentdb.double import Node as Double
from tests.ops.analytics.loads import command, load, log_of, verify
from tests.postgres import shared
from tests.projections.histories import History, histories


def chat(messages: int = 5) -> History:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    group = history.group(ann, ben)
    for number in range(messages):
        history.send(group, ann, about=number + 1 if number else None)
        history.receive(group, ben, delivered=number + 2, read=number + 1, undecryptable=(number + 2,))
    history.retract(group, ann, 2)
    history.publish_keys(ann, "a", "b")
    return history


async def test_what_is_loaded_is_what_the_log_says(settings: Settings) -> None:
    async with log_of(settings, chat().events) as log:
        mark = await load(settings, log)
        found = await verify(settings, log)
    assert mark.events == len(chat().events)
    assert mark.position == found.position == found.head
    assert found.equal
    assert all(table.rows for table in found.tables.values()), "the history has rows for each table"


async def test_a_load_goes_on_where_the_last_one_ended(settings: Settings) -> None:
    """What was kept in memory, the tables tell."""
    events = chat().events
    async with log_of(settings) as log:
        for first in range(0, len(events), 4):
            async with log_of(settings, events[first : first + 4]):
                await load(settings, log)
        assert (await load(settings, log)).events == len(events)
        assert (await verify(settings, log)).equal


@pytest.mark.parametrize("store", ["postgres", "kurrentdb"])
async def test_a_log_of_every_store_can_be_loaded(tmp_path: Path, store: str) -> None:
    """Positions are what the store makes them."""
    asyncio.get_running_loop().set_debug(False)
    with Double(tmp_path / "node") as node:
        if store == "kurrentdb":
            node.start()
        settings = Settings(data=tmp_path, events=node.uri if store == "kurrentdb" else new_postgres())
        events = chat().events
        async with log_of(settings, events[:9]) as log:
            await load(settings, log)
        async with log_of(settings, events[9:]) as log:
            assert (await load(settings, log)).events == len(events)
            assert (await verify(settings, log)).equal


def new_postgres() -> str:
    server = shared(18)
    return server.url(server.new_database())


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose ClickHouse stays open: to open it takes longer than an example."""
    folder = tmp_path_factory.mktemp("analytics")
    with closing(connect(Settings(data=folder), "reader")):
        yield folder


@tuned(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(), st.integers(min_value=1, max_value=20), st.integers(min_value=1, max_value=40))
def test_whatever_the_history_and_the_blocks(embedded: Path, history: History, block: int, kept_max: int) -> None:
    """With a memory that forgets all the time, so that ClickHouse must tell it."""
    place = Settings(data=embedded)

    async def example() -> bool:
        (embedded / "log.db").unlink(missing_ok=True)
        async with log_of(place, history.events) as log:
            await load(place, log, anew=True, block_max=block, kept_max=kept_max)
            return (await verify(place, log)).equal

    assert asyncio.run(example())


async def test_half_a_block_of_a_load_that_was_broken_off_is_loaded_anew(settings: Settings) -> None:
    events = chat().events
    async with log_of(settings, events) as log:
        await load(settings, log, block_max=5)
        command(settings, f"ALTER TABLE loads DELETE WHERE position > {events[6].position} SETTINGS mutations_sync = 1")
        with only_loader(settings) as warehouse, closing(Loader(log, warehouse, name=loader_name(settings))) as loader:
            await loader.begin()
            assert loader.mark.position < loader.deleted
            await loader.load()
        assert (await verify(settings, log)).equal


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("ALTER TABLE {table} DELETE WHERE position = {position} SETTINGS mutations_sync = 1", "missing"),
        ("INSERT INTO {table} SELECT * FROM {table} WHERE position = {position}", "surplus"),
        (
            "ALTER TABLE {table} UPDATE recorded_at = now() WHERE position = {position} SETTINGS mutations_sync = 1",
            "changed",
        ),
    ],
)
@pytest.mark.parametrize("table", ["messages", "receipts"])
async def test_what_was_changed_by_hand_is_found(settings: Settings, table: str, sql: str, what: str) -> None:
    async with log_of(settings, chat().events) as log:
        await load(settings, log)
        with closing(connect(settings, "reader")) as warehouse:
            [[position]] = warehouse.select(f"SELECT max(position) FROM {table}").data
        command(settings, sql.format(table=table, position=position))
        found = await verify(settings, log)
        assert not found.equal
        assert found.differences == [Difference(table=table, position=position, what=what)]  # type: ignore[arg-type]
        assert [each.differ for name, each in found.tables.items() if name != table] == [0] * (len(TABLES) - 1)
        assert (await load(settings, log, anew=True)).events == len(chat().events)
        assert (await verify(settings, log)).equal


async def test_rows_where_the_log_has_none_are_found(settings: Settings) -> None:
    history = chat()
    async with log_of(settings, history.events) as log:
        await load(settings, log)
        command(settings, "INSERT INTO retractions (position, seq) VALUES (1, 7)")
        found = await verify(settings, log)
        assert [(each.table, each.position, each.what) for each in found.differences] == [("retractions", 1, "surplus")]


async def test_tables_of_another_log_are_refused(settings: Settings, tmp_path: Path) -> None:
    async with log_of(settings, chat().events) as log:
        await load(settings, log)
    (tmp_path / "log.db").unlink()
    other = History()
    for name in "abcdefghij":
        other.register(name)
    async with log_of(settings, other.events) as log:
        with pytest.raises(OpsError, match="another log"):
            await load(settings, log)
        with pytest.raises(OpsError, match="another log"):
            await verify(settings, log)
        await load(settings, log, anew=True)
        assert (await verify(settings, log)).equal


async def test_tables_of_another_release_are_refused(settings: Settings) -> None:
    async with log_of(settings, chat().events) as log:
        mark = await load(settings, log)
        command(
            settings,
            "INSERT INTO loads (position, stream, version, event, events, schema) "
            f"VALUES ({mark.position + 1}, '', 0, '', 0, 99)",
        )
        with pytest.raises(OpsError, match="another release"):
            await load(settings, log)
        assert (await load(settings, log, anew=True)) == mark


@pytest.mark.parametrize("table", ["receipts", "messages"])
async def test_a_table_that_was_deleted_is_missed(settings: Settings, table: str) -> None:
    """Made anew it would be empty."""
    async with log_of(settings, chat().events) as log:
        await load(settings, log)
        command(settings, f"DROP TABLE {table} SYNC")
        for work in (load, verify):
            with pytest.raises(OpsError, match=f"lacks the tables {table}"):
                await work(settings, log)
        await load(settings, log, anew=True)
        assert (await verify(settings, log)).equal


async def test_two_data_folders_do_not_load_the_same_tables(tmp_path: Path) -> None:
    """I14: each row would be there twice."""
    with new_database() as url:
        here, there = (Settings(data=tmp_path / name, analytics=url) for name in ("here", "there"))
        here.data.mkdir()
        async with log_of(here, chat().events) as log:
            await load(here, log)
            there.data.mkdir()
            with pytest.raises(OpsError, match="loaded by another data folder"):
                await load(there, log)
            assert (await verify(there, log)).equal
            await load(there, log, anew=True)
            with pytest.raises(OpsError, match="loaded by another data folder"):
                await load(here, log)


async def test_what_the_mark_says_is_compared_too(settings: Settings) -> None:
    async with log_of(settings, chat().events) as log:
        await load(settings, log)
        command(settings, "ALTER TABLE loads UPDATE events = 7 WHERE 1 SETTINGS mutations_sync = 1")
        found = await verify(settings, log)
        assert (found.equal, found.events) == (False, len(chat().events))
        assert [each.table for each in found.differences] == ["loads"]


async def test_tables_that_were_deleted_in_part_are_made_anew(settings: Settings) -> None:
    """As `--anew` leaves them where it is killed."""
    async with log_of(settings, chat().events) as log:
        await load(settings, log)
        command(settings, "DROP TABLE loads SYNC")
        command(settings, "DROP TABLE receipts SYNC")
        await load(settings, log)
        assert (await verify(settings, log)).equal


async def test_nothing_is_loaded_before_there_is_anything(settings: Settings) -> None:
    async with log_of(settings) as log:
        assert (await load(settings, log)).position == START
        with only_loader(settings) as warehouse:
            assert read_mark(warehouse) == Mark()
            assert delete_beyond(warehouse, START) == 0
            drop_tables(warehouse)
            assert read_mark(warehouse) is None


async def test_it_follows_the_log(settings: Settings) -> None:
    events = chat().events
    reached = asyncio.Event()

    def look(mark: Mark) -> None:
        if mark.events == len(events):
            loop.call_soon_threadsafe(reached.set)

    loop = asyncio.get_running_loop()
    async with log_of(settings, events[:3]) as log:
        with (
            only_loader(settings) as warehouse,
            closing(Loader(log, warehouse, look, name=loader_name(settings))) as loader,
        ):
            await loader.begin()
            await loader.load()
            following = asyncio.ensure_future(loader.follow())
            async with log_of(settings, events[3:9]):
                pass
            async with log_of(settings, events[9:]):
                pass
            await reached.wait()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        assert (await verify(settings, log)).equal


async def test_a_second_load_is_refused_while_one_is_at_work(settings: Settings) -> None:
    async with log_of(settings, chat().events) as log:
        with only_loader(settings), pytest.raises(OpsError, match="another `signet analytics load`"):
            await load(settings, log)
        assert (await load(settings, log)).events
