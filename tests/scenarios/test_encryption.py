"""End-to-end encryption, over real connections: who can read what, who is believed, and what the server has of it."""

import asyncio
import contextlib
import functools
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import apsw
import msgspec
import pytest

from domain.ids import ConversationId
from ops.node import Node
from signet_client import Client, Decrypted, Forged, NotDecrypted, Outgoing, matrix, payloads, wire
from signet_client.events import Event
from signet_client.messages import header_of
from tests.private_keys import forms_of, private_keys
from tests.scenarios.stage import WAIT_S, Heard, Place, hold, people, register, reopen, running, texts

PLAINTEXTS: Final = 1_000
PLAIN: Final = '{"kind":"text","text":"oops","salt":""}'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", in_memory=False)


@pytest.fixture
async def node(place: Place) -> AsyncIterator[Node]:
    async with place.engine() as node:
        yield node


class Ears:
    """Everything that a client told of, and waiting for it."""

    def __init__(self, client: Client) -> None:
        self.events: list[Event] = []
        client.listen(self.events.append)
        self._heard = Heard(client)

    def forged(self) -> list[Forged]:
        return [event for event in self.events if isinstance(event, Forged)]

    async def until(self, heard: Callable[[Event], bool]) -> Event:
        await self._heard.until(lambda: any(heard(event) for event in self.events))
        return next(event for event in self.events if heard(event))


async def device(client: Client, folder: Path, name: str) -> Client:
    """A further device of the same account, let in and not running yet."""
    path = folder / f"{client.device}-{name}.db"
    further = Client.prepare(client.url, client.account, path, device=name, durable=False)
    await client.link_device(further.device, further.key)
    return further


def item_of(client: Client, conversation: str, seq: int) -> wire.Message:
    item = client._store.item(conversation, seq)
    assert isinstance(item, wire.Message)
    return item


def hand(client: Client, *items: wire.ServerFrame) -> None:
    """Gives frames to a client as if its server had sent them."""
    client._live._take_all(list(items))


# The server


async def test_what_the_server_stores_tells_nothing(node: Node, place: Place, tmp_path: Path) -> None:
    """I12: two people with two devices each, and a group of five, say 1,000 things. None of them stands in any file of
    the server's, nor does a private key; every device has read everything."""
    names = ("anna", "ben", "cleo", "dora", "emil")
    async with people(node.url, tmp_path, *names) as everybody:
        anna, ben, *_ = everybody
        tablet, laptop = await device(anna, tmp_path, "tablet"), await device(ben, tmp_path, "laptop")
        async with running(tablet, laptop):
            talk = await anna.start_direct(ben.account)
            group = await ben.start_group([each.account for each in everybody if each is not ben], title="Five")
            said = await _say_all({talk: [anna, tablet, ben, laptop], group: [*everybody, tablet, laptop]})
            assert sum(map(len, said.values())) == PLAINTEXTS
            for conversation, listeners in ((talk, [anna, tablet, ben, laptop]), (group, [*everybody, tablet, laptop])):
                heads = {each.marks(conversation).cursor for each in listeners}
                await hold(listeners, conversation, max(heads))
                for listener in listeners:
                    assert sorted(map(str, texts(listener, conversation))) == sorted(said[conversation])
            secrets = set[bytes]().union(*(private_keys(each) for each in (*everybody, tablet, laptop)))
            assert len(secrets) > 7 * 40
            known = [text.encode() for texts_ in said.values() for text in texts_]
            assert _files_with(place.data, talk.encode()), "what does stand there is found"
            _assert_absent(place.data, [*known, *(form for secret in secrets for form in forms_of(secret))])
            assert [path for path in place.data.rglob("*-wal") if path.stat().st_size], "logs were looked at, too"


async def _say_all(speakers: dict[str, list[Client]]) -> dict[str, list[str]]:
    """Everybody says something in turn; what was said, by conversation. Waits until everybody has been heard."""
    said: dict[str, list[str]] = {conversation: [] for conversation in speakers}
    last: dict[str, int] = {}
    for number in range(PLAINTEXTS // 20):
        answers = []
        for conversation, clients in speakers.items():
            for each in range(10):
                text = f"known plaintext {number}.{each} {uuid4()}"
                said[conversation].append(text)
                answers.append(clients[each % len(clients)].post(conversation, text))
        for sent in await asyncio.wait_for(asyncio.gather(*answers), WAIT_S):
            last[sent.conversation] = max(last.get(sent.conversation, 0), sent.seq)
    for conversation, clients in speakers.items():
        await hold(clients, conversation, last[conversation])
    return said


def _assert_absent(folder: Path, secrets: Sequence[bytes]) -> None:
    for secret in secrets:
        assert not _files_with(folder, secret), secret


@functools.cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


def _files_with(folder: Path, wanted: bytes) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if wanted in _content(path)]


