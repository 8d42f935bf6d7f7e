"""The `receipts` read model: marks that only go forward, and ticks against brute force."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.codec import Event
from domain.ids import AccountId, ConversationId, DeviceId
from domain.receipts import EXCEPTIONS_MAX, Marks, Receipt, ReceiptsAdvanced
from projections import receipts
from projections.receipts import NAMED_MAX, Receipts, TickRow
from tests.projections.brute import Chat, cut
from tests.projections.eventful import eventful
from tests.projections.histories import PHONE, History, must
from tests.projections.stores import new_model, plan, scans

pytestmark = pytest.mark.usefixtures("each_store")
LAPTOP = DeviceId("laptop")
batches = st.lists(st.integers(min_value=1, max_value=20), min_size=1, max_size=5)


def model() -> Receipts:
    return new_model(Receipts)


def fed(events: Sequence[Event], sizes: Sequence[int] = (500,)) -> Receipts:
    made = model()
    for batch in cut(events, sizes):
        made.advance(batch)
    return made


@given(eventful(), batches)
async def test_ticks_are_what_a_recomputation_gives(history: History, sizes: list[int]) -> None:
    """I5, I6, I8: for everybody who ever was in a conversation, after every batch."""
    made = model()
    done: list[Event] = []
    for batch in cut(history.events, sizes):
        made.advance(batch)
        done += batch
        chats = {conversation: Chat(done, conversation) for conversation in history.conversations}
        for account in history.accounts:
            expected = {
                conversation: _tick_row(chat, account) for conversation, chat in chats.items() if account in chat.sees
            }
            assert await made.ticks_of(account) == expected
            for conversation in chats:
                assert await made.ticks(conversation, account) == expected.get(conversation, TickRow())


def _tick_row(chat: Chat, author: AccountId) -> TickRow:
    delivered, read, undelivered = chat.ticks(author)
    return TickRow(delivered=delivered, read=read, undelivered=undelivered)


@given(eventful())
async def test_marks_are_those_of_the_stream(history: History) -> None:
    """I6: each device's marks and exceptions, as the write side folds them."""
    made = fed(history.events)
    for conversation, state in history.receipts.items():
        assert plain(await made.marks(conversation)) == plain(state.marks)
    for account in history.accounts:
        for device in (PHONE, LAPTOP):
            delivered = {one: state.of(account, device).delivered for one, state in history.receipts.items()}
            stated = {one for one, state in history.receipts.items() if device in state.marks.get(account, {})}
            assert await made.delivered(account, device) == {one: delivered[one] for one in stated}


def plain(marks: dict[AccountId, dict[DeviceId, Marks]]) -> dict[tuple[AccountId, DeviceId], tuple[int, int, set[int]]]:
    return {
        (account, device): (each.delivered, each.read, each.excepted)
        for account, devices in marks.items()
        for device, each in devices.items()
    }


@given(eventful(), st.randoms(use_true_random=False), batches)
def test_receipts_in_any_order_make_the_same_rows(history: History, chance: random.Random, sizes: list[int]) -> None:
    """I6: also twice, and one statement at a time."""
    expected = fed(history.events).row_hash()
    others = [event for event in history.events if not isinstance(event.entry.e, ReceiptsAdvanced)]
    stated = [event for event in history.events if isinstance(event.entry.e, ReceiptsAdvanced)]
    chance.shuffle(stated)
    made = model()
    for batch in cut([*others, *stated, *stated[:10]], sizes):
        made.apply(batch)
    assert made.row_hash() == expected


@given(eventful(), batches)
def test_a_rebuild_is_equal_and_a_batch_fed_twice_changes_nothing(history: History, sizes: list[int]) -> None:
    """I9: bit by bit, in one piece, in pieces, twice: the same rows."""
    live = model()
    for event in history.events:
        live.advance([event])
    again = model()
    for batch in cut(history.events, sizes):
        again.advance(batch)
        once = again.row_hash()
        again.apply(batch)
        assert again.row_hash() == once
    assert live.row_hash() == again.row_hash() == fed(history.events).row_hash()


async def test_a_big_group_all_read_costs_one_row_a_device() -> None:
    """I6: 100 members × 1,000 messages, everything acknowledged and read: O(members) rows, and 1,000 events."""
    history = History()
    ann, *others = members = [history.register(f"account {number}") for number in range(100)]
    group = history.group(ann, *others, members_max=100)
    for number in range(1_000):
        sender = members[number % 100]
        seq = must(history.send(group, sender)).version + 1
        history.advance(
            group,
            *(Receipt(account=one, device=PHONE, delivered=seq, read=seq) for one in members if one != sender),
        )
    made = fed(history.events)
    assert sum(event.stream.startswith("conversation-") for event in history.events) == 1_001
    assert sum(event.stream.startswith("receipts-") for event in history.events) == 1_000
    rows = {table.name: made.db.query(f"SELECT count(*) FROM {table.name}")[0][0] for table in made.tables}
    assert rows == {"marks": 100, "exceptions": 0, "visible": 100}
    # The last sender has not acknowledged its own message: nobody waits for that.
    assert await made.ticks(group, members[99]) == TickRow(delivered=1_001, read=1_001)


