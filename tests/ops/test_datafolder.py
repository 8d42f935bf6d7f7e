"""The data folder: one owner at a time, one name for ever, and where its engine is found."""

import stat
from pathlib import Path

import pytest

from ops.datafolder import DataFolder, read_server_file, running_url
from ops.errors import OpsError

URL = "http://127.0.0.1:8700"


def test_it_is_made_and_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    DataFolder(tmp_path / "a/b").close()
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


def test_it_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first = DataFolder(tmp_path)
    with pytest.raises(OpsError, match="belongs to an engine that runs already"):
        DataFolder(tmp_path)
    first.announce(URL)
    with pytest.raises(OpsError, match=rf"runs already \(pid \d+, {URL}\)"):
        DataFolder(tmp_path)
    first.close()
    DataFolder(tmp_path).close()


def test_a_place_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OpsError, match=r"can't be used: .*Name another one by --data"):
        DataFolder(tmp_path / "file")


def test_a_server_keeps_the_name_of_its_first_start(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.server("chat.example").name == "chat.example"
    assert folder.server(None).name == "chat.example"
    assert folder.server("chat.example").name == "chat.example"
    with pytest.raises(OpsError, match=r"is called 'chat\.example' since its first start"):
        folder.server("other.example")
    folder.close()


def test_a_server_without_a_wish_is_called_localhost(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.server(None).name == "localhost"
    folder.close()


def test_the_running_engine_is_found(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    server = folder.server(None)
    assert_nothing_runs(tmp_path)
    folder.announce(URL)
    assert running_url(tmp_path) == URL
    folder.announce(None)
    assert_nothing_runs(tmp_path)
    assert read_server_file(tmp_path) == server
    folder.close()


def test_what_a_killed_engine_left_is_not_taken_for_a_running_one(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.announce(URL)
    folder.close()
    assert_nothing_runs(tmp_path)
    # In a copy of the folder the lock may be missing.
    (tmp_path / "lock").unlink()
    assert_nothing_runs(tmp_path)


def test_a_folder_in_which_never_was_a_server(tmp_path: Path) -> None:
    assert read_server_file(tmp_path) is None
    assert_nothing_runs(tmp_path)


def test_a_damaged_server_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{")
    with pytest.raises(OpsError, match=r"server\.json can't be read: .* Restore it"):
        read_server_file(tmp_path)


def assert_nothing_runs(path: Path) -> None:
    with pytest.raises(OpsError, match=r"no engine runs on .*\. Start one: \./signet up --data"):
        running_url(path)
