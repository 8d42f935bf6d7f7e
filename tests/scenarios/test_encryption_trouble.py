"""End-to-end encryption where something goes wrong on the way: a full disk, a refusal, an answer that does not come,
news that are late, and a server that lies about who there is."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from vodozemac import MegolmMessage

from gateways.devicelists import DeviceLists
from ops.node import Node
from signet_client import Client, Forged, Refused, StoreFailed, Unreachable, api, matrix, payloads, wire
from signet_client.crypto import megolm
from signet_client.crypto.content import encrypted_of
from signet_client.crypto.lists import KeysFound
from signet_client.store import Store
from tests.scenarios.stage import WAIT_S, Heard, Place, hold, people, register, reopen, running, texts
from tests.scenarios.test_encryption import Ears, HeldBack, _empty_mailbox, _files, _put_back, device, hand, item_of


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", in_memory=False)


@pytest.fixture
async def node(place: Place) -> AsyncIterator[Node]:
    async with place.engine() as node:
        yield node


class FullDisk:
    """In the place of a store's connection: its next COMMIT of which `when` is true fails."""

    def __init__(self, store: Store, when: Callable[[sqlite3.Connection], bool]) -> None:
        self._db = store._db
        self._when = when
        self.failed = False
        store._db = self  # type: ignore[assignment]

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT" and not self.failed and self._when(self._db):
            self.failed = True
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


# The device's disk


