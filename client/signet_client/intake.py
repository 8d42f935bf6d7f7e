"""Order: turns what arrives, in whatever order and however often, into every item once, in order of seq (I3, I4).

Pure: no I/O and no clock. A conversation's cursor is the seq up to which everything is held. What comes at once beyond
the cursor waits; if the hole before it stays, a fetch from the cursor closes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from signet_client import wire
from signet_client.records import Marks

AHEAD_MAX: Final = 1_000
"""How many items of a conversation may wait behind a hole; further ones are dropped: the fetch brings them too."""
FETCHES_MAX: Final = 16
"""How many fetches may be unanswered; further holes wait their turn."""
FETCH_ITEMS: Final = 200


@dataclass(slots=True)
class _Hole:
    """What is known to be missing from a conversation."""

    wanted: int
    """There is something up to this seq."""
    ahead: dict[int, wire.Item] = field(default_factory=dict)
    fetch: str = ""
    """The id of the unanswered fetch."""
    fetched_after: int = 0
    """From where on it asked."""


class Intake:
    """The order of one device's conversations."""

    def __init__(self, marks: dict[str, Marks]) -> None:
        """`marks` is shared with the caller: the cursors in it move as items are given out."""
        self._marks = marks
        self._holes: dict[str, _Hole] = {}
        self._fetching: dict[str, str] = {}
        self._fetches = 0

    @property
    def holes(self) -> Mapping[str, object]:
        """The conversations from which something is known to be missing."""
        return self._holes

    def push(self, item: wire.Item) -> list[wire.Item]:
        """What can be stored now: the item, and what waited for it; nothing where it is held already or must wait."""
        marks = self._of(item.c)
        if item.seq <= marks.cursor:
            return []
        if item.seq == marks.cursor + 1 and item.c not in self._holes:
            marks.cursor = item.seq
            return [item]
        hole = self._hole(item.c, item.seq)
        if len(hole.ahead) < AHEAD_MAX or item.seq == marks.cursor + 1:
            hole.ahead[item.seq] = item
        return self._advance(item.c, marks, hole)

    def page(self, page: wire.Page) -> list[wire.Item]:
        """What can be stored now of a page, resuming or fetched, and of what waited for it."""
        marks = self._of(page.c)
        items = [item for item in page.items if item.seq > marks.cursor]
        # What the page leaves out up to `upto`, the account may not see.
        marks.cursor = max(marks.cursor, page.upto)
        hole = self._holes.get(page.c)
        if hole is None:
            return items
        answered = hole.fetch and hole.fetch == page.id
        if answered:
            self._fetching.pop(hole.fetch, None)
            hole.fetch = ""
        items += self._advance(page.c, marks, hole)
        if answered and page.upto <= hole.fetched_after:
            # The server does not have what was wanted. Not asked again and again.
            self._holes.pop(page.c, None)
        return items

    def want(self, conversation: str, seq: int) -> None:
        """The conversation is said to have something up to `seq`."""
        if seq > self._of(conversation).cursor:
            self._hole(conversation, seq)

    def fetches(self) -> list[wire.Fetch]:
        """The fetches that are to be sent now."""
        frames: list[wire.Fetch] = []
        for conversation, hole in self._holes.items():
            if len(self._fetching) >= FETCHES_MAX:
                break
            if not hole.fetch:
                self._fetches += 1
                hole.fetch = f"f{self._fetches}"
                self._fetching[hole.fetch] = conversation
                hole.fetched_after = self._of(conversation).cursor
                frames.append(wire.Fetch(id=hole.fetch, c=conversation, after=hole.fetched_after, limit=FETCH_ITEMS))
        return frames

    def refused(self, fetch: str, *, retry: bool) -> bool:
        """Whether this id is of a fetch. Where it may be retried, `fetches` gives it again; else the hole is left."""
        conversation = self._fetching.pop(fetch, None)
        if conversation is None:
            return False
        hole = self._holes[conversation]
        hole.fetch = ""
        if not retry:
            del self._holes[conversation]
        return True

    def reset(self) -> None:
        """The connection is gone, and with it every unanswered fetch; the next one resumes from the cursors."""
        self._holes.clear()
        self._fetching.clear()

    def _of(self, conversation: str) -> Marks:
        marks = self._marks.get(conversation)
        if marks is None:
            marks = self._marks[conversation] = Marks()
        return marks

    def _hole(self, conversation: str, wanted: int) -> _Hole:
        hole = self._holes.get(conversation)
        if hole is None:
            hole = self._holes[conversation] = _Hole(wanted)
        hole.wanted = max(hole.wanted, wanted)
        return hole

    def _advance(self, conversation: str, marks: Marks, hole: _Hole) -> list[wire.Item]:
        """Gives out what waited and follows the cursor now; closes the hole where nothing is missing any more."""
        items: list[wire.Item] = []
        while (item := hole.ahead.pop(marks.cursor + 1, None)) is not None:
            marks.cursor = item.seq
            items.append(item)
        hole.ahead = {seq: item for seq, item in hole.ahead.items() if seq > marks.cursor}
        if marks.cursor >= hole.wanted:
            self._holes.pop(conversation)
            self._fetching.pop(hole.fetch, None)
        return items
