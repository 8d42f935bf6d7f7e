"""The WebSocket protocol's own rules (RFC 6455), over real sockets behind a real uvicorn.

What the frames make of the connection; `test_protocol.py` has the same without sockets, cut in all ways.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from commands.stores.memory import Medium
from gateways.connection import COMMANDS_MAX
from gateways.protocol import FRAGMENTS_MAX
from gateways.websocket import Timeouts
from signet_client import wire
from tests.gateways.engine import Person
from tests.gateways.live import WAIT_S, LiveServer, id_of, live_server, send
from tests.gateways.raw import (
    REQUEST,
    close_code,
    log_in,
    masked,
    next_frame,
    nobody_is_left,
    raw_connection,
    trickle,
    until,
)

PING = b'{"t":"ping","id":"1"}'
PONG = {"t": "pong", "id": "1"}
TEXT, CONTINUATION, BINARY, CLOSE, PING_OPCODE, PONG_OPCODE = 1, 0, 2, 8, 9, 10


@pytest.fixture
async def server() -> AsyncIterator[LiveServer]:
    async with live_server() as server:
        yield server


def fragment(payload: bytes, opcode: int = CONTINUATION) -> bytes:
    """A frame after which the message goes on."""
    data = masked(payload, opcode)
    return bytes((data[0] & 0x7F,)) + data[1:]


def under_a_mask(payload: bytes, mask: bytes) -> bytes:
    covered = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x81, 0x80 | len(payload))) + mask + covered


async def frames_until_close(reader: asyncio.StreamReader) -> tuple[list[bytes], int]:
    """What came of frames with a payload, and the close's code; the connection must end behind it."""
    frames: list[bytes] = []
    async with asyncio.timeout(WAIT_S):
        while True:
            head = await reader.readexactly(2)
            length = head[1]
            if length >= 126:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            payload = await reader.readexactly(length)
            if head[0] == 0x80 | CLOSE:
                assert await reader.read() == b""
                return frames, close_code(payload)
            if payload:
                frames.append(payload)


# What is taken


@pytest.mark.parametrize(
    "raw",
    [
        masked(PING),
        under_a_mask(PING, b"\x01\xff\x80\x7f"),
        fragment(PING[:5], TEXT) + fragment(PING[5:9]) + masked(PING[9:], CONTINUATION),
        fragment(b"", TEXT) + fragment(PING) + masked(b"", CONTINUATION),
        fragment(PING[:5], TEXT) + masked(b"", PONG_OPCODE) + masked(PING[5:], CONTINUATION),
        fragment(b" " * 70_000, TEXT) + fragment(b" " * 300) + masked(PING, CONTINUATION),
        masked(b" " * 200 + PING),
        masked(b" " * 70_000 + PING),
    ],
    ids=["whole", "masked", "fragments", "empty ones", "pong between", "long fragments", "16-bit length", "64-bit"],
)
async def test_a_message_is_taken_however_it_is_framed(server: LiveServer, raw: bytes) -> None:
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        writer.write(raw)
        assert json.loads(await next_frame(reader)) == PONG


async def test_pings_between_fragments_are_answered_at_once(server: LiveServer) -> None:
    """RFC 6455, 5.4 and 5.5.2: with what they carry, also 125 bytes."""
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        for payload in (b"how are you", b"", b"x" * 125):
            writer.write(fragment(PING[:5], TEXT) + masked(payload, PING_OPCODE))
            assert await next_frame(reader) == payload
            writer.write(masked(PING[5:], CONTINUATION))
            assert json.loads(await next_frame(reader)) == PONG


async def test_bytes_one_by_one_are_the_same(server: LiveServer) -> None:
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        await trickle(writer, under_a_mask(PING, b"abcd") + fragment(PING[:5], TEXT) + masked(PING[5:], CONTINUATION))
        assert [json.loads(await next_frame(reader)) for _ in range(2)] == [PONG] * 2


# What ends the connection


def frame_bytes_max(server: LiveServer) -> int:
    return server.engine.services.settings.frame_bytes_max


