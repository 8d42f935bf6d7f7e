"""Read models in SQLite's files: what fails, checkpoints, readers beside the writer."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from projections import sqlite
from projections.database import is_file_trouble
from projections.readmodel import WrongFile
from projections.sqlite import SqliteDatabase
from tests.projections.test_database import NewerStreams, Streams, events_of


def test_a_commit_that_fails_leaves_nothing() -> None:
    """A full disk is often noticed there only; the next transaction must not fall into this one."""
    db = SqliteDatabase(":memory:")
    for statement in (
        "PRAGMA foreign_keys = ON",
        "CREATE TABLE t (a INTEGER PRIMARY KEY)",
        "CREATE TABLE u (a INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)",
    ):
        db.execute(statement)
    with pytest.raises(apsw.ConstraintError), db.transaction():
        db.execute("INSERT INTO u VALUES (1)")
    with db.transaction():
        db.execute("INSERT INTO t VALUES (2)")
    assert (db.query("SELECT a FROM t"), db.query("SELECT a FROM u")) == ([(2,)], [])


def test_a_transaction_that_can_t_be_undone_is_undone_before_the_next() -> None:
    db = SqliteDatabase(":memory:")
    db.execute("CREATE TABLE t (a INTEGER NOT NULL)")
    real = db._connection
    db._connection = Stubborn(real)  # type: ignore[assignment]
    with pytest.raises(apsw.ConstraintError), db.transaction():
        db.executemany("INSERT INTO t VALUES (?)", [(1,), (None,)])
    assert real.in_transaction
    db._connection = real
    with db.transaction():
        db.execute("INSERT INTO t VALUES (2)")
    assert db.query("SELECT a FROM t") == [(2,)]


class Stubborn:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, *params: Any) -> apsw.Cursor:
        if sql == "ROLLBACK":
            raise apsw.IOError("disk I/O error")
        return self._connection.execute(sql, *params)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def provoked(*statements: tuple[str, Sequence[Any]]) -> Exception:
    db = SqliteDatabase(":memory:")
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL)")
    try:
        for sql, params in statements:
            db.execute(sql, params)
    except Exception as error:
        return error
    raise AssertionError("nothing failed")


INSERT = "INSERT INTO t VALUES (?, ?)"


@pytest.mark.parametrize(
    "error",
    [
        provoked(("PRAGMA max_page_count = 1", ()), ("CREATE TABLE u (a)", ()), ("CREATE TABLE v (a)", ())),
        apsw.BusyError("database is locked"),
        apsw.CorruptError("database disk image is malformed"),
        OSError(28, "No space left on device"),
        MemoryError(),
    ],
    ids=repr,
)
def test_what_the_file_is_to_blame_for(error: Exception) -> None:
    assert is_file_trouble(error)


@pytest.mark.parametrize(
    "error",
    [
        provoked((INSERT, (1, None))),
        provoked((INSERT, (2**63, "b"))),
        provoked((INSERT, (1, "\ud800"))),
        provoked((INSERT, (1, object()))),
        provoked((INSERT, (1,))),
        provoked(("INSERT INTO nowhere VALUES (1)", ())),
        ValueError(),
    ],
    ids=repr,
)
def test_what_the_values_are_to_blame_for(error: Exception) -> None:
    assert not is_file_trouble(error)


def test_a_file_is_read_beside_its_writer(tmp_path: Path) -> None:
    writer = SqliteDatabase(tmp_path / "a b%.db")
    writer.execute("CREATE TABLE t (a INTEGER)")
    reader = SqliteDatabase(tmp_path / "a b%.db", read_only=True)
    with writer.transaction():
        writer.execute("INSERT INTO t VALUES (1)")
        assert reader.query("SELECT a FROM t") == []
    assert reader.query("SELECT a FROM t") == [(1,)]
    with pytest.raises(apsw.ReadOnlyError, match="readonly"):
        reader.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(apsw.CantOpenError, match="unable to open"):
        SqliteDatabase(tmp_path / "nothing.db", read_only=True)


def test_a_file_of_another_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    Streams.open(tmp_path).close()
    (tmp_path / "streams-1.db").rename(tmp_path / "streams-2.db")
    with pytest.raises(WrongFile, match=re.escape("streams-2.db holds version 1") + ".*delete .*streams-2.db"):
        NewerStreams.open(tmp_path)


def test_a_damaged_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "streams-1.db").write_text("this is no database, and longer than a header")
    with pytest.raises(WrongFile, match=re.escape("streams-1.db can't be used: ") + ".*delete it: it is rebuilt"):
        Streams.open(tmp_path)


def test_after_a_checkpoint_the_write_ahead_log_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_BYTES_MAX", 0)
    db = SqliteDatabase(tmp_path / "some.db")
    wal = tmp_path / "some.db-wal"
    db.execute("CREATE TABLE t (a INTEGER)")
    size = wal.stat().st_size
    for number in range(5):
        db.execute("INSERT INTO t VALUES (?)", (number,))
        assert db.checkpoint_is_due()
        db.checkpoint()
        assert not db.checkpoint_is_due()
        assert wal.stat().st_size <= 2 * size
    assert db.query("SELECT a FROM t") == [(number,) for number in range(5)]


def test_a_checkpoint_that_a_reader_hinders_is_left_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "WAL_BYTES_MAX", 0)
    db = SqliteDatabase(tmp_path / "some.db")
    db.execute("CREATE TABLE t (a INTEGER)")
    reader = apsw.Connection(str(tmp_path / "some.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    db.execute("INSERT INTO t VALUES (1)")
    db.checkpoint()
    assert not db.checkpoint_is_due(), "it would be tried after each batch"
    reader.execute("COMMIT")
    reader.close()
    db.execute("INSERT INTO t VALUES (2)")
    assert db.checkpoint_is_due()


def test_a_database_in_memory_needs_no_checkpoint() -> None:
    assert not SqliteDatabase(":memory:").checkpoint_is_due()


def test_to_delete_the_file_beside_its_write_ahead_log_is_enough(tmp_path: Path) -> None:
    """The remedy that the errors name."""
    killed = Streams.open(tmp_path)
    killed.advance(events_of("ann"))
    assert (tmp_path / "streams-1.db-wal").stat().st_size > 0
    (tmp_path / "streams-1.db").unlink()
    assert Streams.open(tmp_path).position == 0
