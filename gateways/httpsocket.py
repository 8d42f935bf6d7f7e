"""HTTP's sockets: uvicorn's protocol class, with the deadlines and bounds that it lacks.

A stranger may open a connection and never send a whole request, never read its answer, send a head without an end, or
fill a packet with thousands of requests or chunks. So a request must be whole by a deadline, an answer must be taken
by one, a head is bounded, and a connection gets so many bytes of a turn of the loop.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateways.refusal import Refusal
from gateways.turnstile import Turnstile
from gateways.wheel import Wheel

SLICE_BYTES: Final = 16_384
"""How much of what has come is parsed in one turn of the loop."""

HEAD_BYTES_MAX: Final = 32_768
HEADERS_MAX: Final = 100
PIPELINED_MAX: Final = 16
"""How many requests of a connection may wait for the one before them."""


@dataclass(frozen=True, kw_only=True)
class HttpTimeouts:
    """In seconds."""

    head: float = 10
    """From the first byte of a request, or the opening of a connection, to the end of its head."""
    body: float = 60
    """From there to the end of the body."""
    answer: float = 30
    """How long a client may read nothing while an answer waits for it."""
    tick: float = 1


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    flow: "_Flow"

    cycle: RequestResponseCycle | None  # type: ignore[assignment]  # uvicorn's own is None before the first request

    def __init__(self, wheel: Wheel, strangers: Turnstile, timeouts: HttpTimeouts, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._wheel = wheel
        self._strangers = strangers
        self._timeouts = timeouts
        self._later = bytearray()
        """What has come and is not parsed yet."""
        self._in_head = True
        self._head_bytes = 0
        self._expects: float | None = None
        """The client is to send the rest of its request, within so many seconds."""
        self._refusal: Refusal | None = None
        """Why it ends; None: this is no HTTP/1.1."""
        self._lost = False
        self.wheel_slot = -1

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._take_slice_soon)
        self._expect(self._timeouts.head)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True
        self._let_go()

    def data_received(self, data: bytes) -> None:
        if len(data) <= SLICE_BYTES and not self._later and self._strangers.admits():
            self._feed(data)
            return
        if not self._later:
            self.flow.hold()
            self._take_slice_soon()
        self._later += data

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wheel.put(self, self._timeouts.answer)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._expect(self._expects)

    # Reading

    def _take_slice_soon(self) -> None:
        self._strangers.wait(self._take_slice)

    def _take_slice(self) -> None:
        if not self._later or self.flow.read_paused or self.transport.is_closing():
            return
        data = bytes(self._later[:SLICE_BYTES])
        del self._later[:SLICE_BYTES]
        self._feed(data)
        if not self._later:
            self.flow.release()
        elif not self.flow.read_paused:
            self._take_slice_soon()

    def _feed(self, data: bytes) -> None:
        if self._expects is None and (self.cycle is None or self.cycle.response_complete):
            # Not on_message_begin's affair: an empty line ends uvicorn's wait for the next request, and begins none.
            self._expect(self._timeouts.head)
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refusal = Refusal("too_large", f"a request's head has at most {HEAD_BYTES_MAX} bytes")
            self.send_400_response("")

    def _expect(self, seconds: float | None) -> None:
        self._expects = seconds
        if seconds is None:
            self._wheel.drop(self)
        else:
            self._wheel.put(self, seconds)

    # What the parser calls

    def on_message_begin(self) -> None:
        self._in_head = True
        if len(self.pipeline) >= PIPELINED_MAX:
            self._refusal = Refusal("busy", f"at most {PIPELINED_MAX} requests may wait for their turn")
            raise self._refusal
        self._expect(self._timeouts.head)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= HEADERS_MAX:
            self._refusal = Refusal("too_large", f"a request has at most {HEADERS_MAX} headers")
            raise self._refusal
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._expect(self._timeouts.body)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._expect(None)
        super().on_message_complete()

    # What uvicorn calls

    def handle_websocket_upgrade(self) -> None:
        # What came later is dropped: nobody may send more before the 101.
        super().handle_websocket_upgrade()
        self._let_go()

    def on_response_complete(self) -> None:
        if self.pipeline and not self.transport.is_closing():
            # Each waits for its own turn, or sixteen in one packet would go through as one.
            self._strangers.wait(self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        super().on_response_complete()
        self._end_soon()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._end_soon()

    def send_400_response(self, msg: str) -> None:
        """What came is no request, or too much of one; while another one is being answered, nothing can be said."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_answer(self._refusal or Refusal("bad_frame", "this is no HTTP/1.1")))
        self.transport.close()
        self._end_soon()

    # What is due

    def due(self) -> float | None:
        """Called by the wheel."""
        if self.flow.read_paused and not self.flow.write_paused and not self.transport.is_closing():
            return self._timeouts.head  # it is the application that does not read
        self.transport.abort()
        return None

    def _end_soon(self) -> None:
        """Whoever does not take the rest of its answer is not waited for."""
        if self.transport.is_closing() and not self._lost:
            self._wheel.put(self, self._timeouts.answer)

    def _let_go(self) -> None:
        """Leaves no cycles behind: where many come and go, the garbage collector would stop everybody for long."""
        self._wheel.drop(self)
        self._later.clear()
        self.flow.let_go()
        self.pipeline.clear()
        self._refusal = None
        self.cycle = None
        self.parser = None  # type: ignore[assignment]  # as uvicorn does


class _Flow(FlowControl):
    """Reading is also held while what has come is not parsed yet."""

    def __init__(self, transport: asyncio.Transport, go_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._go_on = go_on
        self._held = False

    def let_go(self) -> None:
        self._go_on = _nothing

    def hold(self) -> None:
        self._held = True
        self._transport.pause_reading()

    def release(self) -> None:
        self._held = False
        if not self.read_paused:
            self._transport.resume_reading()

    def resume_reading(self) -> None:
        if not self._held:
            super().resume_reading()
        elif self.read_paused:
            self.read_paused = False
            self._go_on()


def _nothing() -> None:
    pass


def _answer(refusal: Refusal) -> bytes:
    status = 431 if refusal.code == "too_large" else refusal.reply.status
    body = refusal.problem.encode()
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[status] + head + body


def http_protocol(strangers: Turnstile, timeouts: HttpTimeouts | None = None) -> type[asyncio.Protocol]:
    """The class for uvicorn's `http` option. `strangers`: whoever sends something goes through it."""
    times = timeouts or HttpTimeouts()
    wheel = Wheel(tick_s=times.tick)

    class Http(HttpProtocol):
        def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None):
            super().__init__(wheel, strangers, times, config, server_state, app_state, _loop)

    return Http
