"""`delivery`: who hears of what, against read models and brute force; and rooms that are made from the log."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.stores.memory import Medium, MemoryLog
from domain.codec import CODEC, Event
from domain.conversation import MessageSent
from domain.ids import AccountId, ConversationId, DeviceId
from domain.keys import OneTimeKeyClaimed
from domain.log import NO_STREAM, Append, RecordedEvent
from projections.delivery import (
    Delivery,
    DeviceListPush,
    DeviceRevokedPush,
    EventPush,
    KeyClaimedPush,
    MarkPush,
    Push,
    TickPush,
)
from projections.receipts import Receipts, TickRow
from projections.sqlite import SqliteDatabase
from projections.undecryptable import CHANGES_MAX
from tests.projections.brute import Chat, cut
from tests.projections.eventful import eventful
from tests.projections.histories import PHONE, History, must

LAPTOP = DeviceId("laptop")
IN_TIME_S = 20
batches = st.lists(st.integers(min_value=1, max_value=20), min_size=1, max_size=5)
P = TypeVar("P", EventPush, TickPush, MarkPush, DeviceRevokedPush)


class SlowLog(MemoryLog):
    """Answers reads of the streams of `held` only when they are let go."""

    def __init__(self, medium: Medium) -> None:
        super().__init__(medium)
        self.held: dict[str, asyncio.Event] = {}
        self.reads = 0
        self.asked = asyncio.Event()

    def hold(self, conversation: ConversationId) -> asyncio.Event:
        return self.held.setdefault(f"conversation-{conversation}", asyncio.Event())

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        self.reads += 1
        self.asked.set()
        if stream in self.held:
            await self.held[stream].wait()
        return await super().read_stream(stream, after=after, limit=min(limit, 3))


class Ear:
    """Hears the pushes of a delivery over a log, and waits for them."""

    def __init__(self, *, rooms_max: int = 10_000) -> None:
        self.medium = Medium()
        self.log = SlowLog(self.medium)
        self.delivery = Delivery(self.log, rooms_max=rooms_max)
        self.delivery.subscribe(self._hear)
        self.heard: list[Push] = []
        self._news = asyncio.Event()

    async def store(self, events: Sequence[Event]) -> list[Event]:
        """The events as they stand in the log then, at its positions."""
        before = len(self.medium.log)
        for event in events:
            append = Append(stream=event.stream, expected=event.version - 1, events=[CODEC.encode(event.entry)])
            await self.log.append([append])
        return [CODEC.decode(recorded) for recorded in self.medium.log[before:]]

    def take(self) -> list[Push]:
        heard, self.heard = self.heard, []
        return heard

    async def hear(self, count: int) -> list[Push]:
        """The next pushes, when there are as many."""
        async with asyncio.timeout(IN_TIME_S):
            while len(self.heard) < count:
                self._news.clear()
                await self._news.wait()
        return self.take()

    def _hear(self, pushes: Sequence[Push]) -> None:
        self.heard += pushes
        self._news.set()


def hear_all(events: Sequence[Event], sizes: Sequence[int] = (500,)) -> list[Push]:
    """The pushes of a history that is heard from its beginning."""
    heard: list[Push] = []
    delivery = Delivery(MemoryLog(Medium()))
    delivery.subscribe(heard.extend)
    for batch in cut(events, sizes):
        delivery.receive(batch)
    assert delivery.position == events[-1].position
    return heard


def of(kind: type[P], pushes: Sequence[Push]) -> list[P]:
    return [push for push in pushes if isinstance(push, kind)]


@given(eventful(), batches)
def test_an_event_reaches_exactly_those_who_may_see_it(history: History, sizes: list[int]) -> None:
    """I8, I12: each event of a conversation once, in order, to those who may see its seq."""
    pushes = of(EventPush, hear_all(history.events, sizes))
    assert [push.event for push in pushes] == [
        event for event in history.events if event.stream.startswith("conversation-")
    ]
    chats = {conversation: Chat(history.events, conversation) for conversation in history.conversations}
    for push in pushes:
        sees = chats[push.conversation].sees
        assert len(push.to) == len(set(push.to))
        assert set(push.to) == {account for account in sees if push.event.version + 1 in sees[account]}
        fact = push.event.entry.e
        assert push.origin == ((fact.by, fact.device) if isinstance(fact, MessageSent) else None)


@given(eventful(), batches)
async def test_authors_know_their_ticks_after_every_batch(history: History, sizes: list[int]) -> None:
    """I5, I6: what an author was told of its own messages is what the `receipts` read model says of them."""
    delivery = Delivery(MemoryLog(Medium()))
    heard: list[Push] = []
    delivery.subscribe(heard.extend)
    model = Receipts(SqliteDatabase(":memory:"))
    told: dict[tuple[ConversationId, AccountId], TickRow] = {}
    done: list[Event] = []
    for batch in cut(history.events, sizes):
        heard.clear()
        delivery.receive(batch)
        model.advance(batch)
        done += batch
        ticks = of(TickPush, heard)
        assert len({(push.conversation, push.account) for push in ticks}) == len(ticks)
        for push in ticks:
            key = (push.conversation, push.account)
            row = await model.ticks(*key)
            assert (push.delivered, push.read) == (row.delivered, row.read)
            told[key] = row if push.more else _after(told.get(key, TickRow()), push)
        for conversation in history.conversations:
            chat = Chat(done, conversation)
            for author in chat.roles:
                row = await model.ticks(conversation, author)
                own = {seq for seq, message in chat.messages.items() if message.by == author}
                known = told.get((conversation, author))
                assert _shown(own, known) == _shown(own, row)


def _after(before: TickRow, push: TickPush) -> TickRow:
    """What a client knows after a push."""
    undelivered = (set(before.undelivered) | set(push.undelivered)) - set(push.repaired)
    return TickRow(delivered=push.delivered, read=push.read, undelivered=sorted(undelivered))


def _shown(own: set[int], ticks: TickRow | None) -> tuple[set[int], set[int], set[int]]:
    """What a client shows of its own messages."""
    if ticks is None:
        return set(), set(), set()
    delivered, read = ({seq for seq in own if seq <= mark} for mark in (ticks.delivered, ticks.read))
    return delivered, read, own & set(ticks.undelivered)


@given(eventful(), batches)
def test_ticks_only_move_forward_and_only_to_those_who_wait(history: History, sizes: list[int]) -> None:
    """I6: no author without a message is told, and no mark goes back."""
    last: dict[tuple[ConversationId, AccountId], tuple[int, int]] = {}
    authors = {
        (push.conversation, push.event.entry.e.by)
        for push in of(EventPush, hear_all(history.events))
        if isinstance(push.event.entry.e, MessageSent)
    }
    for push in of(TickPush, hear_all(history.events, sizes)):
        key = (push.conversation, push.account)
        assert key in authors
        before = last.get(key, (0, 0))
        assert push.delivered >= before[0]
        assert push.read >= before[1]
        last[key] = (push.delivered, push.read)


@given(eventful(), batches)
def test_a_readers_own_devices_get_its_mark(history: History, sizes: list[int]) -> None:
    """I7: when the greatest read mark of the account has moved, and then only."""
    marks: dict[tuple[ConversationId, AccountId], int] = {}
    for push in of(MarkPush, hear_all(history.events, sizes)):
        key = (push.conversation, push.account)
        assert push.read > marks.get(key, 0)
        assert push.origin[0] == push.account
        marks[key] = push.read
    for conversation in history.conversations:
        chat = Chat(history.events, conversation)
        for account in chat.sees:
            assert marks.get((conversation, account), 0) == chat.read(account)


@given(eventful(), st.integers(min_value=0, max_value=90), batches, st.sampled_from([1, 2, 4, 100]))
async def test_rooms_from_the_log_push_the_same(history: History, cut_at: int, sizes: list[int], rooms: int) -> None:
    """I4: after a restart, and with too few rooms kept, each conversation's pushes are those of one who heard all."""
    ear = Ear(rooms_max=rooms)
    events = await ear.store(history.events)
    late = [event for event in events if event.position > events[min(cut_at, len(events)) - 1].position or cut_at == 0]
    early = events[: len(events) - len(late)]
    full = Ear()
    if early:
        full.delivery.receive(early)
    full.take()
    for event in late:
        full.delivery.receive([event])
        ear.delivery.receive([event])
        await _settle(ear.delivery)
    assert _sorted(ear.take()) == _sorted(full.take())
    await ear.delivery.close()


