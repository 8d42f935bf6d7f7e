"""The live path over real sockets, behind a real uvicorn."""

import asyncio
import gc
import json
import os
import socket
from collections.abc import AsyncIterator, Callable

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.server import ServerProtocol

from commands.stores.memory import Medium
from gateways.connection import COMMANDS_MAX, Connection
from gateways.httpsocket import HttpProtocol
from gateways.protocol import EXTRAS_MAX
from gateways.websocket import LiveProtocol, Timeouts
from signet_client import wire
from tests.gateways.engine import command
from tests.gateways.live import WAIT_S, LiveServer, hello, id_of, live_server, send, text_of
from tests.gateways.raw import (
    REQUEST,
    close_code,
    log_in,
    masked,
    next_frame,
    nobody_is_left,
    raw_connection,
    small_socket,
    trickle,
    until,
)

QUICK = Timeouts(hello=0.3, ping=(0.3, 0.4), slow=0.5, close=0.3, tick=0.05)


@pytest.fixture
async def server() -> AsyncIterator[LiveServer]:
    async with live_server() as server:
        yield server


@pytest.fixture
async def quick() -> AsyncIterator[LiveServer]:
    """With short timeouts."""
    async with live_server(QUICK) as server:
        yield server


async def test_two_people_talk(server: LiveServer) -> None:
    ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
    room = await ann.start_group(bob)
    async with server.device(ann) as at_ann, server.device(bob) as at_bob:
        await at_ann.say(send(ann, room, "hello"))
        accepted = await at_ann.next(wire.Accepted)
        message = await at_bob.next(wire.Message)
        assert (text_of(message), message.seq) == ("hello", accepted.seq)
        await at_bob.say(wire.Ack(c=room, upto=message.seq))
        assert (await at_ann.next(wire.Receipt)).delivered == message.seq
        await at_bob.say(wire.Read(c=room, upto=message.seq))
        assert (await at_ann.next(wire.Receipt)).read == message.seq


