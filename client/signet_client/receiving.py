"""What comes in: items into order, conversations, ticks and read marks, as the device will hold them.

Nothing is stored here: what a flush is to store, acknowledge and tell goes to `gathered`.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from signet_client import events, wire
from signet_client.gathered import Gathered
from signet_client.intake import Intake
from signet_client.reading import Reading
from signet_client.records import Conversation, Marks, Profile
from signet_client.store import Store

Settle = Callable[[str, wire.Message | None], None]


class Receiving:
    """What one device holds, but for the items themselves."""

    def __init__(
        self,
        profile: Profile,
        store: Store,
        gathered: Gathered,
        settle: Settle,
        reading: Reading,
        unsettle: Callable[[wire.Change], None],
    ) -> None:
        """`settle` hears of this device's own messages that have become items, `unsettle` of who came or went."""
        self._reading = reading
        self._unsettle = unsettle
        self._profile = profile
        self._gathered = gathered
        self._settle = settle
        self.marks: Final = store.marks()
        self.conversations: Final = {each.conversation: each for each in store.conversations()}
        self.unknown: Final[set[str]] = set()
        """Conversations that the account came into, of which the client doesn't know what they are now."""
        self.unsure: Final[dict[str, list[wire.Receipt]]] = {}
        """Conversations of which the server has said that it names not all that is undelivered; and what it said after
        that."""
        self.lost: Final = store.lost_messages()
        """Messages that a restored server has lost, and the seqs that they had: one that comes again is no new one."""
        self.intake: Final = Intake(self.marks)
        self._heads: dict[str, int] = {}
        """What the welcome said that there is."""

    # Items

    def take(self, item: wire.Item) -> None:
        """One that was pushed."""
        if items := self.intake.push(item):
            self._hold(item.c, items)

    def take_own(self, item: wire.Message, id_: str) -> None:
        """One of this device, made of its answer."""
        if items := self.intake.push(item):
            self._hold(item.c, items)
        elif item.seq <= self.marks[item.c].cursor:
            # A page brought it before.
            self._settle(id_, None)

    def take_page(self, page: wire.Page) -> None:
        self._hold(page.c, self.intake.page(page))
        # What was retracted while the account was away.
        for target, retraction in page.retracted:
            self._gathered.batch.retracted.append((page.c, target, retraction))
            self._gathered.events.append(events.Retracted(conversation=page.c, seq=target))

    def _hold(self, conversation: str, items: list[wire.Item]) -> None:
        """Takes items that are next in order."""
        if conversation not in self.conversations:
            self._learn(conversation, items)
        self.touch(conversation)
        for item in items:
            self._gathered.batch.items.append(item)
            if isinstance(item, wire.Message):
                self._hold_message(item)
            else:
                self._gathered.events.append(events.Received(item=item))
                if item.what in ("started", "added", "removed", "left"):
                    self._unsettle(item)
                self._follow(item)

    def _hold_message(self, item: wire.Message) -> None:
        known = self.conversations.get(item.c)
        message = self._reading.take(item, known.protection if known else None)
        seq_before = self.lost.pop(message.id, None)
        if seq_before is None:
            self._gathered.events.append(events.Received(item=message))
        else:
            self._gathered.batch.found.append(message.id)
            self._gathered.events.append(events.Found(item=message, seq_before=seq_before))
        if message.sender != self._profile.account:
            self._gathered.acks.add(item.c)
        elif message.device == self._profile.device:
            self._settle(message.id, item)

    def touch(self, conversation: str) -> Marks:
        """The marks of a conversation; the next flush stores them."""
        marks = self.marks.get(conversation)
        if marks is None:
            marks = self.marks[conversation] = Marks()
        self._gathered.batch.marks[conversation] = marks
        return marks

    # Conversations

    def know(self, conversation: Conversation) -> None:
        """What a conversation is; stored by the next flush."""
        self.unknown.discard(conversation.conversation)
        known = self.conversations.get(conversation.conversation)
        if known is not None and known.protection == "end_to_end":
            # For ever, whatever a server says.
            conversation = msgspec.structs.replace(conversation, protection="end_to_end")
        if self.conversations.get(conversation.conversation) != conversation:
            self.conversations[conversation.conversation] = conversation
            self._gathered.batch.conversations.append(conversation)

    def _learn(self, conversation: str, items: list[wire.Item]) -> None:
        first = items[0] if items else None
        if not isinstance(first, wire.Change) or first.what != "started":
            self.unknown.add(conversation)
            return
        others = [account for account in first.accounts if account != self._profile.account]
        self.know(
            Conversation(
                conversation=conversation,
                kind=first.kind or "group",
                protection=first.protection or "none",
                title=first.title,
                peer=others[0] if first.kind == "direct" and others else None,
            )
        )

    def _follow(self, change: wire.Change) -> None:
        if change.seq <= self._heads.get(change.c, 0):
            # Up to its head, the welcome has said it; what is read after it may be older than what it was called while
            # the account was out.
            return
        known = self.conversations.get(change.c)
        if change.what == "title" and known is not None:
            self.know(msgspec.structs.replace(known, title=change.title))
        elif change.what == "added" and self._profile.account in change.accounts:
            # What it was called before, the account does not see.
            self.unknown.add(change.c)

    # Ticks and read marks

    def follow_ticks(self, receipt: wire.Receipt) -> None:
        marks = self.marks.get(receipt.c) or Marks()
        changes = self.unsure.get(receipt.c)
        if receipt.more:
            self.unsure[receipt.c] = []
            # Also where no mark has moved: whoever hears of it asks.
            moved = events.TickMoved(conversation=receipt.c, delivered=receipt.delivered, read=receipt.read)
            self._gathered.events.append(moved)
        elif changes is not None:
            changes.append(receipt)
        self._move_tick(receipt.c, receipt.delivered, receipt.read, _changed(marks.undelivered, receipt))

    def know_undelivered(self, conversation: str, seqs: Iterable[int], changes: list[wire.Receipt]) -> None:
        """What the server named, asked after `changes` began to gather; stored by the next flush. Does nothing where it
        has become doubtful again since."""
        if self.unsure.get(conversation) is not changes:
            return
        del self.unsure[conversation]
        undelivered = set(seqs)
        # Some of them are in it already. The last one of a seq is right, whatever stood there before.
        for change in changes:
            undelivered = _changed(undelivered, change)
        marks = self.touch(conversation)
        self._move_tick(conversation, marks.tick_delivered, marks.tick_read, undelivered)

    def _move_tick(self, conversation: str, delivered: int, read: int, undelivered: set[int]) -> None:
        marks = self.marks.get(conversation) or Marks()
        # Ticks only move forward (I6), whatever order they are heard of in.
        delivered, read = max(delivered, marks.tick_delivered), max(read, marks.tick_read)
        if (delivered, read, undelivered) == (marks.tick_delivered, marks.tick_read, marks.undelivered):
            return
        marks = self.touch(conversation)
        marks.tick_delivered, marks.tick_read, marks.undelivered = delivered, read, undelivered
        self._gathered.events.append(events.TickMoved(conversation=conversation, delivered=delivered, read=read))

    def move_read(self, conversation: str, read: int) -> None:
        marks = self.touch(conversation)
        if read > marks.read:
            marks.read = read
            self._gathered.events.append(events.ReadMarkMoved(conversation=conversation, read=read))

    # The welcome

    def look_over(self, overview: wire.Overview) -> None:
        """Compares what the server says of a conversation with what is here, and says again what it has not heard."""
        marks = self.touch(overview.c)
        self.know(conversation_of(overview))
        self._heads[overview.c] = overview.head
        ticks, undelivered = overview.ticks, set(overview.ticks.undelivered)
        self.unsure.pop(overview.c, None)
        if ticks.more:
            self.unsure[overview.c] = []
            undelivered |= marks.undelivered
        self._move_tick(overview.c, ticks.delivered, ticks.read, undelivered)
        if overview.read >= marks.read:
            self.move_read(overview.c, overview.read)
        else:
            self._gathered.reads.add(overview.c)
        if overview.delivered < marks.cursor:
            self._gathered.acks.add(overview.c)
        self._reading.look_over(overview.c, overview.delivered)

    def go_live(self) -> None:
        """The pages are over: what they did not bring, though the welcome named it, is a hole."""
        for conversation, head in self._heads.items():
            self.intake.want(conversation, head)


def _changed(undelivered: set[int], receipt: wire.Receipt) -> set[int]:
    if receipt.undelivered or receipt.repaired:
        return undelivered.union(receipt.undelivered).difference(receipt.repaired)
    return undelivered


def conversation_of(overview: wire.Overview) -> Conversation:
    return Conversation(
        conversation=overview.c,
        kind=overview.kind,
        protection=overview.protection,
        title=overview.title,
        peer=overview.peer,
    )
