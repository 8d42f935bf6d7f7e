"""I11: the limits where they are met, on the live path, by HTTP, and at the door."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect

from gateways import connection as connection_module
from gateways.limits import LimitSettings, Rate
from signet_client import wire
from tests.gateways.engine import Engine, command
from tests.gateways.live import (
    WAIT_S,
    LiveServer,
    MemoryDevice,
    SocketDevice,
    hello,
    id_of,
    live_engine,
    live_server,
    send,
)

SLOW = Rate(per_s=0.01, burst=3)


@asynccontextmanager
async def engine(**settings: Any) -> AsyncIterator[Engine]:
    async with live_engine(limits=replace(LimitSettings(), **settings)) as engine:
        yield engine


@asynccontextmanager
async def server(**settings: Any) -> AsyncIterator[LiveServer]:
    async with live_server(limits=replace(LimitSettings(), **settings)) as server:
        yield server


async def test_a_device_that_sends_too_much_is_told_when_to_go_on() -> None:
    """I11: what is refused is not stored, and others go on."""
    async with engine(commands_device=SLOW) as running:
        ann, bob = await running.person("Ann"), await running.person("Bob")
        room = await ann.start_group(bob)  # a command, too
        at_ann, at_bob = await MemoryDevice(running, ann).live(), await MemoryDevice(running, bob).live()
        for text in ("one", "two"):
            await at_ann.sent(room, text)
        third = send(ann, room, "three")
        at_ann.say(third)
        refused = await at_ann.next(wire.Refused)
        assert (refused.id, refused.c, refused.code, refused.retry) == (id_of(third), room, "rate_limited", True)
        assert 90_000 < refused.retry_after_ms <= 100_000
        problem = (await ann.ask("POST", f"/conversations/{room}/leave", command())).json()
        assert (problem["code"], problem["retry"]) == ("rate_limited", True)
        assert (await at_bob.sent(room, "mine")).seq == 4
        assert running.services.limits.met == {"commands_device": 2}


async def test_receipts_have_a_limit_of_their_own() -> None:
    """I11: and what is refused is named, so that the device says it again."""
    async with engine(receipts_device=SLOW) as running:
        ann, bob = await running.person("Ann"), await running.person("Bob")
        room = await ann.start_group(bob)
        at_bob = await MemoryDevice(running, bob).live()
        for _ in range(2):
            at_bob.say(wire.Ack(c=room, upto=1))
            at_bob.say(wire.Read(c=room, upto=1))
        refused = await at_bob.next(wire.Refused)
        assert (refused.id, refused.c, refused.code, refused.retry) == ("", room, "rate_limited", True)
        await at_bob.sent(room, "sending goes on")


async def test_requests_and_fetches_have_a_limit() -> None:
    """I11"""
    async with engine(requests_account=SLOW) as running:
        ann = await running.person("Ann")
        room = await ann.start_group()
        device = await MemoryDevice(running, ann).live()
        for number in range(3):
            device.say(wire.Fetch(id=str(number), c=room, after=0))
        assert (await device.next(wire.Refused)).code == "rate_limited"
        assert (await ann.ask("GET", "/devices")).json()["code"] == "rate_limited"


async def test_who_goes_on_and_on_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: a refusal costs something too."""
    monkeypatch.setattr(connection_module, "OVER_LIMIT_MAX", 5)
    async with engine(commands_device=SLOW) as running:
        ann = await running.person("Ann")
        room = await ann.start_group()
        device = await MemoryDevice(running, ann).live()
        for number in range(10):
            device.say(send(ann, room, str(number)))
        assert await device.disconnected() == 4002


async def test_an_account_has_so_many_connections_and_a_device_one() -> None:
    """I11: a device that comes back takes its own place."""
    async with engine(connections_account_max=2) as running:
        ann, bob = await running.person("Ann"), await running.person("Bob")
        phone, tablet = await ann.new_device("phone"), await ann.new_device("tablet")
        first = await MemoryDevice(running, ann).live()
        await MemoryDevice(running, phone).live()
        third = MemoryDevice(running, tablet)
        third.connection.start()
        third.say(hello(third.person, await third.next(wire.Challenge)))
        assert await third.disconnected() == 4002
        again = await MemoryDevice(running, ann).live()
        assert await first.disconnected() == 4503
        await MemoryDevice(running, bob).live()
        again.connection.end()
        await MemoryDevice(running, tablet).live()


async def test_a_device_logs_in_so_often() -> None:
    """I11: wrong signatures of others use nothing of it up."""
    async with engine(logins_device=Rate(per_s=0.01, burst=2)) as running:
        ann = await running.person("Ann")
        wrong = await ann.hello()
        for _ in range(5):
            nonce = await running.challenge()
            assert (await ann.ask("POST", "/token", wrong | {"nonce": nonce})).json()["code"] == "bad_signature"
        device = await MemoryDevice(running, ann).live()
        assert (await ann.ask("POST", "/token", await ann.hello())).json()["code"] == "rate_limited"
        again = MemoryDevice(running, ann)
        again.connection.start()
        again.say(hello(again.person, await again.next(wire.Challenge)))
        assert await again.disconnected() == 4002
        assert not device.closed.done()


async def test_an_address_logs_in_and_registers_so_often() -> None:
    """I11"""
    async with engine(logins_address=SLOW, registrations_address=Rate(per_s=0.01, burst=2), loopback=True) as running:
        ann = await running.person("Ann")
        await running.person("Bob")
        refused = await ann.ask("POST", "/accounts", await ann.registration(str(uuid4())))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        await ann.log_in()
        assert (await ann.ask("POST", "/token", await ann.hello())).json()["code"] == "rate_limited"
        device = MemoryDevice(running, ann)
        device.connection.start()
        device.say(hello(device.person, await device.next(wire.Challenge)))
        assert await device.disconnected() == 4002


async def test_an_address_has_so_many_connections() -> None:
    """I11: the one too many is told so, and there is room again when one ends."""
    async with server(connections_address_max=1, loopback=True) as running:
        ann, bob = await running.engine.person("Ann"), await running.engine.person("Bob")
        async with running.device(ann) as at_ann:
            async with connect(running.url, subprotocols=["signet.v1.json"]) as ws:  # type: ignore[list-item]
                assert await SocketDevice(ws).disconnected() == 4002
            await at_ann.say(wire.Ping(id="1"))
            await at_ann.next(wire.Pong)
        async with asyncio.timeout(WAIT_S):
            while running.engine.services.limits.connections:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
        async with running.device(bob):
            pass
