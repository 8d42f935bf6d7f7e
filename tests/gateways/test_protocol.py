"""The frame protocol without I/O: bytes in, frames out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from gateways.gate import Gate
from gateways.protocol import (
    END,
    EXTRAS_BEFORE_LOGIN_MAX,
    EXTRAS_MAX,
    FRAGMENTS_MAX,
    OPENED,
    PING,
    FrameProtocol,
    encode,
)
from gateways.services import EdgeSettings
from signet_client import wire
from signet_client.codes import DISCONNECTS

FRAME_BYTES_MAX = 1_000
GATE = Gate(EdgeSettings(), "signet.test")

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: signet.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)
SUBPROTOCOL = "Sec-WebSocket-Protocol: signet.v1.json\r\n"


def request(path: str = "/v1/live", more: str = SUBPROTOCOL) -> bytes:
    return REQUEST.format(path=path, more=more).encode()


WHOLE = 1 << 30
"""A slice that takes everything."""


def receive(protocol: FrameProtocol, data: bytes) -> list[Any]:
    return list(protocol.receive(data, 100, WHOLE))


def opened() -> FrameProtocol:
    protocol = FrameProtocol(frame_bytes_max=FRAME_BYTES_MAX, gate=GATE)
    assert receive(protocol, request()) == [OPENED]
    protocol.to_send()
    return protocol


def frame(opcode: Opcode, data: bytes, *, fin: bool = True, mask: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


def text(data: bytes | str, *, fin: bool = True) -> bytes:
    return frame(Opcode.TEXT, data.encode() if isinstance(data, str) else data, fin=fin)


def more(data: bytes, *, fin: bool) -> bytes:
    return frame(Opcode.CONT, data, fin=fin)


def sent(protocol: FrameProtocol) -> list[tuple[int, bytes]]:
    """Opcode and payload of what the protocol has to send; END is (-1, b"")."""
    found: list[tuple[int, bytes]] = []
    for data in protocol.to_send():
        if data == END:
            found.append((-1, b""))
        else:
            assert data[0] & 0x80
            assert data[1] < 126
            assert len(data) == 2 + data[1]
            found.append((data[0] & 0x0F, data[2:]))
    return found


def close_code(protocol: FrameProtocol) -> int | None:
    """Of the close frame that was sent, which nothing may follow but the end."""
    frames = sent(protocol)
    if not frames:
        return None
    assert [opcode for opcode, _ in frames[-2:]] == [Opcode.CLOSE, -1]
    return int.from_bytes(frames[-2][1][:2], "big")


# The handshake


def test_the_handshake_chooses_the_subprotocol_and_no_compression() -> None:
    protocol = FrameProtocol(frame_bytes_max=FRAME_BYTES_MAX, gate=GATE)
    offered = "Sec-WebSocket-Protocol: other, signet.v1.json\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    assert receive(protocol, request("/v1/live?x=1", offered)) == [OPENED]
    [response] = protocol.to_send()
    assert response.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Protocol: signet.v1.json\r\n" in response
    assert b"Extensions" not in response


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request("/v1/other"), 404),
        (request("/v1/live/"), 404),
        (request(more=""), 400),
        (request(more="Sec-WebSocket-Protocol: signet.v2.json\r\n"), 400),
        (request().replace(b"GET", b"POST"), 405),
        (request().replace(b"Version: 13", b"Version: 8"), 400),
    ],
)
def test_a_wrong_handshake_is_answered_and_ended(raw: bytes, status: int) -> None:
    protocol = FrameProtocol(frame_bytes_max=FRAME_BYTES_MAX, gate=GATE)
    assert receive(protocol, raw) == []
    response, end = protocol.to_send()
    assert response.startswith(b"HTTP/1.1 %d " % status)
    assert end == END
    assert receive(protocol, text('{"t":"ping"}')) == []


# Frames

PING_FRAME = wire.Ping(id="1")
PING_TEXT = '{"t":"ping","id":"1"}'

TABLE: dict[str, tuple[bytes, list[Any], int | None]] = {
    "one": (text(PING_TEXT), [PING_FRAME], None),
    "two at once": (text(PING_TEXT) * 2, [PING_FRAME] * 2, None),
    "unknown fields": (text('{"t":"ping","id":"1","new":{"a":[1]}}'), [PING_FRAME], None),
    "fragments": (
        text(b'{"t":"pi', fin=False) + more(b'ng","i', fin=False) + more(b'd":"1"}', fin=True),
        [PING_FRAME],
        None,
    ),
    "empty fragments": (
        text(b"", fin=False) + more(PING_TEXT.encode(), fin=False) + more(b"", fin=True),
        [PING_FRAME],
        None,
    ),
    "cut within a character": (
        text('{"t":"ping","id":"é'.encode()[:-1], fin=False) + more('é"}'.encode()[1:], fin=True),
        [wire.Ping(id="é")],
        None,
    ),
    "no JSON": (text("hello"), [], 4501),
    "no object": (text("[]"), [], 4501),
    "no such frame": (text('{"t":"pingpong"}'), [], 4501),
    "a server's frame": (text('{"t":"live"}'), [], 4501),
    "a field is missing": (text('{"t":"ack","c":"x"}'), [], 4501),
    "a wrong type": (text('{"t":"ack","c":"x","upto":"1"}'), [], 4501),
    "half a surrogate pair": (text('{"t":"ping","id":"\\ud800"}'), [], 4501),
    "a raw control character": (text('{"t":"ping","id":"\x00"}'), [], 4501),
    "an empty message": (text(""), [], 4501),
    "a good one before": (text(PING_TEXT) + text("?") + text(PING_TEXT), [PING_FRAME], 4501),
    "binary": (frame(Opcode.BINARY, PING_TEXT.encode()) + text(PING_TEXT), [], 1003),
    "binary fragments": (frame(Opcode.BINARY, b"{", fin=False) + more(b"}", fin=True), [], 1003),
    "no UTF-8": (text(b'{"t":"ping","id":"\xff"}'), [], 1007),
    "no UTF-8 in a skipped field": (text(b'{"t":"ping","new":"\xff"}'), [], 1007),
    "no UTF-8 over fragments": (text(b'{"t":"ping","new":"\xc3', fin=False) + more(b'"}', fin=True), [], 1007),
    "too large": (text(json.dumps({"t": "ping", "id": "x" * FRAME_BYTES_MAX})), [], 1009),
    "too large in fragments": (text(b" " * 600, fin=False) + more(b" " * 600, fin=True), [], 1009),
    "a continuation of nothing": (more(b"{}", fin=True), [], 1002),
    "a message within a message": (text(b"{", fin=False) + text(PING_TEXT), [], 1002),
    "unmasked": (frame(Opcode.TEXT, PING_TEXT.encode(), mask=False), [], 1002),
    "reserved bits": (bytes((0xC1,)) + text(PING_TEXT)[1:], [], 1002),
    "a close": (text(PING_TEXT) + frame(Opcode.CLOSE, b"\x03\xe8"), [PING_FRAME], 1000),
    "a close with a reason": (frame(Opcode.CLOSE, b"\x03\xe8bye"), [], 1000),
    "an ill close": (frame(Opcode.CLOSE, b"\x03"), [], 1002),
    "a close with a reason that is no UTF-8": (frame(Opcode.CLOSE, b"\x03\xe8\xff"), [], 1007),
    "a close with a code that may not be sent": (frame(Opcode.CLOSE, b"\x03\xee"), [], 1002),
    "an opcode that nobody knows": (b"\x83" + text(PING_TEXT)[1:], [], 1002),
    "a control opcode that nobody knows": (b"\x8b" + text("")[1:], [], 1002),
    "a long ping": (b"\x89" + text(bytes(126))[1:], [], 1002),
    "a fragmented ping": (b"\x09" + frame(Opcode.PING, b"x")[1:], [], 1002),
}


@pytest.mark.parametrize("case", TABLE)
def test_bytes_in_frames_out(case: str) -> None:
    """I11: what is malformed ends its own connection with a code that says why."""
    raw, frames, code = TABLE[case]
    protocol = opened()
    assert receive(protocol, raw) == frames
    assert close_code(protocol) == code


def test_a_frame_that_is_nested_a_thousand_deep_is_refused_and_the_one_before_it_taken() -> None:
    """I11: its depth is the decoder's limit, not an error of the server's."""
    protocol = FrameProtocol(frame_bytes_max=1_000_000, gate=GATE)
    receive(protocol, request())
    protocol.to_send()
    deep = text('{"t":"ping","new":' + "[" * 100_000 + "]" * 100_000 + "}")
    assert receive(protocol, text(PING_TEXT) + deep) == [PING_FRAME]
    assert close_code(protocol) == 4501


@given(case=st.sampled_from(sorted(TABLE)), sizes=st.lists(st.integers(1, 40)))
def test_it_does_not_matter_how_the_bytes_are_cut(case: str, sizes: list[int]) -> None:
    raw, frames, code = TABLE[case]
    protocol = opened()
    received = []
    for size in [*sizes, len(raw)]:
        received += receive(protocol, raw[:size])
        raw = raw[size:]
    assert received == frames
    assert close_code(protocol) == code


@pytest.mark.parametrize("case", ["one", "two at once", "fragments", "no JSON", "no UTF-8"])
def test_frames_right_behind_the_request_are_taken_too(case: str) -> None:
    raw, frames, code = TABLE[case]
    protocol = FrameProtocol(frame_bytes_max=FRAME_BYTES_MAX, gate=GATE)
    assert receive(protocol, request() + raw[:3]) == [OPENED]
    assert protocol.to_send()[0].startswith(b"HTTP/1.1 101 ")
    assert receive(protocol, raw[3:]) == frames
    assert close_code(protocol) == code


def test_pings_are_answered_and_pongs_are_taken_even_within_a_message() -> None:
    protocol = opened()
    begun, ended = text(b'{"t":"ping",', fin=False), more(b'"id":"1"}', fin=True)
    raw = begun + frame(Opcode.PING, b"x") + frame(Opcode.PONG, b"") + ended
    assert receive(protocol, raw) == [PING_FRAME]
    assert sent(protocol) == [(Opcode.PONG, b"x")]


@given(sizes=st.lists(st.integers(1, 120)), most=st.integers(1, 5))
def test_a_call_takes_as_many_frames_as_it_is_told(sizes: list[int], most: int) -> None:
    """I11: the others wait, in order, whatever kind they are and however the bytes are cut."""
    protocol = opened()
    raw = b"".join(text(f'{{"t":"ping","id":"{n}"}}') + frame(Opcode.PONG, b"x") for n in range(10))
    received = []
    for size in [*sizes, len(raw)]:
        frames = protocol.receive(raw[:size], most, WHOLE)
        raw = raw[size:]
        assert len(frames) <= most
        received += frames
    while protocol.behind:
        assert protocol.receive(b"", 0, WHOLE) == []
        received += protocol.receive(b"", most, WHOLE)
    assert received == [wire.Ping(id=f"{n}") for n in range(10)]


def test_fragments_are_bounded_in_number() -> None:
    """I11: also empty ones."""
    protocol = opened()
    protocol.expect_extras()
    begun, more_of_it = text(PING_TEXT.encode(), fin=False), more(b"", fin=False)
    assert receive_all(protocol, begun + more_of_it * (FRAGMENTS_MAX - 2) + more(b"", fin=True)) == [PING_FRAME]
    assert receive_all(protocol, begun + more_of_it * FRAGMENTS_MAX) == []
    assert close_code(protocol) == 1009


def test_a_stranger_may_send_few_extras_and_a_device_more() -> None:
    """I11"""
    stranger, device = opened(), opened()
    device.expect_extras()
    raw = frame(Opcode.PONG, b"") * EXTRAS_BEFORE_LOGIN_MAX + text(PING_TEXT)
    assert receive_all(stranger, raw) == receive_all(device, raw) == [PING_FRAME]
    for protocol in (stranger, device):
        receive_all(protocol, frame(Opcode.PONG, b"") * (EXTRAS_MAX - EXTRAS_BEFORE_LOGIN_MAX))
    assert (close_code(stranger), close_code(device)) == (4501, None)
    receive_all(device, frame(Opcode.PONG, b""))
    assert close_code(device) == 4501


def receive_all(protocol: FrameProtocol, data: bytes) -> list[Any]:
    received = receive(protocol, data)
    while protocol.behind:
        received += receive(protocol, b"")
    return received


def test_nothing_is_taken_after_a_close() -> None:
    protocol = opened()
    protocol.close(DISCONNECTS["slow_reader"])
    protocol.close(DISCONNECTS["restarting"])
    assert receive(protocol, text(PING_TEXT)) == []
    assert close_code(protocol) == 4000


def test_every_disconnect_fits_into_a_close_frame() -> None:
    for disconnect in DISCONNECTS.values():
        protocol = opened()
        protocol.close(disconnect)
        (_, payload), _ = sent(protocol)
        assert payload[2:].decode() == disconnect.text


@pytest.mark.parametrize("length", [0, 100, 104, 105, 106, 65_513, 65_514, 65_515, 70_000])
def test_a_client_reads_what_is_encoded(length: int) -> None:
    client = _client()
    shown = wire.Pong(id="x" * length)
    client.receive_data(encode(shown) + PING)
    frame, ping = client.events_received()
    assert isinstance(frame, Frame)
    assert frame.opcode is Opcode.TEXT
    assert json.loads(bytes(frame.data)) == ({"t": "pong", "id": "x" * length} if length else {"t": "pong"})
    assert isinstance(ping, Frame)
    assert ping.opcode is Opcode.PING


def _client() -> ClientProtocol:
    """A client whose handshake is done."""
    client = ClientProtocol(parse_uri("ws://signet.test/v1/live"), subprotocols=["signet.v1.json"], max_size=None)  # type: ignore[list-item]
    client.send_request(client.connect())
    server = FrameProtocol(frame_bytes_max=FRAME_BYTES_MAX, gate=GATE)
    receive(server, b"".join(client.data_to_send()))
    client.receive_data(b"".join(server.to_send()))
    [response] = client.events_received()
    assert isinstance(response, Response)
    assert client.handshake_exc is None
    return client