async def test_a_header_says_nothing_of_what_is_inside(node: Node, tmp_path: Path) -> None:
    """I12: end to end, what is answered is for the members alone."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        question = await anna.send(talk, "a question")
        answer = await ben.send(talk, "an answer", reply_to=question.seq, kind="action")
        await hold([anna], talk, answer.seq)
        assert json.loads(item_of(anna, talk, answer.seq).header).keys() == {"id", "c", "s", "d", "a", "h", "n"}
        shown = anna.messages(talk)[-1]
        assert (shown.text, shown.reply_to, shown.kind) == ("an answer", question.seq, "action")


async def test_plain_text_is_refused_where_it_must_be_encrypted(node: Node, tmp_path: Path) -> None:
    """I12: a client at fault can't put into the log what the server could read."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        await anna.held(talk, 1)
        plain = anna._live._composing._in_clear(_outgoing(talk), PLAIN)
        with pytest.raises(Exception, match="not_encrypted"):
            await asyncio.wait_for(anna._live.post(plain), WAIT_S)
        assert texts(ben, talk) == []


def _outgoing(conversation: str) -> Outgoing:
    return Outgoing(id=str(uuid4()), conversation=conversation, header="", body="", signature="")


# Members


async def test_who_left_reads_nothing_that_came_after_and_who_came_nothing_from_before(
    node: Node, tmp_path: Path
) -> None:
    """I8: not even with the ciphertext in hand, and by asking neither."""
    async with people(node.url, tmp_path, "anna", "ben", "cleo", "dora") as (anna, ben, cleo, dora):
        group = await anna.start_group([ben.account, cleo.account])
        before = await anna.send(group, "with cleo")
        await hold([ben, cleo], group, before.seq)
        await anna.remove(group, cleo.account)
        after = await anna.send(group, "without cleo")
        await anna.add(group, [dora.account])
        later = await anna.send(group, "with dora")
        await hold([ben, dora], group, later.seq)
        assert texts(ben, group) == ["with cleo", "without cleo", "with dora"]
        assert texts(cleo, group) == ["with cleo"]
        assert texts(dora, group) == ["with dora"]
        for outsider, seq in ((cleo, after.seq), (cleo, later.seq), (dora, before.seq), (dora, after.seq)):
            stolen = item_of(ben, group, seq)
            read = outsider._machine.read(stolen, "end_to_end")
            assert (read.clear, read.reason) == (None, "no_key")
            await _ask(outsider, anna, group, read.session)
            assert outsider._machine.read(stolen, "end_to_end").reason == "no_key"
        # The same question by somebody who was there.
        stolen = item_of(ben, group, before.seq)
        ben._store.write("DELETE FROM inbound_sessions")
        ben._machine.vault._inbound.clear()
        await _ask(ben, anna, group, ben._machine.read(stolen, "end_to_end").session, granted=True)
        assert ben._machine.read(stolen, "end_to_end").reason is None


async def _ask(asker: Client, owner: Client, conversation: str, session: str, *, granted: bool = False) -> None:
    """Asks for a key, and returns when the owner has answered, or decided not to."""
    exchange, heard = asker._live.exchange, Heard(owner, asker)
    assert exchange is not None
    requests = _count_requests(owner, heard)
    before = asker._machine.mail_taken
    asker._store.write("DELETE FROM asked")
    exchange.want_key(conversation, session, owner.account)
    await heard.until(lambda: requests() == "answered")
    if granted:
        await asyncio.wait_for(asker.until(lambda: asker._machine.mail_taken > before), WAIT_S)


def _count_requests(owner: Client, heard: Heard) -> Callable[[], str]:
    """Whether a request has come and was dealt with."""
    exchange = owner._live.exchange
    assert exchange is not None
    answered: list[bool] = []
    dealing = exchange._answer_requests

    async def deal() -> None:
        has_requests = bool(owner._machine.requests)
        await dealing()
        if has_requests:
            exchange._answer_requests = dealing  # type: ignore[method-assign]
            answered.append(True)
            heard.tell()

    exchange._answer_requests = deal  # type: ignore[method-assign]
    return lambda: "answered" if answered else "waiting"


