"""I11: nobody fills up somebody else's list of conversations, nor starts them without end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateways.limits import LimitSettings, Rate
from tests.gateways.engine import Engine, Person, command, sqlite_engine


@asynccontextmanager
async def engine(folder: Path, **settings: Any) -> AsyncIterator[Engine]:
    limits = replace(LimitSettings(), **settings)
    async with sqlite_engine(folder, limits=limits) as engine:
        yield engine


async def start(one: Person, *others: Person, kind: str = "group", **fields: Any) -> str:
    """What was answered: "ok" or the refusal's code."""
    members = [other.account for other in others]
    return code_of(await one.ask("POST", "/conversations", command(kind=kind, members=members) | fields))


def code_of(response: Any) -> str:
    return "ok" if response.status_code == 200 else str(response.json()["code"])


async def test_a_stranger_puts_nobody_into_groups_without_end(tmp_path: Path) -> None:
    """I11: nor by starting them all at once."""
    async with engine(tmp_path, conversations_shared_max=5) as running:
        ann, eve, bob = [await running.person(name) for name in ("Ann", "Eve", "Bob")]
        got = await asyncio.gather(*(start(eve, ann) for _ in range(20)))
        assert got.count("ok") == 5
        assert set(got) == {"ok", "too_many_conversations"}
        assert len((await ann.do("GET", "/conversations"))["conversations"]) == 5
        # Nor by adding; direct conversations and others are not concerned.
        empty = await eve.start_group()
        assert code_of(await eve.ask("POST", f"/conversations/{empty}/members", command(accounts=[ann.account]))) == (
            "too_many_conversations"
        )
        assert await start(eve, ann, kind="direct") == "ok"
        assert await start(bob, ann) == "ok"
        assert running.services.limits.met == {"conversations_shared": 16}


async def test_an_account_is_in_so_many_conversations_and_no_more(tmp_path: Path) -> None:
    """I11: those that it has left count too, since its devices go on showing them."""
    async with engine(tmp_path, conversations_account_max=3) as running:
        ann, bob = await running.person("Ann"), await running.person("Bob")
        first = await ann.start_group()
        await ann.start_group(bob)
        await start(ann, bob, kind="direct")
        assert await start(ann) == "too_many_conversations"
        assert await start(bob, ann) == "too_many_conversations"
        assert await start(bob) == "ok"
        response = await ann.ask("POST", f"/conversations/{first}/members", command(accounts=[bob.account]))
        assert (response.status_code, response.json()["retry"]) == (409, False)
        assert response.json()["code"] == "too_many_conversations"


async def test_what_was_done_before_gets_its_first_answer(tmp_path: Path) -> None:
    """I2: whatever bounds have been met since."""
    async with engine(
        tmp_path, conversations_account_max=2, conversations_shared_max=1, starts_account=Rate(per_s=0.001, burst=1)
    ) as running:
        ann, bob, cid = [await running.person(name) for name in ("Ann", "Bob", "Cid")]
        start_it = command(kind="group", members=[bob.account])
        group = (await ann.do("POST", "/conversations", start_it))["conversation"]
        add = command(accounts=[cid.account])
        added = await ann.do("POST", f"/conversations/{group}/members", add)
        assert await start(bob, cid, kind="direct") == "ok"
        assert (await ann.do("POST", "/conversations", start_it))["conversation"] == group
        assert await ann.do("POST", f"/conversations/{group}/members", add) == added


async def test_an_account_starts_so_many_conversations_in_a_time(tmp_path: Path) -> None:
    """I11"""
    async with engine(tmp_path, starts_account=Rate(per_s=1 / 60, burst=2)) as running:
        ann, bob = await running.person("Ann"), await running.person("Bob")
        assert [await start(ann, bob), await start(ann)] == ["ok", "ok"]
        response = await ann.ask("POST", "/conversations", command(kind="group", members=[]))
        problem = response.json()
        assert (response.status_code, problem["code"], problem["retry"]) == (429, "rate_limited", True)
        assert 55_000 < problem["retry_after_ms"] <= 60_000
        assert response.headers["retry-after"] == "60"
        # The direct conversation that is there already is found again by whoever asks for it.
        assert await start(bob, ann, kind="direct") == "ok"
        assert await start(ann, bob, kind="direct") == "ok"
