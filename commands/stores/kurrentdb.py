"""The event log in KurrentDB: a node, or a cluster that survives the loss of one.

Positions are KurrentDB's commit positions. An append's answer tells that of its last event alone, and a subscriber may
see an event before its writer hears of it, so readers are fed by a subscription. Other applications may use the same
database: only the streams of Signet's categories are read.

A call that doesn't come back must not stay: each has a deadline, and a connection on which one failed is let go, since
all later calls on it may fail, too.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Final, TypeVar, get_args
from urllib.parse import parse_qs, urlsplit

import grpc
import grpc.aio
from kurrentdbclient import AsyncKurrentDBClient
from kurrentdbclient import RecordedEvent as KurrentEvent
from kurrentdbclient.exceptions import (
    InvalidCommitPositionError,
    KurrentDBClientError,
    NotFoundError,
    ServiceUnavailableError,
)
from kurrentdbclient.protos.v1 import streams_pb2_grpc

from commands.measures import SECONDS, Histogram
from commands.stores.kurrentdb_append import Broken, append_batch
from commands.stores.kurrentdb_errors import explain
from domain.ids import Category
from domain.log import NO_STREAM, START, Append, Outcome, RecordedEvent, StoreError, StoreUnavailable, Unavailable

APPEND_DEADLINE_S: Final = 5.0
READ_DEADLINE_S: Final = 5.0
"""All in all: to find the node, to connect, to ask again where the connection broke, and to be answered."""
CONNECT_DEADLINE_S: Final = 1.0
"""How long an append waits for a connection; before there is one, surely nothing is sent."""
DISCOVER_DEADLINE_S: Final = 3.0
"""How long it waits before that to hear who leads. The members that the URL names are asked one after the other, for
GOSSIP_TIMEOUT_S each, and where there is a leader at most two of five are away."""
GOSSIP_TIMEOUT_S: Final = 1

KEEPALIVE_MS: Final = 2_000
"""A connection that is silent for so long is asked whether it lives, and is dead if it says nothing for as long."""

PAGE_MAX: Final = 256
"""The most events that a subscription hands on at once, and holds for a slow reader."""

_PREFIXES: Final = tuple(f"{category}-" for category in get_args(Category))

_OPTIONS: Final = {
    "KeepAliveInterval": KEEPALIVE_MS,
    "KeepAliveTimeout": KEEPALIVE_MS,
    "GossipTimeout": GOSSIP_TIMEOUT_S,
    # Whoever appends or reads tries again by a count of its own, and ten times that is half a minute without a refusal.
    "MaxDiscoverAttempts": 1,
}

_CHANNEL: Final = (
    # Else all clients of a process share one connection with its 100 calls, and none gets off a dead one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A batch's requests are each below the server's bound of 1 MiB, an answer is a page of events.
    ("grpc.max_receive_message_length", 17 << 20),
)

T = TypeVar("T")


def open_kurrentdb(url: str) -> "KurrentLog":
    """`kurrentdb://[user:password@]host:port?Tls=false`, for a cluster with several `host:port` and a comma between
    them, or `kurrentdb+discover://` with a name for all of them; the options are those of KurrentDB's connection
    strings. Connects at the first call. Raises StoreError."""
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("it names no host")
        if "@" in url and "@" not in parts.netloc:
            # What stands before it would be taken for the host, and told to everybody.
            raise ValueError(
                f"{url} can be read in two ways, so write @ / ? and # in a password as %40 %2F %3F and %23"
            )
        log = KurrentLog(_with_defaults(url))
        log.new_client()
    except (ValueError, OSError) as error:
        reason = _without_password(str(error), url)
        raise StoreError(
            f"the URL of KurrentDB is wrong: {reason}. Write kurrentdb://host:2113?Tls=false for one node without TLS, "
            "or kurrentdb+discover://user:password@host:2113?TlsCaFile=/path/to/ca.crt for a cluster"
        ) from error
    return log


def _without_password(text: str, url: str) -> str:
    """The URL may be one that can't be parsed: the password ends at its last @, or at the first one."""
    rest = url.partition("://")[2].partition(":")[2]
    for password, at, _ in (rest.rpartition("@"), rest.partition("@")):
        if at and password:
            text = text.replace(password, "***")
    return text


def _with_defaults(url: str) -> str:
    named = {name.lower() for name in parse_qs(urlsplit(url).query)}
    for option, default in _OPTIONS.items():
        if option.lower() not in named:
            url += f"{'&' if '?' in url else '?'}{option}={default}"
    return url