async def test_a_message_made_for_other_members_is_made_anew(node: Node, tmp_path: Path) -> None:
    """I8: somebody came while it was under way, which its sender had not heard of yet; or somebody went."""
    async with people(node.url, tmp_path, "anna", "ben", "cleo") as (anna, ben, cleo):
        group = await ben.start_group([anna.account])
        await ben.set_role(group, anna.account, "admin")
        first = await anna.send(group, "first")
        await hold([ben], group, first.seq)
        for reads, change in ((True, ben.add), (False, _remove(ben))):
            held = HeldBack(anna)
            await change(group, [cleo.account])
            answer = anna.post(group, f"cleo reads it: {reads}")
            assert (await held.refused()).code == "stale_members"
            held.release()
            sent = await asyncio.wait_for(answer, WAIT_S)
            await hold([anna, ben], group, sent.seq)
            assert texts(ben, group)[-1] == f"cleo reads it: {reads}"
            if reads:
                await hold([cleo], group, sent.seq)
        assert texts(cleo, group) == ["cleo reads it: True"]


def _remove(owner: Client) -> Callable[[str, Sequence[str]], Awaitable[None]]:
    async def remove(conversation: str, accounts: Sequence[str]) -> None:
        for account in accounts:
            await owner.remove(conversation, account)

    return remove


class HeldBack:
    """What comes to a client from now on, until it is released."""

    def __init__(self, client: Client) -> None:
        self._link = client._live._link
        self._take = self._link._on_frames
        self._kept: list[wire.ServerFrame] = []
        self._refused: asyncio.Future[wire.Refused] = asyncio.get_running_loop().create_future()
        self._link._on_frames = self._keep

    def _keep(self, frames: list[wire.ServerFrame]) -> None:
        self._kept += frames
        for frame in frames:
            if isinstance(frame, wire.Refused):
                self._refused.set_result(frame)

    async def refused(self) -> wire.Refused:
        return await asyncio.wait_for(self._refused, WAIT_S)

    def release(self) -> None:
        self._link._on_frames = self._take
        self._take(self._kept)


async def test_a_key_that_was_lost_comes_by_asking(node: Node, place: Place, tmp_path: Path) -> None:
    """I5: what can't be decrypted is named, and no tick is given for it; its author gives the key again, since the log
    says that the asker was a member; then it is delivered."""
    async with people(node.url, tmp_path, "anna") as (anna,):
        ben = await register(node.url, "ben", tmp_path)
        talk = await anna.start_direct(ben.account)
        sent = await anna.send(talk, "twice shared")
        _empty_mailbox(place.data)
        ears, heard = Ears(ben), Heard(anna)
        await anna.close()
        # Nobody answers while the author is away.
        async with ben:
            await ears.until(lambda event: isinstance(event, NotDecrypted))
            (message,) = ben.messages(talk)
            assert (message.text, message.undecryptable) == (None, "no_key")
            anna = reopen(tmp_path, "anna")
            heard.add(anna)
            async with running(anna):
                decrypted = await ears.until(lambda event: isinstance(event, Decrypted))
                assert isinstance(decrypted, Decrypted)
                assert decrypted.item.text == "twice shared"
                assert texts(ben, talk) == ["twice shared"]
                await heard.until(lambda: anna.ticks_of(talk, sent.seq) == "delivered")


def _empty_mailbox(data: Path) -> None:
    """As if it had been lost."""
    with contextlib.closing(apsw.Connection(str(data / "mailbox.db"))) as db:
        db.set_busy_timeout(5_000)
        db.execute("DELETE FROM mail")


