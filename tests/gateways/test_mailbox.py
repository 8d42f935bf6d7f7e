"""Mail from device to device: on disk before it is answered, in order, once, until the device says that it took it."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import msgspec
import pytest

from domain.account import DeviceRevoked
from domain.codec import Event
from domain.entry import Entry
from domain.ids import AccountId, DeviceId, account_stream
from gateways import mail, mailbox
from gateways.api.keys import CONTENT_BYTES_MAX
from gateways.limits import LimitSettings, Rate
from gateways.mail import MailCarrier
from gateways.mailbox import Address, Letter, Mailbox, MailboxError, Parcel
from gateways.refusal import Refusal
from signet_client import matrix, wire
from tests.gateways.engine import SERVER, Clock, Engine
from tests.gateways.live import MemoryDevice, live_engine, live_server
from tests.gateways.published import put, user

ANN, BEN = AccountId("ann"), AccountId("ben")
LAPTOP, PHONE = DeviceId("laptop"), DeviceId("phone")
ANNS, BENS, BENS_PHONE = (ANN, LAPTOP), (BEN, LAPTOP), (BEN, PHONE)


class Box:
    """A mailbox that can be opened anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock()
        self.heard: list[Address] = []
        self._opened: list[Mailbox] = []
        self.now = self.open()

    def open(self) -> Mailbox:
        self.now = Mailbox(self.path, self.clock)
        self.now.listen(self.heard.append)
        self._opened.append(self.now)
        return self.now

    async def put(self, *texts: str, to: Address = BENS, transaction: str | None = None) -> frozenset[Address]:
        """A parcel of one letter for each text."""
        refused: set[Address] = set()
        for text in texts:
            refused |= await self.now.put(parcel({to: text}, transaction=transaction))
        return frozenset(refused)

    def texts(self, of: Address = BENS, *, after: int = 0) -> list[str]:
        return [letter.content for letter in self.now.page(of, after=after)]

    async def took(self, of: Address, upto: int) -> None:
        """Returns when it is on disk."""
        self.now.took(of, upto)
        await self.now.put(parcel({}))

    async def close(self) -> None:
        for each in self._opened:
            await each.close()


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = Box(tmp_path / "mailbox.db")
    yield box
    await box.close()


def parcel(
    contents: dict[Address, str], *, by: Address = ANNS, type_: str = "m", transaction: str | None = None
) -> Parcel:
    return Parcel(by=by, type=type_, transaction=transaction or str(uuid4()), contents=contents)


def revoked(account: AccountId, device: DeviceId) -> Sequence[Event]:
    entry: Entry[Any] = Entry(v=1, id="e", cmd="c", at=1, e=DeviceRevoked(device=device, by=device))
    return [Event(position=1, stream=account_stream(account), version=0, entry=entry)]


# What is put


async def test_what_was_put_is_on_disk(box: Box) -> None:
    """I1: another one that opens the file finds it, without the first one being closed."""
    assert await box.put("one", "two") == frozenset()
    box.open()
    assert box.texts() == ["one", "two"]
    assert stat.S_IMODE(os.stat(box.path).st_mode) == 0o600


async def test_letters_are_numbered_in_their_order_also_after_a_restart(box: Box) -> None:
    await asyncio.gather(*(box.put(f"{number}") for number in range(20)))
    await box.now.close()
    box.clock.forward(-86_400)  # somebody has set the clock
    box.open()
    await box.put("20", "21")
    letters = box.now.page(BENS, after=0)
    assert [letter.content for letter in letters] == [f"{number}" for number in range(22)]
    numbers = [letter.number for letter in letters]
    assert numbers == sorted(set(numbers))
    assert box.texts(after=numbers[19]) == ["20", "21"]
    assert letters[0] == Letter(number=numbers[0], type="m", sender=ANN, content="0")


async def test_each_device_has_its_own(box: Box) -> None:
    """I12"""
    await box.now.put(parcel({BENS: "for the laptop", BENS_PHONE: "for the phone"}))
    assert (box.texts(), box.texts(BENS_PHONE), box.texts(ANNS)) == (["for the laptop"], ["for the phone"], [])
    assert sorted(box.heard) == sorted([BENS, BENS_PHONE])