async def _settle(delivery: Delivery) -> None:
    async with asyncio.timeout(IN_TIME_S):
        while delivery._loading:
            await asyncio.gather(*[loading.task for loading in delivery._loading.values()])


def _sorted(pushes: Sequence[Push]) -> list[str]:
    """Without exceptions: a room from the log doesn't know what authors were told of them, and makes them read."""
    nothing: dict[str, Any] = {"undelivered": [], "repaired": [], "more": False}
    return sorted(
        repr(msgspec.structs.replace(push, **nothing) if isinstance(push, TickPush) else push) for push in pushes
    )


async def test_events_wait_in_order_for_their_room_and_others_go_on() -> None:
    """I3, I8: what happens while the log answers late is pushed after it, to those who were members then."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    slow, quick = history.group(ann, ben), history.group(ann, ben)
    history.send(slow, ann, "before")
    ear = Ear()
    await ear.store(history.events)
    done = len(history.events)
    release = ear.log.hold(slow)
    history.send(slow, ann, "one")
    history.add(slow, ann, cem)
    history.send(quick, ann, "meanwhile")
    history.remove(slow, ann, ben)
    history.send(slow, ann, "two")
    events = await ear.store(history.events[done:])
    for event in events[:3]:
        ear.delivery.receive([event])
    (meanwhile,) = of(EventPush, await ear.hear(1))
    assert meanwhile.conversation == quick
    ear.delivery.receive(events[3:])
    assert ear.delivery.position == events[-1].position
    assert ear.take() == []
    release.set()
    pushes = of(EventPush, await ear.hear(4))
    assert [push.event for push in pushes] == [events[0], events[1], events[3], events[4]]
    assert [set(push.to) for push in pushes] == [{ann, ben}, {ann, ben, cem}, {ann, ben, cem}, {ann, cem}]


async def test_a_conversation_that_starts_needs_no_log() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    history.receive(chat, ben, delivered=2, read=2)
    ear = Ear()
    ear.delivery.receive(history.events)
    assert [type(push) for push in ear.take()] == [EventPush, EventPush, MarkPush, TickPush]
    assert ear.log.reads == 0


async def test_a_store_that_is_away_is_asked_again() -> None:
    """I4: a room is made when the log is there again, and nothing of it is lost."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    ear = Ear()
    await ear.store(history.events)
    events = await ear.store([must(history.send(chat, ann))])
    ear.medium.faults.go_away()
    ear.delivery.receive(events)
    for _ in range(2):
        await asyncio.wait_for(ear.log.asked.wait(), IN_TIME_S)
        ear.log.asked.clear()
    ear.medium.faults.heal()
    (push,) = of(EventPush, await ear.hear(1))
    assert push.event == events[0]


