"""The `inbox` read model against a recomputation straight from the events."""

from collections.abc import Iterable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.codec import Event
from domain.ids import ConversationId, DeviceId
from projections import inbox
from projections.database import Params
from projections.inbox import Inbox, InboxRow
from tests.projections.brute import Chat, cut, expand
from tests.projections.eventful import eventful
from tests.projections.histories import History, must, seal
from tests.projections.stores import new_model, scans

pytestmark = pytest.mark.usefixtures("each_store")
batches = st.lists(st.integers(min_value=1, max_value=20), min_size=1, max_size=5)


def model() -> Inbox:
    return new_model(Inbox)


def fed(events: Sequence[Event], sizes: Sequence[int] = (500,)) -> Inbox:
    made = model()
    for batch in cut(events, sizes):
        made.advance(batch)
    return made


@given(eventful(), batches)
async def test_the_inbox_is_what_a_recomputation_gives(history: History, sizes: list[int]) -> None:
    """I7, I8: unread, visibility, head, time, role and title, for everybody who ever was in it, after every batch."""
    made = model()
    done: list[Event] = []
    for batch in cut(history.events, sizes):
        made.advance(batch)
        done += batch
        for conversation in history.conversations:
            await _check(made, Chat(done, conversation), conversation, history)


async def _check(made: Inbox, chat: Chat, conversation: ConversationId, history: History) -> None:
    for account in history.accounts:
        row = await made.conversation(account, conversation)
        assert (row is not None) == (account in chat.sees)
        if row is not None:
            assert row.unread == chat.unread(account)
            assert row.read == chat.read(account)
            assert expand(row.visible, chat.head) == chat.sees[account]
            assert (row.visible[-1][1] == 0) == (account in chat.roles)
            assert row.role == chat.roles.get(account)
            assert (row.head, row.at) == (max(chat.sees[account]), chat.at[max(chat.sees[account])])
            assert row.title == chat.title(account)
    assert await made.members(conversation) == chat.roles


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


@given(eventful(steps_max=30))
def test_positions_of_the_store_stay_out_of_the_rows(history: History) -> None:
    """I9: another store gives other positions, and the rows are equal."""
    moved = [msgspec.structs.replace(event, position=event.position * 7 + 5) for event in history.events]
    assert fed(moved).row_hash() == fed(history.events).row_hash()


@given(eventful())
async def test_the_list_is_the_single_conversations_most_recent_first(history: History) -> None:
    made = fed(history.events)
    for account in history.accounts:
        rows = await made.conversations(account)
        assert rows == sorted(rows, key=lambda row: (-row.at, row.conversation))
        assert {row.conversation for row in rows} == {
            one for one, state in history.conversations.items() if account in state.visible
        }
        for row in rows:
            assert row == await made.conversation(account, row.conversation)


class Scene:
    """A history of two with a group, and Ben's view of it."""

    def __init__(self) -> None:
        self.history = History()
        self.ann, self.ben = self.history.register("ann"), self.history.register("ben")
        self.group = self.history.group(self.ann, self.ben)

    async def bens(self) -> InboxRow:
        row = await fed(self.history.events).conversation(self.ben, self.group)
        assert row is not None
        return row


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_reactions_and_own_messages_are_not_unread(scene: Scene) -> None:
    """I7: an update never moves the count, and one's own messages are read."""
    scene.history.send(scene.group, scene.ann)
    scene.history.send(scene.group, scene.ann, counts=False)
    scene.history.send(scene.group, scene.ben)
    assert (await scene.bens()).unread == 1


async def test_sending_leaves_what_came_in_between_unread(scene: Scene) -> None:
    """I7: only a read mark reads."""
    scene.history.send(scene.group, scene.ann)
    scene.history.send(scene.group, scene.ben)
    scene.history.send(scene.group, scene.ann)
    assert (await scene.bens()).unread == 2


async def test_a_retracted_message_is_no_longer_unread(scene: Scene) -> None:
    """I7: also when it was read before, then it is taken off nothing."""
    first = must(scene.history.send(scene.group, scene.ann)).version + 1
    scene.history.receive(scene.group, scene.ben, read=first)
    second = must(scene.history.send(scene.group, scene.ann)).version + 1
    scene.history.send(scene.group, scene.ann)
    scene.history.retract(scene.group, scene.ann, first)
    scene.history.retract(scene.group, scene.ann, second)
    assert (await scene.bens()).unread == 1


async def test_the_greatest_read_mark_of_the_devices_counts(scene: Scene) -> None:
    """I7: what one device has read, no other shows as unread."""
    scene.history.link(scene.ben, "laptop")
    for _ in range(3):
        scene.history.send(scene.group, scene.ann)
    scene.history.receive(scene.group, scene.ben, read=3)
    scene.history.receive(scene.group, scene.ben, read=2, device=DeviceId("laptop"))
    row = await scene.bens()
    assert (row.read, row.unread) == (3, 1)


async def test_who_is_removed_sees_the_removal_and_the_title_that_it_left(scene: Scene) -> None:
    """I8, I12: nothing that comes after is shown, counted or dated."""
    scene.history.send(scene.group, scene.ann)
    removal = must(scene.history.remove(scene.group, scene.ann, scene.ben))
    scene.history.send(scene.group, scene.ann)
    scene.history.set_title(scene.group, scene.ann, "without Ben")
    row = await scene.bens()
    assert (row.head, row.at) == (removal.version + 1, removal.entry.at)
    assert (row.role, row.unread, row.title) == (None, 1, seal("a group"))
    scene.history.add(scene.group, scene.ann, scene.ben)
    row = await scene.bens()
    assert (row.role, row.unread, row.title) == ("member", 1, seal("without Ben"))
    assert row.visible == [[1, removal.version + 1], [removal.version + 4, 0]]


async def test_a_direct_conversation_names_the_other_one() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    made = fed(history.events)
    row = await made.conversation(ann, chat)
    assert row is not None
    assert (row.peer, row.kind, row.protection, row.title, row.role) == (ben, "direct", "none", None, "member")
    assert await made.conversation(history.register("cem"), chat) is None


def test_a_group_message_costs_one_row() -> None:
    """I6: whatever the size of the group."""
    history = History()
    ann, *others = [history.register(f"account {number}") for number in range(100)]
    group = history.group(ann, *others, members_max=100)
    made = fed(history.events)
    before = _rows(made)
    done = len(history.events)
    for number in range(200):
        history.send(group, [ann, *others][number % 100])
    made.advance(history.events[done:])
    assert _rows(made) - before == 200


def test_a_batch_writes_a_conversation_s_head_once(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    for _ in range(50):
        history.send(chat, ann)
    made = model()
    written: dict[str, int] = {}
    write = made.db.executemany

    def note(sql: str, rows: Iterable[Params]) -> None:
        written[sql] = len(noted := list(rows))
        write(sql, noted)

    monkeypatch.setattr(made.db, "executemany", note)
    made.advance(history.events)
    assert (written[inbox._HEAD], written[inbox._COUNTED]) == (1, 50)


@pytest.mark.parametrize("sql", [inbox._OF_ACCOUNT, inbox._OF_ONE])
def test_unread_is_found_by_seeking(sql: str) -> None:
    """I10: the list costs a few look-ups in an index for each conversation, whatever its history."""
    assert scans(model().db, sql) == []


def _rows(made: Inbox) -> int:
    count = 0
    for table in made.tables:
        (rows,) = made.db.query(f"SELECT count(*) FROM {table.name}")[0]
        count += rows
    return count