class KurrentLog:
    """One connection for reads, one for appends, and one for each subscription."""

    def __init__(self, url: str) -> None:
        """Only `open_kurrentdb` makes one."""
        self._url = url
        self._reading: _Reading | None = None
        self._writing: _Writing | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._subscriptions: set[_Events] = set()
        self._closed = False
        self.commits = Histogram(SECONDS)
        """How long appends took, the way there and back included."""

    def new_client(self) -> AsyncKurrentDBClient:
        """It connects when it is first used. Raises ValueError and OSError."""
        client = AsyncKurrentDBClient(self._url)
        client.grpc_options += _CHANNEL
        return client

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        if not batch:
            return []
        try:
            writing = await self._write()
        except StoreUnavailable as error:
            return [Unavailable(reason=str(error))] * len(batch)
        try:
            began = perf_counter()
            outcomes = await append_batch(
                writing.stub, batch,
                deadline_s=APPEND_DEADLINE_S, metadata=writing.metadata, credentials=writing.credentials,
            )  # fmt: skip
            self.commits.observe(perf_counter() - began)
            return outcomes
        except Broken as broken:
            self._let_go()
            return broken.outcomes

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        async def read(client: AsyncKurrentDBClient) -> list[RecordedEvent]:
            try:
                events = await client.get_stream(
                    stream, stream_position=after + 1, limit=limit, timeout=READ_DEADLINE_S
                )
            except NotFoundError:
                return []
            return [_recorded(event) for event in events]

        return await self._read(read) if limit > 0 else []

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        async def read(client: AsyncKurrentDBClient) -> list[RecordedEvent]:
            # It begins with the event at the position that is named.
            return [event for event in await self._page(client, after, limit + 1) if event.position > after][:limit]

        return await self._read(read) if limit > 0 else []

    async def read_last(self, limit: int) -> list[RecordedEvent]:
        async def read(client: AsyncKurrentDBClient) -> list[RecordedEvent]:
            response = await client.read_all(
                backwards=True, filter_include=_PREFIXES, filter_by_stream_name=True, filter_by_prefix=True,
                limit=limit, timeout=READ_DEADLINE_S,
            )  # fmt: skip
            return [_recorded(event) async for event in response if not event.type.startswith("$")][::-1]

        return await self._read(read) if limit > 0 else []

    async def head(self) -> int:
        return max([event.position for event in await self.read_last(1)], default=START)

    async def subscribe(self, *, after: int = START) -> AsyncGenerator[list[RecordedEvent], None]:
        if self._closed:
            raise StoreUnavailable("the log was closed")
        events = _Events(PAGE_MAX)
        pump = asyncio.create_task(self._pump(after, events))
        self._subscriptions.add(events)
        try:
            while True:
                batch: list[RecordedEvent] = []
                following = await events.get()
                while isinstance(following, RecordedEvent):
                    batch.append(following)
                    if events.empty() or len(batch) == PAGE_MAX:
                        break
                    following = events.get_nowait()
                if batch:
                    yield batch
                if isinstance(following, StoreUnavailable):
                    raise following
        finally:
            self._subscriptions.discard(events)
            pump.cancel()
            await asyncio.wait([pump])

    async def close(self) -> None:
        self._closed = True
        self._let_go()
        for events in self._subscriptions:
            events.end(StoreUnavailable("the log was closed"))
        if self._closing:
            await asyncio.wait(self._closing)

    async def _pump(self, after: int, events: "_Events") -> None:
        try:
            async with self._connected() as client, asyncio.timeout(None) as deadline:
                deadline.reschedule(asyncio.get_running_loop().time() + READ_DEADLINE_S)
                await self._check_reaches(client, after)
                subscription = await client.subscribe_to_all(
                    commit_position=after or None,
                    filter_include=_PREFIXES, filter_by_stream_name=True, filter_by_prefix=True,
                )  # fmt: skip
                deadline.reschedule(None)
                async for event in subscription:
                    if not event.type.startswith("$"):
                        await events.put(_recorded(event))
        except Exception as error:  # Whatever it is: the reader must not wait for ever.
            await events.put(self._explain(error))
        else:
            await events.put(StoreUnavailable("KurrentDB has ended the subscription"))

    async def _check_reaches(self, client: AsyncKurrentDBClient, after: int) -> None:
        """From a position beyond the log's end a subscription would swallow all events until the log has passed it."""
        if after > START and (end := await client.get_commit_position(timeout=READ_DEADLINE_S)) < after:
            raise InvalidCommitPositionError(f"the log ends at {end}, and it was read up to {after} already")

    async def _page(self, client: AsyncKurrentDBClient, after: int, limit: int) -> list[RecordedEvent]:
        response = await client.read_all(
            commit_position=after or None, limit=limit, timeout=READ_DEADLINE_S,
            filter_include=_PREFIXES, filter_by_stream_name=True, filter_by_prefix=True,
        )  # fmt: skip
        return [_recorded(event) async for event in response if not event.type.startswith("$")]

    async def _read(self, work: Callable[[AsyncKurrentDBClient], Awaitable[T]]) -> T:
        if self._closed:
            raise StoreUnavailable("the log was closed")
        if self._reading is None:
            self._reading = _Reading(self.new_client())
        reading = self._reading
        reading.users += 1
        try:
            async with asyncio.timeout(READ_DEADLINE_S):
                return await work(reading.client)
        except (KurrentDBClientError, grpc.RpcError, TimeoutError) as error:
            if reading is self._reading:
                self._let_go()
            raise self._explain(error) from error
        finally:
            reading.users -= 1
            if reading is not self._reading and not reading.users:
                self._end(reading.client.close())

    async def _write(self) -> "_Writing":
        """A connection that stands. Raises StoreUnavailable, and nothing was sent then."""
        if self._closed:
            raise StoreUnavailable("the log was closed")
        try:
            if self._writing is None:
                async with self._connected() as client, asyncio.timeout(DISCOVER_DEADLINE_S):
                    await client.connect()
                    self._writing = _Writing(client)
            writing = self._writing
            async with asyncio.timeout(CONNECT_DEADLINE_S):
                await writing.connected()
        except (KurrentDBClientError, grpc.RpcError, TimeoutError) as error:
            self._let_go()
            raise self._explain(error) from error
        return writing

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncKurrentDBClient]:
        client = self.new_client()
        try:
            yield client
        finally:
            self._end(client.close())

    def _let_go(self) -> None:
        """The next call connects anew, and finds out who leads."""
        if self._reading is not None and not self._reading.users:
            self._end(self._reading.client.close())
        if self._writing is not None:
            self._end(self._writing.channel.close(grace=0))
        self._reading = self._writing = None

    def _end(self, closing: Coroutine[Any, Any, None]) -> None:
        """Nobody waits for it: a dead connection takes seconds."""
        task = asyncio.create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # A client that never had a connection refuses to close it, which is no harm.

    def _explain(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"KurrentDB at {urlsplit(self._url).netloc.rpartition('@')[2]}: {explain(error)}")