async def test_a_conversation_that_cannot_be_read_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    """I11: its events are let go with a word in the log, and its next one tries again."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    ear = Ear()
    await ear.store(history.events)
    sound = ear.medium.streams[f"conversation-{chat}"][0]
    damaged = RecordedEvent(
        position=sound.position, stream=sound.stream, version=0, topic="ConversationStarted", data=b"{"
    )
    ear.medium.streams[sound.stream][0] = damaged
    ear.delivery.receive(await ear.store([must(history.send(chat, ann))]))
    await _settle(ear.delivery)
    assert ear.take() == []
    assert "can't be loaded" in caplog.text
    ear.medium.streams[sound.stream][0] = sound
    ear.delivery.receive(await ear.store([must(history.send(chat, ann))]))
    assert len(await ear.hear(1)) == 1


async def test_an_event_that_fails_silences_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """I11: neither the others of its batch, nor its conversation's later ones."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    bad, good = history.direct(ann, ben), history.group(ann, ben)
    ear = Ear()
    ear.delivery.receive(await ear.store(history.events))
    ear.take()
    odd, even, after = await ear.store([must(history.send(chat, ann)) for chat in (bad, good, bad)])
    poison = Event(position=odd.position, stream=odd.stream, version=odd.version, entry=None)  # type: ignore[arg-type]
    ear.delivery.receive([poison, even])
    assert [push.event for push in of(EventPush, ear.take())] == [even]
    assert "no push could be made" in caplog.text
    ear.delivery.receive([after])
    assert [push.event for push in of(EventPush, await ear.hear(1))] == [after]


