"""Who did it: turns happenings into the steps that a player or an importer carries out.

A *person* is one account. Its key is the first nick it was seen with; a later person whose first nick is taken as a key
gets `nick~2`, `nick~3` and so on. The rules, where real logs leave room:

- A person is born when a nick that nobody holds appears, in whatever line. It holds that nick until it is renamed or
  somebody else is renamed to it, also while it is out of the channel.
- A rename keeps the account. The old nick is free then: who appears with it next is somebody new, unless its holder was
  renamed back before.
- A rename to a nick that is held takes it over. Who held it has gone without a trace (the logs don't show who quits)
  and keeps its account without a nick; if it was a member, it stays one.
- A person comes in by its join, or right before its first message where there is none, and goes out by `has left`
  alone. It may come back in the same ways. A join of one who is in, a leave or a rename of one who is out, change
  nothing and are skipped under those names; such a rename is kept in mind, though, and shows in a later `Enter`.
- Files given one after the other are one channel: who is in at the end of a day is in on the next.

Each line gives exactly one step that is not an implied `Enter`, so lines and steps tie out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NewType, assert_never

from ops.irc.lines import Acted, Happening, Joined, Left, Line, Renamed, Said, Skipped

Person = NewType("Person", str)


class Enter(Line, frozen=True, kw_only=True):
    person: Person
    nick: str
    """What the person is called now."""
    implied: bool
    """True where no join says so: the next step is the person's message of the same line."""


class Leave(Line, frozen=True, kw_only=True):
    person: Person


class Say(Line, frozen=True, kw_only=True):
    person: Person
    text: str
    action: bool
    """True for `* nick waves`; the text is `waves`."""


class Rename(Line, frozen=True, kw_only=True):
    person: Person
    nick: str


Step = Enter | Leave | Say | Rename | Skipped

REASONS: Final = {
    "already_in": "a join of a member: it quit before, which the logs don't show",
    "leave_while_out": "`has left` of one who was never seen to come in",
    "rename_while_out": "a rename of one who has not joined nor spoken yet",
}


class Script:
    """The channel as read so far; feed it the days in order."""

    def __init__(self) -> None:
        self._holders: dict[str, Person] = {}
        self._persons: set[Person] = set()
        self._members: set[Person] = set()

    def steps(self, happenings: Iterable[Happening]) -> Iterator[Step]:
        for happening in happenings:
            yield from self._steps_of(happening)

    def _steps_of(self, happening: Happening) -> Iterator[Step]:
        match happening:
            case Said() | Acted():
                yield from self._say(happening)
            case Joined():
                yield self._join(happening)
            case Left():
                yield self._leave(happening)
            case Renamed():
                yield self._rename(happening)
            case Skipped():
                yield happening
            case _:
                assert_never(happening)

    def _say(self, said: Said | Acted) -> Iterator[Step]:
        person = self._holder(said.nick)
        if person not in self._members:
            yield self._enter(said, person, said.nick, implied=True)
        yield Say(line=said.line, minute=said.minute, person=person, text=said.text, action=isinstance(said, Acted))

    def _join(self, joined: Joined) -> Step:
        person = self._holder(joined.nick)
        if person in self._members:
            return _skip(joined, "already_in")
        return self._enter(joined, person, joined.nick, implied=False)

    def _enter(self, line: Line, person: Person, nick: str, *, implied: bool) -> Enter:
        self._members.add(person)
        return Enter(line=line.line, minute=line.minute, person=person, nick=nick, implied=implied)

    def _leave(self, left: Left) -> Step:
        person = self._holder(left.nick)
        if person not in self._members:
            return _skip(left, "leave_while_out")
        self._members.remove(person)
        return Leave(line=left.line, minute=left.minute, person=person)

    def _rename(self, renamed: Renamed) -> Step:
        person = self._holder(renamed.nick)
        del self._holders[renamed.nick]
        self._holders[renamed.new_nick] = person
        if person not in self._members:
            return _skip(renamed, "rename_while_out")
        return Rename(line=renamed.line, minute=renamed.minute, person=person, nick=renamed.new_nick)

    def _holder(self, nick: str) -> Person:
        if nick not in self._holders:
            self._holders[nick] = self._new_person(nick)
        return self._holders[nick]

    def _new_person(self, nick: str) -> Person:
        person, count = Person(nick), 1
        while person in self._persons:
            count += 1
            person = Person(f"{nick}~{count}")
        self._persons.add(person)
        return person


def _skip(line: Line, reason: str) -> Skipped:
    return Skipped(line=line.line, minute=line.minute, reason=reason)
