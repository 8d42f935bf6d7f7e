"""`signet invite`, beside a running engine."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ops.engine import engine
from ops.settings import HOME
from signet_client import Client, Refused


async def signet(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "ops.cli", *arguments,
        cwd=HOME, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def invite(data: Path, *arguments: str) -> Any:
    code, out, err = await signet("invite", *arguments, "--data", str(data), "--json")
    assert code == 0, err
    return msgspec.json.decode(out)


async def test_an_operator_lets_somebody_in_while_the_engine_runs(tmp_path: Path) -> None:
    """I12: one account for one use, and none once it is revoked."""
    data = tmp_path / "data"
    async with engine(data, {"registration": "invited", "log_level": "error"}) as running:
        made = await invite(data, "make", "--note", "for Ann", "--expires", "1h")
        other = await invite(data, "make", "--uses", "5")
        with pytest.raises(Refused, match="invitation_needed"):
            await Client.register(running.url, "Ann", tmp_path / "ann.db")
        # The same store goes on where it was: the first try made nothing.
        await (await Client.register(running.url, "Ann", tmp_path / "ann.db", invitation=made["code"])).close()
        with pytest.raises(Refused, match="bad_invitation"):
            await Client.register(running.url, "Ben", tmp_path / "ben.db", invitation=made["code"])
        assert (await invite(data, "revoke", other["id"]))["state"] == "revoked"
        with pytest.raises(Refused, match="revoked"):
            await Client.register(running.url, "Ben", tmp_path / "ben.db", invitation=other["code"])
        listed = await invite(data, "list")
    assert [(each["note"], each["used"], each["state"]) for each in listed] == [
        ("for Ann", 1, "used up"),
        ("", 0, "revoked"),
    ]
    assert all("code" not in each for each in listed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("make", "--expires", "soon"), "write minutes, hours or days"),
        (("make", "--expires", "9999d"), "a year at most"),
        (("revoke", "nothing"), "there is no invitation nothing"),
    ],
)
async def test_what_can_not_be_is_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "server.json").write_text('{"name": "localhost"}')
    code, _, err = await signet("invite", *arguments, "--data", str(tmp_path))
    assert code == 1
    assert said in err


async def test_without_a_server_there_is_nobody_to_invite_to(tmp_path: Path) -> None:
    code, _, err = await signet("invite", "make", "--data", str(tmp_path))
    assert code == 1
    assert "there is no server in" in err
