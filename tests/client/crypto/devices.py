"""Devices without a server: each has a store and a machine of its own, and what a server would carry from one to
another is handed over here."""

import asyncio
import copy
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from uuid import uuid4

import msgspec
import pytest

import signet_client.live
from signet_client import matrix, payloads, wire
from signet_client.connection import ABNORMAL, Close
from signet_client.crypto.box import Box
from signet_client.crypto.lists import KeysFound, Link, Refused
from signet_client.crypto.machine import Machine
from signet_client.crypto.vault import Peer, Vault
from signet_client.events import Event
from signet_client.identity import Identity, key_beside
from signet_client.live import Live
from signet_client.messages import decode_body
from signet_client.records import Profile
from signet_client.store import Store
from tests.client.fake import PATIENCE_S, TALK

SERVER: Final = "signet.example"
ANNA: Final = "aaaaaaaa-1111-4111-8111-111111111111"
BEN: Final = "bbbbbbbb-2222-4222-8222-222222222222"
CLEO: Final = "cccccccc-3333-4333-8333-333333333333"
LATE_S: Final = 3_600.0
"""A grace for keys that no test sees the end of."""

_numbers = itertools.count(1)
"""Of mail, which grow over all mailboxes."""


class Device:
    """One device, with its keys published."""

    def __init__(self, folder: Path, account: str, name: str, *, linked_by: "Device | None" = None) -> None:
        """The first of its account, or one that another has let in."""
        self.path = folder / f"{account[:4]}-{name}.db"
        self.account: Final = account
        self.name: Final = name
        self.keys: dict[str, matrix.Object] = {}
        """The one-time keys that nobody has claimed yet."""
        self.fallback: dict[str, matrix.Object] = {}
        store = Store(self.path, durable=False)
        registration = "" if linked_by is not None else "the first one's"
        profile = Profile(url="http://127.0.0.1", account=account, device=name, registration=registration)
        store.put_device(profile, Identity().seal(key_beside(self.path, make=True)))
        store.close()
        self.open()
        self.link = Link(device=name, key=self.identity.key, active=True, by=None, signature="")
        if linked_by is not None:
            self.link = linked_by.let_in(self)
        self.publish()

    def open(self) -> None:
        """On what is in the store."""
        self.store = Store(self.path, durable=False)
        profile = self.store.profile()
        assert profile is not None
        self.profile = profile
        key = key_beside(self.path)
        self.store.box = Box(key)
        self.identity = Identity.unseal(self.store.identity(), key)
        self.machine = Machine(self.store, Vault(self.store, self.store.box), self.identity, profile, key)
        self.machine.hear_server(SERVER)
        self.settle()

    def restart(self) -> None:
        """As after a crash: what was not committed is gone."""
        self.store.close()
        self.open()

    def copy(self, folder: Path) -> None:
        """The files of the store as they are on disk now."""
        folder.mkdir(exist_ok=True)
        for file in self.files():
            shutil.copy(file, folder / file.name)

    def at(self, folder: Path) -> "Device":
        """The device as it would be if it went on from such a copy."""
        twin = copy.copy(self)
        twin.path = folder / self.path.name
        twin.open()
        return twin

    def go_back(self, folder: Path) -> None:
        """Somebody puts an earlier copy in the place of the store."""
        self.store.close()
        for file in self.files():
            file.unlink()
        for file in folder.iterdir():
            shutil.copy(file, self.path.parent / file.name)
        self.open()

    def files(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}*"))

    def settle(self) -> None:
        self.machine.save_identity()
        self.store.settle()

    @property
    def vault(self) -> Vault:
        return self.machine.vault

    @property
    def peer(self) -> Peer:
        return self.machine.me

    @property
    def user(self) -> str:
        return matrix.user_id(self.account, SERVER)

    def device_keys(self) -> matrix.Object:
        return self.identity.device_keys(user=self.user, device=self.name)

    # What it does with a server

    def publish(self) -> None:
        machine = self.machine
        machine.hear_counts(wire.KeyCounts(left=len(self.keys), published=bool(self.keys)))
        body = machine.upload()
        self.settle()
        self.keys.update(body["one_time_keys"])
        self.fallback.update(body["fallback_keys"])
        machine.uploaded(len(self.keys))
        self.settle()

    def claimed(self) -> dict[str, matrix.Object]:
        """A key of it, as the server gives it to one who claims one."""
        if self.keys:
            id_ = next(iter(self.keys))
            return {id_: self.keys.pop(id_)}
        return dict(self.fallback)

    def let_in(self, other: "Device") -> Link:
        """Links another device to the account."""
        key = other.identity.key
        payload = payloads.link_payload(server=SERVER, account=self.account, device=other.name, key=key)
        return Link(device=other.name, key=key, active=True, by=self.name, signature=self.identity.sign(payload))

    def read(self, item: wire.Message) -> str | None:
        """The text of a message, or in brackets why it says nothing."""
        read = self.machine.read(item, "end_to_end")
        self.settle()
        if read.reason is not None:
            return f"({read.reason})"
        body = decode_body(read.clear)
        return body.text if body is not None else None


