"""A running node: the one place where all parts are wired together."""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import APIRouter

from commands.keyring import FileKeyring, KeyringError
from commands.lookup import StreamLookup
from commands.measures import Measured
from commands.sealing import Sealer
from commands.snapshots import Snapshots
from commands.stores import open_log
from commands.stores.sqlite import SqliteLog
from commands.writer import Writer
from domain.ids import account_stream
from domain.log import START, EventLog, LogWentBack, StoreError
from gateways.admission import Admission
from gateways.auth import Auth
from gateways.devicelists import DeviceLists
from gateways.epoch import Epoch
from gateways.http import make_app
from gateways.httpsocket import http_protocol
from gateways.hub import Hub
from gateways.invitations import Invitations
from gateways.limits import Limits
from gateways.mailbox import Mailbox, MailboxError
from gateways.media.access import ObjectAccess
from gateways.media.room import Room
from gateways.media.sweep import Sweeper
from gateways.pages import Pages
from gateways.readiness import Readiness, engine_probes
from gateways.services import EdgeSettings, Services
from gateways.websocket import live_protocol
from ops import control
from ops.clock import clock
from ops.datafolder import DISK_MIN_BYTES, KEYRING, MAILBOX, DataFolder, ServerFile, free_bytes
from ops.errors import OpsError
from ops.lookup import ReadModelLookup
from ops.objects import check_objects, open_objects, room_for
from ops.parking import ParkingDesk
from ops.rebuilding.desk import RebuildDesk
from ops.settings import HOME, Settings
from ops.webbuild import DIST
from projections.catalogue import open_serving
from projections.delivery import Delivery
from projections.feed import Feed
from projections.models import MODELS
from projections.readmodel import ReadModelError
from projections.runner import Runner
from projections.sampling import Sampler
from projections.served import Served

_log = logging.getLogger("signet.node")
STOP_MAX_S: Final = 10
"""How long a stop waits for open requests and connections."""