BROKEN: dict[str, tuple[bytes, int]] = {
    "unmasked": (b"\x81" + bytes((len(PING),)) + PING, 1002),
    "unmasked ping": (b"\x89\x00", 1002),
    "reserved bit 1": (bytes((0xC1,)) + masked(PING)[1:], 1002),
    "reserved bit 2": (bytes((0xA1,)) + masked(PING)[1:], 1002),
    "reserved bit 3": (bytes((0x91,)) + masked(PING)[1:], 1002),
    **{f"opcode {code}": (masked(PING, code), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126 bytes": (masked(bytes(126), PING_OPCODE), 1002),
    "pong of 126 bytes": (masked(bytes(126), PONG_OPCODE), 1002),
    "close of 126 bytes": (masked(b"\x03\xe8" + b"x" * 124, CLOSE), 1002),
    "fragmented ping": (fragment(b"", PING_OPCODE), 1002),
    "fragmented pong": (fragment(b"", PONG_OPCODE), 1002),
    "fragmented close": (fragment(b"\x03\xe8", CLOSE), 1002),
    "continuation of nothing": (masked(PING, CONTINUATION), 1002),
    "continuation after the end": (
        fragment(PING[:5], TEXT) + masked(PING[5:], CONTINUATION) + masked(b"", CONTINUATION),
        1002,
    ),
    "message within a message": (fragment(PING[:5], TEXT) + masked(PING), 1002),
    "binary": (masked(PING, BINARY), 1003),
    "binary fragment": (fragment(PING[:5], BINARY), 1003),
    "no UTF-8": (masked(b'{"t":"ping","id":"\xff"}'), 1007),
    "overlong UTF-8": (masked(b'{"t":"ping","id":"\xc0\xaf"}'), 1007),
    "a surrogate in UTF-8": (masked(b'{"t":"ping","id":"\xed\xa0\x80"}'), 1007),
    "UTF-8 cut at the end": (masked(b'{"t":"ping"}\xc3'), 1007),
    "no UTF-8 across fragments": (
        fragment(b'{"t":"ping","id":"\xe2\x82', TEXT) + masked(b'"}', CONTINUATION),
        1007,
    ),
    "no UTF-8 in a close's reason": (masked(b"\x03\xe8\xff", CLOSE), 1007),
    "close of one byte": (masked(b"\x03", CLOSE), 1002),
    "no JSON": (masked(b"hello"), 4501),
    "no frame of the protocol": (masked(b'{"t":"pong"}'), 4501),
    "more fragments than may be": (fragment(PING, TEXT) + fragment(b"") * FRAGMENTS_MAX, 1009),
    **{
        f"close {code}": (masked(code.to_bytes(2, "big"), CLOSE), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
    },
}


@pytest.mark.parametrize("case", BROKEN)
async def test_what_breaks_the_rules_is_told_why(server: LiveServer, case: str) -> None:
    """I11: what came before is still done, what comes behind is not, and the close frame arrives."""
    raw, code = BROKEN[case]
    before = json.dumps({"t": "ping", "id": "before"}).encode()
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        writer.write(masked(before) + raw + masked(before.replace(b"before", b"behind")) * 1_000)
        frames, closed = await frames_until_close(reader)
        pongs = [json.loads(frame)["id"] for frame in frames]
        assert (closed, pongs) == (code, ["before"] + ["1"] * (case == "continuation after the end"))
    await nobody_is_left(server)


@pytest.mark.parametrize("case", ["one frame", "a frame that never comes", "a sum of fragments", "a long sum"])
async def test_what_is_too_large_is_refused_as_soon_as_it_shows(server: LiveServer, case: str) -> None:
    """I11: by the length that a frame states, and by the sum of fragments, pings between them or not."""
    most = frame_bytes_max(server)
    raw = {
        "one frame": b"\x81\xff" + (most + 1).to_bytes(8, "big") + bytes(4) + bytes(most + 1),
        "a frame that never comes": b"\x81\xff" + (2**63 - 1).to_bytes(8, "big") + bytes(4),
        "a sum of fragments": fragment(b" " * 60_000, TEXT) * 1 + fragment(b" " * 60_000) * (most // 60_000),
        "a long sum": fragment(b" ", TEXT) + (fragment(b" " * 3_000) + masked(b"", PONG_OPCODE)) * (most // 3_000 + 1),
    }[case]
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        writer.write(raw)
        assert await frames_until_close(reader) == ([], 1009)


# Closing


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
async def test_a_close_is_echoed_and_ends_the_connection(server: LiveServer, code: int) -> None:
    """RFC 6455, 5.5.1; what comes behind the close is not looked at."""
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        writer.write(masked(code.to_bytes(2, "big") + "tschüß".encode(), CLOSE) + masked(PING) + b"\xff" * 100)
        assert await frames_until_close(reader) == ([], code)
    await nobody_is_left(server)


async def test_a_close_without_a_code_is_echoed(server: LiveServer) -> None:
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        writer.write(masked(b"", CLOSE))
        assert await next_frame(reader) == b""
        assert await reader.read() == b""


# The handover from uvicorn


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ((b"Version: 13", b"Version: 8"), 400),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), 400),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        ((b"signet.v1.json", b"signet.v0.json"), 400),
        ((b"GET ", b"POST "), 405),
    ],
)
async def test_a_wrong_handshake_is_answered_with_a_status(
    server: LiveServer, changed: tuple[bytes, bytes], status: int
) -> None:
    async with raw_connection(server) as (reader, writer):
        writer.write(REQUEST.replace(*changed))
        async with asyncio.timeout(WAIT_S):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 %d " % status)
            await reader.read()
    await nobody_is_left(server)


@pytest.mark.parametrize("cut", [1, 20, len(REQUEST) - 2, len(REQUEST) - 1])
async def test_a_request_in_two_pieces_is_handed_over_whole(server: LiveServer, cut: int) -> None:
    async with raw_connection(server) as (reader, writer):
        writer.write(REQUEST[:cut])
        await asyncio.sleep(0)
        await writer.drain()
        writer.write(REQUEST[cut:])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert json.loads(await next_frame(reader))["t"] == "challenge"


async def test_an_upgrade_behind_a_request_on_the_same_connection(server: LiveServer) -> None:
    async with raw_connection(server) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: signet.test\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        await log_in(await server.engine.person("Ann"), reader, writer)
        writer.write(masked(PING))
        assert json.loads(await next_frame(reader)) == PONG


async def test_hundreds_of_frames_in_one_packet_are_taken_in_order(server: LiveServer) -> None:
    async with raw_connection(server) as (reader, writer):
        await log_in(await server.engine.person("Ann"), reader, writer)
        writer.write(b"".join(masked(b'{"t":"ping","id":"%d"}' % n) for n in range(500)))
        assert [json.loads(await next_frame(reader))["id"] for _ in range(500)] == [f"{n}" for n in range(500)]


# Shutdown under load


async def test_a_stop_answers_what_was_taken_in_and_says_come_again() -> None:
    """I1: a client that was heard is not left to ask again."""
    medium = Medium()
    async with live_server(medium=medium) as server:
        ann = await server.engine.person("Ann")
        room = await ann.start_group()
        async with raw_connection(server) as (reader, writer):
            await log_in(ann, reader, writer)
            release = medium.faults.hold_append()
            said = [send(ann, room, f"{number}") for number in range(10)]
            writer.write(b"".join(masked(msgspec.json.encode(frame)) for frame in said))
            [at_ann] = server.server.server_state.connections
            await until(lambda: at_ann._connection.window == COMMANDS_MAX - len(said))  # type: ignore[union-attr]
            server.server.should_exit = True
            await until(lambda: at_ann._stopping)  # type: ignore[union-attr]
            writer.write(masked(msgspec.json.encode(send(ann, room, "too late"))))
            release.set()
            frames, code = await frames_until_close(reader)
    assert code == 1012
    assert [msgspec.json.decode(frame, type=wire.Accepted).id for frame in frames] == [id_of(each) for each in said]


async def test_a_stop_does_not_wait_for_a_store_that_is_away() -> None:
    medium = Medium()
    quick = Timeouts(hello=5, ping=(5, 6), slow=5, answers=0.2, close=1, tick=0.1)
    async with live_server(quick, medium) as server:
        ann = await server.engine.person("Ann")
        room = await ann.start_group()
        async with server.device(ann) as device:
            medium.faults.hold_append()
            await device.say(send(ann, room, "hello"))
            [at_ann] = server.server.server_state.connections
            await until(lambda: at_ann._connection.window < COMMANDS_MAX)  # type: ignore[union-attr]
            server.server.should_exit = True
            assert await device.disconnected() == 1012


async def test_a_stop_under_load_closes_every_connection_with_a_code() -> None:
    """I1, I2: what was accepted is in the log, and nothing twice."""
    medium = Medium()
    async with live_server(medium=medium) as server:
        people = [await server.engine.person(f"{number}") for number in range(8)]
        rooms = [await person.start_group() for person in people]
        talks = [asyncio.create_task(_talk(server, *each)) for each in zip(people, rooms, strict=True)]
        await until(lambda: len(medium.log) > 500)
        server.server.should_exit = True
        async with asyncio.timeout(WAIT_S):
            ended = await asyncio.gather(*talks)
    stored = [json.loads(event.data)["cmd"] for event in medium.log if event.topic == "MessageSent"]
    assert len(stored) == len(set(stored)) > 100
    assert [code for _, code in ended] == [1012] * len(people)
    assert set().union(*(accepted for accepted, _ in ended)) == set(stored)


async def _talk(server: LiveServer, person: Person, room: str) -> tuple[set[str], int]:
    """Many messages at once, again and again; gives what was accepted, and the close's code."""
    async with raw_connection(server) as (reader, writer):
        await log_in(person, reader, writer)

        async def speak() -> None:
            while True:
                writer.write(masked(msgspec.json.encode(send(person, room, "hello"))))
                await writer.drain()
                await asyncio.sleep(0.001)

        speaking = asyncio.create_task(speak())
        frames, code = await frames_until_close(reader)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    return {msgspec.json.decode(frame, type=wire.Accepted).id for frame in frames}, code