# What a server does


def listed(devices: Iterable[Device], *, gone: Iterable[Device] = (), version: int = 1) -> KeysFound:
    """The lists of the accounts of these devices. `gone`: those that were in them, and are revoked."""
    found = KeysFound(device_keys={}, versions={}, links={})
    for device in devices:
        found.device_keys.setdefault(device.user, {})[device.name] = copy.deepcopy(device.device_keys())
        found.links.setdefault(device.user, []).append(device.link)
        found.versions[device.user] = version
    for device in gone:
        found.device_keys.setdefault(device.user, {})
        found.links.setdefault(device.user, []).append(msgspec.structs.replace(device.link, active=False))
        found.versions[device.user] = version
    return found


def take(device: Device, found: KeysFound) -> list[Refused]:
    """The device asks for these lists."""
    asked = {matrix.account_of(user, SERVER) for user in found.device_keys}
    device.machine.doubtful.difference_update(asked)
    refused = device.machine.lists.take(asked, found, SERVER)
    device.settle()
    return refused


def claims(devices: Iterable[Device], peers: Iterable[Peer]) -> dict[str, dict[str, dict[str, matrix.Object]]]:
    """A key of each of these."""
    by_address = {(device.account, device.name): device for device in devices}
    claimed: dict[str, dict[str, dict[str, matrix.Object]]] = {}
    for peer in peers:
        device = by_address.get((peer.account, peer.device))
        if device is not None:
            claimed.setdefault(device.user, {})[device.name] = device.claimed()
    return claimed


def begin(sender: Device, peers: Iterable[Peer], devices: Iterable[Device]) -> None:
    """Sessions with these, by keys that are claimed."""
    peers = list(peers)
    sender.machine.begin(peers, claims(devices, peers))
    sender.settle()


def letters(sender: Device) -> list[tuple[tuple[str, str], wire.Mail]]:
    """The mail that a device has to send, by its addresses; the server has it then."""
    sender.settle()
    found: list[tuple[tuple[str, str], wire.Mail]] = []
    for parcel in sender.vault.parcels():
        for user, contents in parcel.messages.items():
            for device, content in contents.items():
                address = (matrix.account_of(user, SERVER), device)
                found.append((address, mail(sender.account, content, type_=parcel.type)))
        sender.vault.drop_parcel(parcel.transaction)
    sender.settle()
    return found


def mail(sender: str, content: Mapping[str, Any], *, type_: str = "m.room.encrypted") -> wire.Mail:
    return wire.Mail(n=next(_numbers), type=type_, sender=f"@{sender}:{SERVER}", content=json.dumps(content))


def carry(sender: Device, devices: Iterable[Device]) -> list[tuple[str, str]]:
    """Hands over what a device has to send; gives the sessions whose messages may be readable now."""
    by_address = {(device.account, device.name): device for device in devices}
    readable: list[tuple[str, str]] = []
    for address, each in letters(sender):
        if address in by_address:
            readable += by_address[address].machine.take_mail(each)
            by_address[address].settle()
    return readable


