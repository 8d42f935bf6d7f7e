"""Read models' databases, whatever they are: transactions, opening, hashes."""

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

import pytest

from domain.codec import Event
from projections.database import DATABASE_ERRORS, Database, is_file_trouble
from projections.readmodel import Place, ReadModel, Table, WrongFile
from tests.projections.histories import History
from tests.projections.stores import Store, new_model, throw_away

pytestmark = pytest.mark.usefixtures("each_store")


class Streams(ReadModel):
    name = "streams"
    version = 1
    schema = "CREATE TABLE streams (position BIGINT, stream TEXT, number INTEGER); CREATE INDEX s ON streams (stream);"
    tables = (Table("streams", ("stream", "number")),)

    def apply(self, events: Sequence[Event]) -> None:
        rows = [(event.position, event.stream, event.version) for event in events]
        self.db.executemany("INSERT INTO streams VALUES (?, ?, ?)", rows)


class StreamsAsBytes(Streams):
    schema = Streams.schema.replace("number INTEGER", "number BLOB")

    def apply(self, events: Sequence[Event]) -> None:
        rows = [(event.position, event.stream, str(event.version).encode()) for event in events]
        self.db.executemany("INSERT INTO streams VALUES (?, ?, ?)", rows)


class NewerStreams(Streams):
    version = 2


class BrokenStreams(Streams):
    schema = "CREATE TABLE streams (a TEXT); CREATE TABLE streams (b TEXT);"


def events_of(*names: str) -> list[Event]:
    history = History()
    for name in names:
        history.register(name)
    return history.events


@pytest.fixture
def db(each_store: Store) -> Database:
    db = each_store.database()
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL, c BLOB)")
    return db


INSERT = "INSERT INTO t VALUES (?, ?, ?)"


def test_what_was_written_is_read_with_its_types(db: Database) -> None:
    rows = [(-(2**63), "", b""), (0, "ἐν ἀρχῇ 🎈", None), (2**63 - 1, "it's \\ \n", bytes(range(256)))]
    db.executemany(INSERT, rows)
    assert db.query("SELECT * FROM t ORDER BY a") == rows
    assert db.query_one("SELECT b FROM t WHERE a = ?", (0,)) == ("ἐν ἀρχῇ 🎈",)
    assert db.query_one("SELECT b FROM t WHERE a = ?", (1,)) is None
    assert db.query_each("SELECT b FROM t WHERE a < ? ORDER BY a", [(0,), (-(2**63),), (1,)]) == [
        [("",)], [], [("",), ("ἐν ἀρχῇ 🎈",)],
    ]  # fmt: skip


def test_nobody_has_a_text_with_a_nul(db: Database) -> None:
    """PostgreSQL can't hold it, and strangers may ask for it: ids come from outside."""
    db.execute(INSERT, (1, "ann", None))
    assert db.query("SELECT a FROM t WHERE b = ?", ("ann\0",)) == []
    assert db.query_one("SELECT a FROM t WHERE b = ?", ("\0",)) is None
    assert db.query("SELECT a FROM t WHERE b = ?", ("ann",)) == [(1,)]


def test_texts_are_in_the_order_of_their_bytes(db: Database) -> None:
    """Whatever the collation of the database."""
    texts = ["a", "B", "ä", "Ä", "-", "a b", "ab", "🎈", "\uffff", "", "1", "10", "9"]
    db.executemany(INSERT, [(number, text, None) for number, text in enumerate(texts)])
    assert [text for (text,) in db.query("SELECT b FROM t ORDER BY b")] == sorted(texts, key=str.encode)


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    with pytest.raises(DATABASE_ERRORS), db.transaction():
        db.executemany(INSERT, [(1, "b", None), (2, None, None)])
    with db.transaction():
        db.execute(INSERT, (3, "b", None))
    assert db.query("SELECT a FROM t") == [(3,)]
    assert db.undone == 1


def test_a_transaction_that_its_own_code_ends_leaves_nothing(db: Database) -> None:
    with suppress(ZeroDivisionError), db.transaction():
        db.execute(INSERT, (1, "b", None))
        assert db.query("SELECT a FROM t") == [(1,)]
        raise ZeroDivisionError
    assert db.query("SELECT a FROM t") == []


def test_what_fails_in_a_transaction_and_is_passed_over_is_not_committed_in_part(db: Database) -> None:
    """A statement that fails takes its transaction with it, on PostgreSQL; SQLite would go on."""
    try:
        with db.transaction():
            db.execute(INSERT, (1, "b", None))
            with pytest.raises(DATABASE_ERRORS):
                db.query("SELECT nowhere FROM t")
    except DATABASE_ERRORS:
        assert db.query("SELECT a FROM t") == []
    else:
        assert db.query("SELECT a FROM t") == [(1,)]