async def test_an_unreadable_message_is_named_until_it_is_repaired_or_another_device_reads_it() -> None:
    """I5: two ticks never stand for what nobody could read."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    history.send(chat, ann)
    history.receive(chat, ben, delivered=3, undecryptable=(2, 3))
    assert await fed(history.events).ticks(chat, ann) == TickRow(delivered=3, read=1, undelivered=[2, 3])
    history.receive(chat, ben, delivered=2, device=LAPTOP)
    assert await fed(history.events).ticks(chat, ann) == TickRow(delivered=3, read=1, undelivered=[3])
    history.receive(chat, ben, repaired=(3,))
    assert await fed(history.events).ticks(chat, ann) == TickRow(delivered=3, read=1)


async def all_undelivered(made: Receipts, chat: ConversationId, account: AccountId, limit: int) -> list[int]:
    page = await made.undelivered(chat, account, limit=limit)
    seqs = page.seqs
    while page.before:
        page = await made.undelivered(chat, account, before=page.before, limit=limit)
        seqs = page.seqs + seqs
    return seqs


@given(eventful(), st.sampled_from([1, 2, 5]))
async def test_pages_name_all_that_is_undelivered_and_ticks_the_latest(history: History, limit: int) -> None:
    """I5, I11: whatever the bounds are."""
    made = fed(history.events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receipts, "NAMED_MAX", limit)
        patch.setattr(receipts, "LISTED_MAX", limit + 1)
        chats = {conversation: Chat(history.events, conversation) for conversation in history.conversations}
        for account in history.accounts:
            rows = await made.ticks_of(account)
            assert sum(len(row.undelivered) for row in rows.values()) <= limit + 1
            for conversation, chat in chats.items():
                expected = chat.ticks(account)[2] if account in chat.sees else []
                assert await all_undelivered(made, conversation, account, limit) == expected
                row = rows.get(conversation, TickRow())
                assert row.undelivered == expected[len(expected) - len(row.undelivered) :]
                assert row.more or row.undelivered == expected


async def test_ticks_name_a_bounded_number_of_messages() -> None:
    """I11: the others are read page by page, and each page looks at a bounded number."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.group(ann, ben)
    seqs = [must(history.send(chat, ann)).version + 1 for _ in range(600)]
    for start in range(0, len(seqs), EXCEPTIONS_MAX):
        some = seqs[start : start + EXCEPTIONS_MAX]
        history.receive(chat, ben, delivered=some[-1], undecryptable=tuple(some))
    made = fed(history.events)
    row = await made.ticks(chat, ann)
    assert (row.undelivered, row.more) == (seqs[-NAMED_MAX:], True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(receipts, "LISTED_MAX", 10)
        assert (await made.marks(chat))[ben][PHONE].undecryptable == set(seqs[-10:])
    assert await all_undelivered(made, chat, ann, 100) == seqs
    history.receive(chat, ben, delivered=seqs[-1], device=LAPTOP)
    row = await fed(history.events).ticks(chat, ann)
    assert (row.undelivered, row.more) == ([], True), "that they were read after all shows when they are looked at"
    assert await all_undelivered(fed(history.events), chat, ann, 100) == []


@pytest.mark.parametrize(
    "sql", [receipts._WITH_EXCEPTIONS.format(only=""), receipts._UNDELIVERED, receipts._LATEST_EXCEPTIONS]
)
def test_what_is_undelivered_is_found_by_seeking(sql: str) -> None:
    """I10, I11: it costs what is named, not what was ever named."""
    db = model().db
    rows = [(f"talk {seq % 10}", f"account {seq % 7}", PHONE, seq, 1, int(seq % 50 > 0)) for seq in range(5_000)]
    db.executemany(receipts._EXCEPTION, rows)
    db.execute("ANALYZE")
    assert scans(db, sql) == []
    assert "exceptions_open" in "".join(plan(db, sql))


async def test_lowest_marks_that_are_kept_outlive_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """I6: asked for before and after each event, also when the batch was undone."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    made = fed(history.events)
    assert await made.ticks(chat, ann) == TickRow(delivered=1, read=1)
    delivery = history.receive(chat, ben, delivered=2)
    monkeypatch.setattr(made.db, "execute", _fail)
    with pytest.raises(OSError, match="full"):
        made.advance(delivery)
    monkeypatch.undo()
    assert await made.ticks(chat, ann) == TickRow(delivered=1, read=1)
    made.advance(delivery)
    assert await made.ticks(chat, ann) == TickRow(delivered=2, read=1)


def _fail(*_: object) -> None:
    raise OSError("the disk is full")


async def test_one_who_has_left_hears_nothing_of_what_came_after() -> None:
    """I12: its ticks end where it saw the last event."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    group = history.group(ann, ben, cem)
    history.send(group, ben)
    left = must(history.leave(group, ben)).version + 1
    history.send(group, ann)
    for account in (ann, cem):
        history.receive(group, account, delivered=left + 1, read=left + 1)
    assert await fed(history.events).ticks(group, ben) == TickRow(delivered=left, read=left)
