"""Frames in, frames out: one connection against a real engine, without a socket."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any, NoReturn
from uuid import uuid4

import msgspec
import pytest

from domain.errors import KeyringUnavailable
from gateways.connection import COMMANDS_MAX, EARLY_PINGS_MAX
from signet_client import payloads, wire
from tests.gateways.engine import SERVER, Engine, Person, command
from tests.gateways.live import WAIT_S, MemoryDevice, hello, id_of, live_engine, send, text_of


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with live_engine() as engine:
        yield engine


class Trio:
    """Ann, Bob and Cem in a group, each live on one device."""

    def __init__(self, engine: Engine, people: list[Person], room: str) -> None:
        self.engine = engine
        self.people = people
        self.room = room

    async def connect(self) -> list[MemoryDevice]:
        devices = [await MemoryDevice(self.engine, person).live() for person in self.people]
        for device in devices:
            device.take()
        return devices


@pytest.fixture
async def trio(engine: Engine) -> Trio:
    people = [await engine.person(name) for name in ("Ann", "Bob", "Cem")]
    return Trio(engine, people, await people[0].start_group(*people[1:]))


# The end


async def test_a_connection_that_ends_before_its_work_begins_leaves_nothing_behind(trio: Trio) -> None:
    """A lookup in the last bytes before a reset; the warning of a coroutine that was never awaited is an error here."""
    ann, *_ = await trio.connect()
    ann.say(wire.Fetch(id="f", c=trio.room, after=0))
    ann.connection.end()
    await asyncio.sleep(0)
    gc.collect()


# Log-in


async def test_the_server_speaks_first_and_shows_the_conversations(engine: Engine) -> None:
    ann, bob = await engine.person("Ann"), await engine.person("Bob")
    room = await ann.start_group(bob, title="Rowing")
    await ann.send(room, "hello")
    device = MemoryDevice(engine, bob)
    device.connection.start()
    challenge = await device.next(wire.Challenge)
    assert challenge.server == SERVER
    device.say(hello(bob, challenge))
    [shown] = (await device.next(wire.Welcome)).conversations
    assert (shown.c, shown.kind, shown.title, shown.role) == (room, "group", "Rowing", "member")
    assert (shown.head, shown.unread, shown.read, shown.delivered) == (2, 1, 0, 0)
    page = await device.next(wire.Page)
    assert (page.c, page.head, page.upto, page.id) == (room, 2, 2, "")
    started, message = page.items
    assert isinstance(started, wire.Change)
    assert (started.what, set(started.accounts), started.title) == ("started", {ann.account, bob.account}, "Rowing")
    assert text_of(message) == "hello"
    await device.next(wire.Live)
    assert device.take() == [wire.KeyCounts(left=0, fallback_used=True, published=False)]


async def test_a_wrong_signature_is_refused(engine: Engine) -> None:
    device = MemoryDevice(engine, await engine.person("Ann"))
    device.connection.start()
    challenge = await device.next(wire.Challenge)
    device.say(hello(device.person, msgspec.structs.replace(challenge, nonce=challenge.nonce + "x")))
    assert await device.disconnected() == 4500


async def test_a_challenge_is_good_for_its_own_hello_only(engine: Engine) -> None:
    """I12: a hello that somebody overheard opens nothing."""
    ann = await engine.person("Ann")
    first, second = MemoryDevice(engine, ann), MemoryDevice(engine, ann)
    first.connection.start()
    said = hello(ann, await first.next(wire.Challenge))
    first.say(said)
    await first.next(wire.Live)
    second.connection.start()
    second.say(said)
    assert await second.disconnected() == 4500
    assert not first.closed.done()


async def test_a_device_that_was_never_linked_or_is_revoked_is_refused(engine: Engine) -> None:
    ann = await engine.person("Ann")
    phone = await ann.new_device("phone")
    await ann.do("DELETE", "/devices/phone", id=str(uuid4()))
    for device, name in ((phone, "phone"), (ann, "tablet")):
        device.device = name
        refused = MemoryDevice(engine, device)
        refused.connection.start()
        refused.say(hello(device, await refused.next(wire.Challenge)))
        assert await refused.disconnected() == 4502


@pytest.mark.parametrize("frame", [wire.Ping(), wire.Fetch(id="1", c="x", after=0), wire.Ack(c="x", upto=1)])
async def test_nothing_is_taken_before_the_hello(engine: Engine, frame: wire.ClientFrame) -> None:
    device = MemoryDevice(engine, await engine.person("Ann"))
    device.connection.start()
    device.say(frame)
    assert await device.disconnected() == 4501


async def test_a_ping_may_overtake_the_welcome(engine: Engine) -> None:
    """A network that held up the hello brings both at once. Not any number of them."""
    ann = await engine.person("Ann")
    device = MemoryDevice(engine, ann)
    device.connection.start()
    device.say(hello(ann, await device.next(wire.Challenge)))
    device.say(wire.Ping(id="1"))
    assert (await device.next(wire.Pong)).id == "1"
    await device.next(wire.Live)

    hasty = MemoryDevice(engine, ann)
    hasty.connection.start()
    hasty.say(hello(ann, await hasty.next(wire.Challenge)))
    for number in range(EARLY_PINGS_MAX + 1):
        hasty.say(wire.Ping(id=str(number)))
    assert await hasty.disconnected() == 4501


async def test_a_second_hello_is_none(engine: Engine) -> None:
    device = await MemoryDevice(engine, await engine.person("Ann")).live()
    device.say(wire.Hello(account="", device="", signature=""))
    assert await device.disconnected() == 4501


async def test_two_devices_live_side_by_side_and_the_same_one_is_replaced(trio: Trio) -> None:
    ann = trio.people[0]
    laptop = await MemoryDevice(trio.engine, ann).live()
    phone = await MemoryDevice(trio.engine, await ann.new_device("phone")).live()
    again = await MemoryDevice(trio.engine, ann).live()
    assert await laptop.disconnected() == 4503
    assert not phone.closed.done()
    await (await MemoryDevice(trio.engine, trio.people[1]).live()).sent(trio.room, "hello")
    for device in (phone, again):
        assert text_of(await device.next(wire.Message)) == "hello"


async def test_a_revoked_device_is_thrown_out_at_once(engine: Engine) -> None:
    """I12: what comes after the revocation is not for it."""
    ann = await engine.person("Ann")
    phone = await MemoryDevice(engine, await ann.new_device("phone")).live()
    await ann.do("DELETE", "/devices/phone", id=str(uuid4()))
    assert await phone.disconnected() == 4502


# Messages


async def test_a_message_is_accepted_and_pushed_to_everybody_elses_devices(trio: Trio) -> None:
    """I3: seq is the same for all."""
    ann, bob, cem = await trio.connect()
    phone = await MemoryDevice(trio.engine, await ann.person.new_device("phone")).live()
    said = send(ann.person, trio.room, "hello")
    ann.say(said)
    accepted = await ann.next(wire.Accepted)
    assert (accepted.id, accepted.c, accepted.seq) == (id_of(said), trio.room, 2)
    for device in (bob, cem, phone):
        pushed = await device.next(wire.Message)
        assert (pushed.c, pushed.seq, pushed.at) == (trio.room, 2, accepted.at)
        assert (pushed.header, pushed.body) == (said.header, said.body)
        assert (pushed.ordinal, pushed.own, pushed.retracted) == (1, 1, None)
    await ann.round_trip()
    assert ann.take() == []


async def test_a_repeated_send_gets_the_first_answer(trio: Trio) -> None:
    """I2: whenever, and over whichever connection."""
    ann, bob, _ = await trio.connect()
    said = send(ann.person, trio.room, "hello")
    ann.say(said)
    ann.say(said)
    first, second = await ann.next(wire.Accepted), await ann.next(wire.Accepted)
    again = await MemoryDevice(trio.engine, ann.person).live({trio.room: 9})
    again.say(said)
    assert first == second == await again.next(wire.Accepted)
    await bob.next(wire.Message)
    await bob.round_trip()
    assert bob.take() == []


async def test_a_push_shows_what_a_page_shows(trio: Trio) -> None:
    ann, bob, _ = await trio.connect()
    sent = await ann.sent(trio.room, "hello")
    room, cem = trio.room, trio.people[2].account
    await ann.person.do("PUT", f"/conversations/{room}/title", command(title="Sailing"))
    await ann.person.do("PUT", f"/conversations/{room}/members/{cem}/role", command(role="admin"))
    await ann.person.do("DELETE", f"/conversations/{room}/members/{cem}", id=str(uuid4()))
    await ann.person.do("POST", f"/conversations/{room}/members", command(accounts=[cem]))
    await ann.person.do("POST", f"/conversations/{room}/messages/{sent.seq}/retract", command())
    pushed: list[Any] = [await bob.next(wire.Message), *[await bob.next(wire.Change) for _ in range(5)]]
    bob.say(wire.Fetch(id="all", c=room, after=1))
    page = await bob.next(wire.Page)
    assert page.items[1:] == pushed[1:]
    assert [change.what for change in pushed[1:]] == ["title", "role", "removed", "added", "retracted"]
    [message] = page.items[:1]
    assert isinstance(message, wire.Message)
    assert (message.body, message.retracted, message.header) == (None, 7, pushed[0].header)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"c": str(uuid4())}, "no_such_conversation"),
        ({"s": str(uuid4())}, "bad_header"),
        ({"d": "phone"}, "bad_header"),
        ({"h": ""}, "bad_digest"),
        ({"a": 99}, "beyond_head"),
    ],
)
async def test_a_refused_send_names_its_id_and_why(trio: Trio, changed: dict[str, Any], code: str) -> None:
    ann, bob, _ = await trio.connect()
    said = send(ann.person, trio.room, "hello", **changed)
    ann.say(said)
    refused = await ann.next(wire.Refused)
    assert (refused.id, refused.code, refused.retry) == (id_of(said), code, False)
    assert refused.c == json.loads(said.header)["c"]
    await bob.round_trip()
    assert bob.take() == []


async def test_a_header_that_can_not_be_read_is_refused_without_an_id(trio: Trio) -> None:
    ann, *_ = await trio.connect()
    ann.say(wire.Send(header="{", body=""))
    refused = await ann.next(wire.Refused)
    assert (refused.id, refused.code) == ("", "bad_header")


async def test_who_is_not_a_member_sends_nothing_and_hears_nothing(trio: Trio) -> None:
    """I12, I8"""
    eve = await MemoryDevice(trio.engine, await trio.engine.person("Eve")).live()
    ann, bob, cem = await trio.connect()
    eve.say(send(eve.person, trio.room, "let me in"))
    assert (await eve.next(wire.Refused)).code == "no_such_conversation"
    await ann.person.do("DELETE", f"/conversations/{trio.room}/members/{cem.person.account}", id=str(uuid4()))
    assert (await cem.next(wire.Change)).what == "removed"
    await ann.sent(trio.room, "without Cem")
    await bob.next(wire.Message)
    cem.say(send(cem.person, trio.room, "still here"))
    assert (await cem.next(wire.Refused)).code == "not_a_member"
    for device in (eve, cem):
        await device.round_trip()
        assert device.take() == []


async def test_pings_of_the_application_are_answered(trio: Trio) -> None:
    ann, *_ = await trio.connect()
    ann.say(wire.Ping(id="7"))
    assert (await ann.next(wire.Pong)).id == "7"


# Receipts


async def test_acknowledgements_become_the_authors_ticks(trio: Trio) -> None:
    """I5: delivered when a device of every other member says so."""
    ann, bob, cem = await trio.connect()
    sent = await ann.sent(trio.room, "hello")
    bob.say(wire.Ack(c=trio.room, upto=sent.seq))
    cem.say(wire.Ack(c=trio.room, upto=sent.seq))
    ticks = await ann.next(wire.Receipt)
    assert (ticks.c, ticks.delivered, ticks.read) == (trio.room, sent.seq, 1)
    bob.say(wire.Read(c=trio.room, upto=sent.seq))
    cem.say(wire.Read(c=trio.room, upto=sent.seq))
    assert (await ann.next(wire.Receipt)).read == sent.seq


async def test_a_read_mark_reaches_the_readers_other_devices(trio: Trio) -> None:
    ann, bob, _ = await trio.connect()
    phone = await MemoryDevice(trio.engine, await bob.person.new_device("phone")).live()
    sent = await ann.sent(trio.room, "hello")
    bob.say(wire.Read(c=trio.room, upto=sent.seq))
    assert await phone.next(wire.Mark) == wire.Mark(c=trio.room, read=sent.seq)
    await bob.next(wire.Message)
    await bob.round_trip()
    assert bob.take() == []


async def test_a_send_moves_the_read_mark_only_where_it_says_so(trio: Trio) -> None:
    ann, bob, _ = await trio.connect()
    await ann.sent(trio.room, "hello")
    await bob.sent(trio.room, "without reading")
    phone = await MemoryDevice(trio.engine, await bob.person.new_device("phone")).live()
    await bob.sent(trio.room, "reading", read=2)
    assert (await phone.next(wire.Mark)).read == 2
    again = await MemoryDevice(trio.engine, bob.person).log_in()
    assert (again.conversations[0].read, again.conversations[0].unread) == (2, 0)


async def test_messages_and_statements_take_room_until_they_are_answered(trio: Trio) -> None:
    """I11"""
    ann, *_ = await trio.connect()
    await ann.sent(trio.room, "hello")
    ann.say(wire.Ack(c=trio.room, upto=1))
    await ann.round_trip()  # the conversation is known to be Ann's now
    ann.say(send(ann.person, trio.room, "hello again", read=2))
    ann.say(wire.Read(c=trio.room, upto=2, signature=payloads.to_base64(bytes(64))))
    assert ann.connection.window <= COMMANDS_MAX - 3
    async with asyncio.timeout(WAIT_S):
        while ann.connection.window < COMMANDS_MAX:  # noqa: ASYNC110  # a number tells nobody
            await asyncio.sleep(0.001)


async def test_a_strangers_statements_never_reach_the_writer(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11, I12: each would be read from the store, and push others' conversations out of the writer's memory."""
    eve = await MemoryDevice(trio.engine, await trio.engine.person("Eve")).live()
    monkeypatch.setattr(trio.engine.services.writer, "submit", None)
    for conversation in (trio.room, str(uuid4())):
        eve.say(wire.Ack(c=conversation, upto=1))
        eve.say(wire.Read(c=conversation, upto=1))
    await eve.round_trip()
    assert eve.connection.window >= COMMANDS_MAX - 1
    assert eve.take() == []


