"""I8: who asks for a key gets what it was entitled to by the log, and nothing of the time when it was no member."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from vodozemac import MegolmMessage

from signet_client import matrix, wire
from signet_client.crypto import machine
from signet_client.crypto.asking import ASK_AGAIN_S, Asking
from signet_client.crypto.content import encrypted_of
from signet_client.crypto.lists import KeysFound
from signet_client.crypto.machine import FORWARDED, GIVEN, REQUEST, KeyRequest
from signet_client.records import Batch
from tests.client.crypto.devices import (
    ANNA,
    BEN,
    CLEO,
    SERVER,
    Device,
    begin,
    carry,
    introduced,
    letters,
    listed,
    mail,
    message,
    prepare,
    take,
)
from tests.client.fake import TALK


def place(item: wire.Message) -> tuple[str, int]:
    encrypted = encrypted_of(item.body)
    assert encrypted is not None
    return encrypted.session_id, MegolmMessage.from_base64(encrypted.ciphertext).message_index()


def ask(asker: Device, session: str, sender: str = ANNA) -> bool:
    asked = Asking(asker.machine, asker.store).ask(TALK, session, sender)
    asker.settle()
    return asked


def answer(device: Device, devices: Iterable[Device]) -> list[tuple[str, str]]:
    """What `Exchange` does with the requests that have come; gives the sessions that those who asked can read now."""
    machine, devices = device.machine, list(devices)
    asking = Asking(machine, device.store)
    while machine.requests:
        request = machine.requests.pop(0)
        peer = asking.asker(request)
        if peer is not None and peer != machine.me:
            begin(device, machine.without_session([peer]), devices)
            members = device.store.members(request.conversation)
            if members and machine.olm.has_session(peer):
                asking.answer(request, peer, members)
    return carry(device, devices)


def get(asker: Device, session: str, others: Iterable[Device], sender: str = ANNA) -> None:
    """Asks, and is answered by all that were asked."""
    others = list(others)
    assert ask(asker, session, sender)
    carry(asker, others)
    for other in others:
        answer(other, [asker])


def first_known(device: Device, session: str) -> int | None:
    owners = device.vault.owners(TALK, session)
    inbound = device.vault.inbound(TALK, session, *owners[0]) if owners else None
    return None if inbound is None else inbound.session.first_known_index


class Log:
    """A conversation of Anna's as the server has it, and as her device holds it."""

    def __init__(self, anna: Device, *members: str) -> None:
        self.anna = anna
        self.items: list[wire.Item] = []
        self.members: set[str] = set()
        self.members_at: dict[int, set[str]] = {}
        """Of each message."""
        self.change("started", *members)

    @property
    def next(self) -> int:
        return len(self.items) + 1

    def change(self, what: Literal["started", "added", "removed", "left", "title"], *accounts: str) -> None:
        roles: list[wire.Role] = ["member"] * len(accounts) if what in ("started", "added") else []
        change = wire.Change(
            c=TALK, seq=self.next, at=1, what=what, by=ANNA, id="i", accounts=list(accounts), roles=roles
        )
        if what in ("started", "added"):
            self.members.update(accounts)
        elif what != "title":
            self.members.difference_update(accounts)
        self._put(change)
        self.anna.machine.unsettle(TALK)

    def say(self, item: wire.Message) -> wire.Message:
        self.members_at[item.seq] = set(self.members)
        assert self.anna.read(item) is not None
        self._put(item)
        return item

    def _put(self, item: wire.Item) -> None:
        self.items.append(item)
        self.anna.store.commit(Batch(items=[item]))

    def messages(self) -> list[wire.Message]:
        return [item for item in self.items if isinstance(item, wire.Message)]


@pytest.fixture
def talk(anna: Device, ben: Device, cleo: Device) -> Log:
    introduced(anna, ben, cleo)
    log = Log(anna, ANNA, BEN, CLEO)
    prepare(anna, [anna, ben, cleo])
    return log


# Over all histories