def prepare(sender: Device, devices: Iterable[Device], *, members: Iterable[str] = (), c: str = TALK) -> None:
    """Makes a conversation ready, as `Exchange` does. `members`: all that have one of the devices, where none are
    named."""
    machine, devices = sender.machine, list(devices)
    members = set(members) or {device.account for device in devices}
    begin(sender, machine.without_session(machine.unserved(c, members)), devices)
    machine.share(c, members)
    carry(sender, devices)
    assert machine.settle(c, members)


def introduced(*devices: Device) -> None:
    """All of them know each other's lists."""
    for device in devices:
        assert not take(device, listed(devices))


# Messages


def message(sender: Device, text: str, seq: int, *, c: str = TALK) -> wire.Message:
    """Encrypts a message, and gives it as the server pushes it."""
    body = sender.machine.encrypt(c, kind="text", text=text, reply_to=None)
    sender.settle()
    return pushed(sender, body, seq, c=c)


def pushed(author: Device, body: str, seq: int, *, c: str = TALK, **header: object) -> wire.Message:
    """A message with this body, and a header that the device has signed, whatever is in it."""
    head = payloads.Header(
        id=str(uuid4()),
        conversation=c,
        sender=author.account,
        device=author.name,
        after=seq - 1,
        digest=payloads.digest_of(body),
    )
    text = payloads.encode_header(msgspec.structs.replace(head, **header))
    return wire.Message(
        c=c, seq=seq, at=seq, ordinal=seq, own=0, header=text, body=body, signature=author.identity.sign(text.encode())
    )


# The live path


class Line:
    """A device's live path, and in the place of the connection the test: it says what the server says, and sees what
    leaves."""

    def __init__(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: list[wire.ClientFrame] = []
        self.events: list[Event] = []
        self.look: Callable[[], None] = lambda: None
        """Called before and after frames leave."""
        self._moved = asyncio.Event()
        self._closed: asyncio.Future[Close] | None = None
        monkeypatch.setattr(signet_client.live, "Link", self._link)
        self.live: Final = Live(device.profile, device.identity, device.store, device.machine, self.events.append)

    def _link(self, url: str, on_frames: Callable[[list[wire.ServerFrame]], None], stuck: object) -> Self:
        self._on_frames = on_frames
        return self

    # What the live path sees

    async def stay_connected(self) -> Close:
        self._closed = asyncio.get_running_loop().create_future()
        self._moved.set()
        return await self._closed

    def send(self, frames: Sequence[wire.ClientFrame]) -> None:
        self.look()
        self.left += frames
        self.look()
        self._moved.set()

    def abort(self, text: str) -> None:
        raise AssertionError(text)

    # What the test does

    def take(self, *frames: wire.ServerFrame) -> None:
        self._on_frames(list(frames))

    def welcome(self, *, head: int = 0, delivered: int = 0, epoch: str = "", kept: int | None = None) -> None:
        """A challenge, a welcome with one conversation, and no pages."""
        overview = wire.Overview(
            c=TALK,
            kind="group",
            protection="end_to_end",
            visible=[[1, 0]],
            head=head,
            at=1,
            delivered=delivered,
            kept=kept,
        )
        challenge = wire.Challenge(nonce="n", server=SERVER, frame_bytes_max=2**18, body_bytes_max=2**16, epoch=epoch)
        self.take(challenge, wire.Welcome(conversations=[overview]), wire.Live())

    async def connected(self) -> None:
        await self.until(lambda: self._closed is not None)

    def cut(self) -> None:
        assert self._closed is not None
        closed, self._closed = self._closed, None
        closed.set_result(Close(ABNORMAL, "cut"))

    async def until(self, reached: Callable[[], bool]) -> None:
        """Waits for a condition over what has left."""
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                self._moved.clear()
                await self._moved.wait()

    def acks(self) -> list[wire.Ack]:
        return [frame for frame in self.left if isinstance(frame, wire.Ack)]
