"""A real engine without sockets for the tests of the HTTP edge, and people who talk to it."""

import asyncio
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import uuid4

import httpx
from nacl.signing import SigningKey

from commands.keyring import MemoryKeyring
from commands.lookup import StreamLookup
from commands.sealing import Sealer
from commands.stores import open_log
from commands.writer import Writer
from domain.ids import account_stream
from domain.log import EventLog
from gateways.admission import Admission
from gateways.auth import Auth
from gateways.devicelists import DeviceLists
from gateways.http import make_app
from gateways.hub import Hub
from gateways.invitations import Invitations
from gateways.limits import Limits, LimitSettings
from gateways.mailbox import Mailbox
from gateways.media.access import ObjectAccess
from gateways.media.objects import ObjectStore, ObjectsUnavailable
from gateways.media.place import Place as Bucket
from gateways.media.room import Room
from gateways.media.sweep import Sweeper
from gateways.readiness import Readiness, engine_probes
from gateways.services import EdgeSettings, Services
from projections.attestations import Attestations
from projections.delivery import Delivery
from projections.directory import Directory
from projections.feed import Feed
from projections.inbox import Inbox
from projections.media import Media
from projections.messages import Messages
from projections.readmodel import Place, ReadModel
from projections.receipts import Receipts
from projections.runner import Runner
from projections.served import Served
from projections.sqlite import SqliteDatabase
from signet_client import payloads

M = TypeVar("M", bound=ReadModel)

SERVER = "signet.test"