_STEPS = """add ben, add cleo, remove ben, remove cleo, leave ben, leave cleo, list ben, unlist ben, say, say again,
say while asking, say in vain, prepare, ask, restart, title"""


def steps(text: str) -> list[str]:
    return [step.strip() for step in text.split(",")]


class Play:
    """Anna says things while Ben and Cleo come and go, and Ben's device, too. It asks whenever it likes."""

    def __init__(self, folder: Path) -> None:
        self.anna, self.ben, self.cleo = (Device(folder, account, "phone") for account in (ANNA, BEN, CLEO))
        introduced(self.anna, self.cleo)
        take(self.ben, listed([self.anna]))
        self.log = Log(self.anna, ANNA)
        self.listed = False
        self._list_ben()
        self.used: dict[str, int] = {}
        """Session → its last position that was used."""

    def close(self) -> None:
        for device in (self.anna, self.ben, self.cleo):
            device.store.close()

    @property
    def everybody(self) -> list[Device]:
        return [self.anna, self.ben, self.cleo]

    def _list_ben(self) -> None:
        machine = self.anna.machine
        machine.doubt(BEN)
        machine.unsettle_all()
        found = listed([self.ben]) if self.listed else KeysFound(device_keys={self.ben.user: {}})
        assert not take(self.anna, found)

    def step(self, step: str) -> None:
        what, _, how = step.partition(" ")
        account = {"ben": BEN, "cleo": CLEO}.get(how, "")
        match what:
            case "add" if account not in self.log.members:
                self.log.change("added", account)
            case "remove" | "leave" if account in self.log.members:
                self.log.change("removed" if what == "remove" else "left", account)
            case "title":
                self.log.change("title")
            case "list" | "unlist":
                self.listed = what == "list"
                self._list_ben()
            case "restart":
                self.anna.restart()
                take(self.anna, listed([self.anna, self.cleo]))
                self._list_ben()
            case "prepare":
                self.prepare()
            case "say":
                self.say(how)
            case "ask":
                self.ask_for_all()

    def prepare(self) -> None:
        if not self.anna.machine.is_ready(TALK):
            prepare(self.anna, self.everybody, members=self.log.members)

    def say(self, how: str) -> None:
        self.prepare()
        item = message(self.anna, f"m{self.log.next}", self.log.next)
        session, self.used[session] = place(item)
        if how == "while asking":
            # The message is on its way, and its answer is not here yet.
            self.ask_for_all()
        if how != "in vain":
            self.log.say(item)

    def ask_for_all(self) -> None:
        for session in self.used:
            before = first_known(self.ben, session)
            self.ben.store.write("DELETE FROM asked")
            get(self.ben, session, [self.anna])
            after = first_known(self.ben, session)
            entitled = self.entitled(session) if self.listed else None
            assert after == min((p for p in (before, entitled) if p is not None), default=None)

    def entitled(self, session: str) -> int | None:
        """From the first position on from which Ben was a member at every later message."""
        said = [item for item in self.log.messages() if place(item)[0] == session]
        outbound = self.anna.machine.vault.outbound(TALK)
        goes_on = outbound is not None and outbound.session.session_id == session
        if goes_on and said and self.used[session] > place(said[-1])[1] and BEN not in self.log.members:
            # What is on its way now may come to be in the log. (Of a session that has ended it is encrypted anew.)
            return None
        first = None
        for item in reversed(said):
            if BEN not in self.log.members_at[item.seq]:
                break
            first = place(item)[1]
        return first

    def check(self) -> None:
        for item in self.log.messages():
            read = self.ben.read(item)
            if BEN not in self.log.members_at[item.seq]:
                assert read == "(no_key)", "it reads what was said when it was no member"
            assert self.cleo.read(item) == (f"m{item.seq}" if CLEO in self.log.members_at[item.seq] else "(no_key)"), (
                "who never has to ask has all keys of its time and no other"
            )