async def test_http_goes_on_beside_it(server: LiveServer) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        assert (await http.get("/healthz")).status_code == 200
        ann = await server.engine.person("Ann")
        async with server.device(ann) as device:
            await device.say(wire.Ping(id="1"))
            await device.next(wire.Pong)
            assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("path", "subprotocols", "status"),
    [("/v1/live", None, 400), ("/v1/live", ["signet.v9.json"], 400), ("/elsewhere", ["signet.v1.json"], 404)],
)
async def test_a_wrong_handshake_is_answered(
    server: LiveServer, path: str, subprotocols: list[str] | None, status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{server.port}{path}", subprotocols=subprotocols)  # type: ignore[arg-type]
    assert refused.value.response.status_code == status
    await nobody_is_left(server)


async def test_turns_get_short_for_devices_and_not_for_strangers(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.turnstile.Voice.says_little", lambda _voice, _frames: True)
    courtesy = server.engine.services.turnstiles.courtesy
    async with raw_connection(server) as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        await next_frame(reader)
        writer.write(masked(b'{"t":"ping"}'))
        assert close_code(await next_frame(reader)) == 4501
    assert not courtesy.due
    ann = await server.engine.person("Ann")
    async with server.device(ann) as device:
        await device.round_trip()
        assert courtesy.due


async def test_in_a_short_turn_who_says_much_waits_for_the_next(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.turnstile.Voice.says_much", True)
    monkeypatch.setattr("gateways.turnstile.Courtesy.due", True)
    held = server.engine.services.turnstiles.held
    wait, waited = held.wait, list[object]()

    def note(go_on: Callable[[], object]) -> None:
        waited.append(go_on)
        wait(go_on)

    monkeypatch.setattr(held, "wait", note)
    ann = await server.engine.person("Ann")
    async with server.device(ann) as device:
        await device.round_trip()
        assert len(waited) >= 2, "the hello and the ping"
        before = len(waited)
        for number in range(20):
            await device.say(wire.Ping(id=str(number)))
        assert [(await device.next(wire.Pong)).id for _ in range(20)] == [str(number) for number in range(20)]
        assert len(waited) > before


# The handover from uvicorn


async def test_what_comes_in_pieces_and_right_behind_the_upgrade(server: LiveServer) -> None:
    """uvicorn drops what comes with the request; a client that waits for the 101, as it must, loses nothing."""
    ann = await server.engine.person("Ann")
    async with raw_connection(server) as (reader, writer):
        await trickle(writer, REQUEST)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        challenge = msgspec.json.decode(await next_frame(reader), type=wire.Challenge)
        await trickle(writer, masked(msgspec.json.encode(hello(ann, challenge))) + masked(b"how are you", opcode=9))
        frames = [await next_frame(reader) for _ in range(4)]
    frames.remove(b"how are you")
    assert [json.loads(frame)["t"] for frame in frames] == ["welcome", "keys", "live"]


async def test_bytes_in_the_same_packet_as_the_request_do_no_harm(quick: LiveServer) -> None:
    async with raw_connection(quick) as (reader, writer):
        writer.write(REQUEST + masked(b'{"t":"ping"}'))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert json.loads(await next_frame(reader))["t"] == "challenge"
        assert close_code(await next_frame(reader)) == 4001


# What is malformed


@pytest.mark.parametrize("case", ["binary", "no UTF-8", "no JSON", "unmasked", "too large"])
async def test_what_is_malformed_is_told_why_and_harms_nobody_else(server: LiveServer, case: str) -> None:
    """I11: the close frame arrives, though more bytes come behind the bad ones."""
    raw, code = {
        "binary": (masked(b"", opcode=2), 1003),
        "no UTF-8": (masked(b'{"t":"ping","x":"\xff"}'), 1007),
        "no JSON": (masked(b"hello"), 4501),
        "unmasked": (b"\x81\x05hello", 1002),
        "too large": (b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4), 1009),
    }[case]
    ann = await server.engine.person("Ann")
    async with server.device(ann) as device, raw_connection(server) as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        await next_frame(reader)
        writer.write(raw + 5_000 * masked(b'{"t":"ping"}'))
        assert close_code(await next_frame(reader)) == code
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        await device.say(wire.Ping(id="1"))
        assert (await device.next(wire.Pong)).id == "1"


async def test_fragments_are_one_frame(server: LiveServer) -> None:
    ann = await server.engine.person("Ann")
    async with server.device(ann) as device:
        await device.ws.send(['{"t":"pi', 'ng","', 'id":"1"}'])
        assert (await device.next(wire.Pong)).id == "1"


async def test_a_body_that_is_too_large_is_refused_and_a_frame_closes(server: LiveServer) -> None:
    settings = server.engine.services.settings
    ann = await server.engine.person("Ann")
    room = await ann.start_group()
    async with server.device(ann) as device:
        await device.say(send(ann, room, "x" * settings.body_bytes_max))
        assert (await device.next(wire.Refused)).code == "too_large"
        await device.ws.send("x" * (settings.frame_bytes_max + 1))
        assert await device.disconnected() == 1009


# Floods


@pytest.mark.parametrize("case", ["pongs", "empty fragments", "pings"])
async def test_a_stranger_may_send_a_handful_of_frames(server: LiveServer, case: str) -> None:
    """I11: 4 MB of tiny frames before the hello cost next to nothing."""
    tiny = {"pongs": masked(b"", opcode=10), "pings": masked(b"x", opcode=9), "empty fragments": masked(b"", opcode=0)}
    async with raw_connection(server) as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        await next_frame(reader)
        begun = b"\x01\x80" + bytes(4) if case == "empty fragments" else b""
        writer.write(begun + tiny[case] * 600_000)
        while (frame := await next_frame(reader)) == b"x":
            pass
        assert close_code(frame) == 4501


async def test_a_device_that_floods_is_closed_in_the_end_and_others_go_on(server: LiveServer) -> None:
    """I11: between two pings of ours a device may send thousands of pongs, but not any number."""
    ann, eve = await server.engine.person("Ann"), await server.engine.person("Eve")
    async with server.device(ann) as at_ann, raw_connection(server) as (reader, writer):
        await log_in(eve, reader, writer)
        writer.write(masked(b"", opcode=10) * (EXTRAS_MAX - 100) + masked(b'{"t":"ping","id":"1"}'))
        assert json.loads(await next_frame(reader))["id"] == "1"
        writer.write(masked(b"", opcode=10) * EXTRAS_MAX)
        closed = asyncio.create_task(next_frame(reader))
        await at_ann.say(wire.Ping(id="2"))
        assert (await at_ann.next(wire.Pong)).id == "2"
        assert close_code(await closed) == 4501


async def test_a_connection_has_so_many_unanswered_commands_and_then_waits() -> None:
    """I11; I2, I3: nothing is lost or changes its place by that."""
    medium = Medium()
    async with live_server(QUICK, medium) as server:
        ann = await server.engine.person("Ann")
        room = await ann.start_group()
        async with raw_connection(server) as (reader, writer):
            await log_in(ann, reader, writer)
            release = medium.faults.hold_append()
            said = [send(ann, room, f"{number}") for number in range(3 * COMMANDS_MAX)]
            writer.write(b"".join(masked(msgspec.json.encode(frame)) for frame in said))
            [at_ann] = server.server.server_state.connections
            connection: Connection = at_ann._connection  # type: ignore[union-attr]
            await until(lambda: connection.window <= 0)
            # Several keep-alive periods long nothing can be read of it: that is not its fault.
            for _ in range(4):
                assert await next_frame(reader) == b""
            assert connection.window == 0
            release.set()
            accepted: list[wire.Accepted] = []
            while len(accepted) < len(said):
                if frame := await next_frame(reader):
                    accepted.append(msgspec.json.decode(frame, type=wire.Accepted))
            assert [(each.id, each.seq) for each in accepted] == [
                (id_of(each), number) for number, each in enumerate(said, 2)
            ]


# Who comes and goes


async def test_a_replaced_and_a_revoked_device_are_told(server: LiveServer) -> None:
    ann = await server.engine.person("Ann")
    phone = await ann.new_device("phone")
    async with server.device(phone) as older, server.device(phone) as newer:
        assert await older.disconnected() == 4503
        await ann.do("DELETE", "/devices/phone", id=command()["id"])
        assert await newer.disconnected() == 4502


async def test_a_client_that_closes_is_answered_and_forgotten(server: LiveServer) -> None:
    ann = await server.engine.person("Ann")
    async with server.device(ann) as device:
        assert len(server.server.server_state.connections) == 1
        await device.ws.close(1000)
        assert (device.ws.close_code, device.ws.protocol.close_rcvd_then_sent) == (1000, False)
    await nobody_is_left(server)


async def test_a_client_that_vanishes_is_forgotten(server: LiveServer) -> None:
    """I4: without a FIN handshake of WebSocket's own; even in the middle of a frame."""
    async with raw_connection(server) as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(b'{"t":"ping"}')[:7])
        writer.transport.abort()
        await nobody_is_left(server)


async def test_a_stopping_server_says_come_again() -> None:
    async with live_server() as server:
        ann = await server.engine.person("Ann")
        async with server.device(ann) as device:
            server.server.should_exit = True
            assert await device.disconnected() == 1012


async def test_a_stopping_server_does_not_wait_for_who_does_not_answer() -> None:
    async with live_server(QUICK) as server, raw_connection(server) as (reader, writer):
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        server.server.should_exit = True
        await nobody_is_left(server)


# Timeouts


async def test_who_says_no_hello_is_closed(quick: LiveServer) -> None:
    async with connect(quick.url, subprotocols=["signet.v1.json"]) as ws:  # type: ignore[list-item]
        await ws.recv()
        await asyncio.wait_for(ws.wait_closed(), WAIT_S)
        assert ws.close_code == 4001


async def test_a_quiet_device_is_pinged_and_stays(quick: LiveServer) -> None:
    ann = await quick.engine.person("Ann")
    bob = await quick.engine.person("Bob")
    async with quick.device(ann) as device, raw_connection(quick) as (reader, writer):
        await log_in(bob, reader, writer)
        # Bob answers three pings with pongs, then falls silent, and is cut.
        for _ in range(3):
            assert await next_frame(reader) == b""
            writer.write(masked(b"", opcode=10))
        assert await next_frame(reader) == b""
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await next_frame(reader)
        await device.say(wire.Ping())
        await device.next(wire.Pong)


# Slow readers


async def test_a_slow_reader_misses_pushes_and_is_told_to_resync(server: LiveServer) -> None:
    """I11: what waits for it is bounded; I4: it is told that it lacks something."""
    ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
    room = await ann.start_group(bob)
    bob_socket = small_socket(server.port)
    async with connect(server.url, subprotocols=["signet.v1.json"], sock=bob_socket, max_queue=1) as ws:  # type: ignore[list-item]
        challenge = msgspec.json.decode(await ws.recv(), type=wire.Challenge)
        await ws.send(msgspec.json.encode(hello(bob, challenge)).decode())
        while json.loads(await ws.recv())["t"] != "live":
            pass
        async with server.device(ann) as at_ann:
            last = 0
            for _ in range(200):
                await at_ann.say(send(ann, room, os.urandom(20_000).hex()))
                last = (await at_ann.next(wire.Accepted)).seq
        seen, resynced = [], False
        async with asyncio.timeout(WAIT_S):
            while not resynced:
                frame = json.loads(await ws.recv())
                resynced = frame["t"] == "resync"
                if frame["t"] == "message":
                    seen.append(frame["seq"])
        assert seen == list(range(2, len(seen) + 2))
        assert len(seen) < last - 1
        await ws.send(json.dumps({"t": "fetch", "id": "1", "c": room, "after": seen[-1], "limit": 1}))
        assert json.loads(await ws.recv())["items"][0]["seq"] == seen[-1] + 1


async def test_a_batch_of_large_messages_is_not_queued_for_who_does_not_read() -> None:
    """I11: however much is recorded at once, a device that reads nothing costs little memory."""
    medium = Medium()
    async with live_server(medium=medium) as server:
        ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
        room = await ann.start_group(bob)

        def connections() -> list[LiveProtocol]:
            return [each for each in server.server.server_state.connections if isinstance(each, LiveProtocol)]

        async with raw_connection(server, small_socket(server.port)) as (reader, writer):
            await log_in(bob, reader, writer)
            [at_bob] = connections()
            transport = at_bob._transport
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            async with server.device(ann) as at_ann:
                release = medium.faults.hold_append()
                [connection] = [each._connection for each in connections() if each is not at_bob]
                assert connection is not None
                await at_ann.say(send(ann, room, "while this is being stored, the others become one batch"))
                await until(lambda: connection.window == COMMANDS_MAX - 1)
                for _ in range(COMMANDS_MAX - 1):
                    await at_ann.say(send(ann, room, os.urandom(25_000).hex()))
                await until(lambda: connection.window == 0)
                release.set()
                for _ in range(COMMANDS_MAX):
                    await at_ann.next(wire.Accepted)
            assert at_bob.slow
            assert transport.get_write_buffer_size() < 500_000


async def test_nothing_is_read_from_who_does_not_read_its_answers(server: LiveServer) -> None:
    """I11: however fast it asks."""
    ann = await server.engine.person("Ann")
    async with raw_connection(server, small_socket(server.port)) as (reader, writer):
        await log_in(ann, reader, writer)
        [at_ann] = server.server.server_state.connections
        assert isinstance(at_ann, LiveProtocol)
        at_ann._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        # One packet, as the loop may hand it over. The long questions, and so the long answers, wait for a second turn.
        short, long = masked(b'{"t":"ping"}'), masked(b'{"t":"ping","id":"%b"}' % (b"x" * 10_000))
        at_ann.data_received(short * COMMANDS_MAX + long * 20)
        await until(lambda: at_ann.slow)
        for _ in range(100):
            await asyncio.sleep(0)
            assert not at_ann._transport.is_reading()
        writer.transport.abort()


async def test_who_reads_nothing_at_all_is_disconnected(quick: LiveServer) -> None:
    """I11"""
    ann, bob = await quick.engine.person("Ann"), await quick.engine.person("Bob")
    room = await ann.start_group(bob)
    async with raw_connection(quick, small_socket(quick.port)) as (reader, writer):
        await log_in(bob, reader, writer)
        for _ in range(100):
            await ann.send(room, os.urandom(20_000).hex())
        await nobody_is_left(quick)


async def test_a_slow_reader_that_wakes_up_late_is_told_why() -> None:
    async with live_server(Timeouts(hello=10, ping=(12, 14), slow=0.3, close=10, tick=0.25)) as server:
        ann, bob = await server.engine.person("Ann"), await server.engine.person("Bob")
        room = await ann.start_group(bob)
        async with raw_connection(server, small_socket(server.port)) as (reader, writer):
            await log_in(bob, reader, writer)
            [at_bob] = server.server.server_state.connections
            for _ in range(100):
                await ann.send(room, os.urandom(20_000).hex())
            async with asyncio.timeout(WAIT_S):
                while not at_bob._closing:  # type: ignore[union-attr]  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            while (frame := await next_frame(reader)).startswith(b"{") or not frame:
                pass  # messages, and pings where this takes long
            assert close_code(frame) == 4000


async def test_connections_leave_no_work_to_the_garbage_collector(server: LiveServer) -> None:
    """Where many come and go, it would stop everybody for long."""
    ann = await server.engine.person("Ann")

    async def come_and_go() -> None:
        async with raw_connection(server) as (reader, writer):
            await log_in(ann, reader, writer)
            writer.write(masked(b"no json"))
            while close_code(await next_frame(reader)) is None:
                pass
        for bad in (masked(b'{"t":"ping"}'), masked(b"", 0x71)):
            async with raw_connection(server) as (reader, writer):
                writer.write(bad)
                await reader.read()
        for path in ("/v1/", "/v1/conversations", "/v1/nowhere"):
            async with httpx.AsyncClient() as http:
                await http.get(f"http://127.0.0.1:{server.port}{path}")
        await nobody_is_left(server)

    await come_and_go()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            await come_and_go()
        await asyncio.sleep(0)
        left = [
            each
            for each in gc.get_objects()
            if isinstance(each, LiveProtocol | HttpProtocol | Connection | ServerProtocol)
        ]
    finally:
        gc.enable()
    assert left == []
