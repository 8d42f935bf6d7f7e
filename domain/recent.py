"""The command ids that a conversation has seen of late, and what became of each."""

from typing import Final

import msgspec

from domain.ids import AccountId

RECENT_MIN: Final = 2_048
"""How many of the last command ids are known at least; twice as many at most."""


class First(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The first outcome of a command id: a repeated command is answered with it, whatever has happened since."""

    seq: int
    at: int
    by: AccountId
    what: str
    """A message's digest, else the topic of the event: another command under the same id is refused."""


class Recent(msgspec.Struct):
    """Ids in two generations: the older one is dropped whole. (To drop them one by one from the front of a dict would
    walk over the holes of all earlier deletions.)"""

    since: int = 0
    """Of everything with a greater seq than this one, the id is known."""
    _turned: int = 0
    _new: dict[str, First] = {}
    _old: dict[str, First] = {}

    @classmethod
    def blank(cls, seq: int) -> "Recent":
        """Knows nothing of what lies at or before this seq."""
        return cls(since=seq, _turned=seq)

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def turn(self, seq: int) -> None:
        """Forgets the older generation; `seq`: that of the last event."""
        self._old, self._new = self._new, {}
        self.since, self._turned = self._turned, seq

    def find(self, command_id: str) -> First | None:
        return self._new.get(command_id) or self._old.get(command_id)

    def add(self, command_id: str, first: First) -> None:
        if len(self._new) >= RECENT_MIN:
            self.turn(first.seq - 1)
        # The first event of a command has its outcome; what the command did beside it doesn't count.
        self._new.setdefault(command_id, first)
