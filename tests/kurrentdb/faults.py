"""What a test has the double do wrong: at which point of which calls, and how often."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec

CallKind = Literal["append", "read", "subscribe", "delete", "tombstone", "gossip"]
Point = Literal["asked", "stored", "sent"]
Error = Literal["not_ready", "too_busy", "timeout", "access_denied", "bad_request", "invalid_transaction", "unknown"]
ALL: Final = "$all"


class Delay(msgspec.Struct, frozen=True, tag="delay"):
    """The call goes on later."""

    seconds: float


class Hang(msgspec.Struct, frozen=True, tag="hang"):
    """The call stands still until the faults are cleared, or its client gives up."""


class Cut(msgspec.Struct, frozen=True, tag="cut"):
    """The connection that it came by is closed, with all other calls on it."""


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """The node is killed, as by SIGKILL."""


class Fail(msgspec.Struct, frozen=True, tag="fail"):
    """The call ends with a status of gRPC."""

    code: str
    """The name in grpc.StatusCode."""
    details: str = ""
    trailers: dict[str, str] = {}


class NotLeader(msgspec.Struct, frozen=True, tag="not_leader"):
    """The call ends and names the node that leads."""

    host: str
    port: int


class Refuse(msgspec.Struct, frozen=True, tag="refuse"):
    """A node's own refusal: of a BatchAppend as a reply, of another call as its status."""

    error: Error


Action = Delay | Hang | Cut | Kill | Fail | NotLeader | Refuse


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Where several fit, the one that was set first comes, and the next ones when its times are over."""

    do: Action
    call: CallKind | None = None
    """None: each one."""
    stream: str = ""
    """Only of streams whose names start so; calls to all streams are to `$all`."""
    at: Point = "asked"
    """`asked`: its request is there, and nothing is done yet; `stored`: of a write, its outcome is on disk and shown to
    readers, but not answered; `sent`: of a read or a subscription, events have been sent, but need not have arrived."""
    after: int = 0
    """With `sent`: so many; 0: its confirmation, or nothing."""
    skip: int = 0
    """So many times it is let pass first."""
    times: int | None = 1
    """None: until all faults are cleared."""


class Call(msgspec.Struct, frozen=True, eq=False):
    kind: CallKind
    stream: str
    context: Any
    """The grpc.aio.ServicerContext."""


class Faults:
    """Those that are set, and what calls there are."""

    def __init__(self) -> None:
        self.are_set = False
        self.hits: Counter[int] = Counter()
        """Of each fault, by its number, which a clearing does not end."""
        self.asked: Counter[str] = Counter()
        """How many requests of each kind have come since the start; one call may bring many appends."""
        self.open: Counter[str] = Counter()
        self._set: dict[int, Fault] = {}
        self._passed: Counter[int] = Counter()
        self._count = 0
        self._changed = asyncio.Event()
        self._cleared = asyncio.Event()

    def add(self, fault: Fault) -> int:
        """Its number."""
        self._count += 1
        self._set[self._count] = fault
        self.are_set = True
        return self._count

    def clear(self) -> None:
        """What hangs goes on."""
        self._set.clear()
        self.are_set = False
        cleared, self._cleared = self._cleared, asyncio.Event()
        cleared.set()

    async def until_cleared(self) -> None:
        await self._cleared.wait()

    async def change(self) -> None:
        """Returns when a fault has hit, or a call has begun or ended."""
        await self._changed.wait()

    @contextmanager
    def opened(self, kind: CallKind) -> Iterator[None]:
        self.open[kind] += 1
        self._tell()
        try:
            yield
        finally:
            self.open[kind] -= 1
            self._tell()

    def hit(self, point: Point, call: Call, sent: int = 0) -> Action | None:
        """What is to be done at this point of the call."""
        if point == "asked":
            self.asked[call.kind] += 1
            self._tell()
        for number, fault in self._set.items():
            if fault.at != point or fault.call not in (None, call.kind):
                continue
            if not call.stream.startswith(fault.stream) or (point == "sent" and sent != fault.after):
                continue
            self._passed[number] += 1
            if self._passed[number] <= fault.skip:
                continue
            if fault.times is not None and self.hits[number] >= fault.times:
                continue
            self.hits[number] += 1
            self._tell()
            return fault.do
        return None

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