async def test_a_subscriber_that_fails_silences_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    history.direct(history.register("ann"), history.register("ben"))
    delivery = Delivery(MemoryLog(Medium()))

    def fail(pushes: Sequence[Push]) -> None:
        raise RuntimeError("a bug")

    heard: list[Push] = []
    delivery.subscribe(fail)
    delivery.subscribe(heard.extend)
    delivery.receive(history.events)
    assert len(heard) == 1
    assert "a bug" in caplog.text


async def test_what_waits_for_a_room_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """I11: beyond the bound the events are let go, and the room is made anew for those that come then."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    ear = Ear()
    await ear.store(history.events)
    release = ear.log.hold(chat)
    events = await ear.store([must(history.send(chat, ann)) for _ in range(1_002)])
    ear.delivery.receive(events)
    release.set()
    pushes = of(EventPush, await ear.hear(2))
    assert [push.event for push in pushes] == events[1_000:]
    assert "are not pushed" in caplog.text


async def test_close_ends_what_is_being_loaded() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    ear = Ear()
    await ear.store(history.events)
    ear.log.hold(chat)
    ear.delivery.receive(await ear.store([must(history.send(chat, ann))]))
    async with asyncio.timeout(IN_TIME_S):
        await ear.delivery.close()
    assert ear.take() == []


def test_ticks_are_told_once_a_batch_with_what_cannot_be_decrypted() -> None:
    """I5, I6."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    group = history.group(ann, ben, cem)
    seqs = [must(history.send(group, ann)).version + 1 for _ in range(3)]
    history.receive(group, ben, delivered=seqs[-1], undecryptable=(seqs[0],))
    history.receive(group, cem, delivered=seqs[0], read=seqs[0])
    history.receive(group, cem, delivered=seqs[1], read=seqs[1])
    repair = must(history.receive(group, ben, repaired=(seqs[0],)))
    told = of(TickPush, hear_all(history.events[:-1]))
    assert [(push.account, push.delivered, push.read, push.undelivered) for push in told] == [
        (ann, seqs[1], 1, [seqs[0]])
    ]
    told = of(TickPush, hear_all(history.events, (len(history.events) - 1, 1)))
    assert repair is history.events[-1]
    assert [(push.delivered, push.undelivered, push.repaired) for push in told] == [
        (seqs[1], [seqs[0]], []),
        (seqs[1], [], [seqs[0]]),
    ]


def test_an_author_is_told_a_bounded_number_of_seqs_at_once() -> None:
    """I5, I11: where a batch changes more, it is told to read them; each later push says again what is new."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    group = history.group(ann, ben)
    seqs = [must(history.send(group, ann)).version + 1 for _ in range(CHANGES_MAX + 1)]
    started = len(history.events)
    history.receive(group, ben, delivered=seqs[-2], undecryptable=tuple(seqs[:-1]))
    history.receive(group, ben, delivered=seqs[-1], undecryptable=(seqs[-1],))
    history.receive(group, ben, delivered=seqs[-1], device=LAPTOP)
    told = of(TickPush, hear_all(history.events, (started, 1, 1, 1)))
    assert [(push.undelivered, push.repaired, push.more) for push in told] == [
        (seqs[:-1], [], False),
        ([seqs[-1]], [], False),
        ([], [], True),
    ]


def test_the_exceptions_of_one_who_leaves_are_waived() -> None:
    """I5: the author hears that nobody is left who could not read it."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    group = history.group(ann, ben, cem)
    seq = must(history.send(group, ann)).version + 1
    for account in (ann, ben, cem):
        history.receive(group, account, delivered=seq, read=seq, undecryptable=(seq,) if account == ben else ())
    history.leave(group, ben)
    told = of(TickPush, hear_all(history.events, (len(history.events) - 1, 1)))
    assert [(push.delivered, push.undelivered, push.repaired) for push in told] == [(seq, [seq], []), (seq, [], [seq])]