class Node:
    """One engine with its edges. `run` serves until `stop`."""

    def __init__(
        self,
        *,
        url: str,
        services: Services,
        sweeper: Sweeper,
        log: EventLog,
        follows: bool,
        server: "_Server",
        sock: socket.socket,
    ) -> None:
        self.url = url
        self.services = services
        self._sweeper = sweeper
        self.log = log
        self._follows = follows
        self._server = server
        self._sock = sock

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, log: EventLog | None = None, *, more: APIRouter | None = None
    ) -> AsyncIterator["Node"]:
        """Opens stores, read models and the port; a log that is given stays open. `more`: routes that only this engine
        has. Raises OpsError with the remedy."""
        async with AsyncExitStack() as stack:
            folder = DataFolder(settings.data)
            stack.callback(folder.close)
            server = folder.server(settings.server_name)
            check_objects(settings)
            if log is None:
                log = await _open_store(settings, stack)
            try:
                services = await _wire(settings, server, log, stack)
            except (KeyringError, MailboxError, ReadModelError, StoreError) as error:
                raise OpsError(str(error)) from error
            rebuilds = RebuildDesk(settings.readmodels_place, services.runners)
            stack.push_async_callback(rebuilds.close)
            verbs = ParkingDesk(services.runners).verbs() | rebuilds.verbs()
            await stack.enter_async_context(control.serve(settings.data, verbs))
            sock = _bind(settings)
            stack.callback(sock.close)
            url = f"http://{_host_in_url(settings.host)}:{sock.getsockname()[1]}"
            folder.announce(url)
            stack.callback(folder.announce, None)
            yield cls(
                url=url,
                services=services,
                sweeper=_sweeper(settings, server, services),
                log=log,
                follows=not _is_ours_alone(log),
                server=_Server(_uvicorn_config(services, more)),
                sock=sock,
            )

    async def run(self) -> None:
        """Serves until `stop`; an error of any part ends the whole."""
        writer = asyncio.create_task(self.services.writer.run())
        runners = [asyncio.create_task(runner.run()) for runner in self.services.runners.values()]
        runners.append(asyncio.create_task(self._sweeper.run()))
        if self._follows:
            runners.append(asyncio.create_task(self.services.feed.follow()))
        if self.services.sampler is not None:
            runners.append(asyncio.create_task(self.services.sampler.run()))
        edge = asyncio.create_task(self._server.serve(sockets=[self._sock]))
        try:
            # Runners mend themselves, so one that ends has met a bug.
            done, _ = await asyncio.wait([writer, edge, *runners], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except LogWentBack as error:
            raise OpsError(str(error)) from error
        finally:
            # From the edge inwards: what was taken in is answered, what was answered is in the read models.
            self.stop()
            await asyncio.wait([edge])
            self.services.writer.stop()
            await asyncio.wait([writer])
            for runner in runners:
                runner.cancel()
            await asyncio.gather(*runners, return_exceptions=True)

    async def started(self) -> None:
        """Returns when the port answers."""
        await self._server.is_up.wait()

    def stop(self) -> None:
        """The edge takes nothing new and tells its clients to come again; then the writer answers what it has."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: whoever runs the node says when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _open_store(settings: Settings, stack: AsyncExitStack) -> EventLog:
    try:
        log = open_log(settings.events_url)
    except StoreError as error:
        raise OpsError(str(error)) from error
    stack.push_async_callback(log.close)
    return log


async def _wire(settings: Settings, server: ServerFile, log: EventLog, stack: AsyncExitStack) -> Services:
    keyring = FileKeyring(settings.data / KEYRING, must_exist=await log.head() > START)
    stack.callback(keyring.close)
    sealer = Sealer(keyring, clock)
    snapshots = Snapshots(settings.data / "snapshots.db")
    stack.push_async_callback(snapshots.close)
    feed = Feed(log)
    await feed.start()

    runners: dict[str, Runner] = {}
    for name in MODELS:
        runners[name] = runner = Runner(feed, open_serving(settings.readmodels_place, name))
        stack.callback(_close_model, runner)
        await runner.check()
    served = Served(runners)
    delivery = Delivery(log)
    stack.push_async_callback(delivery.close)
    feed.listen(delivery.receive)

    lookup = ReadModelLookup(lambda: served.messages, StreamLookup(log))
    hand_over = feed.publish if _is_ours_alone(log) else None
    writer = Writer(log, lookup=lookup, keyring=keyring, hand_over=hand_over, clock=clock, snapshots=snapshots)
    limits = Limits(settings.limits)
    auth = Auth(
        server_name=server.name,
        directory=lambda: served.directory,
        catch_up=lambda: runners["directory"].wait(max(feed.head, writer.position)),
        clock=clock,
        is_parked=lambda account: runners["directory"].is_parked(account_stream(account)),
        limits=limits,
    )
    feed.listen(auth.hear)
    hub = Hub(delivery, sealer)
    mailbox = Mailbox(settings.data / MAILBOX, clock)
    stack.push_async_callback(mailbox.close)
    feed.listen(mailbox.hear)
    mailbox.listen(hub.hear_mail)
    room = Room(partial(room_for, settings), clock=time.monotonic, promise_s=settings.media_address_s)
    objects = ObjectAccess(partial(open_objects, settings), room)
    stack.push_async_callback(objects.close)
    stack.push_async_callback(DeviceLists(delivery, hub, lambda: served.inbox).close)
    return Services(
        server_name=server.name,
        log=log,
        writer=writer,
        sealer=sealer,
        feed=feed,
        served=served,
        auth=auth,
        hub=hub,
        mailbox=mailbox,
        objects=objects,
        clock=clock,
        settings=EdgeSettings(
            registration=settings.who_registers,
            body_bytes_max=settings.message_bytes_max,
            frame_bytes_max=4 * settings.message_bytes_max,
            members_max=settings.group_members_max,
            media=settings.media_limits,
            hosts=settings.names,
            origins=settings.origins,
            trusted_proxies=settings.trusted_proxies,
            metrics_token=settings.metrics_token,
            trusts_loopback=settings.public_url is None,
        ),
        sampler=Sampler(feed, served, interval_s=settings.sample_interval_s) if settings.sample_interval_s else None,
        epoch=_epoch_of(server),
        commits=log.commits if isinstance(log, Measured) else None,
        limits=limits,
        admission=Admission(lambda: served.inbox, limits),
        readiness=Readiness(
            {
                **engine_probes(log=log, writer=writer, sealer=sealer, feed=feed, runners=runners),
                "disk": partial(_check_disk, settings.data),
            }
        ),
        invitations=Invitations(settings.data / "invitations.db", clock),
    )


def _sweeper(settings: Settings, server: ServerFile, services: Services) -> Sweeper:
    return Sweeper(
        writer=services.writer,
        runner=services.runners["media"],
        model=lambda: services.media,
        objects=services.objects,
        clock=services.clock,
        grace_s=settings.media_grace_s,
        hold_s=settings.media_address_s,
        not_before=_first_sweep(settings, server),
    )


def _first_sweep(settings: Settings, server: ServerFile) -> int:
    """Microseconds since 1970."""
    if server.restored is None:
        return 0
    return server.restored.at + round(settings.media_grace_s * 1_000_000)


def _close_model(runner: Runner) -> None:
    runner.model.close()  # the one that serves then


def _epoch_of(server: ServerFile) -> Epoch:
    restored = server.restored
    if restored is None:
        return Epoch(id=server.epoch)
    return Epoch(id=server.epoch, before=restored.before, position=restored.position)


def _is_ours_alone(log: EventLog) -> bool:
    """Whether nobody else writes it, and it tells all positions: then what is committed is handed over in memory, else
    the log is followed. A file has one owner; to a server others may write."""
    return isinstance(log, SqliteLog)


async def _check_disk(data: Path) -> str:
    free = free_bytes(data)
    return f"{free // 1_000_000} MB are free in {data}: make room" if free < DISK_MIN_BYTES else ""


def _uvicorn_config(services: Services, more: APIRouter | None) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(services, Pages(HOME / DIST), more),
        ws=live_protocol(services),
        http=http_protocol(services.turnstiles.strangers),
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # gateways/gate.py reads them, for the live path too
        server_header=False,
        timeout_graceful_shutdown=STOP_MAX_S,
        backlog=2_048,
    )


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # By the protocol asyncio knows that connections need TCP_NODELAY: else a body waits 40 ms behind its headers.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        raise OpsError(
            f"port {settings.port} of {settings.host} can't be had: {error.strerror}. Name another one by --port, or 0 "
            "for a free one."
        ) from error
    return sock


def _host_in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