async def test_a_full_disk_while_a_key_is_shared_ends_the_client(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1: nothing goes out by a session that is not in the store."""
    monkeypatch.setattr(megolm, "MESSAGES_MAX", 1)
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        one = await anna.send(talk, "one")
        await hold([ben], talk, one.seq)
        FullDisk(anna._store, lambda db: bool(db.execute("SELECT count(*) FROM mail").fetchone()[0]))
        with pytest.raises(StoreFailed):
            await asyncio.wait_for(anna.send(talk, "two"), WAIT_S)
    async with running(anna := reopen(tmp_path, "anna"), ben := reopen(tmp_path, "ben")):
        await Heard(ben).until(lambda: texts(ben, talk) == ["one", "two"])
        assert texts(anna, talk) == ["one", "two"]


async def test_a_full_disk_at_a_message_uses_no_position_twice(node: Node, tmp_path: Path) -> None:
    """I1: what was encrypted and is not in the store never leaves; its position is another message's."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        one = await anna.send(talk, "one")
        await hold([ben], talk, one.seq)
        FullDisk(anna._store, lambda db: True)
        with pytest.raises(StoreFailed):
            anna.post(talk, "two")
        await ben.send(talk, "from ben")
        await anna.close()
        async with running(anna := reopen(tmp_path, "anna")):
            last = await anna.send(talk, "three")
            await hold([ben], talk, last.seq)
            assert texts(ben, talk) == ["one", "from ben", "three"]
            places = [_place(item_of(ben, talk, seq)) for seq in range(one.seq, last.seq + 1)]
            assert len(set(places)) == len(places)


def _place(item: wire.Message) -> tuple[str, int]:
    encrypted = encrypted_of(item.body)
    assert encrypted is not None
    message = MegolmMessage.from_base64(encrypted.ciphertext)
    return encrypted.session_id, message.message_index()


async def test_a_store_that_was_rolled_back_publishes_other_keys(node: Node, tmp_path: Path) -> None:
    """Under the ids of its next keys others were published, so these are refused: it goes on with the ones after."""
    async with people(node.url, tmp_path, "anna") as (anna,):
        ben = await register(node.url, "ben", tmp_path)
        talk = await anna.start_direct(ben.account)
        user = matrix.user_id(ben.account, node.services.server_name)

        async def claim(count: int) -> None:
            for _ in range(count):
                await anna._api.claim_keys([(user, ben.device)], request=str(uuid4()))

        async with running(ben):
            pass
        copy = _files(tmp_path)
        await claim(30)
        async with running(ben := reopen(tmp_path, "ben")):
            await _uploaded(node, ben)
        _put_back(tmp_path, copy)
        await claim(30)
        async with running(ben := reopen(tmp_path, "ben")):
            await asyncio.wait_for(ben.send(talk, "hello"), WAIT_S)
            await _uploaded(node, ben)


async def _uploaded(node: Node, client: Client) -> None:
    """Returns when the server has as many keys of the device as it publishes."""
    async with asyncio.timeout(WAIT_S):
        while True:
            # Before the rows are looked at: what comes meanwhile must not be waited for.
            position = node.services.feed.head
            await node.services.catch_up("attestations")
            counts = await node.services.attestations.counts(client.account, client.device)  # type: ignore[arg-type]
            if counts.one_time_keys >= 50:
                return
            await node.services.feed.wait_beyond(position)


# Refusals, and what is late


async def test_a_refused_acknowledgement_claims_nothing_later(node: Node, place: Place, tmp_path: Path) -> None:
    """I5: the server could not store what a device says that it can't decrypt. Said again, it says so again."""
    async with people(node.url, tmp_path, "anna") as (anna,):
        ben = await register(node.url, "ben", tmp_path)
        talk = await anna.start_direct(ben.account)
        sent = await anna.send(talk, "its key is lost")
        _empty_mailbox(place.data)
        exchange = anna._live.exchange
        assert exchange is not None

        async def do_nothing() -> None:
            anna._machine.requests.clear()

        exchange._answer_requests = do_nothing  # type: ignore[method-assign]
        named: list[wire.Ack] = []
        heard = Heard(ben)
        async with ben:
            link: Any = ben._live._link
            send = link.send

            def lose_the_first(frames: Any) -> None:
                for frame in frames:
                    if isinstance(frame, wire.Ack) and frame.undecryptable:
                        named.append(frame)
                        heard.tell()
                        if len(named) == 1:
                            refused = wire.Refused(id="", code="unavailable", text="", retry=True, c=talk)
                            asyncio.get_running_loop().call_soon(hand, ben, refused)
                            continue
                    send([frame])

            link.send = lose_the_first
            await heard.until(lambda: len(named) == 2)
            assert [ack.undecryptable for ack in named] == [[sent.seq]] * 2
            await Heard(anna).until(lambda: sent.seq in anna.marks(talk).undelivered)
            assert anna.ticks_of(talk, sent.seq) == "sent"


async def test_a_stale_message_goes_out_when_the_news_has_come(node: Node, tmp_path: Path) -> None:
    """Somebody came, which the refusal tells; the pushes up to the head are a moment late. Nobody else wakes it."""
    async with people(node.url, tmp_path, "anna", "ben", "cleo") as (anna, ben, cleo):
        group = await ben.start_group([anna.account])
        second = await anna.send(group, "so that all keys are shared")
        await hold([ben], group, second.seq)
        held = HeldBack(anna)
        await ben.add(group, [cleo.account])
        answer = anna.post(group, "third")
        await held.refused()
        last = await ben.send(group, "in between")
        await Heard(cleo).until(lambda: cleo.marks(group).cursor >= last.seq)
        held.release()
        await asyncio.wait_for(answer, WAIT_S)
        await hold([cleo], group, (await answer).seq)
        assert texts(cleo, group) == ["in between", "third"]


async def test_a_list_that_can_t_be_had_now_is_asked_for_again(node: Node, tmp_path: Path) -> None:
    """I5"""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await ben.start_direct(anna.account)
        sent = await ben.send(talk, "from the phone")
        await hold([anna], talk, sent.seq)
        laptop = await device(ben, tmp_path, "laptop")
        query, failed = anna._api.query_keys, asyncio.Event()

        async def fail_once(users: list[str], versions: dict[str, int]) -> KeysFound:
            if failed.is_set():
                return await query(users, versions)
            failed.set()
            raise Unreachable("for a moment")

        anna._api.query_keys = fail_once  # type: ignore[method-assign]
        async with running(laptop):
            await laptop.send(talk, "from the laptop")
            await failed.wait()
            await Heard(anna).until(lambda: texts(anna, talk) == ["from the phone", "from the laptop"])


async def test_a_request_may_overtake_the_news_of_its_device(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: a new device asks at once, before those whom it asks have heard of it."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        await anna.send(talk, "one")
        sent = await ben.send(talk, "two")
        await hold([anna], talk, sent.seq)

        async def tell_nobody(self: DeviceLists, account: str) -> set[str]:
            return set()

        monkeypatch.setattr(DeviceLists, "_concerned", tell_nobody)
        laptop = await device(ben, tmp_path, "laptop")
        await ben.close()
        async with laptop:
            await Heard(laptop).until(lambda: texts(laptop, talk)[:1] == ["one"])


async def test_one_conversation_holds_up_no_other(node: Node, tmp_path: Path) -> None:
    """I11: the server can't tell ben's devices now."""
    async with people(node.url, tmp_path, "anna", "ben", "cleo") as (anna, ben, cleo):
        with_ben, with_cleo = await anna.start_direct(ben.account), await anna.start_direct(cleo.account)
        query = anna._api.query_keys

        async def fail_for_ben(users: list[str], versions: dict[str, int]) -> KeysFound:
            if any(ben.account in user for user in users):
                raise Refused("unavailable", "its stream is parked", retry=True)
            return await query(users, versions)

        anna._api.query_keys = fail_for_ben  # type: ignore[method-assign]
        waiting = anna.post(with_ben, "to ben")
        await asyncio.wait_for(anna.send(with_cleo, "to cleo"), WAIT_S)
        assert not waiting.done()
        anna._api.query_keys = query  # type: ignore[method-assign]
        await asyncio.wait_for(waiting, WAIT_S)


async def test_nothing_is_said_of_a_conversation_that_is_not_known_yet(node: Node, tmp_path: Path) -> None:
    """I5: whether what came must be decrypted decides how it is acknowledged."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        frames: list[Any] = []
        link: Any = anna._live._link
        link.send = frames.extend
        group = str(uuid4())
        body = json.dumps({"algorithm": matrix.MEGOLM, "ciphertext": "AwgA", "session_id": "none-yet"})
        header = payloads.Header(
            id=str(uuid4()),
            conversation=group,
            sender=ben.account,
            device=ben.device,
            after=5,
            digest=payloads.digest_of(body),
        )
        came = wire.Change(
            c=group, seq=5, at=1, what="added", by=ben.account, id=str(uuid4()), accounts=[anna.account],
            roles=["member"],
        )  # fmt: skip
        said = wire.Message(c=group, seq=6, at=1, ordinal=1, own=1, header=payloads.encode_header(header), body=body)
        hand(anna, wire.Page(c=group, head=6, upto=6, items=[came, said]))
        assert not [frame for frame in frames if isinstance(frame, wire.Ack | wire.Read)]


# A server that lies


async def test_the_server_adds_nobody_by_its_own_word(node: Node, tmp_path: Path) -> None:
    """I8, I12: who is in it the log says, where every device sees it; not a list that one device is given."""
    async with people(node.url, tmp_path, "anna", "ben", "ghost") as (anna, ben, ghost):
        group = await anna.start_group([ben.account])
        await anna.send(group, "one")
        ask = anna._api.conversation

        async def lie(conversation: str) -> api.ConversationShown:
            shown = await ask(conversation)
            return msgspec.structs.replace(shown, members={**(shown.members or {}), ghost.account: "member"})

        anna._api.conversation = lie  # type: ignore[method-assign]
        anna._live.refused_as_stale(group)
        assert ghost.account not in await anna.members(group)
        sent = await anna.send(group, "for ben alone")
        await hold([ben], group, sent.seq)
        assert ghost.account not in str(anna._machine.vault.shares(group))


async def test_a_conversation_is_not_begun_in_clear_instead(node: Node, tmp_path: Path) -> None:
    """I12: an encrypted one was asked for, and the server names one that is not."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        in_clear = await ben.start_direct(anna.account, protection="none")
        await hold([anna], in_clear, 1)

        async def answer_so(*_: Any, **__: Any) -> api.Changed:
            return api.Changed(id=str(uuid4()), conversation=in_clear, seq=1, at=1)

        anna._api.start = answer_so  # type: ignore[method-assign]
        with pytest.raises(Unreachable, match="protection is none"):
            await anna.start_direct(ben.account)


async def test_whoever_is_told_of_a_lie_goes_on(node: Node, tmp_path: Path) -> None:
    """A forged message in between: what comes after it is read, and acknowledged."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        sent = await anna.send(talk, "one")
        await hold([ben], talk, sent.seq)
        ears = Ears(ben)
        item = item_of(ben, talk, sent.seq)
        hand(ben, msgspec.structs.replace(item, seq=sent.seq + 1))
        assert [event.seq for event in ears.events if isinstance(event, Forged)] == [sent.seq + 1]
        assert ben.marks(talk).cursor == sent.seq + 1
