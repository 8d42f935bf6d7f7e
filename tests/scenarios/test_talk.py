"""What people do all day, over real sockets, on both embedded stores."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import pytest

import gateways.api.messages
import signet_client.questions
from ops.bench.peer import Person, connect
from ops.child import free_port
from ops.engine import engine
from ops.node import Node
from signet_client import Client, Lost, ReadMarkMoved, Refused, payloads, wire
from signet_client.api import Api, Changed
from signet_client.identity import Identity
from signet_client.messages import encode_body
from signet_client.records import Profile
from tests.scenarios.stage import (
    WAIT_S,
    Diary,
    Heard,
    Place,
    hold,
    people,
    register,
    reopen,
    running,
    texts,
)

E = TypeVar("E")


@pytest.fixture(params=["sqlite", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path / "data", in_memory=request.param == "memory")


@pytest.fixture
async def node(place: Place) -> AsyncIterator[Node]:
    async with place.engine() as node:
        yield node


async def test_ticks_turn_to_delivered_then_to_read(node: Node, tmp_path: Path) -> None:
    """I5, I6: a tick moves when the other's device says so, and only then."""
    anna = await register(node.url, "anna", tmp_path)
    ben = await register(node.url, "ben", tmp_path)
    async with running(anna):
        talk = await anna.start_direct(ben.account)
        sent = await anna.send(talk, "Hello")
        assert anna.ticks_of(talk, sent.seq) == "sent"
        heard = Heard(anna)
        async with running(ben):
            await hold([ben], talk, sent.seq)
            await heard.until(lambda: anna.ticks_of(talk, sent.seq) == "delivered")
            assert texts(ben, talk) == ["Hello"]
            ben.read(talk, sent.seq)
            await heard.until(lambda: anna.ticks_of(talk, sent.seq) == "read")


