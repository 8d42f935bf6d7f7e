"""`signet play irc` on an engine of its own: what it says of itself agrees with the oracle, which shares no code."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.engine import engine
from ops.errors import OpsError
from ops.playing.crowd import Crowd
from ops.playing.figures import figures, strays
from ops.playing.journal import Journal
from ops.playing.plan import read_plan
from ops.playing.player import Player
from tests.corpus import DAYS, ROOT

PATIENCE_S = 300
ELSEWHERE = ("postgres", "kurrentdb")

MADE_UP = r"""
[09:00] <solo> is anybody here?
[09:00]  * solo waves
=== `ann\ [n=ann@example.org]  has joined #ubuntu
=== ben|away [n=ben@example.org]  has joined #ubuntu
[09:01] <`ann\> hello
=== ben|away is now known as ben
[09:02] <ben> hello yourself
[09:02] <ben>␠
=== ben [n=ben@example.org]  has left #ubuntu ["bye"]
[09:03] <`ann\> he's gone
=== ben [n=ben@example.org]  has joined #ubuntu
[09:04] <ben> I am back
=== `ann\ is now known as ben
[09:05] <ben> the name is mine now
[09:05] <ben|away> and I am somebody new, ünïcödé 🎉
=== nobody [n=no@example.org]  has left #ubuntu []
[09:06] <solo> 	tabs, "quotes" and \ backslashes␠␠
"""


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "ops.cli", "play", "irc", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)


def cut(day: Path, folder: Path) -> Path:
    """A hundred lines from its midst."""
    log = folder / day.name
    log.write_bytes(b"\n".join(day.read_bytes().split(b"\n")[500:600]) + b"\n")
    return log


def check(log: Path, journal: Path) -> dict[str, Any]:
    """The oracle's verdict."""
    oracle = ROOT / "tests/oracle/play_oracle.py"
    command = [sys.executable, str(oracle), str(log), "--journal", str(journal)]
    verdict: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    return verdict


def play_and_check(log: Path, journal: Path, *options: str) -> dict[str, Any]:
    run = play(str(log), "--speed", "0", "--journal", str(journal), "--json", *options)
    assert run.returncode == 0, run.stderr
    figures: dict[str, Any] = json.loads(run.stdout)
    verdict = check(log, journal)
    assert verdict["ok"], verdict
    assert (figures["clients"], figures["messages"]) == (verdict["persons"], verdict["messages"])
    assert figures["deliveries"] + figures["accepted"] == verdict["stored"]
    assert figures["accepted"] == verdict["ticks"] == figures["messages"]
    assert [figures[wrong] for wrong in ("missing", "doubled", "out_of_order", "ticks_missing")] == [0, 0, 0, 0]
    return figures


@pytest.mark.parametrize("options", [(), ("--encrypted",)], ids=["in clear", "encrypted"])
def test_a_made_up_day_of_comings_goings_and_renames(tmp_path: Path, options: tuple[str, ...]) -> None:
    """I3, I5, I8: everybody has what was said while it was there, once and in order, and authors their ticks."""
    log = tmp_path / "day.raw.txt"
    log.write_text(MADE_UP.lstrip().replace("␠", " "))
    figures = play_and_check(log, tmp_path / "journal", *options)
    assert (figures["lines"], figures["messages"], figures["clients"]) == (17, 10, 4)
    assert figures["skipped"] == {"leave_while_out": 1}


@pytest.mark.parametrize("day", DAYS[1:], ids=lambda day: day.name[:10])
def test_a_cut_of_each_other_day(day: Path, tmp_path: Path) -> None:
    """I3, I5, I8: on real chat. The first day is played whole."""
    play_and_check(cut(day, tmp_path), tmp_path / "journal")


def test_a_cut_of_a_day_encrypted(tmp_path: Path) -> None:
    """I3, I5, I8: keys come before what they open, whoever comes and goes."""
    play_and_check(cut(DAYS[0], tmp_path), tmp_path / "journal", "--encrypted")