@contextmanager
def playing() -> Iterator[Play]:
    with tempfile.TemporaryDirectory() as folder:
        play = Play(Path(folder))
        try:
            yield play
        finally:
            play.close()


@given(played=st.lists(st.sampled_from(steps(_STEPS)), max_size=25))
@settings(max_examples=60)
@example(played=steps("add ben, say, list ben, remove ben, add ben, say, ask"))
@example(played=steps("add ben, say, leave ben, list ben, prepare, ask, say"))
@example(played=steps("add ben, say, leave ben, list ben, say while asking"))
@example(played=steps("add ben, say, leave ben, list ben, say in vain, ask"))
def test_who_asks_gets_the_key_of_just_its_time(played: list[str]) -> None:
    """I8: over all histories."""
    with playing() as play:
        for step in played:
            play.step(step)
        play.check()
        play.ask_for_all()
        play.step("say")
        play.check()


# One by one


def test_a_member_that_lost_a_key_gets_it(talk: Log, anna: Device, ben: Device) -> None:
    """I5: from the first message on that the session had, since it was there all the time."""
    items = [talk.say(message(anna, f"m{number}", talk.next)) for number in range(3)]
    ben.store.write("DELETE FROM inbound_sessions")
    ben.settle()
    ben.restart()
    assert ben.read(items[0]) == "(no_key)"
    get(ben, place(items[0])[0], [anna])
    assert [ben.read(item) for item in items] == ["m0", "m1", "m2"]


def test_who_came_later_gets_nothing_of_before(talk: Log, anna: Device, ben: Device, cleo: Device) -> None:
    talk.change("removed", BEN)
    prepare(anna, [anna, cleo], members=talk.members)
    before = talk.say(message(anna, "before", talk.next))
    talk.change("added", BEN)
    prepare(anna, [anna, ben, cleo], members=talk.members)
    after = talk.say(message(anna, "after", talk.next))
    assert place(before)[0] == place(after)[0]
    ben.store.write("DELETE FROM inbound_sessions")
    ben.settle()
    ben.restart()
    assert ben.read(after) == "(no_key)"
    get(ben, place(after)[0], [anna])
    assert [ben.read(before), ben.read(after)] == ["(no_key)", "after"]


def test_a_stranger_gets_nothing(talk: Log, anna: Device, tmp_path: Path) -> None:
    """Also one whose devices Anna knows, and to whom she writes elsewhere."""
    stranger = Device(tmp_path, "dddddddd-4444-4444-8444-444444444444", "phone")
    item = talk.say(message(anna, "secret", talk.next))
    take(stranger, listed([anna]))
    for known in (False, True):
        if known:
            take(anna, listed([stranger]))
        stranger.store.write("DELETE FROM asked")
        get(stranger, place(item)[0], [anna])
        assert stranger.read(item) == "(no_key)"
        assert not letters(anna)


def test_only_the_senders_devices_answer_others(talk: Log, anna: Device, ben: Device, cleo: Device) -> None:
    """A member has the key as well, and gives it to nobody."""
    item = talk.say(message(anna, "Hello", talk.next))
    assert cleo.read(item) == "Hello"
    cleo.store.put_members(TALK, dict.fromkeys(talk.members, "member"))
    ben.store.write("DELETE FROM inbound_sessions")
    ben.settle()
    ben.restart()
    cleo.machine.take_mail(request(ben, place(item)[0]))
    assert cleo.machine.requests
    assert not answer(cleo, [ben])
    assert ben.read(item) == "(no_key)"


def request(asker: Device, session: str, **changes: object) -> wire.Mail:
    body = {"algorithm": matrix.MEGOLM, "room_id": matrix.room_id(TALK), "session_id": session}
    content = {"action": "request", "request_id": "r", "requesting_device_id": asker.name, "body": body, **changes}
    return mail(asker.account, content, type_=REQUEST)


