"""Checks what the clients of a `play` stored and saw against the chat that was played.

    python tests/oracle/play_oracle.py FILE… --journal DIR

It shares no code with the engine, the client or the player, and reads the logs by itself. The journal is every
`*.jsonl` in DIR, a JSON object on each line, of two shapes:

    {"nick": n, "seq": 7, "from": m, "text": "…"}              client n stored this; lines stand in the order of storing
    {"nick": n, "sent": 7, "delivered": true, "read": true}    n's own message 7 and the last ticks that n saw; where
                                                               a message has several such lines, the last one counts

`nick` and `from` name persons: the first nick of each, in the order of the files' lines, and `nick~2`, `nick~3`… for a
later person whose first nick is a name already. A rename keeps the person and frees the old nick; one to a nick that
somebody holds takes it over. A person is in the channel from its join or its first message, until "has left". The text
of `* nick waves` is `waves`.

Every client has each message of its time in the channel (its own ones too) exactly once, in the file's order, with the
right author and text, and nothing else; seqs rise, and mean the same to all. Every sender knows each message as sent,
and has both ticks where somebody else was there who didn't leave later.

Prints a verdict, {"ok", "persons", "messages", "stored", "ticks", "violations": {kind: count}, "first": [violation…]};
exits with 0 if all is well, 1 if not, 2 if there is nothing to check.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Pair = tuple[str, str]
"""Author and text."""

SHOWN_MAX = 50

TIMED = r"(?:\[\d\d:\d\d\] )?"
NICK_WORD = r"[\w\\`^{}|\[\]~-]+"
NICK = rf"({NICK_WORD}(?:(?<=\]) {NICK_WORD})*)"
MESSAGE = re.compile(r"\[\d\d:\d\d\] <([^>]+)> (.*)", re.DOTALL)
ACTION = re.compile(r"\[\d\d:\d\d\]  \* ([^ ]+) ?(.*)", re.DOTALL)
MOVE = re.compile(
    TIMED + r"=== " + NICK + r" +\[[^@ ]*(?:(?<=\]) [^@ ]*)*@[^@ ]*\] +has (joined|left) #[^ ]+( \[.*)?", re.DOTALL
)
RENAME = re.compile(TIMED + r"=== " + NICK + r" +is now known as " + NICK + r" *")


@dataclass
class Person:
    name: str
    stays: list[list[int]] = field(default_factory=list)
    """[first, end) in message numbers; the end of a stay that goes on is added last."""
    inside: bool = False


@dataclass
class Chat:
    """What should have happened."""

    persons: dict[str, Person] = field(default_factory=dict)
    messages: list[Pair] = field(default_factory=list)
    by_nick: dict[str, Person] = field(default_factory=dict)

    def person(self, nick: str) -> Person:
        if nick not in self.by_nick:
            name, n = nick, 2
            while name in self.persons:
                name, n = f"{nick}~{n}", n + 1
            self.by_nick[nick] = self.persons[name] = Person(name)
        return self.by_nick[nick]

    def come(self, person: Person) -> None:
        if not person.inside:
            person.inside = True
            person.stays.append([len(self.messages), sys.maxsize])

    def go(self, person: Person) -> None:
        if person.inside:
            person.inside = False
            person.stays[-1][1] = len(self.messages)

    def say(self, nick: str, text: str) -> None:
        person = self.person(nick)
        self.come(person)
        self.messages.append((person.name, text))

    def rename(self, old: str, new: str) -> None:
        person = self.person(old)
        self.by_nick.pop(old)
        self.by_nick[new] = person

    def read_line(self, line: str) -> None:
        if said := MESSAGE.fullmatch(line) or ACTION.fullmatch(line):
            self.say(squeeze(said[1]), said[2])
        elif renamed := RENAME.fullmatch(line):
            self.rename(squeeze(renamed[1]), squeeze(renamed[2]))
        elif moved := MOVE.fullmatch(line):
            person = self.person(squeeze(moved[1]))
            (self.come if moved[2] == "joined" else self.go)(person)


def squeeze(nick: str) -> str:
    """The old logs put a space after each `]` of a nick."""
    return nick.replace(" ", "")


def read_chat(logs: list[str]) -> Chat:
    chat = Chat()
    for log in logs:
        for line in log.split("\n"):
            chat.read_line(line.rstrip("\r"))
    return chat


@dataclass(frozen=True)
class Violation:
    kind: str
    nick: str
    seq: int | None
    what: str


@dataclass
class Journal:
    stored: dict[str, list[tuple[int, Pair]]] = field(default_factory=lambda: defaultdict(list))
    ticks: dict[tuple[str, int], tuple[bool, bool]] = field(default_factory=dict)
    unreadable: list[Violation] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> None:
        match entry:
            case {"nick": str(nick), "seq": int(seq), "from": str(author), "text": str(text)}:
                self.stored[nick].append((seq, (author, text)))
            case {"nick": str(nick), "sent": int(seq), "delivered": bool(delivered), "read": bool(read)}:
                self.ticks[nick, seq] = (delivered, read)
            case _:
                raise ValueError("neither a stored message nor a tick")


def read_journal(folder: Path) -> Journal:
    journal = Journal()
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, start=1):
            if not line and number == len(lines):
                continue
            try:
                journal.add(json.loads(line))
            except ValueError as error:
                journal.unreadable.append(Violation("unreadable", "", None, f"{path.name}:{number}: {error}"))
    return journal


def check(chat: Chat, journal: Journal) -> list[Violation]:
    meanings, found = agree(journal, set(chat.messages))
    numbers, misfits = align(chat.messages, meanings)
    found = [*journal.unreadable, *found, *misfits]
    for nick in sorted(journal.stored.keys() | {nick for nick, _ in journal.ticks}):
        if nick not in chat.persons:
            found.append(Violation("unknown_client", nick, None, "nobody in the files has that name"))
    for person in chat.persons.values():
        found += check_store(chat, person, journal.stored.get(person.name, []), numbers)
    return found + check_ticks(chat, journal, numbers)


def agree(journal: Journal, messages: set[Pair]) -> tuple[dict[int, Pair], list[Violation]]:
    """What each seq means to most clients (of two halves, to the one that the files know), and who disagrees."""
    votes: dict[int, Counter[Pair]] = defaultdict(Counter)
    for entries in journal.stored.values():
        for seq, pair in entries:
            votes[seq][pair] += 1
    meanings = {seq: choose(votes[seq], messages) for seq in sorted(votes)}
    found = [
        Violation("disagrees", nick, seq, f"{pair} is {meanings[seq]} to most")
        for nick, entries in journal.stored.items()
        for seq, pair in entries
        if pair != meanings[seq]
    ]
    return meanings, found


def choose(votes: Counter[Pair], messages: set[Pair]) -> Pair:
    return max(votes, key=lambda pair: (votes[pair], pair in messages))


def align(messages: list[Pair], meanings: dict[int, Pair]) -> tuple[dict[int, int], list[Violation]]:
    """Which message of the files each seq is; what of the journal the files don't have, or not there."""
    seqs, pairs = list(meanings), list(meanings.values())
    numbers: dict[int, int] = {}
    # Most runs are flawless, and difflib is quadratic at worst.
    blocks = [(0, 0, len(pairs))] if pairs == messages else matching_blocks(messages, pairs)
    for start, seq_start, size in blocks:
        numbers |= {seqs[seq_start + i]: start + i for i in range(size)}
    left_over: dict[Pair, list[int]] = defaultdict(list)
    for number in sorted(set(range(len(messages))) - set(numbers.values())):
        left_over[messages[number]].append(number)
    found: list[Violation] = []
    for seq in (seq for seq in seqs if seq not in numbers):
        pair = meanings[seq]
        if left_over[pair]:
            numbers[seq] = left_over[pair].pop(0)
            found.append(Violation("misplaced", pair[0], seq, f"{pair} stands elsewhere in the file"))
        elif pair in messages:
            found.append(Violation("sent_twice", pair[0], seq, f"{pair} is in the log once more than in the file"))
        else:
            found.append(Violation("foreign", pair[0], seq, f"{pair} is in no file"))
    return numbers, found


