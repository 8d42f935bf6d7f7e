"""The process that has the embedded ClickHouse open, and connections to it and to servers."""

import asyncio
import threading
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from ops.analytics import keeping
from ops.analytics.place import STORE, connect, folder_of
from ops.analytics.warehouse import Warehouse, WarehouseError, WarehouseUnavailable
from ops.errors import OpsError
from ops.settings import Settings
from tests.clickhouse import READER, Server, new_database, owns_server, shared
from tests.ops.analytics.loads import load, log_of
from tests.projections.histories import History

ENDED_MAX_S = 10


def keepers(settings: Settings) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            command = process.cmdline()
            if "ops.analytics.keeper" in command and str(folder_of(settings)) in command:
                found.append(process)
    return found


def one(warehouse: Warehouse) -> object:
    return warehouse.select("SELECT 1").data


def test_it_serves_all_who_ask_and_ends_with_the_last(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    with closing(connect(settings, "reader")) as first:
        [keeper] = keepers(settings)
        with closing(connect(settings, "loader")) as second, closing(connect(settings, "reader")) as third:
            assert [one(each) for each in (first, second, third)] == [[[1]]] * 3
            assert keepers(settings) == [keeper]
        assert keeper.is_running()
    psutil.wait_procs([keeper], timeout=ENDED_MAX_S)
    assert keepers(settings) == []


def test_many_who_begin_at_once_find_one(tmp_path: Path) -> None:
    settings, answers, barrier = Settings(data=tmp_path), [], threading.Barrier(4)

    def ask() -> None:
        with closing(connect(settings, "reader")) as warehouse:
            answers.append(one(warehouse))
            barrier.wait()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[[1]]] * 4


def test_where_it_was_killed_the_next_one_begins(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    with closing(connect(settings, "reader")) as warehouse:
        [keeper] = keepers(settings)
        keeper.kill()
        with pytest.raises(WarehouseUnavailable, match="call the same again"):
            one(warehouse)
    with closing(connect(settings, "reader")) as warehouse:
        assert one(warehouse) == [[1]]


def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    """That of a socket may have a hundred bytes."""
    with closing(connect(Settings(data=tmp_path / ("long" * 40)), "reader")) as warehouse:
        assert one(warehouse) == [[1]]


def test_a_store_that_can_not_be_opened_is_told_with_the_remedy(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    folder_of(settings).mkdir()
    (folder_of(settings) / STORE).write_text("no folder")
    with pytest.raises(WarehouseUnavailable, match=r"does not open: .*load --anew"):
        connect(settings, "reader")


def test_one_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data=tmp_path)
    with closing(connect(settings, "reader")):
        [keeper] = keepers(settings)
        keeper.suspend()
        monkeypatch.setattr(keeping, "START_MAX_S", 0.5)
        with pytest.raises(WarehouseUnavailable, match="does not answer"):
            connect(settings, "reader")
        keeper.kill()


async def loaded(settings: Settings) -> None:
    history = History()
    history.direct(history.register("ann"), history.register("ben"))
    async with log_of(settings, history.events) as log:
        await load(settings, log)


async def test_raw_sql_reads_the_tables(settings: Settings) -> None:
    await loaded(settings)
    with closing(connect(settings, "reader")) as analyst:
        assert analyst.ask("SELECT kind, count() FROM conversations GROUP BY kind").data == [["direct", 1]]
        with pytest.raises(OpsError, match="no_such_column"):
            analyst.ask("SELECT no_such_column FROM events")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO events (position) VALUES (1)",
        "DROP TABLE events",
        "SELECT * FROM system.tables",
        "SELECT file('/etc/hostname')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'x String')",
        "SELECT 1 INTO OUTFILE '{folder}/written'",
        "SELECT 1 SETTINGS readonly = 0",
    ],
)
async def test_raw_sql_can_do_nothing_else(settings: Settings, tmp_path: Path, sql: str) -> None:
    await loaded(settings)
    with closing(connect(settings, "reader")) as analyst:
        with pytest.raises(OpsError):
            analyst.ask(sql.format(folder=tmp_path))
        assert analyst.ask("SELECT count() FROM events").data == [[5]]
    assert not (tmp_path / "written").exists()


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(WarehouseUnavailable, match="can't be reached"):
        connect(Settings(data=tmp_path, analytics="http://127.0.0.1:1/signet"), "reader")


@owns_server
def test_a_wrong_password_is_told(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match=r"[Aa]uthentication failed"):
        connect(Settings(data=tmp_path, analytics=shared().url(password="wrong")), "reader")


@owns_server
def test_a_user_who_may_change_no_setting_is_told_what_is_needed(tmp_path: Path) -> None:
    reader = Settings(data=tmp_path, analytics=shared().url(user=READER))
    with pytest.raises(WarehouseError, match="a user needs SELECT on the database"):
        connect(reader, "reader").read_upto(1)


@owns_server
async def test_a_server_that_went_away_is_told(tmp_path: Path) -> None:
    server = Server.start()
    with closing(connect(Settings(data=tmp_path, analytics=server.url()), "reader")) as warehouse:
        server.kill()
        with pytest.raises(WarehouseUnavailable, match="can't be reached"):
            await asyncio.to_thread(one, warehouse)
        server.restart()
        assert one(warehouse) == [[1]]
    server.stop()


def test_a_database_that_is_not_there_is_made_by_the_loader_alone(tmp_path: Path) -> None:
    with new_database() as url:
        name = url.rpartition("/")[2]
        settings = Settings(data=tmp_path, analytics=url)
        with closing(connect(settings, "loader")) as warehouse:
            warehouse.command(f"DROP DATABASE {name} SYNC")
        with closing(connect(settings, "reader")) as warehouse, pytest.raises(WarehouseError):
            one(warehouse)
        with closing(connect(settings, "loader")) as warehouse:
            assert one(warehouse) == [[1]]