async def test_a_linked_device_reads_what_was_before_it(node: Node, tmp_path: Path) -> None:
    """One's own devices give each other the keys; an author's device that sees the newcomer does, too."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        await anna.send(talk, "from anna")
        sent = await ben.send(talk, "from ben")
        await hold([anna], talk, sent.seq)
        tablet = await device(anna, tmp_path, "tablet")
        await ben.close()
        async with running(tablet):
            await hold([tablet], talk, sent.seq)
            assert texts(tablet, talk) == ["from anna", "from ben"]


# What is believed


async def test_what_is_not_as_its_sender_sent_it_is_refused(node: Node, tmp_path: Path) -> None:
    """Tampered with, sent once more, under another name, in another conversation, with another header, or in plain: it
    says nothing, and the application is told."""
    async with people(node.url, tmp_path, "anna", "ben", "cleo") as (anna, ben, cleo):
        group = await anna.start_group([ben.account, cleo.account])
        other = await anna.start_group([ben.account, cleo.account])
        genuine = await anna.send(group, "genuine")
        await cleo.send(group, "so that ben knows cleo")
        third = await anna.send(group, "third")
        await anna.send(other, "elsewhere")
        await hold([ben], group, third.seq)
        await hold([ben], other, 2)
        ears = Ears(ben)
        item = item_of(ben, group, genuine.seq)
        for seq, (change, reason) in enumerate(_forgeries(item, cleo, other), start=third.seq + 1):
            forged = change(msgspec.structs.replace(item, seq=seq))
            where = forged.c
            if where != group:
                forged = msgspec.structs.replace(forged, seq=3)
            hand(ben, forged)
            message = ben.messages(where)[-1]
            assert (message.seq, message.text, message.undecryptable) == (forged.seq, None, reason), reason
            if where != group:
                # The place in the group is taken by something harmless.
                hand(ben, wire.Change(c=group, seq=seq, at=1, what="title", by=anna.account, id=str(uuid4())))
        reasons = {event.seq: event.text for event in ears.forged()}
        assert len(reasons) == len(_forgeries(item, cleo, other))
        assert texts(ben, group)[:3] == ["genuine", "so that ben knows cleo", "third"]


def _forgeries(
    item: wire.Message, cleo: Client, other: str
) -> list[tuple[Callable[[wire.Message], wire.Message], str]]:
    assert item.body is not None
    body = json.loads(item.body)
    raw = bytearray(payloads.from_base64(body["ciphertext"]))
    raw[len(raw) // 2] ^= 1
    tampered = json.dumps({**body, "ciphertext": payloads.to_base64(bytes(raw))})
    header = header_of(item)

    def with_header(message: wire.Message, **fields: object) -> wire.Message:
        return msgspec.structs.replace(
            message, header=payloads.encode_header(msgspec.structs.replace(header, **fields))
        )

    return [
        (lambda message: msgspec.structs.replace(message, body=tampered), "forged_header"),
        (lambda message: message, "replayed"),
        (lambda message: with_header(message, sender=cleo.account, device=cleo.device), "forged_header"),
        (lambda message: with_header(msgspec.structs.replace(message, c=other), conversation=other), "forged_header"),
        (
            lambda message: msgspec.structs.replace(message, body='{"kind":"text","text":"hi","salt":""}'),
            "not_encrypted",
        ),
        (lambda message: msgspec.structs.replace(message, body="{}"), "not_encrypted"),
    ]


async def test_a_forged_header_is_seen(node: Node, tmp_path: Path) -> None:
    """A message that nobody has read yet, under a header that its device did not sign."""
    async with people(node.url, tmp_path, "anna", "ben", "cleo") as (anna, ben, cleo):
        group = await anna.start_group([ben.account, cleo.account])
        await cleo.send(group, "so that ben knows cleo")
        await anna.send(group, "so that ben has the key")
        await hold([ben], group, 3)
        await ben.close()
        for number in range(4):
            await anna.send(group, f"message {number}")
        await hold([cleo], group, 7)
        items = [item_of(cleo, group, seq) for seq in range(4, 8)]
        ben = reopen(tmp_path, "ben")
        ears = Ears(ben)
        header = header_of(items[0])
        silent = msgspec.structs.replace(header, counts=False)
        stolen = msgspec.structs.replace(header_of(items[1]), sender=cleo.account, device=cleo.device)
        forged = [
            msgspec.structs.replace(items[0], header=payloads.encode_header(silent)),
            msgspec.structs.replace(items[1], header=payloads.encode_header(stolen)),
            msgspec.structs.replace(items[2], signature=None),
            items[3],
        ]
        hand(ben, *forged)
        assert [each.undecryptable for each in ben.messages(group)[2:]] == [
            "forged_header", "forged_header", "forged_header", None
        ]  # fmt: skip
        assert [event.seq for event in ears.forged()] == [4, 5, 6]
        assert texts(ben, group)[-1] == "message 3"
        await ben.close()


async def test_a_forged_receipt_is_seen(node: Node, tmp_path: Path) -> None:
    """I5: a tick that no device has signed, and a receipt whose signature is not the device's."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        sent = await anna.send(talk, "have you read it?")
        await Heard(anna).until(lambda: anna.ticks_of(talk, sent.seq) == "delivered")
        assert anna._live.exchange is not None
        assert await anna._live.exchange.check_receipts(talk) == [], "what ben's device has signed is believed"
        ears = Ears(anna)
        hand(anna, wire.Receipt(c=talk, delivered=sent.seq, read=sent.seq))
        event = await ears.until(lambda event: isinstance(event, Forged))
        assert isinstance(event, Forged)
        assert (event.what, event.account, event.conversation) == ("receipt", ben.account, talk)
        assert "has read message 2" in event.text
        ben.read(talk, sent.seq)
        await ben.until(lambda: ben.marks(talk).read == sent.seq)
        await _shows_statement(node, talk, read=sent.seq)
        assert await anna._live.exchange.check_receipts(talk) == []
        attestations = node.services.attestations
        attestations.db.execute("UPDATE statements SET statement = replace(statement, ?, ?)", ('"read":2', '"read":3'))
        missing = await anna._live.exchange.check_receipts(talk)
        assert "is not signed by the device" in missing[0].text


