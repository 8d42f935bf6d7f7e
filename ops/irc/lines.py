"""What each line of a channel's log says: a pure parser that leaves no line out.

The shapes are those of Ubuntu's logs, 2004 to 2018. A system line (`===`) may bear a time or not:

    [09:14] <nick> text                               Said
    [13:56]  * nick waves                             Acted
    === nick [user@host]  has joined #ubuntu          Joined
    === nick [user@host]  has left #ubuntu ["bye"]    Left
    === nick is now known as nack                     Renamed
    anything else                                     Skipped, with one of `REASONS`

A join or a leave needs a nick and a user@host, and a new nick ends its line, so that neither a topic nor an action that
merely reads like one is taken for it. The old logs write a space after each `]`, also inside nicks (`<bur[n] er>`); no
nick has spaces, so they are taken out of nicks again. Texts stay as they are, to the last trailing space; one may be
empty (`<nick> ` with its space, `* nick`), and what was never a text (`<nick>` without the space) is skipped.

Until September 2007 the logs wrote actions as `=== nick waves`. Nothing tells those from a server's notice, so they are
skipped (`notice`) rather than put into somebody's mouth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct


class Line(Struct, frozen=True, kw_only=True):
    line: int
    """Counted from 0 within its file, as the corpus's annotations count."""
    minute: int | None
    """Since midnight, 0 to 1439; None where the line bears no time. Logs before 2007-10 are on a 12-hour clock."""


class Said(Line, frozen=True, kw_only=True):
    nick: str
    text: str


class Acted(Line, frozen=True, kw_only=True):
    nick: str
    text: str
    """What follows the nick: `waves`."""


class Joined(Line, frozen=True, kw_only=True):
    nick: str


class Left(Line, frozen=True, kw_only=True):
    nick: str


class Renamed(Line, frozen=True, kw_only=True):
    nick: str
    new_nick: str


class Skipped(Line, frozen=True, kw_only=True):
    reason: str


Happening = Said | Acted | Joined | Left | Renamed | Skipped

REASONS: Final = {
    "mode": "a change of modes",
    "topic": "the topic, shown or changed",
    "kick": "a kick: only `has left` ends a membership",
    "netsplit": "servers that split or joined again",
    "notice": "any other system line, the actions of the old logs among them",
    "channel_notice": "a NOTICE to the whole channel (`-nick:#ubuntu- text`)",
    "no_text": "a nick, and nothing said",
    "foreign_format": "in none of the shapes above",
}

# A space in a nick is one that the old logs put after a `]`.
_NICK: Final = r"((?:[\w\[\\`^{}|~-]|\] ?)+)"
_WHERE: Final = r"\[(?:[^\s\]]|\] ?)*@(?:[^\s\]]|\] ?)+\] +has (joined|left) #\S+"
_MEMBERSHIP: Final = re.compile(rf"{_NICK} {_WHERE}(?: \[.*)?$", re.DOTALL)
_RENAME: Final = re.compile(rf"{_NICK} is now known as {_NICK} *$")
_SPEECH: Final = re.compile(r"<([^>]+)> (.*)", re.DOTALL)
_ACTION: Final = re.compile(r" \* ([^ ]+)(?: (.*))?", re.DOTALL)
_TIME: Final = re.compile(r"\[([01]\d|2[0-3]):([0-5]\d)\] ")

_SYSTEM_REASONS: Final = (
    ("mode", re.compile(r"mode/#")),
    ("topic", re.compile(r"\.\.\[topic/|Topic (?:for|\()|\S+ changed the topic of #")),
    ("kick", re.compile(r"\S+ was kicked off #")),
    ("netsplit", re.compile(r"net(?:joined|split): ")),
)
_OTHER_REASONS: Final = (
    ("no_text", re.compile(r"<[^>]+>$")),
    ("channel_notice", re.compile(r"-[^\s:]+:#\S+- ")),
)


def parse(log: str) -> Iterator[Happening]:
    """The happenings of one file, one for each of its lines, in order."""
    # Not splitlines(): real lines hold form feeds and separators that it would cut at.
    lines = log.removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()
    return (parse_line(number, text.removesuffix("\r")) for number, text in enumerate(lines))


def parse_line(line: int, text: str) -> Happening:
    minute, rest = _take_time(text)
    if rest.startswith("=== "):
        return _parse_system(line, minute, rest[4:])
    if minute is None:
        return Skipped(line=line, minute=None, reason="foreign_format")
    if speech := _SPEECH.match(rest):
        return Said(line=line, minute=minute, nick=_whole(speech[1]), text=speech[2])
    if action := _ACTION.match(rest):
        return Acted(line=line, minute=minute, nick=action[1], text=action[2] or "")
    return Skipped(line=line, minute=minute, reason=_reason(rest, _OTHER_REASONS, otherwise="foreign_format"))


def _take_time(text: str) -> tuple[int | None, str]:
    time = _TIME.match(text)
    if time is None:
        return None, text
    return int(time[1]) * 60 + int(time[2]), text[time.end() :]


def _parse_system(line: int, minute: int | None, text: str) -> Happening:
    if rename := _RENAME.match(text):
        return Renamed(line=line, minute=minute, nick=_whole(rename[1]), new_nick=_whole(rename[2]))
    if membership := _MEMBERSHIP.match(text):
        happening = Joined if membership[2] == "joined" else Left
        return happening(line=line, minute=minute, nick=_whole(membership[1]))
    return Skipped(line=line, minute=minute, reason=_reason(text, _SYSTEM_REASONS, otherwise="notice"))


def _reason(text: str, reasons: tuple[tuple[str, re.Pattern[str]], ...], *, otherwise: str) -> str:
    return next((reason for reason, shape in reasons if shape.match(text)), otherwise)


def _whole(nick: str) -> str:
    return nick.replace(" ", "")