def matching_blocks(messages: list[Pair], pairs: list[Pair]) -> list[difflib.Match]:
    return difflib.SequenceMatcher(None, messages, pairs, autojunk=False).get_matching_blocks()


def check_store(
    chat: Chat, person: Person, entries: list[tuple[int, Pair]], numbers: dict[int, int]
) -> list[Violation]:
    found, name = [], person.name
    times, previous = Counter(seq for seq, _ in entries), 0
    for seq, _ in dict.fromkeys(entries):
        if seq < previous:
            found.append(Violation("out_of_order", name, seq, f"stored after {previous}"))
        previous = seq
    found += [Violation("doubled", name, seq, f"stored {n} times") for seq, n in times.items() if n > 1]
    due = {number for first, end in person.stays for number in range(first, min(end, len(chat.messages)))}
    got = {numbers[seq]: seq for seq in times if seq in numbers}
    for number in sorted(due - got.keys()):
        found.append(Violation("lost", name, None, f"message {number} of the files, {chat.messages[number]}"))
    for number in sorted(got.keys() - due):
        what = f"message {number} of the files, {chat.messages[number]}"
        found.append(Violation("outside_its_time", name, got[number], what))
    return found


def check_ticks(chat: Chat, journal: Journal, numbers: dict[int, int]) -> list[Violation]:
    seqs = {number: seq for seq, number in numbers.items()}
    stayed = sorted((p.stays[-1][0], p.name) for p in chat.persons.values() if p.inside)
    found = []
    for number, (author, text) in enumerate(chat.messages):
        if (seq := seqs.get(number)) is None:
            # Nobody has it: lost already says so, for its author too.
            continue
        if (author, seq) not in journal.ticks:
            found.append(Violation("tick_missing", author, seq, f"not known as sent: {text!r}"))
            continue
        delivered, read = journal.ticks[author, seq]
        # Whoever leaves later is waived; of those who stay, the first two suffice to find one who isn't the author.
        if any(since <= number and name != author for since, name in stayed[:2]):
            found += [] if delivered else [Violation("not_delivered", author, seq, repr(text))]
            found += [] if read else [Violation("not_read", author, seq, repr(text))]
    own = {(chat.messages[number][0], seq) for seq, number in numbers.items()}
    strangers = [tick for tick in journal.ticks if tick not in own and tick[0] in chat.persons]
    return found + [Violation("tick_of_no_own_message", nick, seq, "") for nick, seq in strangers]


def verdict(chat: Chat, journal: Journal) -> dict[str, Any]:
    found = check(chat, journal)
    return {
        "ok": not found,
        "persons": sum(bool(person.stays) for person in chat.persons.values()),
        "messages": len(chat.messages),
        "stored": sum(map(len, journal.stored.values())),
        "ticks": len(journal.ticks),
        "violations": dict(Counter(violation.kind for violation in found)),
        "first": [vars(violation) for violation in found[:SHOWN_MAX]],
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Checks the journal of a `play` against the chat that was played.")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="raw logs, in the order they were played in"
    )
    parser.add_argument("--journal", required=True, type=Path, metavar="DIR", help="the folder with the journal")
    options = parser.parse_args(argv)
    if not any(options.journal.glob("*.jsonl")):
        parser.error(f"no *.jsonl in {options.journal}: give the folder that `play --journal` wrote")
    chat = read_chat([path.read_bytes().decode("utf-8", errors="replace") for path in options.files])
    result = verdict(chat, read_journal(options.journal))
    json.dump(result, sys.stdout, ensure_ascii=False, indent=2)
    print()
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