@pytest.mark.parametrize(
    ("said", "type_"), [({}, FORWARDED), ({"signet.answer": GIVEN}, GIVEN), ({"signet.answer": 7}, FORWARDED)]
)
def test_a_key_is_given_as_what_the_asker_understands(
    talk: Log, anna: Device, ben: Device, said: dict[str, object], type_: str
) -> None:
    item = talk.say(message(anna, "Hello", talk.next))
    ben.store.write("DELETE FROM inbound_sessions")
    ben.settle()
    ben.restart()
    assert ask(ben, place(item)[0])
    letters(ben)
    anna.store.put_members(TALK, dict.fromkeys(talk.members, "member"))
    anna.machine.take_mail(request(ben, place(item)[0], **said))
    assert [each.answer for each in anna.machine.requests] == [type_]
    assert answer(anna, [ben]) == [(TALK, place(item)[0])]
    assert ben.read(item) == "Hello"


def test_ones_own_devices_get_all(talk: Log, anna: Device, ben: Device, tmp_path: Path) -> None:
    """A new device of Ben's reads what Ben's phone could read, of everybody, from whenever on it could."""
    items = [talk.say(message(anna, f"m{number}", talk.next)) for number in range(3)]
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    take(laptop, listed([anna, ben]))
    take(ben, listed([ben, laptop], version=2))
    ben.store.put_members(TALK, dict.fromkeys(talk.members, "member"))
    assert laptop.read(items[0]) == "(no_key)"
    get(laptop, place(items[0])[0], [ben])
    assert [laptop.read(item) for item in items] == ["m0", "m1", "m2"]


def test_ones_own_devices_get_what_was_said_after_the_account_left(talk: Log, anna: Device, tmp_path: Path) -> None:
    """Of one's own sessions: who may see what, the server says; the devices of an account have no secrets."""
    laptop = Device(tmp_path, ANNA, "laptop", linked_by=anna)
    take(laptop, listed([anna]))
    take(anna, listed([anna, laptop], version=2))
    item = talk.say(message(anna, "Hello", talk.next))
    get(laptop, place(item)[0], [anna])
    assert laptop.read(item) == "Hello"


def test_who_got_a_key_by_asking_counts_when_it_goes(talk: Log, anna: Device, ben: Device, tmp_path: Path) -> None:
    """I8: the session ends, as if the key had been shared with it."""
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    take(laptop, listed([anna]))
    first = talk.say(message(anna, "first", talk.next))
    take(anna, listed([ben, laptop], version=2))
    get(laptop, place(first)[0], [anna])
    assert laptop.read(first) == "first"
    take(anna, listed([ben], gone=[laptop], version=3))
    prepare(anna, [anna, ben], members=talk.members)
    second = talk.say(message(anna, "second", talk.next))
    assert place(second)[0] != place(first)[0]
    assert [ben.read(second), laptop.read(second)] == ["second", "(no_key)"]


@pytest.fixture
def gone(talk: Log, anna: Device, ben: Device, cleo: Device, tmp_path: Path) -> tuple[Device, wire.Message]:
    """A laptop of Ben's that came when he had left, and got no key; and what was said when he was there. Nothing was
    said since, and Anna goes on with her session."""
    laptop = Device(tmp_path, "eeeeeeee-5555-4555-8555-555555555555", "laptop")
    take(laptop, listed([anna]))
    take(anna, KeysFound(device_keys={laptop.user: {}}))
    talk.change("added", laptop.account)
    prepare(anna, [anna, ben, cleo], members=talk.members)
    item = talk.say(message(anna, "of its time", talk.next))
    talk.change("left", laptop.account)
    take(anna, listed([laptop]))
    prepare(anna, [anna, ben, cleo], members=talk.members)
    return laptop, item


def test_who_got_a_key_after_it_had_gone_reads_nothing_that_is_said_then(
    talk: Log, gone: tuple[Device, wire.Message], anna: Device, ben: Device, cleo: Device
) -> None:
    """I8: the session was ready to be used on, and ends at once."""
    laptop, before = gone
    assert anna.machine.is_ready(TALK)
    get(laptop, place(before)[0], [anna])
    assert laptop.read(before) == "of its time"
    assert not anna.machine.is_ready(TALK)
    prepare(anna, [anna, ben, cleo], members=talk.members)
    after = talk.say(message(anna, "later", talk.next))
    assert [ben.read(after), laptop.read(after)] == ["later", "(no_key)"]


