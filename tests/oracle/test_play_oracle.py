"""The oracle finds each way in which a journal can be wrong, and nothing in one that is right.

The perfect journal is made from `ops.irc`, which the oracle doesn't know: that both agree checks the reader too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.irc.lines import parse
from ops.irc.script import Enter, Leave, Say, Script
from tests.corpus import DAYS, corpus_logs, needs_corpus
from tests.oracle import play_oracle
from tests.oracle.play_oracle import Journal, check, read_chat

Entry = dict[str, Any]


def perform(*logs: str) -> list[Entry]:
    """The journal of a play without a flaw: each step of the channel is one seq."""
    journal: list[Entry] = []
    inside: dict[str, None] = {}
    channel, seq = Script(), 0
    for log in logs:
        for step in channel.steps(parse(log)):
            seq += 1
            match step:
                case Enter():
                    inside[step.person] = None
                case Leave():
                    del inside[step.person]
                case Say():
                    message = {"seq": seq, "from": step.person, "text": step.text}
                    journal += [{"nick": person} | message for person in inside]
                    journal.append({"nick": step.person, "sent": seq, "delivered": True, "read": True})
    return journal


def kinds(logs: list[str], entries: list[Entry]) -> set[str]:
    journal = Journal()
    for entry in entries:
        journal.add(entry)
    return {violation.kind for violation in check(read_chat(logs), journal)}


def joined(nick: str) -> str:
    return f"=== {nick} [u@h]  has joined #ubuntu\n"


def left(nick: str) -> str:
    return f'=== {nick} [u@h]  has left #ubuntu ["bye"] \n'


DAY = "".join(
    [
        joined("ann"),
        joined("bob"),
        "[01:00] <ann> one\n",
        "[01:00] <bob> two\n",
        "=== bob is now known as bob_\n",
        "[01:01] <eve> three\n",
        "[01:01]  * bob_ waves\n",
        left("eve"),
        "[01:02] <ann> four\n",
        "[01:02] <bob> five\n",
    ]
)


def stored(journal: list[Entry], nick: str) -> list[int]:
    """Where in the journal the client's stored messages stand."""
    return [at for at, entry in enumerate(journal) if entry["nick"] == nick and "seq" in entry]


def sent(journal: list[Entry], nick: str) -> list[int]:
    return [at for at, entry in enumerate(journal) if entry["nick"] == nick and "sent" in entry]


def test_a_perfect_journal_passes() -> None:
    assert kinds([DAY], perform(DAY)) == set()


def test_two_days_in_one_play() -> None:
    assert kinds([DAY, DAY], perform(DAY, DAY)) == set()
    assert kinds([DAY, DAY], perform(DAY)) == {"lost"}


@pytest.mark.parametrize("day", DAYS, ids=lambda day: str(day.name))
def test_a_perfect_journal_of_a_real_day_passes(day: Path) -> None:
    log = day.read_bytes().decode()
    assert kinds([log], perform(log)) == set()


def test_persons_are_named_by_their_first_nick() -> None:
    journal = perform(DAY)
    assert {entry["nick"] for entry in journal} == {"ann", "bob", "eve", "bob~2"}
    assert [journal[at]["text"] for at in stored(journal, "eve")] == ["three", "waves"]


def lose(journal: list[Entry]) -> None:
    del journal[stored(journal, "ann")[2]]


def lose_everywhere(journal: list[Entry]) -> None:
    journal[:] = [entry for entry in journal if entry.get("text") != "three" and entry["nick"] != "eve"]


def lose_a_client(journal: list[Entry]) -> None:
    journal[:] = [entry for entry in journal if entry["nick"] != "eve"]


def double(journal: list[Entry]) -> None:
    at = stored(journal, "ann")[1]
    journal.append(dict(journal[at]))


def accept_twice(journal: list[Entry]) -> None:
    journal += [{"nick": nick, "seq": 99, "from": "bob~2", "text": "five"} for nick in ("ann", "bob", "bob~2")]


def swap(journal: list[Entry]) -> None:
    one, two = stored(journal, "bob")[1:3]
    journal[one], journal[two] = journal[two], journal[one]


def swap_everywhere(journal: list[Entry]) -> None:
    for entry in journal:
        for key in entry.keys() & {"seq", "sent"}:
            entry[key] = {3: 4, 4: 3}.get(entry[key], entry[key])
    journal.sort(key=lambda entry: int(entry.get("seq", 0)))


def invent(journal: list[Entry]) -> None:
    journal.append({"nick": "ann", "seq": 99, "from": "bob", "text": "never said"})


def change_the_author(journal: list[Entry]) -> None:
    journal[stored(journal, "ann")[1]]["from"] = "eve"


def change_the_text(journal: list[Entry]) -> None:
    journal[stored(journal, "ann")[1]]["text"] = "too"


def change_the_text_everywhere(journal: list[Entry]) -> None:
    for entry in journal:
        if entry.get("text") == "two":
            entry["text"] = "too"


def show_too_early(journal: list[Entry]) -> None:
    journal.insert(stored(journal, "eve")[0], journal[stored(journal, "ann")[0]] | {"nick": "eve"})


def show_too_late(journal: list[Entry]) -> None:
    journal.append(journal[stored(journal, "ann")[-1]] | {"nick": "eve"})


def let_a_stranger_in(journal: list[Entry]) -> None:
    journal.append(journal[0] | {"nick": "mallory"})


def forget_what_was_sent(journal: list[Entry]) -> None:
    del journal[sent(journal, "ann")[0]]


def miss_delivered(journal: list[Entry]) -> None:
    journal[sent(journal, "ann")[0]]["delivered"] = False