async def test_a_stranger_acknowledges_into_the_void(trio: Trio) -> None:
    """I12: the same silence, whether the conversation exists or not."""
    eve = await MemoryDevice(trio.engine, await trio.engine.person("Eve")).live()
    for conversation in (trio.room, str(uuid4())):
        eve.say(wire.Ack(c=conversation, upto=1))
        eve.say(wire.Read(c=conversation, upto=1))
    ann, bob, cem = await trio.connect()
    sent = await ann.sent(trio.room, "hello")
    bob.say(wire.Ack(c=trio.room, upto=sent.seq))
    cem.say(wire.Ack(c=trio.room, upto=sent.seq))
    await ann.next(wire.Receipt)
    await eve.round_trip()
    assert eve.take() == []
    assert eve.person.account not in await trio.engine.services.receipts.marks(trio.room)  # type: ignore[arg-type]


@pytest.mark.parametrize("frame", [wire.Ack(c="general", upto=1), wire.Read(c="general", upto=1)])
async def test_a_malformed_statement_is_refused_with_its_conversation(trio: Trio, frame: wire.ClientFrame) -> None:
    ann, *_ = await trio.connect()
    ann.say(frame)
    refused = await ann.next(wire.Refused)
    assert (refused.id, refused.c, refused.code) == ("", "general", "bad_frame")


