"""What people do all day, over real sockets, on both embedded stores."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from ops.bench.peer import connect
from ops.node import Node
from signet_client import Lost, ReadMarkMoved, Refused, wire
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


async def test_a_group_ticks_when_its_last_member_has_it(node: Node, tmp_path: Path) -> None:
    """I6"""
    async with people(node.url, tmp_path, "anna", "ben") as (anna, ben):
        cleo = await register(node.url, "cleo", tmp_path)
        group = await anna.start_group([ben.account, cleo.account], title="Three")
        sent = await anna.send(group, "Are you all here?")
        heard = Heard(anna, ben)
        await hold([ben], group, sent.seq)
        ben.read(group, sent.seq)
        read = (await anna.receipts(group))[ben.account].read
        while read < sent.seq:
            read = (await anna.receipts(group))[ben.account].read
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


async def test_a_send_over_two_connections_at_once_is_stored_once(node: Node, tmp_path: Path) -> None:
    """I2: the very same bytes by HTTP and by two WebSockets, again and again: one message, one answer."""
    async with people(node.url, tmp_path, "anna") as (anna,):
        person, api = await stranger(node.url)
        talk = (await api.start("direct", [anna.account], title=None, protection="none")).conversation
        frame = message(person, talk, "once")
        id_ = msgspec.json.decode(frame.header)["id"]
        answers: list[wire.ServerFrame] = []
        first = await connect(node.url, person, answers.append)
        posting = [asyncio.create_task(post(api, talk, frame)) for _ in range(3)]
        for _ in range(3):
            first.send(frame)
        # The second connection of a device throws out the first, in the midst of its sends.
        second = await connect(node.url, person, answers.append)
        second.send(frame)
        posted = [await each for each in posting]
        sent = await anna_hears(anna, talk)
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        third = await connect(node.url, person, lambda it: _answered(it, answers, pong))
        third.send(frame)
        third.send(wire.Ping())
        await asyncio.wait_for(pong, WAIT_S)
        while not any(isinstance(each, wire.Accepted) for each in answers[-1:]):
            await asyncio.wait_for(asyncio.shield(third.lost), WAIT_S)
        assert {(each.id, each.seq) for each in answers if isinstance(each, wire.Accepted)} == {(id_, 2)}
        assert {(each.id, each.seq, each.at) for each in posted} == {(id_, 2, sent.at)}
        assert texts(anna, talk) == ["once"]
        for peer in (first, second, third):
            peer.close()
        await api.close()