def miss_read(journal: list[Entry]) -> None:
    journal[sent(journal, "ann")[0]]["read"] = False


def tick_anothers(journal: list[Entry]) -> None:
    journal.append(journal[sent(journal, "ann")[0]] | {"nick": "bob"})


@pytest.mark.parametrize(
    ("corrupt", "found"),
    [
        (lose, {"lost"}),
        (lose_everywhere, {"lost"}),
        (lose_a_client, {"lost", "tick_missing"}),
        (double, {"doubled"}),
        (accept_twice, {"sent_twice"}),
        (swap, {"out_of_order"}),
        (swap_everywhere, {"misplaced"}),
        (invent, {"foreign"}),
        (change_the_author, {"disagrees"}),
        (change_the_text, {"disagrees"}),
        (change_the_text_everywhere, {"foreign", "lost", "tick_of_no_own_message"}),
        (show_too_early, {"outside_its_time"}),
        (show_too_late, {"outside_its_time"}),
        (let_a_stranger_in, {"unknown_client"}),
        (forget_what_was_sent, {"tick_missing"}),
        (miss_delivered, {"not_delivered"}),
        (miss_read, {"not_read"}),
        (tick_anothers, {"tick_of_no_own_message"}),
    ],
)
def test_each_flaw_is_found_by_name(corrupt: Callable[[list[Entry]], None], found: set[str]) -> None:
    journal = perform(DAY)
    corrupt(journal)
    assert kinds([DAY], journal) == found


def test_a_violation_says_where() -> None:
    journal = Journal()
    for entry in perform(DAY)[:-1]:
        journal.add(entry)
    (violation,) = check(read_chat([DAY]), journal)
    assert (violation.kind, violation.nick, violation.what) == ("tick_missing", "bob~2", "not known as sent: 'five'")


def test_ticks_need_an_audience_that_stays() -> None:
    """Alone, or with nobody but one who leaves later, a sender's ticks are not looked at; with a third they are."""
    leaver = joined("ann") + "[01:00] <ann> alone\n" + joined("eve") + "[01:01] <ann> with eve\n" + left("eve")
    journal = [entry | {"delivered": False, "read": False} if "sent" in entry else entry for entry in perform(leaver)]
    assert kinds([leaver], journal) == set()
    third = joined("cat") + leaver
    journal = [entry | {"delivered": False, "read": False} if "sent" in entry else entry for entry in perform(third)]
    assert kinds([third], journal) == {"not_delivered", "not_read"}


some_nick = st.sampled_from(["a", "b", "c", "d[x] y"])
some_line = st.one_of(
    st.builds("[01:00] <{}> {}\n".format, some_nick, st.sampled_from(["yes", "no", "no "])),
    st.builds(joined, some_nick),
    st.builds(left, some_nick),
    st.builds("=== {} is now known as {}\n".format, some_nick, some_nick),
)


@given(st.lists(some_line, max_size=40), st.data())
def test_whatever_the_chat_one_flaw_is_found(log: list[str], data: st.DataObject) -> None:
    day = "".join(log)
    journal = perform(day)
    assert kinds([day], journal) == set()
    if not journal:
        return
    at = data.draw(st.integers(0, len(journal) - 1), label="the entry that is changed")
    if data.draw(st.booleans(), label="drop it"):
        del journal[at]
    elif "sent" in journal[at]:
        journal[at]["sent"] += 1000
    else:
        key, value = data.draw(st.sampled_from([("text", "maybe"), ("from", "z"), ("nick", "z"), ("seq", 10_000)]))
        journal[at][key] = value
    assert kinds([day], journal)


def run(*arguments: str | Path) -> tuple[int, Any]:
    done = subprocess.run(
        [sys.executable, play_oracle.__file__, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def write(folder: Path, journal: list[Entry]) -> None:
    """One file for each client."""
    for entry in journal:
        with (folder / f"{entry['nick']}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def test_as_a_command_it_prints_a_verdict(tmp_path: Path) -> None:
    day, journal, clients = tmp_path / "day.raw.txt", perform(DAY), tmp_path / "journal"
    day.write_text(DAY, encoding="utf-8")
    clients.mkdir()
    code, complaint = run(day, "--journal", clients)
    assert code == 2
    assert "no *.jsonl" in complaint
    write(clients, journal)
    code, verdict = run(day, "--journal", clients)
    assert (code, verdict["ok"], verdict["persons"], verdict["messages"]) == (0, True, 4, 6)
    (clients / "ann.jsonl").write_text('{"nick": "ann"', encoding="utf-8")
    code, verdict = run(day, "--journal", clients)
    assert (code, verdict["ok"]) == (1, False)
    assert verdict["violations"] == {"unreadable": 1, "lost": 6, "tick_missing": 2}


@needs_corpus
def test_the_oracle_and_the_reader_agree_on_the_whole_corpus() -> None:
    logs = corpus_logs()
    for days in [logs, *([log] for log in logs)]:
        chat = read_chat(days)
        messages, stays = read_by_script(days)
        assert chat.messages == messages
        assert {name: person.stays for name, person in chat.persons.items() if person.stays} == stays


def read_by_script(logs: list[str]) -> tuple[list[tuple[str, str]], dict[str, list[list[int]]]]:
    channel = Script()
    messages: list[tuple[str, str]] = []
    stays: dict[str, list[list[int]]] = {}
    for step in (step for log in logs for step in channel.steps(parse(log))):
        match step:
            case Enter():
                stays.setdefault(step.person, []).append([len(messages), sys.maxsize])
            case Leave():
                stays[step.person][-1][1] = len(messages)
            case Say():
                messages.append((step.person, step.text))
    return messages, stays
