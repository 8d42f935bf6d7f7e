"""Which build serves: one row for each read model, found again by whoever opens the place."""

from pathlib import Path

import apsw
import pytest

from projections import models
from projections.catalogue import (
    Build,
    Catalogue,
    Serving,
    drop,
    exists,
    find_serving,
    kind_of,
    open_serving,
    serving_kind,
)
from projections.inbox import Inbox
from projections.readmodel import Place
from projections.sqlite import SqliteDatabase

pytestmark = pytest.mark.usefixtures("each_store")


class NewerInbox(Inbox):
    version = 5


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release with a newer version of the inbox."""
    monkeypatch.setitem(models.MODELS, "inbox", (Inbox, NewerInbox))


def begin(place: Place, kind: type[Inbox], number: int = 1) -> None:
    kind.open(place, number).close()


def test_a_new_place_is_served_by_the_newest_version(place: Place) -> None:
    assert Catalogue(place).get("inbox") is None
    assert find_serving(place, "inbox") == Serving(name="inbox", build=Build(Inbox.version))
    assert not exists(place, Inbox, 1)


def test_a_row_says_who_serves(place: Place) -> None:
    rows = [
        Serving(name="inbox", build=Build(4, 2), earlier=Build(4), held=False),
        Serving(name="inbox", build=Build(4), earlier=None, held=True),
    ]
    for row in rows:
        Catalogue(place).put(row)
        assert Catalogue(place).get("inbox") == row == find_serving(place, "inbox")
    assert Catalogue(place).get("messages") is None
    begin(place, Inbox)
    model = open_serving(place, "inbox")
    assert isinstance(model, Inbox)
    model.close()


def test_a_row_that_could_not_be_put_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever put it goes on with what served."""

    def fail(_db: SqliteDatabase) -> None:
        raise apsw.FullError

    monkeypatch.setattr(SqliteDatabase, "checkpoint", fail)
    before = Serving(name="inbox", build=Build(4))
    Catalogue(tmp_path).put(before)
    after = Serving(name="inbox", build=Build(4, 2))
    try:
        Catalogue(tmp_path).put(after)
    except apsw.FullError:
        after = before
    assert Catalogue(tmp_path).get("inbox") == after


@pytest.mark.usefixtures("upgraded")
def test_after_an_upgrade_the_older_version_that_is_there_serves(place: Place) -> None:
    begin(place, Inbox)
    serving = find_serving(place, "inbox")
    assert (serving.build, serving_kind(serving)) == (Build(4), Inbox)


@pytest.mark.usefixtures("upgraded")
def test_where_a_row_says_so_what_is_being_built_does_not_serve(place: Place) -> None:
    begin(place, Inbox)
    Catalogue(place).put(find_serving(place, "inbox"))
    begin(place, NewerInbox)
    assert find_serving(place, "inbox").build == Build(4)


@pytest.mark.usefixtures("upgraded")
def test_a_new_place_of_the_newer_release_has_the_newer_version(place: Place) -> None:
    assert find_serving(place, "inbox").build == Build(5)


def test_an_older_release_serves_what_it_knows_and_keeps_the_newer_one(place: Place) -> None:
    begin(place, Inbox)
    Catalogue(place).put(Serving(name="inbox", build=Build(5, 3), earlier=Build(4)))
    assert kind_of("inbox", Build(5)) is None
    assert find_serving(place, "inbox") == Serving(name="inbox", build=Build(4), earlier=Build(5, 3))


def test_an_older_release_serves_the_very_build_that_was_kept(place: Place) -> None:
    begin(place, Inbox, 2)
    Catalogue(place).put(Serving(name="inbox", build=Build(5), earlier=Build(4, 2)))
    assert find_serving(place, "inbox") == Serving(name="inbox", build=Build(4, 2), earlier=Build(5))


def test_a_build_is_deleted_and_nothing_else(place: Place) -> None:
    for number in (1, 2, 3):
        begin(place, Inbox, number)
    drop(place, "inbox", Build(4, 2))
    assert [exists(place, Inbox, number) for number in (1, 2, 3)] == [True, False, True]
    drop(place, "inbox", Build(4, 2))
    drop(place, "inbox", Build(99))  # of a version that nobody knows
