"""What encryption asks of the server is asked until it is answered: nothing is forgotten by a failure, and no answer is
believed that is older than what is known."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

import pytest

from signet_client import events, matrix, wire
from signet_client.api import Api
from signet_client.crypto.asking import Asking
from signet_client.crypto.exchange import Exchange
from signet_client.crypto.lists import KeysFound
from signet_client.crypto.proofs import Statement
from signet_client.errors import Refused, SignetError, Unreachable
from signet_client.records import Batch, Conversation, Marks
from tests.client.crypto.devices import (
    ANNA,
    BEN,
    CLEO,
    Device,
    claims,
    introduced,
    letters,
    listed,
    mail,
    message,
    prepare,
    take,
)
from tests.client.fake import PATIENCE_S, TALK

pytestmark = pytest.mark.usefixtures("short_waits")

What = Literal["started", "added", "removed", "left"]

BUSY = Refused("busy", "busy", retry=True)
WRONG = Refused("too_large", "too large", retry=False)


class Office:
    """The server, as `Api` shows it: it fails when a test says so, and does something else while it answers."""

    def __init__(self, *devices: Device) -> None:
        self.devices = list(devices)
        self.gone: list[Device] = []
        self.calls: list[str] = []
        self.failures: dict[str, list[SignetError]] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}
        """What happens, once, between a question and its answer."""
        self.statements_of: list[Statement] = []

    def _asked(self, what: str) -> None:
        self.calls.append(what)
        if self.failures.get(what):
            raise self.failures[what].pop(0)

    async def _answered(self, what: str) -> None:
        await asyncio.sleep(0)
        self.meanwhile.pop(what, lambda: None)()

    async def query_keys(self, users: list[str], versions: dict[str, int]) -> KeysFound:
        self._asked("query")
        asked = [device for device in self.devices if device.user in users]
        gone = [device for device in self.gone if device.user in users]
        found = listed(asked, gone=gone, version=len(self.devices))
        await self._answered("query")
        return found

    async def claim_keys(self, devices: Iterable[tuple[str, str]], *, request: str) -> Any:
        self._asked("claim")
        wanted = set(devices)
        found = [device for device in self.devices if (device.user, device.name) in wanted]
        await self._answered("claim")
        return claims(found, [device.peer for device in found])

    async def send_to_device(self, type_: str, transaction: str, messages: dict[str, dict[str, Any]]) -> Any:
        self._asked("mail")
        await self._answered("mail")
        for device in self.devices:
            content = messages.get(device.user, {}).get(device.name)
            if content is not None:
                # All that is sent here is Anna's.
                device.machine.take_mail(mail(ANNA, content, type_=type_))
                device.settle()
        return {}

    async def upload_keys(self, body: dict[str, Any]) -> int:
        self._asked("upload")
        await self._answered("upload")
        return len(body["one_time_keys"])

    async def statements(self, conversation: str) -> list[Statement]:
        self._asked("statements")
        await self._answered("statements")
        return self.statements_of


class Desk:
    """The live path, as the exchange sees it, and the log behind it. What the exchange does is seen by the test."""

    def __init__(self, device: Device, office: Office) -> None:
        self.device = device
        self.office = office
        self.waiting: set[str] = set()
        self.gone_on: list[str] = []
        self.given_up: list[Refused] = []
        self.told: list[events.Event] = []
        self.wanted: list[tuple[str, int]] = []
        self.marks = Marks()
        self.members: set[str] = set()
        """Those that the server names."""
        self.head = 0
        self.failure: Exception | None = None
        self._moved = asyncio.Event()
        self.exchange = Exchange(cast(Api, office), device.machine, device.store, self, self.ask_about)

    def needing(self) -> list[str]:
        return sorted(self.waiting)

    def go_on(self, conversation: str) -> None:
        self.waiting.discard(conversation)
        self._note(self.gone_on, conversation)

    def give_up(self, conversation: str, refused: Refused) -> None:
        self.waiting.discard(conversation)
        self._note(self.given_up, refused)

    def lists_changed(self, accounts: Iterable[str]) -> None:
        self._moved.set()

    def tell(self, event: events.Event) -> None:
        self._note(self.told, event)

    def want(self, conversation: str, seq: int) -> None:
        self._note(self.wanted, (conversation, seq))

    def marks_of(self, conversation: str) -> Marks:
        return self.marks

    def conversation_of(self, conversation: str) -> Conversation | None:
        return Conversation(
            conversation=conversation, kind="group", protection="end_to_end", title=None, peer=None
        )  # fmt: skip

    def fail(self, error: Exception) -> None:
        self.failure = error
        self._moved.set()

    async def ask_about(self, conversation: str) -> wire.Overview:
        self.office._asked("about")
        await asyncio.sleep(0)
        self.device.store.put_members(conversation, dict.fromkeys(self.members, "member"))
        return wire.Overview(
            c=conversation,
            kind="group",
            protection="end_to_end",
            role="member" if self.device.peer.account in self.members else None,
            visible=[[1, 0]],
            head=self.head,
            at=0,
        )

    def _note(self, notes: list[Any], note: object) -> None:
        notes.append(note)
        self._moved.set()

    # What the test does

    def take(self, *items: wire.Item) -> None:
        """Items of the log, in order."""
        self.device.store.commit(Batch(items=list(items)))
        self.marks.cursor = items[-1].seq

    def change(self, what: What, *accounts: str) -> None:
        """A change that the server has, and this device, too."""
        self.head += 1
        self.take(changed(self.head, what, *accounts))
        self.members = set(self.device.store.members(TALK))
        self.device.machine.unsettle(TALK)

    def send(self) -> None:
        """A message waits to be encrypted."""
        self.waiting.add(TALK)
        self.exchange.wake()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                assert self.failure is None, self.failure
                self._moved.clear()
                waiting = asyncio.create_task(self._moved.wait())
                # Some of what a test waits for moves nothing here.
                await asyncio.wait([waiting], timeout=0.01)
                waiting.cancel()

    async def ready(self) -> None:
        self.send()
        await self.until(lambda: TALK not in self.waiting)
        assert self.device.machine.is_ready(TALK)


def changed(seq: int, what: What, *accounts: str) -> wire.Change:
    roles: list[wire.Role] = ["member"] * len(accounts) if what in ("started", "added") else []
    return wire.Change(c=TALK, seq=seq, at=1, what=what, by=ANNA, id="i", accounts=list(accounts), roles=roles)


@asynccontextmanager
async def working(device: Device, *others: Device) -> AsyncIterator[Desk]:
    desk = Desk(device, Office(device, *others))
    task = asyncio.create_task(desk.exchange.run())
    yield desk
    task.cancel()
    await asyncio.wait([task])
    assert desk.failure is None


# Sending


async def test_a_conversation_is_made_ready(anna: Device, ben: Device, cleo: Device) -> None:
    """Lists are asked for, keys claimed, the key shared; then nothing more until something changes."""
    async with working(anna, ben, cleo) as desk:
        desk.change("started", ANNA, BEN, CLEO)
        await desk.ready()
        assert desk.office.calls == ["query", "claim", "mail"]
        take(ben, listed([anna]))
        take(cleo, listed([anna]))
        item = message(anna, "Hello", 2)
        assert [ben.read(item), cleo.read(item)] == ["Hello", "Hello"]
        await desk.ready()
        desk.change("left", CLEO)
        await desk.ready()
        assert desk.office.calls == ["query", "claim", "mail", "mail"]


@pytest.mark.parametrize("what", ["query", "claim", "mail"])
@pytest.mark.parametrize("failure", [BUSY, Unreachable("away")])
async def test_what_fails_for_now_is_done_again(anna: Device, ben: Device, what: str, failure: SignetError) -> None:
    async with working(anna, ben) as desk:
        desk.change("started", ANNA, BEN)
        desk.office.failures[what] = [failure] * 3
        await desk.ready()
        assert desk.office.calls.count(what) == 4
        take(ben, listed([anna]))
        assert ben.read(message(anna, "Hello", 2)) == "Hello"


async def test_messages_that_can_never_be_sent_are_given_up(anna: Device, ben: Device) -> None:
    """It is no member any more, say."""
    async with working(anna, ben) as desk:
        refused = Refused("not_a_member", "no", retry=False)
        desk.office.failures["about"] = [refused]
        desk.send()
        await desk.until(lambda: bool(desk.given_up))
        assert desk.given_up == [refused]
        assert not desk.gone_on


async def test_who_came_or_went_is_taken_in_before_a_message_is_encrypted_anew(
    anna: Device, ben: Device, cleo: Device
) -> None:
    """I8: the server has refused it as stale; it waits for the change itself."""
    async with working(anna, ben, cleo) as desk:
        desk.change("started", ANNA, BEN)
        await desk.ready()
        desk.members.add(CLEO)
        desk.head = 2
        desk.exchange.refused_as_stale(TALK)
        desk.send()
        await desk.until(lambda: bool(desk.wanted))
        assert desk.wanted[0] == (TALK, 2)
        assert not anna.machine.is_ready(TALK)
        desk.take(changed(2, "added", CLEO))
        await desk.ready()
        take(cleo, listed([anna]))
        assert cleo.read(message(anna, "Hello", 3)) == "Hello"


async def test_what_a_restored_server_has_lost_is_awaited_no_more(anna: Device, ben: Device, cleo: Device) -> None:
    """The message was refused as stale, and the change behind it is in no backup."""
    async with working(anna, ben, cleo) as desk:
        desk.change("started", ANNA, BEN)
        await desk.ready()
        desk.members.add(CLEO)
        desk.head = 7
        desk.exchange.refused_as_stale(TALK)
        desk.send()
        await desk.until(lambda: bool(desk.wanted))
        desk.members.remove(CLEO)
        desk.head = 1
        desk.exchange.server_restored()
        await desk.ready()
        assert desk.office.calls.count("about") == 2
        take(ben, listed([anna]))
        assert ben.read(message(anna, "Hello", 2)) == "Hello"


async def test_what_changes_while_a_conversation_is_made_ready_is_not_passed_over(
    anna: Device, ben: Device, cleo: Device
) -> None:
    """I8: somebody leaves while the key is on its way; what is said then has another one."""
    async with working(anna, ben, cleo) as desk:
        desk.change("started", ANNA, BEN, CLEO)
        desk.office.meanwhile["mail"] = lambda: desk.change("removed", CLEO)
        await desk.ready()
        for device in (ben, cleo):
            take(device, listed([anna]))
        item = message(anna, "without Cleo", 3)
        assert [ben.read(item), cleo.read(item)] == ["without Cleo", "(no_key)"]


async def test_mail_that_is_refused_for_ever_holds_nothing_up(anna: Device, ben: Device) -> None:
    """I11: it would be refused again and again, and nothing behind it would ever leave, also not after a restart."""
    async with working(anna, ben) as desk:
        desk.change("started", ANNA, BEN)
        desk.office.failures["mail"] = [WRONG]
        anna.machine.post({ben.peer: {"too": "large"}})
        await desk.ready()
        assert not anna.vault.parcels()
        take(ben, listed([anna]))
        assert ben.read(message(anna, "Hello", 2)) == "Hello"


async def test_mail_waits_for_a_device_that_may_not_log_in(anna: Device, ben: Device) -> None:
    """What is wrong is not the mail."""
    async with working(anna, ben) as desk:
        desk.change("started", ANNA, BEN)
        desk.office.failures["mail"] = [Refused("not_authenticated", "log in", retry=False)] * 2
        await desk.ready()
        take(ben, listed([anna]))
        assert ben.read(message(anna, "Hello", 2)) == "Hello"


# Lists


@pytest.mark.parametrize("failure", [BUSY, Unreachable("away")])
async def test_a_list_that_is_in_doubt_is_asked_for_until_it_comes(
    anna: Device, ben: Device, failure: SignetError
) -> None:
    """I5: its messages wait for it, and nothing else would ask."""
    async with working(anna, ben) as desk:
        anna.machine.doubt(BEN)
        desk.office.failures["query"] = [failure] * 3
        desk.exchange.wake()
        await desk.until(lambda: anna.machine.lists.confirmed(BEN))
        assert not anna.machine.doubtful
        assert not anna.machine.has_errands


async def test_a_list_that_is_doubted_while_it_is_asked_for_is_asked_for_again(anna: Device, ben: Device) -> None:
    """I8, I12: the answer may be from before a device was revoked, which gets no key then."""
    laptop = Device(anna.path.parent, BEN, "laptop", linked_by=ben)

    async with working(anna, ben, laptop) as desk:

        def revoke() -> None:
            desk.office.devices.remove(laptop)
            desk.office.gone.append(laptop)
            anna.machine.doubt(BEN)
            anna.machine.unsettle_all()
            desk.exchange.wake()

        desk.change("started", ANNA, BEN)
        desk.office.meanwhile["query"] = revoke
        await desk.ready()
        assert [peer.device for peer in anna.vault.peers([BEN])] == ["phone"]
        assert desk.office.calls.count("query") >= 2
        assert not anna.machine.has_errands
        take(laptop, listed([anna]))
        assert laptop.read(message(anna, "secret", 2)) == "(no_key)"


async def test_a_list_that_comes_after_the_connection_was_lost_confirms_nothing(anna: Device, ben: Device) -> None:
    """I12: what has happened since nobody has told."""
    async with working(anna, ben) as desk:
        desk.change("started", ANNA, BEN)
        desk.office.meanwhile["query"] = anna.machine.lose_connection
        await desk.ready()
        assert desk.office.calls.count("query") == 2


async def test_a_device_that_is_not_believed_is_told_of(anna: Device, ben: Device) -> None:
    """I12: once for each answer that names it."""
    stray = Device(anna.path.parent, BEN, "stray")
    async with working(anna, ben, stray) as desk:
        take(anna, listed([ben]))
        anna.machine.doubt(BEN)
        desk.exchange.wake()
        await desk.until(lambda: bool(desk.told))
        [forged] = desk.told
        assert isinstance(forged, events.Forged)
        assert (forged.what, forged.account, forged.device) == ("device", BEN, "stray")


# Keys


async def test_a_key_is_asked_for_until_the_request_is_out(anna: Device, ben: Device) -> None:
    """I5: a failure before it does not make it forgotten."""
    async with working(anna, ben) as desk:
        one, another = (ben.machine.megolm.begin(TALK).session.session_id for _ in range(2))
        desk.office.failures["query"] = [BUSY, BUSY]
        desk.exchange.want_key(TALK, one, BEN)
        await desk.until(lambda: bool(ben.machine.requests))
        assert [request.session for request in ben.machine.requests] == [one]
        desk.exchange.want_key(TALK, one, BEN)
        desk.exchange.want_key(TALK, another, BEN)
        await desk.until(lambda: len(ben.machine.requests) == 2)
        assert [request.session for request in ben.machine.requests] == [one, another]


def request(asker: Device, item: wire.Message) -> wire.Mail:
    assert asker.machine.read(item, "end_to_end").reason == "no_key"
    session = asker.machine.read(item, "end_to_end").session
    assert Asking(asker.machine, asker.store).ask(TALK, session, ANNA)
    [(_, letter)] = letters(asker)
    return letter


async def test_who_asks_is_answered(anna: Device, ben: Device, cleo: Device) -> None:
    """I5: also where there is no session with it yet, and where the server fails meanwhile."""
    introduced(ben, anna)
    async with working(anna, ben) as desk:
        desk.change("started", ANNA, BEN)
        introduced(anna, ben)
        prepare(anna, [anna], members=[ANNA])
        item = message(anna, "Hello", 2)
        assert anna.read(item) == "Hello"
        desk.head = 2
        desk.take(item)
        for what in ("query", "about", "claim", "mail"):
            desk.office.failures[what] = [BUSY]
        anna.machine.lose_connection()
        anna.machine.take_mail(request(ben, item))
        desk.exchange.wake()
        await desk.until(lambda: not anna.machine.requests and not anna.vault.parcels())
        assert ben.read(item) == "Hello"


async def test_who_asks_for_what_nobody_may_have_costs_nothing(anna: Device, ben: Device, cleo: Device) -> None:
    """I11: for sessions and conversations that are not here no server is asked."""
    async with working(anna, ben, cleo) as desk:
        introduced(anna, ben)
        take(cleo, listed([anna]))
        for conversation in (TALK, "elsewhere"):
            body = {"room_id": matrix.room_id(conversation), "session_id": "?"}
            content = {"action": "request", "requesting_device_id": "phone", "body": body}
            anna.machine.take_mail(mail(BEN, content, type_="m.room_key_request"))
        assert not anna.machine.requests
        assert desk.office.calls == []


async def test_a_request_that_can_never_be_answered_holds_no_other_up(anna: Device, ben: Device, cleo: Device) -> None:
    """I11: the server refuses what has to be asked for it; the next one is answered."""
    introduced(ben, anna)
    introduced(cleo, anna)
    async with working(anna, ben, cleo) as desk:
        desk.change("started", ANNA, BEN, CLEO)
        introduced(anna, ben, cleo)
        prepare(anna, [anna], members=[ANNA])
        item = message(anna, "Hello", 2)
        assert anna.read(item) == "Hello"
        desk.head = 2
        desk.take(item)
        anna.machine.take_mail(request(ben, item))
        anna.machine.take_mail(request(cleo, item))
        desk.office.failures["claim"] = [WRONG]
        desk.exchange.wake()
        await desk.until(lambda: not anna.machine.requests)
        assert [ben.read(item), cleo.read(item)] == ["(no_key)", "Hello"]


async def test_who_came_later_than_the_log_here_knows_gets_nothing_of_before(
    anna: Device, ben: Device, cleo: Device
) -> None:
    """I8: the change by which Ben came is not here yet; when it is, what was before it is not for him either."""
    introduced(ben, anna)
    async with working(anna, ben, cleo) as desk:
        desk.change("started", ANNA, CLEO)
        introduced(anna, ben, cleo)
        prepare(anna, [anna, cleo])
        item = message(anna, "before Ben", 2)
        assert anna.read(item) == "before Ben"
        desk.head = 2
        desk.take(item)
        for change in (None, changed(3, "added", BEN)):
            if change is not None:
                desk.take(change)
            ben.store.write("DELETE FROM asked")
            anna.machine.take_mail(request(ben, item))
            desk.exchange.wake()
            await desk.until(lambda: not anna.machine.requests and not anna.vault.parcels())
            assert ben.read(item) == "(no_key)"


async def test_a_session_that_is_broken_is_renewed(anna: Device, ben: Device) -> None:
    """I5: until the server has given a key, and taken the message that tells of the new one."""
    introduced(anna, ben)
    async with working(anna, ben) as desk:
        anna.machine.wedged.add(ben.peer)
        for what in ("claim", "mail"):
            desk.office.failures[what] = [BUSY]
        desk.exchange.wake()
        await desk.until(lambda: not anna.machine.wedged and not anna.vault.parcels())
        assert ben.vault.has_olm(ANNA, anna.identity.curve25519)


async def test_keys_are_published_until_the_server_has_them(anna: Device) -> None:
    async with working(anna) as desk:
        anna.machine.hear_counts(wire.KeyCounts(left=3))
        desk.office.failures["upload"] = [BUSY, Unreachable("away")]
        desk.exchange.wake()
        await desk.until(lambda: not anna.machine.wants_upload)
        assert desk.office.calls == ["upload"] * 3


# Receipts


async def test_receipts_are_checked_until_the_statements_are_here(anna: Device, ben: Device) -> None:
    """I5, I6: a tick that nobody has signed is told, also where the server could not be asked at once."""
    introduced(anna, ben)
    async with working(anna, ben) as desk:
        desk.change("started", ANNA, BEN)
        prepare(anna, [anna, ben])
        item = message(anna, "Hello", 2)
        desk.take(item)
        desk.marks.tick_delivered = 2
        desk.office.failures["statements"] = [BUSY, Unreachable("away")]
        desk.exchange.want_check(TALK)
        await desk.until(lambda: bool(desk.told))
        [forged] = desk.told
        assert isinstance(forged, events.Forged)
        assert (forged.what, forged.account, forged.conversation) == ("receipt", BEN, TALK)
        assert desk.office.calls.count("statements") == 3


async def test_receipts_that_are_not_shown_are_not_asked_for_again(anna: Device, ben: Device) -> None:
    async with working(anna, ben) as desk:
        desk.office.failures["statements"] = [Refused("not_a_member", "no", retry=False)]
        desk.exchange.want_check(TALK)
        await desk.until(lambda: bool(desk.office.calls))
        desk.change("started", ANNA, BEN)
        await desk.ready()
        assert desk.office.calls == ["statements", "query", "claim", "mail"]