# Fetches


async def test_a_fetch_brings_pages_in_order(trio: Trio) -> None:
    ann, bob, _ = await trio.connect()
    for number in range(5):
        await ann.sent(trio.room, f"{number}")
    after, texts = 0, []
    while True:
        bob.say(wire.Fetch(id=f"after {after}", c=trio.room, after=after, limit=2))
        page = await bob.next(wire.Page)
        assert (page.id, page.head) == (f"after {after}", 6)
        texts += [text_of(item) for item in page.items]
        after = page.upto
        if after == page.head:
            break
    assert texts == [None, "0", "1", "2", "3", "4"]


@pytest.mark.parametrize("after", [-(10**30), -1, 10**30])
@pytest.mark.parametrize("limit", [-(10**30), 0, 10**30])
async def test_a_fetch_may_ask_for_anything(trio: Trio, after: int, limit: int) -> None:
    ann, *_ = await trio.connect()
    ann.say(wire.Fetch(id="1", c=trio.room, after=after, limit=limit))
    page = await ann.next(wire.Page)
    assert (len(page.items), page.upto) == (1 if after < 0 else 0, page.head)


async def test_history_shows_each_account_what_it_may_see(trio: Trio) -> None:
    """I8, I12: a removed member sees up to its removal, a newcomer from its joining, a stranger nothing."""
    ann, bob, cem = await trio.connect()
    await ann.sent(trio.room, "before")
    await ann.person.do("DELETE", f"/conversations/{trio.room}/members/{cem.person.account}", id=str(uuid4()))
    dee = await MemoryDevice(trio.engine, await trio.engine.person("Dee")).live()
    await ann.sent(trio.room, "between")
    await ann.person.do("POST", f"/conversations/{trio.room}/members", command(accounts=[dee.person.account]))
    await ann.sent(trio.room, "after")
    for device, texts in ((bob, ["before", "between", "after"]), (cem, ["before"]), (dee, ["after"])):
        device.say(wire.Fetch(id="1", c=trio.room, after=0))
        page = await device.next(wire.Page)
        assert [text for item in page.items if (text := text_of(item))] == texts
    eve = await MemoryDevice(trio.engine, await trio.engine.person("Eve")).live()
    for conversation in (trio.room, str(uuid4()), "general"):
        eve.say(wire.Fetch(id="1", c=conversation, after=0))
        refused = await eve.next(wire.Refused)
        assert (refused.id, refused.c, refused.code) == ("1", conversation, "no_such_conversation")


