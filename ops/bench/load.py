"""The load: pairs of people who send each other messages, a window of them under way at a time."""

import asyncio
import base64
import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal
from uuid import UUID, uuid4

import msgspec

from ops.bench.peer import Peer, Person, connect
from ops.bench.store import StoreServer
from ops.engine import EngineProcess
from ops.errors import OpsError
from signet_client import payloads, wire
from signet_client.api import Api
from signet_client.identity import Identity
from signet_client.records import Profile

Kind = Literal["double_tick", "direct"]
PEOPLE: Final = 40
WINDOW: Final = 32
"""How many messages of each person are under way at once."""
BODY_BYTES: Final = 200
WARM_UP_S: Final = 1.0
DRAIN_MAX_S: Final = 30.0
_BODIES: Final = 64


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    messages: int
    seconds: float
    cpu_us_per_message: float
    messages_per_s: float
    p50_ms: float
    p99_ms: float
    store_us_per_message: float | None = None
    """Of a store's server, where the store is one on this machine."""


def _body() -> str:
    salt = base64.b64encode(os.urandom(16)).decode()
    return f'{{"kind":"text","text":"{"x" * (BODY_BYTES - 60)}","salt":"{salt}"}}'


class Sender:
    """One person of a pair: sends to the other, a new message for each that has come all its way, and checks that each
    comes once."""

    def __init__(self, kind: Kind, person: Person, conversation: str) -> None:
        self.kind = kind
        self.person = person
        self.conversation = conversation
        self.peer: Peer
        self.bodies = [(body, payloads.digest_of(body)) for body in (_body() for _ in range(_BODIES))]
        self.sending = False
        self.sent_at: dict[str, float] = {}
        """By command id: messages under way."""
        self.seqs: deque[tuple[int, str]] = deque()
        """Accepted messages that are not delivered yet, in order."""
        self.seq = 0
        self.done = 0
        self.latencies: list[float] = []
        self.received: list[str] = []
        """The command ids of the other's messages, as they came."""
        self.sent: list[str] = []
        self.refused: list[str] = []
        self.arrived: Callable[[str], None]
        """Tells the other one that its message came."""
        self.idle = asyncio.Event()
        """Nothing is under way, and nothing more will be sent."""

    def fill(self) -> None:
        while self.sending and len(self.sent_at) < WINDOW:
            self._send()

    def _send(self) -> None:
        body, digest = self.bodies[len(self.sent) % len(self.bodies)]
        header = payloads.Header(
            id=str(UUID(bytes=os.urandom(16), version=4)),
            conversation=self.conversation,
            sender=self.person.account,
            device=self.person.device,
            after=self.seq,
            digest=digest,
        )
        self.sent_at[header.id] = time.perf_counter()
        self.sent.append(header.id)
        self.peer.send(wire.Send(header=payloads.encode_header(header), body=body))

    def on_frame(self, frame: wire.ServerFrame) -> None:
        match frame:
            case wire.Accepted():
                self.seq = max(self.seq, frame.seq)
                self.seqs.append((frame.seq, frame.id))
            case wire.Message():
                self._receive(frame)
            case wire.Receipt():
                if self.kind == "double_tick":
                    self._tick(frame.delivered)
            case wire.Refused():
                self.refused.append(f"{frame.code}: {frame.text}")
            case _:
                pass

    def _receive(self, message: wire.Message) -> None:
        self.seq = max(self.seq, message.seq)
        id_ = msgspec.json.decode(message.header, type=payloads.Header).id
        self.received.append(id_)
        if self.kind == "double_tick":
            self.peer.send(wire.Ack(c=self.conversation, upto=message.seq))
        else:
            self.arrived(id_)

    def _tick(self, delivered: int) -> None:
        while self.seqs and self.seqs[0][0] <= delivered:
            self.finish(self.seqs.popleft()[1])

    def finish(self, id_: str) -> None:
        began = self.sent_at.pop(id_, None)
        if began is not None:
            self.latencies.append(time.perf_counter() - began)
            self.done += 1
            self.fill()
            if not self.sent_at:
                self.idle.set()


async def measure(kind: Kind, engine: EngineProcess, *, seconds: float, store: StoreServer | None = None) -> Measured:
    """One run on a running engine. Raises OpsError where a message was lost, doubled or refused."""
    senders = await _pairs(kind, engine.url)
    try:
        for sender in senders:
            sender.peer = await connect(engine.url, sender.person, sender.on_frame)
        for sender in senders:
            sender.sending = True
            sender.fill()
        await asyncio.sleep(WARM_UP_S)
        measured = await _window(senders, engine, seconds, store)
        await _drain(senders)
        _check(senders)
        return measured
    finally:
        for sender in senders:
            with contextlib.suppress(AttributeError):
                sender.peer.close()


async def _window(senders: list[Sender], engine: EngineProcess, seconds: float, store: StoreServer | None) -> Measured:
    for sender in senders:
        sender.latencies.clear()
    before, cpu, began = sum(sender.done for sender in senders), engine.cpu_s(), time.perf_counter()
    store_cpu = 0.0 if store is None else store.cpu_s()
    await asyncio.sleep(seconds)
    messages = sum(sender.done for sender in senders) - before
    cpu, took = engine.cpu_s() - cpu, time.perf_counter() - began
    latencies = sorted(latency for sender in senders for latency in sender.latencies)
    if not latencies:
        raise OpsError("no message came all its way within the measured time")
    return Measured(
        messages=messages,
        seconds=round(took, 3),
        cpu_us_per_message=round(cpu / messages * 1e6, 1),
        messages_per_s=round(messages / took, 1),
        p50_ms=round(latencies[len(latencies) // 2] * 1e3, 2),
        p99_ms=round(latencies[len(latencies) * 99 // 100] * 1e3, 2),
        store_us_per_message=None if store is None else round((store.cpu_s() - store_cpu) / messages * 1e6, 1),
    )


async def _drain(senders: list[Sender]) -> None:
    for sender in senders:
        sender.sending = False
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(sender.idle.wait() for sender in senders)), DRAIN_MAX_S)


def _check(senders: list[Sender]) -> None:
    problems: list[str] = []
    for sender, other in zip(senders[::2], senders[1::2], strict=True):
        for one, two in ((sender, other), (other, sender)):
            problems += one.refused
            if one.sent_at:
                problems.append(f"{len(one.sent_at)} messages did not come all their way")
            if two.received != one.sent:
                problems.append(
                    f"{len(one.sent)} messages were sent and {len(two.received)} received "
                    f"({len(set(two.received))} different ones), or their order changed"
                )
    if problems:
        raise OpsError("no figures from a run that is not whole: " + "; ".join(sorted(set(problems))[:5]))


async def _pairs(kind: Kind, url: str) -> list[Sender]:
    people = [await register(url, number) for number in range(PEOPLE)]
    senders: list[Sender] = []
    for (person, api), (peer, peer_api) in zip(people[::2], people[1::2], strict=True):
        started = await api.start("direct", [peer.account], title=None, protection="none")
        one, two = (Sender(kind, each, started.conversation) for each in (person, peer))
        one.arrived, two.arrived = two.finish, one.finish
        senders += [one, two]
        await api.close()
        await peer_api.close()
    return senders


async def register(url: str, number: int) -> tuple[Person, Api]:
    identity = Identity()
    profile = Profile(url=url, account="", device="bench", registration=str(uuid4()))
    registering = Api(profile, identity)
    account = await registering.register(f"Person {number}")
    await registering.close()
    person = Person(account=account, device="bench", identity=identity)
    return person, Api(msgspec.structs.replace(profile, account=account), identity)
