"""`signet bench`: which stores it takes, and that it comes to figures. Which ones is no test's affair."""

import msgspec
import pytest
from typer.testing import CliRunner

from commands.stores import Store
from ops.bench.verb import place_of
from ops.cli import command_line
from ops.errors import OpsError


@pytest.mark.parametrize(
    ("store", "url"),
    [
        ("postgres", "postgresql://ann@localhost/signet"),
        ("postgres", "postgres://ann@localhost/signet"),
        ("kurrentdb", "kurrentdb://localhost:2113?Tls=false"),
        ("kurrentdb", "kdb+discover://db.example:2113"),
    ],
)
def test_each_url_that_the_engine_takes_is_taken(store: Store, url: str) -> None:
    assert place_of(store, url) == url


@pytest.mark.parametrize(
    ("store", "url"),
    [("postgres", None), ("postgres", "kdb://localhost:2113"), ("kurrentdb", "postgres://ann@localhost/signet")],
)
def test_a_url_of_another_store_is_refused(store: Store, url: str | None) -> None:
    with pytest.raises(OpsError, match=f"--store {store} needs --url"):
        place_of(store, url)


def test_sqlite_has_a_folder_of_its_own_in_each_run() -> None:
    assert place_of("sqlite", None) == ""
    with pytest.raises(OpsError, match="needs no --url"):
        place_of("sqlite", "sqlite:///tmp/log.db")


def test_media_come_to_figures() -> None:
    asked = ["bench", "media", "--quick", "--mib", "1", "--json"]
    run = CliRunner().invoke(command_line(["bench"]), asked)
    assert run.exit_code == 0, run.output
    measured = msgspec.json.decode(run.stdout)
    for figure in ("upload_mb_s", "download_mb_s", "upload_ratio", "download_ratio"):
        assert measured[figure] > 0
        assert measured["spread"][figure] == [measured[figure], measured[figure]]
    assert (measured["mib"], len(measured["runs"])) == (1, 1)