async def test_fetches_take_room_until_they_are_answered(trio: Trio) -> None:
    """I11"""
    ann, *_ = await trio.connect()
    for number in range(COMMANDS_MAX):
        ann.say(wire.Fetch(id=f"{number}", c=trio.room, after=0))
    assert ann.connection.window == 0
    assert [(await ann.next(wire.Page)).id for _ in range(COMMANDS_MAX)] == [f"{n}" for n in range(COMMANDS_MAX)]
    assert (ann.connection.window >= COMMANDS_MAX - 1, ann.went_on) == (True, 1)


# Slow links


async def test_pushes_to_a_slow_link_are_dropped_and_answers_are_not(trio: Trio) -> None:
    """I11: nothing is queued for who doesn't read."""
    ann, bob, cem = await trio.connect()
    bob.slow = True
    await ann.sent(trio.room, "hello")
    await cem.next(wire.Message)
    bob.say(wire.Ping())
    assert bob.take() == [wire.Pong()]
    assert bob.missed == 1


# Patience


async def test_who_says_much_keeps_its_order_when_it_says_little_again(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I3: what it said while it had to wait is not overtaken."""
    ann, _, _ = await trio.connect()
    writer, how = trio.engine.services.writer, list[bool]()
    submit = writer.submit

    def note(*arguments: Any, patient: bool = False, **others: Any) -> None:
        how.append(patient)
        submit(*arguments, patient=patient, **others)

    monkeypatch.setattr(writer, "submit", note)
    await ann.sent(trio.room, "before")
    much, little = (send(ann.person, trio.room, text) for text in ("much", "little"))
    ann.patient = True
    ann.say(much)
    ann.patient = False
    ann.say(little)
    assert how == [False, True, True]
    assert [(await ann.next(wire.Accepted)).id for _ in range(2)] == [id_of(much), id_of(little)]
    await ann.sent(trio.room, "after")
    assert how[3:] == [False]


async def test_what_fails_inside_closes_the_connection(trio: Trio, caplog: pytest.LogCaptureFixture) -> None:
    ann, bob, _ = await trio.connect()
    trio.engine.services.inbox.db.execute("DROP TABLE members")
    ann.say(wire.Fetch(id="1", c=trio.room, after=0))
    assert await ann.disconnected() == 1011
    assert "a connection failed" in caplog.text
    assert not bob.closed.done()


async def test_a_message_that_can_not_be_sealed_is_refused_and_the_connection_stays(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new month's key can't be stored on a full disk."""
    ann, *_ = await trio.connect()
    said = send(ann.person, trio.room, "hello")
    with monkeypatch.context() as full_disk:
        full_disk.setattr(trio.engine.services.sealer, "_keyring", FullKeyring())
        ann.say(said)
        refused = await ann.next(wire.Refused)
        title = command(title="Sailing")
        by_http = await ann.person.ask("PUT", f"/conversations/{trio.room}/title", title)
    assert (refused.id, refused.code, refused.retry) == (id_of(said), "unavailable", True)
    assert (by_http.status_code, by_http.json()["code"]) == (503, "unavailable")
    ann.say(said)
    assert (await ann.next(wire.Accepted)).id == id_of(said)


async def test_a_bug_behind_one_frame_ends_its_connection_with_a_code(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bob, _ = await trio.connect()
    monkeypatch.setattr(trio.engine.services.writer, "submit", None)
    ann.say(send(ann.person, trio.room, "hello"))
    assert await ann.disconnected() == 1011
    assert "a connection failed" in caplog.text
    assert not bob.closed.done()


class FullKeyring:
    def current(self, subject: str, period: str) -> NoReturn:
        raise KeyringUnavailable("the disk is full")
