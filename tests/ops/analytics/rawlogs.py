"""The logs of an IRC channel, counted by a reader of its own that knows nothing of the importer's."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

_SAID = re.compile(r"\[(\d\d):(\d\d)\] (?:<([^>]+)> (.*)| \* (\S+) ?(.*))$")
_RENAMED = re.compile(r"=== (\S+) is now known as (\S+)$")


class Said(NamedTuple):
    line: int
    day: str
    hour: int
    nick: str


def read(name: str, text: str) -> list[Said]:
    """What was said in one day's log. A clock that goes back has passed midnight; before October 2007, noon."""
    said, day, before = [], date.fromisoformat(name[:10]), -1
    turn = timedelta(days=1) if name >= "2007-10" else timedelta()
    for line, content in enumerate(text.split("\n")):
        found = _SAID.match(content)
        if found is None:
            continue
        hour, minute = int(found[1]), int(found[2])
        if hour * 60 + minute < before:
            day += turn
        before = hour * 60 + minute
        said.append(Said(line, str(day), hour, (found[3] or found[5]).replace(" ", "")))
    return said


def messages(files: Sequence[Path]) -> Iterator[Said]:
    for file in files:
        yield from read(file.name, file.read_text())


def people(files: Sequence[Path]) -> Counter[str]:
    """How much each person wrote, whom a new nick does not make another one: by the last nick."""
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for file in files:
        for content in file.read_text().split("\n"):
            said, renamed = _SAID.match(content), _RENAMED.match(content)
            if said is not None:
                nick = (said[3] or said[5]).replace(" ", "")
                counts[first.get(nick, nick)] += 1
            elif renamed is not None:
                person = first.get(renamed[1], renamed[1])
                last[first.setdefault(renamed[2], person)] = renamed[2]
    return Counter({last.get(nick, nick): count for nick, count in counts.items()})


def answers(files: Sequence[Path]) -> Counter[tuple[str, str]]:
    """Who answers whom: each message the nearest one before it that its links name. By nick."""
    counts: Counter[tuple[str, str]] = Counter()
    for file in files:
        said = {each.line: each.nick for each in read(file.name, file.read_text())}
        nearest: dict[int, int] = {}
        for link in file.with_name(file.name.replace(".raw.", ".annotation.")).read_text().splitlines():
            one, other = sorted(map(int, link.split()[:2]))
            if one < other and one in said and other in said:
                nearest[other] = max(one, nearest.get(other, -1))
        counts.update((said[answer], said[question]) for answer, question in nearest.items())
    return counts