class Clock:
    """The wall clock, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000 + self.ahead_us

    def forward(self, seconds: float) -> None:
        self.ahead_us += int(seconds * 1_000_000)


class Engine:
    """Everything behind the HTTP edge, and a way to ask it."""

    def __init__(self, services: Services, clock: Clock, http: httpx.AsyncClient) -> None:
        self.services = services
        self.clock = clock
        self.http = http

    def sweeper(self, *, grace_s: float, hold_s: float, not_before: int = 0) -> Sweeper:
        services = self.services
        return Sweeper(
            writer=services.writer,
            runner=services.runners["media"],
            model=lambda: services.media,
            objects=services.objects,
            clock=self.clock,
            grace_s=grace_s,
            hold_s=hold_s,
            not_before=not_before,
        )

    async def person(self, name: str) -> "Person":
        """Registers an account with one device and logs it in."""
        person = Person(self, name, "laptop", SigningKey.generate())
        await person.register()
        await person.log_in()
        return person

    async def challenge(self) -> str:
        answer = await self.http.get("/v1/challenge")
        return cast(str, answer.json()["nonce"])


class Person:
    """One device of an account. Its methods give the answer as it came."""

    def __init__(self, engine: Engine, name: str, device: str, key: SigningKey) -> None:
        self.engine = engine
        self.name = name
        self.device = device
        self.signing_key = key
        self.account = ""
        self.token = ""

    @property
    def key(self) -> str:
        return payloads.to_base64(bytes(self.signing_key.verify_key))

    def sign(self, payload: bytes) -> str:
        return payloads.to_base64(self.signing_key.sign(payload).signature)

    async def ask(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """A request with this device's token."""
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        return await self.engine.http.request(method, f"/v1{path}", json=body, params=query, headers=headers)

    async def do(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """The same, where it must succeed: what was answered."""
        response = await self.ask(method, path, body, **query)
        assert response.status_code == 200, response.text
        return response.json()

    async def registration(self, command_id: str | None = None) -> dict[str, str]:
        nonce, command_id = await self.engine.challenge(), command_id or str(uuid4())
        payload = payloads.registration_payload(
            nonce=nonce, server=SERVER, command_id=command_id, device=self.device, key=self.key
        )
        return {
            "id": command_id, "nonce": nonce, "name": self.name, "device": self.device, "key": self.key,
            "signature": self.sign(payload),
        }  # fmt: skip

    async def register(self) -> None:
        self.account = (await self.do("POST", "/accounts", await self.registration()))["account"]

    async def hello(self) -> dict[str, str]:
        nonce = await self.engine.challenge()
        payload = payloads.hello_payload(nonce=nonce, server=SERVER, account=self.account, device=self.device)
        return {
            "nonce": nonce, "account": self.account, "device": self.device, "signature": self.sign(payload),
        }  # fmt: skip

    async def log_in(self) -> None:
        self.token = ""
        self.token = (await self.do("POST", "/token", await self.hello()))["token"]

    def link(self, device: "Person") -> dict[str, str]:
        payload = payloads.link_payload(server=SERVER, account=self.account, device=device.device, key=device.key)
        return {
            "id": str(uuid4()), "device": device.device, "key": device.key, "signature": self.sign(payload),
        }  # fmt: skip

    async def new_device(self, name: str) -> "Person":
        """Links another device and logs it in."""
        device = Person(self.engine, self.name, name, SigningKey.generate())
        await self.do("POST", "/devices", self.link(device))
        device.account = self.account
        await device.log_in()
        return device

    async def start_group(self, *others: "Person", title: str = "Rowing") -> str:
        """The id of a new group."""
        members = [other.account for other in others]
        body = {
            "id": str(uuid4()), "kind": "group", "members": members, "title": title, "protection": "none"
        }  # fmt: skip
        return cast(str, (await self.do("POST", "/conversations", body))["conversation"])

    def message(self, conversation: str, text: str, **header: Any) -> dict[str, str]:
        body = json.dumps({"text": text})
        digest = hashlib.sha256(body.encode()).digest()
        fields = {
            "id": str(uuid4()), "c": conversation, "s": self.account, "d": self.device, "a": 0,
            "h": payloads.to_base64(digest),
        }  # fmt: skip
        return {"header": json.dumps({**fields, **header}), "body": body}

    async def send(self, conversation: str, text: str) -> int:
        """The seq of a new message."""
        path = f"/conversations/{conversation}/messages"
        return cast(int, (await self.do("POST", path, self.message(conversation, text)))["seq"])

    async def history(self, conversation: str, after: int = 0, limit: int = 200) -> Any:
        return await self.do("GET", f"/conversations/{conversation}/events", after=after, limit=limit)


def command(**fields: Any) -> dict[str, Any]:
    """The body of a command with a fresh id."""
    return {"id": str(uuid4()), **fields}


def texts(page: Any) -> list[str]:
    """What the messages of a page say."""
    return [json.loads(item["body"])["text"] for item in page["items"] if item["t"] == "message" and "body" in item]


@asynccontextmanager
async def sqlite_engine(folder: Path, **settings: Any) -> AsyncIterator[Engine]:
    """An engine on the embedded store; the writer hands its events over."""
    log = open_log(f"sqlite://{folder / 'log.db'}")
    async with open_engine(log, hands_over=True, invitations=folder / "invitations.db", **settings) as engine:
        yield engine


@asynccontextmanager
async def open_engine(
    log: EventLog,
    *,
    hands_over: bool,
    limits: LimitSettings | None = None,
    invitations: Path | None = None,
    readmodels: Place | None = None,
    bucket: Bucket | None = None,
    room: int | None = None,
    address_life_s: int = 900,
    **settings: Any,
) -> AsyncIterator[Engine]:
    """An engine on this log, which it closes. Where the writer doesn't hand over, the feed follows the log.
    `readmodels`: None for memory. `bucket`: where media lie; None: nowhere."""
    clock = Clock()
    feed = Feed(log)
    await feed.start()
    models: list[ReadModel] = [
        _opened(Messages, readmodels), _opened(Inbox, readmodels), _opened(Receipts, readmodels),
        _opened(Directory, readmodels), _opened(Attestations, readmodels), _opened(Media, readmodels),
    ]  # fmt: skip
    runners = {model.name: Runner(feed, model) for model in models}
    served = Served(runners)
    for runner in runners.values():
        await runner.check()
    keyring = MemoryKeyring()
    writer = Writer(
        log, lookup=StreamLookup(log), keyring=keyring, hand_over=feed.publish if hands_over else None, clock=clock
    )
    bounds = Limits(limits)
    auth = Auth(
        server_name=SERVER,
        directory=lambda: served.directory,
        catch_up=lambda: runners["directory"].wait(feed.head),
        clock=clock,
        is_parked=lambda account: runners["directory"].is_parked(account_stream(account)),
        limits=bounds,
    )
    feed.listen(auth.hear)
    delivery = Delivery(log)
    feed.listen(delivery.receive)
    sealer = Sealer(keyring, clock)
    hub = Hub(delivery, sealer)
    letters = Path(tempfile.mkdtemp())
    mailbox = Mailbox(letters / "mailbox.db", clock)
    feed.listen(mailbox.hear)
    mailbox.listen(hub.hear_mail)
    lists = DeviceLists(delivery, hub, lambda: served.inbox)
    objects = ObjectAccess(
        lambda: _objects(bucket, address_life_s), Room(lambda: room, clock=lambda: clock() / 1_000_000, promise_s=900)
    )
    services = Services(
        server_name=SERVER,
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
        settings=EdgeSettings(**{"registration": "open", **settings}),
        limits=bounds,
        admission=Admission(lambda: served.inbox, bounds),
        readiness=Readiness(engine_probes(log=log, writer=writer, sealer=sealer, feed=feed, runners=runners)),
        invitations=Invitations(invitations or Path("/nowhere"), clock),
    )
    transport = httpx.ASGITransport(make_app(services))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(log.close)
        stack.push_async_callback(delivery.close)
        stack.callback(shutil.rmtree, letters)
        stack.push_async_callback(mailbox.close)
        stack.push_async_callback(lists.close)
        stack.push_async_callback(objects.close)
        for model in models:
            stack.callback(model.close)
        runs = [writer.run(), *(runner.run() for runner in runners.values())]
        if not hands_over:
            runs.append(feed.follow())
        tasks = [asyncio.create_task(run) for run in runs]
        stack.push_async_callback(_end, tasks)
        http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://signet.test"))
        yield Engine(services, clock, http)


@asynccontextmanager
async def _objects(bucket: Bucket | None, address_life_s: int) -> AsyncIterator[ObjectStore]:
    if bucket is None:
        raise ObjectsUnavailable("this test has no object store")
    store = ObjectStore(bucket, address_life_s=address_life_s)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def _opened(kind: type[M], place: Place | None) -> M:
    return kind(SqliteDatabase(":memory:")) if place is None else kind.open(place)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