def test_a_message_on_its_way_counts_as_one_of_now(
    talk: Log, gone: tuple[Device, wire.Message], anna: Device, ben: Device
) -> None:
    """I8: it is not in the log yet, and its key is not given to who will be no member at it."""
    laptop, before = gone
    on_its_way = message(anna, "later", talk.next)
    get(laptop, place(before)[0], [anna])
    talk.say(on_its_way)
    assert [ben.read(on_its_way), laptop.read(on_its_way)] == ["later", "(no_key)"]


def test_a_device_that_is_gone_gets_nothing(talk: Log, anna: Device, ben: Device) -> None:
    """I12: a revoked one is pinned for ever, and asks in vain."""
    item = talk.say(message(anna, "Hello", talk.next))
    take(anna, listed([], gone=[ben], version=2))
    before = len(letters(anna))
    anna.machine.take_mail(request(ben, place(item)[0]))
    assert not answer(anna, [ben])
    assert (before, letters(anna)) == (0, [])


def test_requests_that_are_none_are_let_go(talk: Log, anna: Device, ben: Device) -> None:
    """I11: also those for what this device has not, and the same one twice."""
    item = talk.say(message(anna, "Hello", talk.next))
    session = place(item)[0]
    for changes in ({"action": "request_cancellation"}, {"body": None}, {"body": "?"}, {"requesting_device_id": 5}):
        anna.machine.take_mail(request(ben, session, **changes))
        assert not anna.machine.requests
    for _ in range(2):
        anna.machine.take_mail(request(ben, "?"))
        anna.machine.take_mail(request(ben, session, body={}))
    assert not anna.machine.requests
    for _ in range(2):
        anna.machine.take_mail(request(ben, session))
    assert anna.machine.requests == [KeyRequest(BEN, "phone", TALK, session)]
    assert anna.machine.has_errands


