"""I12: a revoked device is cut off within a second, whatever it does."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from signet_client import wire
from tests.gateways.engine import Person
from tests.gateways.live import LiveServer, SocketDevice, hello, live_server, send

CUT_S: Final = 1.0


@pytest.fixture
async def server() -> AsyncIterator[LiveServer]:
    async with live_server() as server:
        yield server


@asynccontextmanager
async def http(server: LiveServer, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {person.token}"}
    url = f"http://127.0.0.1:{server.port}/v1"
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        yield client


async def revoke(by: Person, device: str) -> float:
    """When it was said, by the loop's clock."""
    began = asyncio.get_running_loop().time()
    await by.do("DELETE", f"/devices/{device}", id=str(uuid4()))
    return began


async def test_its_connection_is_closed_and_its_token_ends(server: LiveServer) -> None:
    """I12: and nothing of what it says afterwards is heard, nor does it hear anything."""
    loop = asyncio.get_running_loop()
    ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
    phone = await ann.new_device("phone")
    room = await ann.start_group(bob)
    async with server.device(phone) as at_phone, server.device(ann) as at_ann, http(server, phone) as by_token:
        assert (await by_token.get("/conversations")).status_code == 200
        began = await revoke(ann, "phone")
        assert await at_phone.disconnected() == 4502
        response = await by_token.get("/conversations")
        assert loop.time() - began < CUT_S
        assert (response.status_code, response.json()["code"]) == (401, "device_revoked")
        # The account's other device goes on.
        await at_ann.say(send(ann, room, "still here"))
        assert (await at_ann.next(wire.Accepted)).seq == 2
    refused = await phone.ask("POST", "/token", await phone.hello())
    assert refused.json()["code"] == "device_revoked"
    async with connect(server.url, subprotocols=["signet.v1.json"]) as ws:  # type: ignore[list-item]
        again = SocketDevice(ws)
        await again.say(hello(phone, await again.next(wire.Challenge)))
        assert await again.disconnected() == 4502


async def test_a_device_that_floods_while_it_is_revoked_gets_nothing_more_in(server: LiveServer) -> None:
    """I12: what is accepted came before the revocation."""
    ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
    phone = await ann.new_device("phone")
    room = await ann.start_group(bob)

    async def flood(device: SocketDevice) -> None:
        for number in range(300):
            await device.say(send(phone, room, str(number)))

    async with server.device(phone) as at_phone:
        flooding = asyncio.create_task(flood(at_phone))
        while (await at_phone.next(wire.Accepted)).seq < 20:
            pass
        began = await revoke(ann, "phone")
        assert await at_phone.disconnected() == 4502
        assert asyncio.get_running_loop().time() - began < CUT_S
        await asyncio.gather(flooding, return_exceptions=True)
    head = (await ann.history(room))["head"]
    assert (await ann.send(room, "the next one")) == head + 1


async def test_a_device_that_reads_nothing_is_cut_too(server: LiveServer) -> None:
    """I12: its socket is full, so no close frame reaches it; the connection ends all the same."""
    ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
    phone = await ann.new_device("phone")
    room = await bob.start_group(ann)
    async with _deaf(server, phone) as ws:
        before = server.engine.services.limits.connections
        for _ in range(60):
            await bob.send(room, os.urandom(30_000).hex())
        [at_phone] = [each for each in server.server.server_state.connections if getattr(each, "slow", False)]
        began = await revoke(ann, "phone")
        while server.engine.services.limits.connections == before:
            assert asyncio.get_running_loop().time() - began < CUT_S + 1, "it is still connected"
            await asyncio.sleep(0.02)
        assert at_phone not in server.server.server_state.connections
        del ws


@asynccontextmanager
async def _deaf(server: LiveServer, person: Person) -> AsyncIterator[ClientConnection]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", server.port))
    options: dict[str, Any] = {"subprotocols": ["signet.v1.json"], "sock": sock, "max_queue": 1, "close_timeout": 0.1}
    async with connect(server.url, **options) as ws:
        device = SocketDevice(ws)
        await device.say(hello(person, await device.next(wire.Challenge)))
        await device.next(wire.Live)
        yield ws