@pytest.mark.parametrize(
    "row",
    [
        (1, None, None),
        (2**63, "b", None),
        (1, "\ud800", None),
        (1, object(), None),
        (1, "b"),
        (1, b"b", "c"),
        ("a", 1, 1),
        (1, "\0", None),
    ],
)
def test_what_the_values_are_to_blame_for(db: Database, row: Any) -> None:
    """It fails, or is kept as it is; and it stops nothing."""
    errors: list[Exception] = []
    try:
        with db.transaction():
            db.execute(INSERT, row)
    except Exception as error:
        errors.append(error)
    assert not [error for error in errors if is_file_trouble(error)]
    db.executemany(INSERT, [(7, "b", None)])
    assert db.query("SELECT b FROM t WHERE a = 7") == [("b",)]


def test_what_the_statement_is_to_blame_for(db: Database) -> None:
    with pytest.raises(DATABASE_ERRORS) as failure:
        db.execute("INSERT INTO t (nowhere) VALUES (1)")
    assert not is_file_trouble(failure.value)
    assert (db.has_table("t"), db.has_table("nowhere")) == (True, False)


def test_a_scan_reads_on_as_it_is_asked(db: Database) -> None:
    db.executemany(INSERT, ((number, f"{number}", None) for number in range(2_500)))
    names, rows = db.scan("SELECT a, b FROM t ORDER BY a")
    assert names == ["a", "b"]
    assert next(rows) == (0, "0")
    assert db.query("SELECT count(*) FROM t WHERE a < ?", (5,)) == [(5,)]
    assert list(rows) == [(number, f"{number}") for number in range(1, 2_500)]
    assert db.scan("SELECT a AS other FROM t WHERE a < 0")[0] == ["other"]


def test_a_model_keeps_its_rows_and_position_in_a_place_of_its_version(place: Place) -> None:
    events = events_of("ann")
    model = Streams.open(place)
    assert model.position == 0
    model.advance(events)
    newer = NewerStreams.open(place)
    assert newer.position == 0
    model.close()
    newer.close()

    again = Streams.open(place)
    assert again.position == events[-1].position
    assert again.row_hash() == model_hash(events)


def test_a_model_is_read_beside_its_writer(place: Place) -> None:
    events = events_of("ann")
    with closing(Streams.open(place)) as writer, closing(Streams.database(place, read_only=True)) as reader:
        with writer.db.transaction():
            writer.apply(events)
            assert reader.query("SELECT count(*) FROM streams") == [(0,)]
        assert reader.query("SELECT count(*) FROM streams") == [(len(events),)]
        with pytest.raises(DATABASE_ERRORS, match=r"read-?only"):
            reader.execute("DELETE FROM streams")


def model_hash(events: Sequence[Event], model_type: type[Streams] = Streams) -> str:
    model = new_model(model_type)
    model.advance(events)
    return model.row_hash()


def test_what_holds_another_version_is_refused_with_the_remedy(place: Place) -> None:
    with closing(Streams.open(place)) as model, model.db.transaction():
        model.db.execute("UPDATE readmodel SET version = 7")
    with pytest.raises(
        WrongFile, match=r"streams.1\b.* holds version 7 .*instead of version 1 .*(delete|DROP SCHEMA) "
    ):
        Streams.open(place)
    throw_away(place, model)
    with closing(Streams.open(place)) as model:
        assert model.position == 0


def test_a_schema_is_made_whole_or_not_at_all(place: Place) -> None:
    with pytest.raises(DATABASE_ERRORS, match="already exists"):
        BrokenStreams.open(place)
    assert Streams.open(place).position == 0


def test_a_batch_fed_twice_changes_nothing() -> None:
    """I9: an event at or before the tracked position is never applied again."""
    events = events_of("ann", "ben", "cem")
    model = new_model(Streams)
    model.advance(events[:4])
    model.advance(events[:4])
    assert model.row_hash() == model_hash(events[:4])
    model.advance(events)
    assert (model.row_hash(), model.position) == (model_hash(events), events[-1].position)


def test_the_hash_tells_rows_and_types_apart_and_leaves_positions_out() -> None:
    """I9: equal rows, equal hash, on whichever store; anything else differs."""
    events = events_of("ann", "ben")
    moved = [Event(position=7 * event.position, stream=event.stream, version=event.version, entry=event.entry)
             for event in events]  # fmt: skip
    assert model_hash(moved) == model_hash(events)
    assert model_hash(events[:-1]) != model_hash(events)
    assert model_hash(events, StreamsAsBytes) != model_hash(events)


def test_the_hash_does_not_know_in_which_order_rows_came() -> None:
    events = events_of("ann", "ben")
    one, other = new_model(Streams), new_model(Streams)
    one.apply(events)
    other.apply(list(reversed(events)))
    assert one.row_hash() == other.row_hash()