def test_who_asks_too_much_is_not_heard(talk: Log, anna: Device, ben: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: requests wait in memory."""
    monkeypatch.setattr(machine, "REQUESTS_MAX", 3)
    session = place(talk.say(message(anna, "Hello", talk.next)))[0]
    for number in range(10):
        anna.machine.take_mail(request(ben, session, requesting_device_id=f"{number}"))
    assert len(anna.machine.requests) == 3


# Asking


def test_a_key_is_asked_for_of_the_senders_devices_and_ones_own(
    talk: Log, anna: Device, ben: Device, cleo: Device, tmp_path: Path
) -> None:
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    take(ben, listed([ben, laptop], version=2))
    session = place(talk.say(message(anna, "Hello", talk.next)))[0]
    assert ask(ben, session)
    asked = letters(ben)
    assert sorted(address for address, _ in asked) == [(ANNA, "phone"), (BEN, "laptop")]
    for _, letter in asked:
        assert letter.type == REQUEST
        anna.machine.take_mail(letter)
    assert anna.machine.requests == [KeyRequest(BEN, "phone", TALK, session)]


def test_a_key_is_asked_for_again_after_an_hour(
    talk: Log, anna: Device, ben: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I11: not with every message that lacks it, also over a restart."""
    now = [1_800_000_000.0]
    monkeypatch.setattr("signet_client.crypto.asking.time", SimpleNamespace(time=lambda: now[0]))
    assert ask(ben, "session")
    assert not ask(ben, "session")
    assert ask(ben, "another")
    ben.restart()
    now[0] += ASK_AGAIN_S - 1
    assert not ask(ben, "session")
    now[0] += 1
    assert ask(ben, "session")


def test_nobody_is_asked_where_nobody_could_have_it(ben: Device) -> None:
    """And it is asked for as soon as the sender's devices are known."""
    assert not ask(ben, "")
    assert not ask(ben, "session")
    assert not letters(ben)
    assert not ben.vault.asked(TALK, "session")


# Taking what comes


def test_a_key_that_was_not_asked_for_is_not_taken(talk: Log, anna: Device, ben: Device) -> None:
    """I12: also from the sender itself: its keys come by sharing."""
    item = talk.say(message(anna, "Hello", talk.next))
    session = place(item)[0]
    ben.store.write("DELETE FROM inbound_sessions")
    ben.settle()
    ben.restart()
    anna.machine.take_mail(request(ben, session))
    assert not answer(anna, [ben])
    assert ben.read(item) == "(no_key)"


def forwarded(by: Device, reader: Device, owner: Device, item: wire.Message, **changes: object) -> wire.Mail:
    """A key of somebody's session, as a device hands it on."""
    inbound = owner.vault.inbound(TALK, place(item)[0], owner.account, owner.name)
    assert inbound is not None
    key = inbound.session.export_at(0)
    assert key is not None
    content = {
        "algorithm": matrix.MEGOLM,
        "room_id": matrix.room_id(TALK),
        "session_id": place(item)[0],
        "session_key": key.to_base64(),
        "signet.account": owner.account,
        "signet.device": owner.name,
        **changes,
    }
    begin(by, by.machine.without_session([reader.peer]), [reader])
    return mail(by.account, by.machine.olm.encrypt(reader.peer, FORWARDED, content, SERVER))


@pytest.fixture
def lacking(talk: Log, anna: Device, ben: Device) -> wire.Message:
    """A message whose key Ben has asked for."""
    item = talk.say(message(anna, "Hello", talk.next))
    ben.store.write("DELETE FROM inbound_sessions")
    ben.settle()
    ben.restart()
    assert ask(ben, place(item)[0])
    letters(ben)
    return item


def test_a_key_is_taken_of_the_owner(lacking: wire.Message, anna: Device, ben: Device) -> None:
    assert ben.machine.take_mail(forwarded(anna, ben, anna, lacking)) == [(TALK, place(lacking)[0])]
    assert ben.read(lacking) == "Hello"


def test_a_key_is_taken_of_ones_own_devices(lacking: wire.Message, anna: Device, ben: Device, tmp_path: Path) -> None:
    laptop = Device(tmp_path, BEN, "laptop", linked_by=ben)
    take(ben, listed([ben, laptop], version=2))
    take(laptop, listed([anna, ben]))
    assert ben.machine.take_mail(forwarded(laptop, ben, anna, lacking))
    assert ben.read(lacking) == "Hello"


def test_a_key_is_taken_of_nobody_else(lacking: wire.Message, anna: Device, ben: Device, cleo: Device) -> None:
    """I12: who hands on somebody else's key could hand on its own in that name."""
    assert not ben.machine.take_mail(forwarded(cleo, ben, anna, lacking))
    assert not ben.machine.take_mail(forwarded(anna, ben, anna, lacking, **{"signet.account": CLEO}))
    assert not ben.machine.take_mail(forwarded(anna, ben, anna, lacking, **{"signet.device": "unknown"}))
    assert not ben.machine.take_mail(forwarded(anna, ben, anna, lacking, session_id="another"))
    assert not ben.machine.take_mail(forwarded(anna, ben, anna, lacking, session_key="?"))
    assert ben.read(lacking) == "(no_key)"


def test_a_key_is_taken_of_no_device_that_nobody_vouches_for(
    lacking: wire.Message, anna: Device, ben: Device, tmp_path: Path
) -> None:
    """I12: it says that it is Ben's, or Anna's, and the server says so, too."""
    for account in (BEN, ANNA):
        stray = Device(tmp_path, account, "stray")
        take(stray, listed([anna, ben]))
        assert not ben.machine.take_mail(forwarded(stray, ben, anna, lacking))
    assert ben.read(lacking) == "(no_key)"
