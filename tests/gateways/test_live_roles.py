"""I12: each frame of the live protocol × each role, generated from the wire structs.

`ANSWERS` says for each frame that a client may say what each role gets for it, `HEARD` for each frame that the server
may say who hears it; a frame that is missing there fails.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, get_args

import msgspec
import pytest

from domain.ids import AccountId, ConversationId, DeviceId
from gateways.acks import Acks
from gateways.auth import NONCE_LIFE_S
from gateways.connection import COMMANDS_MAX
from signet_client import wire
from tests.gateways.engine import Person, command
from tests.gateways.live import WAIT_S, MemoryDevice, hello, live_engine, send
from tests.gateways.published import publish, put
from tests.gateways.roles import ROLES, Scene


def tag(frame: type[Any]) -> str:
    return str(frame.__struct_config__.tag)


CLIENT_FRAMES: Final = {tag(frame): frame for frame in get_args(wire.ClientFrame)}
SERVER_FRAMES: Final = {tag(frame) for frame in get_args(wire.ServerFrame)}


def rights(others: str, **of_roles: str) -> dict[str, str]:
    """What each role gets: who can't log in is cut off, the others as named."""
    dead = {"no_token": "bad_frame", "expired": "bad_frame", "revoked": "revoked"}
    return {**dict.fromkeys(ROLES, others), **dead, **of_roles}


def of_conversation(others: str, *, stranger: str, former: str) -> dict[str, str]:
    return rights(others, stranger=stranger, left=former, removed=former)


ANSWERS: Final = {
    "hello": rights("welcome", no_token="bad_hello", expired="bad_hello"),
    "send": of_conversation("accepted", stranger="no_such_conversation", former="not_a_member"),
    "ack": of_conversation("recorded", stranger="silence", former="silence"),
    "read": of_conversation("recorded", stranger="silence", former="silence"),
    "fetch": of_conversation("page", stranger="no_such_conversation", former="page"),
    "took": rights("silence"),
    "ping": rights("pong"),
}
"""Acknowledged and read is the last seq of the group, which whoever is gone may not see."""

EVERYBODY: Final = frozenset(("stranger", "left", "removed", "member", "admin", "owner", "author", "phone"))
MEMBERS: Final = frozenset(("member", "admin", "owner", "phone"))

HEARD: Final = {
    # By whoever connects.
    "challenge": EVERYBODY,
    "welcome": EVERYBODY,
    "keys": EVERYBODY,
    "live": EVERYBODY,
    # By whoever asked: here the author sent, the admin fetched, the owner pinged, and the stranger sent.
    "accepted": {"author"},
    "page": {"admin"},
    "pong": {"owner"},
    "refused": {"stranger"},
    # By those whom it concerns.
    "message": MEMBERS,
    "change": MEMBERS | {"author"},
    "receipt": {"author"},
    "mark": {"phone"},
    "mail": {"member"},
    # By all who share a conversation with whoever publishes keys: here the owner.
    "devices": MEMBERS | {"author"},
    # By one who reads too slowly: nobody here.
    "resync": frozenset(),
}
"""In `talk`, by devices that hold everything from before. `author` is a member whose message it is, `phone` the second
device of the member who reads it."""


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with live_engine() as engine:
        scene = Scene(engine)
        await scene.enter()
        await scene.set_up()
        yield scene


def test_the_tables_know_every_frame_and_every_role() -> None:
    """I12: a new frame without a rule fails here."""
    assert ANSWERS.keys() == CLIENT_FRAMES.keys()
    assert all(of_roles.keys() == set(ROLES) for of_roles in ANSWERS.values())
    assert HEARD.keys() == SERVER_FRAMES


# What a client says


@pytest.mark.parametrize("name", sorted(CLIENT_FRAMES))
async def test_each_role_gets_what_is_its_own(scene: Scene, name: str) -> None:
    """I12: and of what is refused nothing is stored."""
    got = {}
    for role in ROLES:
        before = await scene.head()
        got[role] = await answer(scene, name, role, before)
        assert await scene.head() == before + (got[role] == "accepted")
    assert got == ANSWERS[name]


async def answer(scene: Scene, name: str, role: str, head: int) -> str:
    """What one device of this role gets for the frame."""
    person = scene.people[role]
    device = MemoryDevice(scene.engine, person, Acks(scene.engine.services.writer, gather_s=0))
    device.connection.start()
    challenge = await device.next(wire.Challenge)
    if name != "hello" and role in ("no_token", "expired"):
        # It never gets any further.
        device.say(frame_of(name, person, scene.group, head))
        return await closed(device)
    device.say(greeting(scene, role, challenge))
    welcomed: asyncio.Future[Any] = asyncio.ensure_future(device.next(wire.Live))
    await asyncio.wait((welcomed, device.closed), return_when=asyncio.FIRST_COMPLETED)
    if device.closed.done():
        welcomed.cancel()
        return await closed(device)
    if name == "hello":
        return "welcome"
    device.take()
    return await said(scene, device, frame_of(name, person, scene.group, head), head)