async def test_an_author_knows_all_that_could_not_be_decrypted(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I5: however much it is: pushed as it is named, else read page by page, live and on coming back."""
    monkeypatch.setattr(signet_client.questions, "UNDELIVERED_SPREAD_S", 0)
    monkeypatch.setattr(gateways.api.messages, "UNDELIVERED_ITEMS", 100)
    async with people(node.url, tmp_path, "anna", "cleo") as (anna, cleo):
        ben, _ = await stranger(node.url)
        group = await anna.start_group([ben.account, cleo.account])
        seqs = [sent.seq for sent in await asyncio.gather(*[anna.post(group, "?") for _ in range(300)])]

        def ticks() -> list[str]:
            return [anna.ticks_of(group, seq) for seq in seqs]

        await hold([cleo], group, seqs[-1])
        peer = await connect(node.url, ben, lambda _: None)
        heard = Heard(anna)
        peer.send(wire.Ack(c=group, upto=seqs[199], undecryptable=seqs[100:200]))
        await heard.until(lambda: ticks() == ["delivered"] * 100 + ["sent"] * 200)
        peer.send(wire.Ack(c=group, upto=seqs[-2], undecryptable=seqs[200:299]))
        peer.send(wire.Ack(c=group, upto=seqs[-1], undecryptable=seqs[:100]))
        peer.send(wire.Ack(c=group, upto=seqs[-1], repaired=seqs[298:299]))
        unreadable = ["sent"] * 298 + ["delivered"] * 2
        await heard.until(lambda: ticks() == unreadable)
        await anna.close()
        anna = reopen(tmp_path, "anna")
        async with running(anna):
            async with asyncio.timeout(WAIT_S):
                await anna.caught_up()
                await anna.until(lambda: not anna._live.received.unsure)
            assert ticks() == unreadable
            assert len((await anna.overviews())[0].ticks.undelivered) == 256
            heard = Heard(anna)
            await anna.remove(group, ben.account)
            await heard.until(lambda: ticks() == ["delivered"] * 300)
        peer.close()


async def test_a_group_ticks_when_its_last_member_has_it(node: Node, tmp_path: Path) -> None:
    """I6"""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        cleo = await register(node.url, "cleo", tmp_path)
        group = await anna.start_group([ben.account, cleo.account], title="Three")
        sent = await anna.send(group, "Are you all here?")
        heard = Heard(anna, ben)
        await hold([ben], group, sent.seq)
        ben.read(group, sent.seq)
        async with asyncio.timeout(WAIT_S):
            while (await anna.receipts(group))[ben.account].read < sent.seq:
                pass  # each look is a round trip
        assert anna.ticks_of(group, sent.seq) == "sent"
        async with running(cleo):
            await hold([cleo], group, sent.seq)
            await heard.until(lambda: anna.ticks_of(group, sent.seq) == "delivered")
            cleo.read(group, sent.seq)
            await heard.until(lambda: anna.ticks_of(group, sent.seq) == "read")


async def test_who_is_removed_sees_that_and_nothing_after_until_it_is_back(node: Node, tmp_path: Path) -> None:
    """I8"""
    async with people(node.url, tmp_path, "anna", "ben", "cleo") as (anna, ben, cleo):
        group = await anna.start_group([ben.account, cleo.account])
        before = await anna.send(group, "before")
        await hold([ben, cleo], group, before.seq)
        await anna.remove(group, cleo.account)
        await hold([cleo], group, before.seq + 1)
        with pytest.raises(Refused, match="not_a_member"):
            await cleo.send(group, "let me in")
        between = await anna.send(group, "between")
        await hold([ben], group, between.seq)
        await anna.add(group, [cleo.account])
        after = await ben.send(group, "after")
        await hold([anna, ben, cleo], group, after.seq)
        assert texts(ben, group) == ["before", "between", "after"]
        assert texts(cleo, group) == ["before", "after"]
        assert [item.seq for item in cleo.history(group)] == [1, 2, 3, 5, 6]
        overview = next(each for each in await cleo.overviews() if each.c == group)
        assert overview.visible == [[1, 3], [5, 0]]


async def test_who_is_removed_while_away_learns_it_on_coming_back(node: Node, tmp_path: Path) -> None:
    """I4, I8"""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        cleo = await register(node.url, "cleo", tmp_path)
        group = await anna.start_group([ben.account, cleo.account])
        seen = await anna.send(group, "seen")
        await anna.remove(group, cleo.account)
        unseen = await anna.send(group, "unseen")
        await hold([ben], group, unseen.seq)
        async with running(cleo):
            assert [item.seq for item in cleo.history(group)] == [1, seen.seq, seen.seq + 1]
            assert texts(cleo, group) == ["seen"]


async def test_a_linked_device_gets_the_history_and_what_comes(node: Node, tmp_path: Path) -> None:
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        await ben.send(talk, "long ago")
        tablet = await linked(anna, tmp_path)
        async with running(tablet):
            assert texts(tablet, talk) == ["long ago"]
            from_phone = await anna.send(talk, "from the phone")
            await hold([tablet, ben], talk, from_phone.seq)
            from_tablet = await tablet.send(talk, "from the tablet")
            await hold([anna, ben], talk, from_tablet.seq)
            assert texts(anna, talk) == texts(tablet, talk) == texts(ben, talk)
            assert {each.account for each in (anna, tablet)} == {anna.account}

            moved = asyncio.create_task(next_event(tablet, ReadMarkMoved))
            answer = await ben.send(talk, "both of you")
            await hold([anna, tablet], talk, answer.seq)
            anna.read(talk, answer.seq)
            assert (await moved).read == answer.seq


async def test_a_revoked_device_is_cut_off_and_stays_out(node: Node, tmp_path: Path) -> None:
    """I12"""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        tablet = await linked(anna, tmp_path)
        async with running(tablet):
            lost = asyncio.create_task(next_event(tablet, Lost))
            await anna.revoke_device(tablet.device)
            assert await lost == Lost(number=4502, text="This device was revoked.", final=True)
        sent = await ben.send(talk, "only for the phone")
        await hold([anna], talk, sent.seq)
        again = reopen(tmp_path, "tablet")
        lost = asyncio.create_task(next_event(again, Lost))
        async with again:
            assert (await lost).number == 4502
            assert texts(again, talk) == []


async def test_what_is_taken_back_is_gone_for_everybody(node: Node, tmp_path: Path) -> None:
    """I7: also from the unread count."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        cleo = await register(node.url, "cleo", tmp_path)
        group = await anna.start_group([ben.account, cleo.account])
        slip = await anna.send(group, "a slip")
        await anna.send(group, "said on purpose")
        await hold([ben], group, slip.seq + 1)
        assert texts(ben, group) == ["a slip", "said on purpose"]
        assert await unread(cleo, group) == 2
        await anna.retract(group, slip.seq)
        await hold([anna, ben], group, slip.seq + 2)
        async with running(cleo):
            assert texts(anna, group) == texts(ben, group) == texts(cleo, group) == [None, "said on purpose"]
            assert await unread(cleo, group) == await unread(ben, group) == 1
            with pytest.raises(Refused, match="not_allowed"):
                await ben.retract(group, slip.seq + 1)


async def test_who_was_away_when_something_was_taken_back_hears_of_it_once_it_is_back(
    node: Node, tmp_path: Path
) -> None:
    """I8: until then all is as it was; also for a device that was offline, and for one that comes only then."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        tablet = await linked(ben, tmp_path)
        group = await anna.start_group([ben.account])
        slip = await anna.send(group, "a slip")
        kept = await anna.send(group, "said on purpose")
        await anna.remove(group, ben.account)
        await hold([ben], group, kept.seq + 1)
        await anna.retract(group, slip.seq)
        assert texts(ben, group) == ["a slip", "said on purpose"]
        assert await unread(ben, group) == 2
        async with running(tablet):
            assert texts(tablet, group) == ["a slip", "said on purpose"]
        heard = Heard(ben)
        await anna.add(group, [ben.account])
        await heard.until(lambda: texts(ben, group) == [None, "said on purpose"])
        assert await unread(ben, group) == 1
        tablet = reopen(tmp_path, "tablet")
        async with running(tablet):
            assert texts(tablet, group) == [None, "said on purpose"]


async def test_unread_follows_reading_alone(node: Node, tmp_path: Path) -> None:
    """I7: neither delivery, nor own messages, nor what does not count moves it."""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        first = await anna.send(talk, "one")
        await anna.send(talk, "two")
        await anna.send(talk, "thumbs up", kind="reaction", counts=False)
        own = await ben.send(talk, "mine")
        await hold([anna, ben], talk, own.seq)
        assert (await unread(ben, talk), await unread(anna, talk)) == (2, 1)
        heard = Heard(anna)
        ben.read(talk, first.seq)
        await heard.until(lambda: anna.ticks_of(talk, first.seq) == "read")
        assert await unread(ben, talk) == 1
        ben.read(talk, own.seq)
        await heard.until(lambda: anna.marks(talk).tick_read == own.seq)
        assert (await unread(ben, talk), await unread(anna, talk)) == (0, 1)


@pytest.mark.parametrize("missed", [1, 300, pytest.param(3_000, marks=pytest.mark.slow)])
async def test_who_comes_back_gets_all_that_it_missed(node: Node, tmp_path: Path, missed: int) -> None:
    """I4"""
    anna, ben = await register(node.url, "anna", tmp_path), await register(node.url, "ben", tmp_path)
    async with running(anna):
        talk = await anna.start_direct(ben.account)
        async with running(ben):
            sent = await anna.send(talk, "the first")
            await hold([ben], talk, sent.seq)
        person, api = await stranger(node.url)
        group = await api.start("group", [anna.account, ben.account], title=None, protection="none")
        await say_many(node.url, person, group.conversation, missed)
        await api.close()
        back = reopen(tmp_path, "ben")
        diary, heard = Diary(back), Heard(anna)
        async with running(back):
            assert texts(back, talk) == ["the first"]
            assert texts(back, group.conversation) == [str(number) for number in range(missed)]
            assert diary.seqs == {group.conversation: list(range(1, missed + 2))}
            # It is back for good: what comes now comes live, and the tick of it too.
            sent = await anna.send(group.conversation, "welcome back")
            await hold([back], group.conversation, sent.seq)
            assert sent.seq == missed + 2
            await heard.until(lambda: anna.marks(group.conversation).cursor == sent.seq)


async def test_a_send_that_is_repeated_everywhere_at_once_is_stored_once(node: Node, tmp_path: Path) -> None:
    """I2: the very same bytes over HTTP and over two WebSockets that throw each other out: one message, one answer."""
    async with people(node.url, tmp_path, "anna") as (anna,):
        person, api = await stranger(node.url)
        talk = (await api.start("direct", [anna.account], title=None, protection="none")).conversation
        send = message(person, talk, "once", after=1)
        posted = [asyncio.create_task(say_by_http(api, talk, send)) for _ in range(3)]
        said = [asyncio.create_task(say(node.url, person, send)) for _ in range(2)]
        answers = {(each.id, each.seq, each.at) for each in await asyncio.gather(*posted)}
        answers |= {(each.id, each.seq, each.at) for each in await asyncio.gather(*said) if each is not None}
        assert await say(node.url, person, message(person, talk, "twice", after=1)) is not None
        again = await say(node.url, person, send)
        assert again is not None
        await hold([anna], talk, 3)
        once = anna.messages(talk)[0]
        assert answers | {(again.id, again.seq, again.at)} == {(once.id, 2, once.at)}
        assert texts(anna, talk) == ["once", "twice"]
        await api.close()


async def test_what_a_device_sends_by_http_comes_to_its_own_live_connection(node: Node, tmp_path: Path) -> None:
    """I4: else it would have a hole that it knows of only at the next event."""
    async with people(node.url, tmp_path, "anna") as (anna,):
        person, api = await stranger(node.url)
        talk = (await api.start("direct", [anna.account], title=None, protection="none")).conversation
        heard: asyncio.Queue[wire.ServerFrame] = asyncio.Queue()
        live = await connect(node.url, person, heard.put_nowait)
        sent = await say_by_http(api, talk, message(person, talk, "by another way", after=1))
        frame = await asyncio.wait_for(heard.get(), 30)
        assert isinstance(frame, wire.Message)
        assert frame.seq == sent.seq
        live.close()
        await api.close()


async def test_all_devices_see_one_order(node: Node, tmp_path: Path) -> None:
    """I3: five devices of four people send at once."""
    async with people(node.url, tmp_path, "anna", "ben", "cleo", "dirk") as (anna, ben, cleo, dirk):
        group = await anna.start_group([ben.account, cleo.account, dirk.account])
        tablet = await linked(anna, tmp_path)
        async with running(tablet):
            devices = [anna, ben, cleo, dirk, tablet]
            await hold(devices, group, 1)
            diaries = [Diary(device) for device in devices]
            sends = [device.post(group, f"{number}") for number in range(40) for device in devices]
            seqs = sorted([sent.seq for sent in await asyncio.gather(*sends)])
            assert seqs == list(range(2, 202))
            await hold(devices, group, 201)
            orders = [[(item.seq, item.id) for item in device.history(group)] for device in devices]
            assert orders == [orders[0]] * 5
            assert [diary.seqs[group] for diary in diaries] == [seqs] * 5


async def test_a_stop_tells_to_come_again_and_clients_go_on_after_it(place: Place, tmp_path: Path) -> None:
    """I1, I4"""
    async with place.engine():
        anna, ben = await register(place.url, "anna", tmp_path), await register(place.url, "ben", tmp_path)
        await anna.__aenter__()
        await ben.__aenter__()
        talk = await anna.start_direct(ben.account)
        sent = await anna.send(talk, "before")
        await hold([ben], talk, sent.seq)
        lost = [asyncio.create_task(next_event(client, Lost)) for client in (anna, ben)]
        await asyncio.sleep(0)  # they listen
    assert {(each.number, each.final) for each in await asyncio.gather(*lost)} == {(1012, False)}
    waiting = anna.post(talk, "meanwhile")
    async with place.engine():
        sent = await asyncio.wait_for(waiting, WAIT_S)
        await hold([ben], talk, sent.seq)
        assert texts(ben, talk) == ["before", "meanwhile"]
        await anna.close()
        await ben.close()


async def test_a_request_that_is_made_during_a_restart_is_answered(place: Place, tmp_path: Path) -> None:
    """The token that it began with is of the engine before."""
    async with place.engine():
        client = await register(place.url, "anna", tmp_path)
        assert await client.overviews() == []
    asking = asyncio.create_task(client.overviews())
    await asyncio.sleep(0.05)  # its first attempt meets nobody
    async with place.engine():
        assert await asyncio.wait_for(asking, WAIT_S) == []
    await client.close()


async def test_sigterm_stops_an_engine_under_load_without_a_loss(tmp_path: Path) -> None:
    """I1: 1012 to everybody, exit 0, and all that was accepted is there afterwards."""
    data, port = tmp_path / "data", free_port()
    async with engine(data, {"log_level": "error"}, port=port) as first:
        anna, ben = await register(first.url, "anna", tmp_path), await register(first.url, "ben", tmp_path)
        await anna.__aenter__()
        await ben.__aenter__()
        talk = await anna.start_direct(ben.account)
        lost = asyncio.create_task(next_event(ben, Lost))
        posts = [anna.post(talk, f"{number}") for number in range(300)]
        await posts[20]
        first.process.send_signal(signal.SIGTERM)
        assert await first.process.wait() == 0
    assert (await lost).number == 1012
    async with engine(data, {"log_level": "error"}, port=port):
        sent = await asyncio.wait_for(asyncio.gather(*posts), WAIT_S)
        assert [each.seq for each in sent] == list(range(2, 302))
        await hold([ben], talk, 301)
        assert texts(ben, talk) == [f"{number}" for number in range(300)]
        await anna.close()
        await ben.close()


# What they are made of


async def linked(client: Client, folder: Path) -> Client:
    """A tablet of the same account, let in and not running yet."""
    tablet = Client.prepare(client.url, client.account, folder / "tablet.db", device="tablet", durable=False)
    await client.link_device(tablet.device, tablet.key)
    return tablet


async def next_event(client: Client, kind: type[E]) -> E:
    async with asyncio.timeout(WAIT_S):
        async for event in client.events():
            if isinstance(event, kind):
                return event
    raise AssertionError("the client was closed")


async def unread(client: Client, conversation: str) -> int:
    return next(each.unread for each in await client.overviews() if each.c == conversation)


async def stranger(url: str) -> tuple[Person, Api]:
    """Somebody without a client: what it sends is for the test to write."""
    identity = Identity()
    profile = Profile(url=url, account="", device="raw", registration=str(uuid4()))
    registering = Api(profile, identity)
    account = await registering.register("stranger")
    await registering.close()
    return (
        Person(account=account, device="raw", identity=identity),
        Api(msgspec.structs.replace(profile, account=account), identity),
    )


def message(person: Person, conversation: str, text: str, *, after: int) -> wire.Send:
    body = encode_body(text, kind="text", reply_to=None)
    header = payloads.Header(
        id=str(uuid4()),
        conversation=conversation,
        sender=person.account,
        device=person.device,
        after=after,
        digest=payloads.digest_of(body),
    )
    return wire.Send(header=payloads.encode_header(header), body=body)


async def say_by_http(api: Api, conversation: str, send: wire.Send) -> Changed:
    return await api.command("POST", conversation, "messages", after=0, header=send.header, body=send.body)


async def say(url: str, person: Person, send: wire.Send) -> wire.Accepted | None:
    """Over a connection of its own; None where another of the same device threw it out before the answer."""
    answer: asyncio.Future[wire.ServerFrame] = asyncio.get_running_loop().create_future()

    def hear(frame: wire.ServerFrame) -> None:
        if isinstance(frame, wire.Accepted | wire.Refused) and not answer.done():
            answer.set_result(frame)

    try:
        peer = await connect(url, person, hear)
    except ConnectionError:
        return None
    peer.send(send)
    ends: list[asyncio.Future[Any]] = [answer, peer.lost]
    await asyncio.wait(ends, timeout=WAIT_S, return_when=asyncio.FIRST_COMPLETED)
    peer.close()
    if not answer.done():
        assert peer.lost.done()
        return None
    accepted = answer.result()
    assert isinstance(accepted, wire.Accepted)
    return accepted


async def say_many(url: str, person: Person, conversation: str, count: int) -> None:
    """Many messages, some hundred under way at once; they are called 0, 1, 2, …"""
    accepted: list[int] = []
    news = asyncio.Event()

    def hear(frame: wire.ServerFrame) -> None:
        if isinstance(frame, wire.Accepted):
            accepted.append(frame.seq)
            news.set()

    peer = await connect(url, person, hear)
    async with asyncio.timeout(WAIT_S):
        for start in range(0, count, 500):
            for number in range(start, min(start + 500, count)):
                peer.send(message(person, conversation, str(number), after=start + 1))
            while len(accepted) < min(start + 500, count):
                news.clear()
                await news.wait()
    peer.close()