class _Events(asyncio.Queue[RecordedEvent | StoreUnavailable]):
    """What a subscription has brought and nobody has taken yet; an error comes last."""

    def end(self, error: StoreUnavailable) -> None:
        """Whatever waits is dropped: the reader comes again from where it is."""
        while not self.empty():
            self.get_nowait()
        self.put_nowait(error)


class _Reading:
    """The connection for reads. Once it is let go, the last of its users closes it: to others, who may be answered yet,
    a client that is closed under them raises anything."""

    def __init__(self, client: AsyncKurrentDBClient) -> None:
        self.client = client
        self.users = 0


class _Writing:
    """The connection for appends, to the node that leads."""

    def __init__(self, client: AsyncKurrentDBClient) -> None:
        spec = client.connection_spec
        if spec.options.tls:
            tls = grpc.ssl_channel_credentials(client.root_certificates, client.private_key, client.certificate_chain)
            self.channel = grpc.aio.secure_channel(client.connection_target, tls, options=client.grpc_options)
        else:
            self.channel = grpc.aio.insecure_channel(client.connection_target, options=client.grpc_options)
        self.stub = streams_pb2_grpc.StreamsStub(self.channel)  # type: ignore[no-untyped-call]  # generated
        self.metadata = (("connection-name", spec.options.connection_name), ("requires-leader", "true"))
        self.credentials = client.construct_call_credentials(spec.username, spec.password)

    async def connected(self) -> None:
        """Returns when the connection stands. Raises ServiceUnavailableError as soon as a try has failed."""
        while (state := self.channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise ServiceUnavailableError("it can't be connected to")
            await self.channel.wait_for_state_change(state)


def _recorded(event: KurrentEvent) -> RecordedEvent:
    return RecordedEvent(
        position=event.commit_position,
        stream=event.stream_name,
        version=event.stream_position,
        topic=event.type,
        data=event.data,
    )