def greeting(scene: Scene, role: str, challenge: wire.Challenge) -> wire.Hello:
    """With another's signature where nobody knows the role, and too late where it has expired."""
    made = hello(scene.people[role], challenge)
    if role == "no_token":
        return msgspec.structs.replace(made, signature=hello(scene.people["stranger"], challenge).signature)
    if role == "expired":
        scene.engine.clock.forward(NONCE_LIFE_S + 1)
    return made


async def closed(device: MemoryDevice) -> str:
    return (await asyncio.wait_for(device.closed, WAIT_S)).code


def frame_of(name: str, person: Person, group: str, head: int) -> wire.ClientFrame:
    match name:
        case "hello":
            return wire.Hello(account=person.account, device=person.device, signature="")
        case "send":
            return send(person, group, "hello")
        case "ack":
            return wire.Ack(c=group, upto=head)
        case "read":
            return wire.Read(c=group, upto=head)
        case "fetch":
            return wire.Fetch(id="all", c=group, after=0)
        case "took":
            return wire.Took(upto=head)
        case "ping":
            return wire.Ping(id="1")
    raise AssertionError(f"say here how a device says {name}")


async def said(scene: Scene, device: MemoryDevice, frame: wire.ClientFrame, head: int) -> str:
    """What came of a frame of a device that is live."""
    device.say(frame)
    async with asyncio.timeout(WAIT_S):
        while device.connection.window < COMMANDS_MAX:  # noqa: ASYNC110  # the writer knows, and tells only the connection
            await asyncio.sleep(0)
    for each in device.take():
        match each:
            case wire.Refused():
                return each.code
            case wire.Page():
                overview = (await device.person.do("GET", f"/conversations/{scene.group}"))["overview"]
                assert [item.seq for item in each.items] == list(range(1, overview["head"] + 1))
                return "page"
            case wire.Accepted() | wire.Pong():
                return tag(type(each))
            case _:
                pass
    return "recorded" if await is_recorded(scene, device, head) else "silence"


async def is_recorded(scene: Scene, device: MemoryDevice, seq: int) -> bool:
    services = scene.engine.services
    await services.catch_up("receipts")
    marks = await services.receipts.marks(ConversationId(scene.group))
    own = marks.get(AccountId(device.person.account), {}).get(DeviceId(device.person.device))
    return own is not None and seq in (own.delivered, own.read)


# What the server says


async def test_each_frame_is_heard_by_those_whom_it_concerns(scene: Scene) -> None:
    """I12"""
    people = {role: scene.people[role] for role in EVERYBODY & scene.people.keys()} | {"author": scene.people["target"]}
    people["phone"] = await people["member"].new_device("phone")
    acks = Acks(scene.engine.services.writer, gather_s=0)
    devices = {role: MemoryDevice(scene.engine, person, acks) for role, person in people.items()}
    assert devices.keys() == EVERYBODY
    heard: dict[str, set[str]] = {name: set() for name in SERVER_FRAMES}
    for role, device in devices.items():
        device.connection.start()
        challenge = await device.next(wire.Challenge)
        heard["challenge"].add(role)
        device.say(hello(device.person, challenge, {scene.group: await scene.head()}))
        await until(device, wire.Live)
    await talk(scene, devices)
    for role, device in devices.items():
        frames = device.take()
        await device.round_trip()
        for frame in [*frames, *device.take()]:
            heard[tag(type(frame))].add(role)
    assert heard == HEARD


async def talk(scene: Scene, devices: dict[str, MemoryDevice]) -> None:
    """Everything that makes a push, and one of each answer."""
    author, group = devices["author"], scene.group
    author.say(send(author.person, group, "hello"))
    accepted = await until(author, wire.Accepted)
    for role in ("member", "admin", "owner"):
        devices[role].say(wire.Ack(c=group, upto=accepted.seq))
        devices[role].say(wire.Read(c=group, upto=accepted.seq))
    while (await until(author, wire.Receipt)).read < accepted.seq:
        await author.next(wire.Receipt)
    await devices["owner"].person.do("PUT", f"/conversations/{group}/title", command(title="New"))
    devices["admin"].say(wire.Fetch(id="all", c=group, after=0))
    devices["owner"].say(wire.Ping(id="1"))
    devices["stranger"].say(send(devices["stranger"].person, group, "let me in"))
    await publish(devices["owner"].person)
    await put(devices["stranger"].person, devices["member"].person, {"body": "for the laptop"}, transaction="1")
    for role, kind in (
        ("admin", wire.Page), ("owner", wire.Pong), ("stranger", wire.Refused), ("phone", wire.Mark),
        ("phone", wire.DeviceLists), ("member", wire.Mail),
    ):  # fmt: skip
        await until(devices[role], kind)


async def until(device: MemoryDevice, kind: type[Any]) -> Any:
    """The next frame of this kind, which stays among those that were heard."""
    frame = await device.next(kind)
    device.add(frame)
    return frame