async def test_a_parcel_that_is_said_twice_arrives_once(box: Box) -> None:
    """I2: also when it was taken meanwhile, and over a restart."""
    assert await box.put("one", transaction="t") == frozenset()
    await box.put("one", transaction="t")
    assert box.texts() == ["one"]
    await box.took(BENS, 2**53)
    await box.put("one", transaction="t")
    box.open()
    await box.put("one", transaction="t")
    assert box.texts() == []


async def test_its_name_is_the_senders_alone_and_of_its_type(box: Box) -> None:
    for by, type_ in ((ANNS, "m"), (ANNS, "n"), ((ANN, PHONE), "m"), ((BEN, LAPTOP), "m")):
        await box.now.put(parcel({BENS: f"{by} {type_}"}, by=by, type_=type_, transaction="t"))
    assert len(box.texts()) == 4


async def test_a_name_is_forgotten_in_the_end(box: Box) -> None:
    await box.put("one", transaction="t")
    box.clock.forward(mailbox.TAKEN_LIFE_US / 1_000_000 + 1)
    await box.put("two")
    await box.put("one", transaction="t")
    assert box.texts() == ["one", "two", "one"]


async def test_a_full_mailbox_is_named_and_the_others_get_theirs(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: and whoever says it again gets the first answer."""
    monkeypatch.setattr(mailbox, "WAITING_MAX", 2)
    await box.put("one", "two")
    both = parcel({BENS: "three", BENS_PHONE: "three"}, transaction="t")
    assert await box.now.put(both) == {BENS}
    assert (box.texts(), box.texts(BENS_PHONE)) == (["one", "two"], ["three"])
    await box.took(BENS, box.now.page(BENS, after=0)[0].number)
    box.open()
    assert await box.now.put(both) == {BENS}
    assert await box.put("four") == frozenset()
    assert box.texts() == ["two", "four"]
    assert box.heard.count(BENS) == 3


async def test_nobody_fills_anothers_mailbox_alone(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: what others send finds room."""
    monkeypatch.setattr(mailbox, "OF_ONE_MAX", 2)
    await box.put("one", "two")
    assert await box.put("three") == {BENS}
    assert await box.now.put(parcel({BENS: "of another"}, by=BENS_PHONE)) == frozenset()
    assert box.texts() == ["one", "two", "of another"]


async def test_numbers_grow_over_a_clock_that_goes_back(box: Box) -> None:
    """Also where nothing waits any more: a device skips what has a number that it has passed."""
    await box.put("one")
    (first,) = box.now.page(BENS, after=0)
    await box.took(BENS, first.number)
    box.clock.forward(-3_600)
    box.open()
    await box.put("two")
    (second,) = box.now.page(BENS, after=0)
    assert second.number > first.number


# What is taken


async def test_it_waits_until_the_device_has_taken_it(box: Box) -> None:
    """I4: however often it was shown."""
    await box.put("one", "two", "three")
    first, second, _ = box.now.page(BENS, after=0)
    await box.took(BENS, first.number)
    assert box.texts() == ["two", "three"]
    box.open()
    assert box.texts() == ["two", "three"]
    await box.took(BENS, second.number)
    await box.took(BENS, first.number)
    assert box.texts() == ["three"]


async def test_nobody_takes_anothers(box: Box) -> None:
    """I12"""
    await box.put("one")
    for other in (ANNS, BENS_PHONE):
        await box.took(other, 2**53)
    assert box.texts() == ["one"]


async def test_a_flood_of_them_is_one_deletion_each(box: Box) -> None:
    """I11: what waits for the disk is bounded by the number of devices."""
    await box.put("one", "two")
    first, second = box.now.page(BENS, after=0)
    for upto in (first.number, *range(1_000), second.number, first.number):
        box.now.took(BENS, upto)
    assert box.now._taken == {BENS: second.number}
    await box.now.put(parcel({}))
    assert box.texts() == []


async def test_the_mail_of_a_revoked_device_goes(box: Box) -> None:
    await box.now.put(parcel({BENS: "for the laptop", BENS_PHONE: "for the phone"}))
    box.now.hear(revoked(BEN, PHONE))
    await box.now.put(parcel({}))
    assert (box.texts(), box.texts(BENS_PHONE)) == (["for the laptop"], [])


async def test_pages_are_bounded(box: Box) -> None:
    """I11"""
    await box.put(*(f"{number}" for number in range(mailbox.PAGE + 1)))
    page = box.now.page(BENS, after=0)
    assert len(page) == mailbox.PAGE
    assert box.texts(after=page[-1].number) == [f"{mailbox.PAGE}"]


# What fails


async def test_a_disk_that_fails_is_told_and_what_was_taken_is_deleted_later(
    box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    await box.put("one")
    other = apsw.Connection(str(box.path))
    other.execute("ALTER TABLE mail RENAME TO away")
    box.now.hear(revoked(*BENS))
    for _ in range(2):
        with pytest.raises(Refusal) as refused:
            await box.put("two")
        assert (refused.value.code, refused.value.reply.retry) == ("unavailable", True)
    with pytest.raises(Refusal, match="unavailable"):
        box.texts()
    assert "could not be written" in caplog.text
    other.execute("ALTER TABLE away RENAME TO mail")
    await box.put("three", to=BENS_PHONE)
    assert (box.texts(), box.texts(BENS_PHONE)) == ([], ["three"])
    other.close()


async def test_a_fault_of_another_kind_makes_nobody_wait_for_ever(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise OSError("no clock")

    with monkeypatch.context() as patched:
        patched.setattr(box.now, "_clock", broken)
        with pytest.raises(Refusal, match="unavailable"):
            await box.put("one")
    await box.put("two")
    assert box.texts() == ["two"]


async def test_a_listener_that_fails_silences_nobody(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_address: Address) -> None:
        raise OSError("broken")

    box.now._listeners.insert(0, broken)
    await box.put("one")
    assert box.heard == [BENS]
    assert "could not be told" in caplog.text


async def test_who_does_not_wait_for_the_answer_holds_up_nobody(box: Box) -> None:
    waiting = asyncio.ensure_future(box.put("one"))
    await asyncio.sleep(0)
    waiting.cancel()
    await box.put("two")
    assert box.texts() == ["one", "two"]


async def test_closed_it_has_written_what_it_was_given(box: Box) -> None:
    waiting = [asyncio.ensure_future(box.put(f"{number}")) for number in range(3)]
    await asyncio.sleep(0)
    await box.now.close()
    await asyncio.gather(*waiting)
    box.open()
    assert box.texts() == ["0", "1", "2"]


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mailbox.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(MailboxError, match="move it away"):
        Mailbox(path, Clock())
    with pytest.raises(MailboxError, match="can't open"):
        Mailbox(tmp_path / "nowhere" / "mailbox.db", Clock())


# The carrier


async def test_the_carrier_gives_each_letter_once_and_asks_the_socket_in_between(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: what a device does not read is not piled up for it."""
    monkeypatch.setattr(mail, "GIVEN_BYTES", 250)
    sent: list[wire.Mail] = []
    asked: list[int] = []

    async def drained() -> None:
        asked.append(len(sent))
        if len(asked) == 1:
            await box.put("while it was carried")

    await box.put(*["x" * 100] * 7)
    carrier = MailCarrier(box.now, SERVER, *BENS)
    assert carrier.idle
    await carrier.carry(sent.append, drained)
    assert carrier.idle
    assert [frame.n for frame in sent] == [letter.number for letter in box.now.page(BENS, after=0)]
    assert asked == [3, 6, 7, 8]
    assert sent[-1] == wire.Mail(
        n=sent[-1].n, type="m", sender=matrix.user_id(ANN, SERVER), content="while it was carried"
    )
    await carrier.carry(sent.append, drained)
    assert len(sent) == 8


# To devices


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with live_engine() as engine:
        yield engine


def letters(frames: list[wire.ServerFrame]) -> list[int]:
    return [msgspec.json.decode(frame.content)["n"] for frame in frames if isinstance(frame, wire.Mail)]


async def test_mail_comes_after_the_welcome_and_before_the_pages(engine: Engine) -> None:
    """The keys come before what they open."""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    await ann.start_group(ben)
    for number in range(3):
        await put(ann, ben, {"n": number}, transaction=f"{number}")
    device = await MemoryDevice(engine, ben).live()
    frames = device.take()
    assert [type(frame).__name__ for frame in frames] == [*["Mail"] * 3, "Page"]
    assert letters(frames) == [0, 1, 2]
    [mail, *_] = (frame for frame in frames if isinstance(frame, wire.Mail))
    assert (mail.type, mail.sender) == ("m.room.encrypted", user(ann))


async def test_it_comes_again_until_the_device_says_that_it_took_it(engine: Engine) -> None:
    """I4"""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    for number in range(3):
        await put(ann, ben, {"n": number}, transaction=f"{number}")
    assert letters((await MemoryDevice(engine, ben).live()).take()) == [0, 1, 2]
    device = await MemoryDevice(engine, ben).live()
    frames = device.take()
    assert letters(frames) == [0, 1, 2]
    device.say(wire.Took(upto=[frame.n for frame in frames if isinstance(frame, wire.Mail)][1]))
    await engine.services.mailbox.put(parcel({}))
    assert letters((await MemoryDevice(engine, ben).live()).take()) == [2]


@pytest.mark.parametrize("upto", [-1, 0, 10**30])
async def test_a_number_that_is_none_does_no_harm(engine: Engine, upto: int) -> None:
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    device = await MemoryDevice(engine, ben).live()
    await put(ann, ben, {"n": 1}, transaction="1")
    await device.next(wire.Mail)
    device.say(wire.Took(upto=upto))
    await engine.services.mailbox.put(parcel({}))
    assert letters((await MemoryDevice(engine, ben).live()).take()) == ([] if upto > 0 else [1])


async def test_to_a_device_that_is_live_it_comes_at_once_and_to_no_other(engine: Engine) -> None:
    """I12"""
    ann, ben, cem = [await engine.person(name) for name in ("Ann", "Ben", "Cem")]
    phone = await ben.new_device("phone")
    devices = [await MemoryDevice(engine, person).live() for person in (ann, ben, phone, cem)]
    for number in range(3):
        await put(ann, phone, {"n": number}, transaction=f"{number}")
        await devices[2].next(wire.Mail)
    for device in devices:
        await device.round_trip()
        assert device.take() == []


async def test_mail_for_one_that_is_slow_waits_until_it_reads(engine: Engine) -> None:
    """I11"""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    device = await MemoryDevice(engine, ben).live()
    device.open_gate.clear()
    await put(ann, ben, {"n": 0}, transaction="0")
    await device.at_gate.wait()
    for number in range(1, 4):
        await put(ann, ben, {"n": number}, transaction=f"{number}")
    await device.next(wire.Mail)
    device.say(wire.Ping(id="1"))
    assert [type(frame).__name__ for frame in device.frames] == ["Pong"]
    device.open_gate.set()
    assert [msgspec.json.decode((await device.next(wire.Mail)).content)["n"] for _ in range(3)] == [1, 2, 3]


async def test_over_sockets_and_by_http() -> None:
    async with live_server() as server:
        ann, ben = await server.engine.person("Ann"), await server.engine.person("Ben")
        await put(ann, ben, {"n": 0}, transaction="0")
        async with server.device(ben) as device:
            assert msgspec.json.decode((await device.next(wire.Mail)).content) == {"n": 0}
            # Said twice it arrives once.
            for number in (1, 1, 2):
                assert await put(ann, ben, {"n": number}, transaction=f"{number}") == {}
            last = [await device.next(wire.Mail) for _ in range(2)][-1]
            await device.say(wire.Took(upto=last.n))
            await device.round_trip()
        await server.engine.services.mailbox.put(parcel({}))
        async with server.device(ben) as device:
            assert await device.round_trip() == [wire.Welcome(conversations=[])]


async def test_a_mailbox_that_cannot_be_read_ends_the_connection_and_it_may_come_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4: better than to leave out what is told nowhere else."""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    device = await MemoryDevice(engine, ben).live()

    def broken(_address: Address, *, after: int) -> list[Letter]:
        raise Refusal("unavailable", f"it can't be read after {after}")

    with monkeypatch.context() as patched:
        patched.setattr(engine.services.mailbox, "page", broken)
        await put(ann, ben, {"n": 1}, transaction="1")
        assert await device.disconnected() == 1013
        again = MemoryDevice(engine, ben)
        await again.log_in()
        assert await again.disconnected() == 1013
    assert letters((await MemoryDevice(engine, ben).live()).take()) == [1]


async def test_while_an_event_of_somebody_is_parked_it_is_not_known_which_devices_there_are(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told that there is no such device would send its letter nowhere."""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    runner = engine.services.runners["attestations"]
    with monkeypatch.context() as patched:
        patched.setattr(runner, "is_parked", lambda *streams: account_stream(AccountId(ben.account)) in streams)
        response = await ann.ask("PUT", "/sendToDevice/m/1", {"messages": {user(ben): {"new phone": {"n": 1}}}})
        assert (response.status_code, response.json()["code"], response.json()["retry"]) == (503, "unavailable", True)
    assert await put(ann, ben, {"n": 1}, transaction="1", type_="m") == {}


# By HTTP


async def test_each_device_that_does_not_get_it_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    await ben.new_device("phone")
    await ben.do("DELETE", "/devices/phone", id=str(uuid4()))
    nobody = matrix.user_id(str(uuid4()), SERVER)
    content = {"n": 1}
    messages = {user(ben): {"laptop": content, "phone": content, "fridge": content}, nobody: {"laptop": content}}
    refused = {user(ben): {"phone": "no_such_device", "fridge": "no_such_device"}, nobody: {"laptop": "no_such_device"}}
    at = "/sendToDevice/m.room.encrypted"
    assert (await ann.do("PUT", f"{at}/1", {"messages": messages}))["refused"] == refused
    monkeypatch.setattr(mailbox, "WAITING_MAX", 1)
    for _ in range(2):
        assert await put(ann, ben, content, transaction="2") == {user(ben): {"laptop": "mailbox_full"}}
    assert letters((await MemoryDevice(engine, ben).live()).take()) == [1]


async def test_what_may_not_be_put_is_refused_whole(engine: Engine) -> None:
    """I11, I12"""
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    deep: Any = {}
    for _ in range(matrix.DEPTH_MAX):
        deep = {"deeper": deep}
    at, good = "/sendToDevice/m/t", {"n": 1}
    elsewhere = matrix.user_id(ben.account, "elsewhere.example")
    for path, messages, code in (
        (at, {user(ben): {"laptop": good, "phone": good}, elsewhere: {"laptop": good}}, "bad_frame"),
        (at, {user(ben): {"laptop": good}, matrix.user_id("ben", SERVER): {"laptop": good}}, "bad_frame"),
        (at, {ben.account: {"laptop": good}}, "bad_frame"),
        (at, {user(ben): {"laptop": "text"}}, "bad_frame"),
        (at, {user(ben): {"laptop": deep}}, "bad_frame"),
        (at, {user(ben): {"laptop": {"text": "x" * CONTENT_BYTES_MAX}}}, "too_large"),
        (at, {user(ben): {"laptop": good, **{f"{number}": {} for number in range(256)}}}, "too_large"),
        (f"/sendToDevice/{'m' * 65}/t", {user(ben): {"laptop": good}}, "too_large"),
        (f"/sendToDevice/m/{'t' * 129}", {user(ben): {"laptop": good}}, "too_large"),
    ):
        response = await ann.ask("PUT", path, {"messages": messages})
        assert (response.json()["code"], response.status_code) == (code, 400 if code == "bad_frame" else 413), messages
    assert engine.services.mailbox.page((AccountId(ben.account), LAPTOP), after=0) == []
    assert await put(ann, ben, deep["deeper"], transaction="t") == {}


async def test_a_device_that_is_revoked_loses_its_mail_and_gets_none(engine: Engine) -> None:
    ann, ben = await engine.person("Ann"), await engine.person("Ben")
    phone = await ben.new_device("phone")
    await put(ann, phone, {"n": 1}, transaction="1")
    await ben.do("DELETE", "/devices/phone", id=str(uuid4()))
    assert await put(ann, phone, {"n": 2}, transaction="2") == {user(phone): {"phone": "no_such_device"}}
    assert engine.services.mailbox.page((AccountId(ben.account), PHONE), after=0) == []


async def test_mail_is_counted_as_commands() -> None:
    """I11: one for each sixteen devices."""
    limits = replace(LimitSettings(), commands_device=Rate(per_s=0.01, burst=3))
    async with live_engine(limits=limits) as engine:
        ann, ben = await engine.person("Ann"), await engine.person("Ben")
        many: Any = {user(ben): {f"{number}": {} for number in range(17)}}
        assert (await ann.ask("PUT", "/sendToDevice/m/1", {"messages": many})).status_code == 200
        assert (await ann.ask("PUT", "/sendToDevice/m/2", {"messages": {}})).status_code == 200
        response = await ann.ask("PUT", "/sendToDevice/m/3", {"messages": {}})
        assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
