"""`signet check`: whatever was changed by hand in a read model is found and named (I7, I9)."""

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from projections.models import MODELS, newest_of_all
from tests.ops.long_history import EVENTS, answer, data, made_once, signet
from tests.scenarios.stage import seed

__all__ = ["data", "made_once"]

CHANGES: Final = 100


def test_all_is_as_the_log_says(data: Path) -> None:
    report = answer("check", "--data", str(data))
    assert (report["drift"], list(report["models"])) == (0, list(MODELS))
    assert report["checked"] == sum(each["rows"] for each in report["models"].values()) > EVENTS
    text = signet("check", "inbox", "--data", str(data)).stdout
    assert text.startswith("inbox: ")
    assert "all as the log says" in text


@pytest.mark.slow
def test_a_row_changed_in_a_hundred_random_places_is_named_each_time(data: Path) -> None:
    rng = random.Random(seed())
    folder = data / "readmodels"
    touched: set[tuple[Any, ...]] = set()
    changed = [_change(folder, rng, touched) for _ in range(CHANGES)]
    report = answer("check", "--data", str(data), code=1)
    found = [row for model in report["models"].values() for row in model["rows_drifted"]]
    for model, table, row in changed:
        [*named] = [each for each in found if (each["model"], each["table"]) == (model, table) and _is_of(each, row)]
        assert named, f"{model}.{table} {row} was not found"
        assert all(each["position"] > 0 for each in named)
    assert report["drift"] == len(found)
    expected = [each for each in found if each["expected"] is not None]
    assert all(each["subject"] for each in expected), "each names its conversation, or the account"
    # The remedy that it names.
    for name in {model for model, _, _ in changed}:
        signet("rebuild", name, "--data", str(data))
    assert answer("check", "--data", str(data))["drift"] == 0


def _change(folder: Path, rng: random.Random, touched: set[tuple[Any, ...]]) -> tuple[str, str, dict[str, Any]]:
    """One value of one row, in a table of a read model: which row it was. None of those that were `touched`, which may
    have other keys by now."""
    while True:
        kind = rng.choice(newest_of_all())
        table = rng.choice(kind.tables)
        with closing(sqlite3.connect(kind.file_in(folder))) as db, db:
            db.row_factory = sqlite3.Row
            count = db.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]
            if not count:
                continue
            row = dict(db.execute(f"SELECT * FROM {table.name} LIMIT 1 OFFSET ?", [rng.randrange(count)]).fetchone())
            column = rng.choice(list(row))
            value = row[column]
            if value is None or (kind.name, table.name, *(row[name] for name in table.key)) in touched:
                continue
            new: Any = (
                value + rng.randint(1, 9) * 1_000_000_007 if isinstance(value, int) else f"changed {rng.random()}"
            )
            where = " AND ".join(f"{name} = ?" for name in table.key)
            key = [row[name] for name in table.key]
            db.execute(f"UPDATE {table.name} SET {column} = ? WHERE {where}", [new, *key])
        now = row | {column: new}
        touched.add((kind.name, table.name, *(now[name] for name in table.key)))
        return kind.name, table.name, {name: row[name] for name in table.key}


def _is_of(drifted: dict[str, Any], key: dict[str, Any]) -> bool:
    return bool(drifted["key"] == key)


def test_a_changed_position_is_found(data: Path) -> None:
    with closing(sqlite3.connect(data / "readmodels" / "inbox-4.db")) as db, db:
        db.execute("UPDATE readmodel SET position = position - 1000")
    assert answer("check", "inbox", "--data", str(data), code=1)["drift"] > 0
    with closing(sqlite3.connect(data / "readmodels" / "inbox-4.db")) as db, db:
        db.execute("UPDATE readmodel SET position = position + 5000000")
    run = signet("check", "inbox", "--data", str(data))
    assert (run.returncode, "its row of the position was changed" in run.stderr) == (1, True)


def test_what_can_t_be_checked_is_said(data: Path, tmp_path: Path) -> None:
    run = signet("check", "--data", str(tmp_path / "elsewhere"))
    assert (run.returncode, "no engine has run on" in run.stderr) == (1, True)
    run = signet("check", "outbox", "--data", str(data))
    assert (run.returncode, "there is no read model 'outbox'" in run.stderr) == (1, True)
    shutil.rmtree(data / "readmodels")
    run = signet("check", "--data", str(data))
    assert (run.returncode, "messages" in run.stderr) == (1, True)
