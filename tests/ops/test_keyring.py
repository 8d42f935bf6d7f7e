"""`signet keyring`, as an operator uses it: backup beside the running engine, check, restore, and what is told at the
start where the keyring is missing or damaged."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.datafolder import KEYRING
from ops.errors import OpsError
from ops.node import Node
from ops.settings import load_settings
from tests.scenarios.stage import Place, hold, people, reopen, running, texts


def signet(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-m", "ops.cli", *arguments], capture_output=True, text=True)


def remove(data: Path) -> None:
    """The three files, as the help says."""
    for file in data.glob(f"{KEYRING}*"):
        file.unlink()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", in_memory=False)


async def test_backup_check_and_restore(place: Place, tmp_path: Path) -> None:
    """I4: what was sealed after the backup can't be read, each text by itself; everything else is as it was."""
    data, backup, folder = place.data, tmp_path / "safe.db", tmp_path / "people"
    async with place.engine():
        async with people(place.url, folder, "ann", "ben") as [ann, ben]:
            talk = await ann.start_direct(ben.account)
            await ann.send(talk, "hello")
            run = signet("keyring", "backup", str(backup), "--data", str(data), "--json")
            assert json.loads(run.stdout)["keys"] == 2
            run = signet("keyring", "check", "--data", str(data), "--json")
            assert (run.returncode, json.loads(run.stdout)) == (
                0, {"texts": 3, "keys": 2, "missing": {}, "damaged": {}},
            )  # fmt: skip
        async with people(place.url, folder, "cat") as [cat]:
            group = await cat.start_group([ben.account], title="Late")
            await cat.send(group, "with a key that is younger than the backup")
            assert "all can be read" in signet("keyring", "check", "--data", str(data)).stdout
    remove(data)
    shutil.copy(backup, data / KEYRING)
    async with place.engine():
        run = signet("keyring", "check", "--data", str(data))
        assert run.returncode == 1
        assert "is missing: 3 texts can't be read" in run.stdout
        ben, cat = reopen(folder, "ben"), reopen(folder, "cat")
        async with running(ben, cat):
            await cat.send(group, "with a new key")
            await hold([ben], group, 3)
            assert [(message.text, message.unreadable) for message in ben.messages(group)] == [
                (None, "key_missing"), ("with a new key", None),
            ]  # fmt: skip
            assert texts(ben, talk) == ["hello"]


async def test_an_engine_does_not_start_without_the_keyring_of_its_log(place: Place, tmp_path: Path) -> None:
    async with place.engine(), people(place.url, tmp_path / "people", "ann"):
        pass
    backup = tmp_path / "safe.db"
    assert signet("keyring", "backup", str(backup), "--data", str(place.data)).returncode == 0
    remove(place.data)
    with pytest.raises(OpsError, match=rf"is missing.*the last one: {backup}.*signet keyring --help"):
        async with Node.open(load_settings(place.data, port=0)):
            raise AssertionError("it started")
    run = signet("keyring", "create", "--data", str(place.data))
    assert (run.returncode, run.stdout) == (0, f"{place.data / KEYRING} is new and empty\n")
    async with place.engine():
        assert signet("keyring", "check", "--data", str(place.data)).returncode == 1
    run = signet("keyring", "create", "--data", str(place.data))
    assert run.returncode == 1
    assert "already" in run.stderr


async def test_an_engine_does_not_start_on_a_damaged_keyring(place: Place, tmp_path: Path) -> None:
    async with place.engine(), people(place.url, tmp_path / "people", "ann"):
        pass
    (place.data / KEYRING).write_bytes(b"no keyring" * 1_000)
    with pytest.raises(OpsError, match=r"can't be read \(file is not a database\).*signet keyring"):
        async with Node.open(load_settings(place.data, port=0)):
            raise AssertionError("it started")
    run = signet("keyring", "backup", str(tmp_path / "safe.db"), "--data", str(place.data))
    assert run.returncode == 1
    assert "file is not a database" in run.stderr