@pytest.mark.soak
@pytest.mark.parametrize("day", DAYS, ids=lambda day: day.name[:10])
def test_a_whole_day_encrypted(day: Path, tmp_path: Path) -> None:
    """I3, I5, I8: each of up to 182 clients gives its keys to all others, again and again."""
    play_and_check(day, tmp_path / "journal", "--encrypted")


@pytest.mark.slow
def test_a_whole_day_at_full_speed(tmp_path: Path) -> None:
    """I3, I5, I8: with 182 clients, of which 16 leave."""
    play_and_check(DAYS[0], tmp_path / "journal")


@pytest.mark.slow
@pytest.mark.parametrize("data", ELSEWHERE, indirect=True)
async def test_a_cut_of_a_day_on_other_stores(data: Path, tmp_path: Path) -> None:
    """I3, I5, I8: with the log elsewhere."""
    await play_on(data, cut(DAYS[0], tmp_path), tmp_path / "journal")


@pytest.mark.soak
@pytest.mark.parametrize("data", ELSEWHERE, indirect=True)
async def test_a_whole_day_on_other_stores(data: Path, tmp_path: Path) -> None:
    """I3, I5, I8"""
    await play_on(data, DAYS[0], tmp_path / "journal")


async def play_on(data: Path, log: Path, journal: Path) -> None:
    """On an engine of this data folder."""
    async with engine(data, {"log_level": "error"}):
        run = await asyncio.to_thread(
            play, str(log), "--speed", "0", "--data", str(data), "--journal", str(journal), "--json"
        )
    assert run.returncode == 0, run.stderr
    verdict = await asyncio.to_thread(check, log, journal)
    assert verdict["ok"], verdict


async def test_what_is_wrong_with_a_client_shows_in_the_figures(tmp_path: Path) -> None:
    log = tmp_path / "day.raw.txt"
    log.write_text("".join(f"[09:0{minute}] <{nick}> {minute}\n" for minute, nick in enumerate("aabbaa")))
    plan = read_plan([log])
    with Journal(None) as journal:
        async with engine(tmp_path / "engine") as running, Crowd(running.url, tmp_path, journal) as crowd:
            await crowd.arrive(plan.names, lambda: None)
            player = Player(crowd, interval_s=0, on_message=lambda: None)
            await player.play(plan.steps)
            await player.settle()
            assert figures(plan, player, crowd).flawless

            one, two = crowd.people.values()
            lost = one.told.pop()
            one.told.insert(0, one.told[-1])
            two.stays[-1][0] += 1
            two.sent.append(lost + 1)
            found = figures(plan, player, crowd)
            assert (found.missing, found.doubled, found.out_of_order, found.ticks_missing) == (1, 1, 1, 1)
            assert strays(player, crowd) == 1
            assert not found.flawless


async def test_a_channel_larger_than_the_engines_groups(tmp_path: Path) -> None:
    log = tmp_path / "day.raw.txt"
    log.write_text("".join(f"[09:0{minute}] <{nick}> hello\n" for minute, nick in enumerate("abc")))
    async with engine(tmp_path / "engine", {"group_members_max": "3"}):
        run = await asyncio.to_thread(play, str(log), "--data", str(tmp_path / "engine"), "--json")
    assert run.returncode == 1
    assert "SIGNET_GROUP_MEMBERS_MAX" in run.stderr
    assert json.loads(run.stdout)["accepted"] == 2


async def test_somebody_else_in_the_channel_is_noticed(tmp_path: Path) -> None:
    log = tmp_path / "day.raw.txt"
    log.write_text("[09:00] <a> hello\n[09:01] <a> hello?\n")
    plan = read_plan([log])
    with Journal(None) as journal:
        async with engine(tmp_path / "engine") as running, Crowd(running.url, tmp_path, journal) as crowd:
            await crowd.arrive(plan.names, lambda: None)
            await crowd.owner.client.send(crowd.channel, "I am no part of the play")
            with pytest.raises(OpsError, match="not the only play"):
                await Player(crowd, interval_s=0, on_message=lambda: None).play(plan.steps)