async def _shows_statement(node: Node, conversation: str, *, read: int) -> None:
    """Returns when the read model has a signed receipt with this mark."""
    async with asyncio.timeout(WAIT_S):
        while True:
            position = node.services.feed.head
            await node.services.catch_up("attestations")
            statements = await node.services.attestations.statements(ConversationId(conversation))
            if any(each.read == read for each in statements):
                return
            await node.services.feed.wait_beyond(position)


async def test_a_device_that_nobody_let_in_is_not_believed(node: Node, tmp_path: Path) -> None:
    """The server slips a device of its own into ben's account: anna is told, and gives it no key."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        await anna.send(talk, "before")
        spy = Client.prepare(node.url, ben.account, tmp_path / "spy.db", device="spy", durable=False)
        ears = Ears(anna)
        _slip_in(node, spy)
        hand(anna, wire.DeviceLists(accounts=[ben.account]))
        event = await ears.until(lambda event: isinstance(event, Forged))
        assert isinstance(event, Forged)
        assert (event.what, event.account, event.device) == ("device", ben.account, "spy")
        sent = await anna.send(talk, "after")
        await hold([ben], talk, sent.seq)
        assert ("spy" in str(anna._machine.vault.shares(talk)), texts(ben, talk)) == (False, ["before", "after"])
        spy._store.close()


def _slip_in(node: Node, spy: Client) -> None:
    """Rows as an operator of the server could write them, with keys that are right in themselves."""
    user = matrix.user_id(spy.account, node.services.server_name)
    keys = matrix.canonical(spy._identity.device_keys(user=user, device="spy"))
    db = node.services.attestations.db
    forged = payloads.to_base64(bytes(64))
    db.execute(
        "INSERT INTO devices SELECT account, ?, ?, device, ?, ?, 0, 0, 1 FROM devices WHERE account = ?",
        ("spy", spy.key, forged, keys, spy.account),
    )
    db.execute("UPDATE lists SET version = version + 1 WHERE account = ?", (spy.account,))


# What is lost


async def test_a_store_that_was_rolled_back_heals(node: Node, tmp_path: Path) -> None:
    """A crypto store is never restored from a copy; if somebody does it all the same, a new session is made, and the
    keys that were lost come by asking."""
    async with people(node.url, tmp_path, "anna") as (anna,):
        ben = await register(node.url, "ben", tmp_path)
        async with running(ben):
            talk = await anna.start_direct(ben.account)
            first = await anna.send(talk, "first")
            await ben.send(talk, "an answer")
            await hold([ben], talk, first.seq)
        copy = _files(tmp_path)
        async with running(ben := reopen(tmp_path, "ben")):
            sent = first
            for number in range(3):
                anna._machine.vault.drop_outbound(talk)
                anna._machine.megolm._outbound.clear()
                anna._machine.unsettle_all()
                sent = await anna.send(talk, f"session {number}")
                await hold([ben], talk, sent.seq)
        _put_back(tmp_path, copy)
        async with running(ben := reopen(tmp_path, "ben")):
            await hold([ben], talk, sent.seq)
            anna._machine.unsettle_all()
            after = await anna.send(talk, "after")
            await hold([ben], talk, after.seq)
            await Heard(ben).until(lambda: None not in texts(ben, talk))
            assert texts(ben, talk) == ["first", "an answer", "session 0", "session 1", "session 2", "after"]


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob("ben.db*")}


def _put_back(folder: Path, copy: dict[Path, bytes]) -> None:
    for path in folder.glob("ben.db*"):
        path.unlink()
    for path, content in copy.items():
        path.write_bytes(content)


async def test_a_retracted_message_is_gone_from_the_store(node: Node, tmp_path: Path) -> None:
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        sent = await anna.send(talk, "a slip")
        await hold([ben], talk, sent.seq)
        await anna.retract(talk, sent.seq)
        await hold([anna, ben], talk, sent.seq + 1)
        (message,) = ben.messages(talk)
        assert (message.text, message.retracted) == (None, sent.seq + 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "ben.db")) as db:
        assert db.execute("SELECT count(clear) FROM items").fetchone() == (0,)