@pytest.mark.parametrize("reading", [False, True])
def test_an_author_that_lags_behind_all_others_hears_of_them(reading: bool) -> None:
    """I6: its own mark is the lowest of all and stands, and yet its tick moves."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    group = history.group(ann, ben, cem)
    seq = must(history.send(group, ann)).version + 1
    by_one, by_other = (seq, 0), (0, seq)
    if not reading:
        by_one, by_other = by_other, by_one
    # By the other of the two marks somebody else is behind.
    for account, (delivered, read) in ((ann, by_one), (ben, (seq, seq)), (cem, by_other)):
        history.receive(group, account, delivered=delivered, read=read)
    told = of(TickPush, hear_all(history.events, (len(history.events) - 1, 1)))
    expected = (ann, 1, seq) if reading else (ann, seq, 1)
    assert [(push.account, push.delivered, push.read) for push in told] == [expected]


def test_an_author_that_is_back_hears_of_what_moved_meanwhile() -> None:
    """I6, I8."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    group = history.group(ann, ben, cem)
    history.send(group, ben)
    removed = must(history.remove(group, ann, ben)).version + 1
    for account in (ann, cem):
        history.receive(group, account, delivered=removed)
    history.add(group, ann, ben)
    told = of(TickPush, hear_all(history.events, (len(history.events) - 1, 1)))
    assert [(push.account, push.delivered, push.read) for push in told] == [(ben, removed, 1)]


def test_a_big_groups_messages_share_one_list_of_accounts() -> None:
    """No work for each member: it is made anew only when membership changes."""
    history = History()
    ann, *others = [history.register(f"account {number}") for number in range(50)]
    group = history.group(ann, *others)
    for _ in range(3):
        history.send(group, ann)
    history.leave(group, others[0])
    history.send(group, ann)
    pushes = of(EventPush, hear_all(history.events))
    assert pushes[1].to is pushes[2].to is pushes[3].to is pushes[4].to
    assert others[0] in pushes[4].to
    assert others[0] not in pushes[5].to


def test_a_big_groups_authors_share_one_list_of_what_is_undelivered() -> None:
    """I11: one who names many seqs costs little for each author; and each hears of no more than it may see."""
    history = History()
    ann, *others = [history.register(f"account {number}") for number in range(50)]
    group = history.group(ann, *others[:-1])
    seqs = [must(history.send(group, account)).version + 1 for account in (ann, *others[:-1])]
    history.add(group, ann, others[-1])
    seqs.append(must(history.send(group, others[-1])).version + 1)
    started = len(history.events)
    history.receive(group, others[0], delivered=seqs[-1], undecryptable=tuple(seqs))
    told = {push.account: push for push in of(TickPush, hear_all(history.events, (started, 1)))}
    assert told.keys() == {ann, *others} - {others[0]}
    assert told.pop(others[-1]).undelivered == [seqs[-1]]
    assert all(push.undelivered is told[ann].undelivered for push in told.values())
    assert told[ann].undelivered == seqs


def test_a_revoked_device_is_to_be_disconnected() -> None:
    """I12."""
    history = History()
    ann = history.register("ann")
    history.link(ann, "laptop")
    history.rename(ann, "Ann")
    history.revoke(ann, "laptop", using=PHONE)
    assert hear_all(history.events) == [DeviceRevokedPush(account=ann, device=LAPTOP), DeviceListPush(account=ann)]


def test_other_keys_are_told_to_others_and_a_claim_to_the_device() -> None:
    """What was published beside the identity keys nobody needs to hear of."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    history.link(ann, "laptop")
    history.publish_keys(ann, "A", device=LAPTOP, fallback="F")
    history.publish_keys(ann, "B", device=LAPTOP)
    claimed = [cast(OneTimeKeyClaimed, must(history.claim_key(ann, ben, device=LAPTOP)).entry.e) for _ in range(3)]
    assert hear_all(history.events) == [
        DeviceListPush(account=ann), *(KeyClaimedPush(account=ann, claimed=each) for each in claimed),
    ]  # fmt: skip
