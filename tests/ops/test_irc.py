"""The reader of IRC logs: every line is told, and everybody keeps one account."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.irc import lines, script
from ops.irc.lines import Acted, Happening, Joined, Left, Renamed, Said, Skipped, parse, parse_line
from ops.irc.script import Enter, Leave, Person, Rename, Say, Script, Step
from tests.corpus import DAYS, corpus_logs, needs_corpus


def play(*days: str) -> list[Step]:
    channel = Script()
    return [step for day in days for step in channel.steps(parse(day))]


def told(steps: list[Step]) -> list[tuple[str, ...]]:
    """Steps in short: ("in", person), ("out", person), ("says", person, text), ("is", person, nick)."""
    short: list[tuple[str, ...]] = []
    for step in steps:
        match step:
            case Enter():
                short.append(("in", step.person))
            case Leave():
                short.append(("out", step.person))
            case Say():
                short.append(("says", step.person, step.text))
            case Rename():
                short.append(("is", step.person, step.nick))
            case Skipped():
                short.append(("skipped", step.reason))
    return short


@pytest.mark.parametrize(
    ("text", "happening"),
    [
        ("[09:14] <will> a  b ", Said(line=5, minute=554, nick="will", text="a  b ")),
        ("[23:59] <a> <b> c", Said(line=5, minute=1439, nick="a", text="<b> c")),
        ("[00:00] <bur[n] er> hi", Said(line=5, minute=0, nick="bur[n]er", text="hi")),
        ("[11:25] <pirate> ", Said(line=5, minute=685, nick="pirate", text="")),
        ("[13:56]  * genii sips a coffee", Acted(line=5, minute=836, nick="genii", text="sips a coffee")),
        ("[13:54]  * MinIRC  is hugging", Acted(line=5, minute=834, nick="MinIRC", text=" is hugging")),
        ("[11:27]  * TheHawk", Acted(line=5, minute=687, nick="TheHawk", text="")),
        ("=== L0sT [~waa3@a.uk]  has joined #ubuntu", Joined(line=5, minute=None, nick="L0sT")),
        ("[09:43] === L0sT [~waa3@a.uk]  has joined #Ubuntu", Joined(line=5, minute=583, nick="L0sT")),
        ("=== [D-Tail]  [n=d-tail@a.nl]  has joined #ubuntu", Joined(line=5, minute=None, nick="[D-Tail]")),
        ("=== toxic [[H] -66@58.10.65.120]  has joined #ubuntu", Joined(line=5, minute=None, nick="toxic")),
        ("=== g [n=[a] b@c.net]  has left #ubuntu []", Left(line=5, minute=None, nick="g")),
        ('=== Harti [n=H@u/h]  has left #Ubuntu ["-carpe] ', Left(line=5, minute=None, nick="Harti")),
        ("=== a is now known as b|c", Renamed(line=5, minute=None, nick="a", new_nick="b|c")),
        ("[10:00] === a[b] is now known as c", Renamed(line=5, minute=600, nick="a[b]", new_nick="c")),
        ("=== A[x]  is now known as B", Renamed(line=5, minute=None, nick="A[x]", new_nick="B")),
        ("=== server_ is now known as Bart] ", Renamed(line=5, minute=None, nick="server_", new_nick="Bart]")),
    ],
)
def test_a_line_is_read_as_what_it_says(text: str, happening: Happening) -> None:
    assert parse_line(5, text) == happening


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("topic", "=== ..[topic/#ubuntu:Seveas] : bob [b@c.d]  has joined #ubuntu"),
        ("topic", "=== Topic for #ubuntu: bob is now known as ann"),
        ("topic", "=== LjL changed the topic of #ubuntu to: bob [b@c.d]  has left #ubuntu []"),
        ("notice", "=== the topic is bob [b@c.d]  has joined #ubuntu"),
        ("notice", "=== bob has joined #ubuntu"),
        ("notice", "=== bob is now known as the king"),
        ("notice", "=== Scooter boots his Xbox with linux"),
        ("mode", "=== mode/#ubuntu [+o Amaranth]  by ChanServ"),
        ("kick", "=== el was kicked off #ubuntu by LoRez (LoRez)"),
        ("netsplit", "=== netjoined: irc.freenode.net -> kornbluth.freenode.net"),
        ("channel_notice", "[05:12] -zaijvjs:#ubuntu- happy hannukah"),
        ("no_text", "[09:43] <drcode>"),
        ("foreign_format", "[01:09] (soundray/#ubuntu) thomas: have you seen it?"),
        ("foreign_format", "<drcode> a message without its time"),
        ("foreign_format", "[25:00] <drcode> at no time of the day"),
        ("foreign_format", ""),
    ],
)
def test_what_is_nobodys_doing_is_skipped_by_name(reason: str, text: str) -> None:
    skipped = parse_line(0, text)
    assert isinstance(skipped, Skipped)
    assert skipped.reason == reason
    assert reason in lines.REASONS


def test_only_line_feeds_end_lines() -> None:
    log = "[01:00] <a> b\x1cc\x0bd\u2028e\x85\r\n\n[01:01] <a> f"
    assert [type(happening) for happening in parse(log)] == [Said, Skipped, Said]
    assert [happening.line for happening in parse(log)] == [0, 1, 2]
    assert list(parse("")) == []


def test_a_person_is_in_from_its_join_until_it_left() -> None:
    day = "=== ann [a@b.c]  has joined #ubuntu\n[01:00] <ann> hi\n=== ann [a@b.c]  has left #ubuntu []\n"
    assert told(play(day)) == [("in", "ann"), ("says", "ann", "hi"), ("out", "ann")]


def test_who_speaks_without_a_join_enters_before() -> None:
    first, second, third = play("[01:00] <ann> hi\n[01:01]  * ann waves\n")
    assert first == Enter(line=0, minute=60, person=Person("ann"), nick="ann", implied=True)
    assert second == Say(line=0, minute=60, person=Person("ann"), text="hi", action=False)
    assert third == Say(line=1, minute=61, person=Person("ann"), text="waves", action=True)


def test_who_left_may_come_back_by_a_join_or_a_message() -> None:
    left = "=== ann [a@b.c]  has left #ubuntu []\n"
    joined = "=== ann [a@b.c]  has joined #ubuntu\n"
    day = joined + left + joined + left + "[01:00] <ann> hi\n"
    assert [step[0] for step in told(play(day))] == ["in", "out", "in", "out", "in", "says"]


def test_a_join_of_a_member_and_a_leave_of_a_stranger_change_nothing() -> None:
    joined = "=== ann [a@b.c]  has joined #ubuntu\n"
    day = joined + joined + "=== bob [a@b.c]  has left #ubuntu []\n"
    assert told(play(day)) == [("in", "ann"), ("skipped", "already_in"), ("skipped", "leave_while_out")]


def test_a_rename_keeps_the_account_and_frees_the_old_nick() -> None:
    day = "[01:00] <ann> 1\n=== ann is now known as ann_\n[01:00] <ann_> 2\n[01:00] <ann> 3\n[01:00] <ann_> 4\n"
    assert [step for step in told(play(day)) if step[0] == "says"] == [
        ("says", "ann", "1"),
        ("says", "ann", "2"),
        ("says", "ann~2", "3"),
        ("says", "ann", "4"),
    ]


def test_who_is_renamed_back_is_the_same() -> None:
    day = "[01:00] <ann> 1\n=== ann is now known as ann_\n=== ann_ is now known as ann\n[01:00] <ann> 2\n"
    assert told(play(day))[1:] == [
        ("says", "ann", "1"),
        ("is", "ann", "ann_"),
        ("is", "ann", "ann"),
        ("says", "ann", "2"),
    ]


def test_a_rename_takes_a_held_nick_over_and_its_holder_stays_a_member() -> None:
    day = "[01:00] <ann> 1\n[01:00] <ann_> 2\n=== ann_ is now known as ann\n[01:00] <ann> 3\n"
    left = "=== ann [a@b.c]  has left #ubuntu []\n"
    assert told(play(day, left))[-3:] == [("is", "ann_", "ann"), ("says", "ann_", "3"), ("out", "ann_")]


def test_a_rename_outside_shows_when_its_person_enters() -> None:
    skipped, entered, said = play("=== ann is now known as ann_\n[01:00] <ann_> hi\n")
    assert skipped == Skipped(line=0, minute=None, reason="rename_while_out")
    assert entered == Enter(line=1, minute=60, person=Person("ann"), nick="ann_", implied=True)
    assert isinstance(said, Say)


def test_a_rename_to_the_same_nick_is_harmless() -> None:
    assert told(play("[01:00] <a> 1\n=== a is now known as a\n[01:00] <a> 2\n"))[2:] == [
        ("is", "a", "a"),
        ("says", "a", "2"),
    ]


def test_days_that_follow_each_other_are_one_channel() -> None:
    assert told(play("[01:00] <ann> 1\n", "[01:00] <ann> 2\n")) == [
        ("in", "ann"),
        ("says", "ann", "1"),
        ("says", "ann", "2"),
    ]


def check_accounts(steps: list[Step], line_count: int) -> None:
    """One step for each line, and nobody speaks, leaves or is renamed who isn't in."""
    own = [step for step in steps if not (isinstance(step, Enter) and step.implied)]
    assert [step.line for step in own] == list(range(line_count))
    inside: set[Person] = set()
    for step in steps:
        match step:
            case Enter():
                assert step.person not in inside
                inside.add(step.person)
            case Leave():
                inside.remove(step.person)
            case Say() | Rename():
                assert step.person in inside
            case Skipped():
                assert step.reason in lines.REASONS | script.REASONS


some_nick = st.sampled_from(["a", "b", "a~2", "c[x] y"])
some_line = st.one_of(
    st.builds("[01:00] <{}> {}".format, some_nick, st.text(st.characters(exclude_characters="\n"), max_size=5)),
    st.builds("[01:00]  * {} waves".format, st.sampled_from("ab")),
    st.builds("=== {} [u@h]  has {} #ubuntu".format, some_nick, st.sampled_from(["joined", "left"])),
    st.builds("=== {} is now known as {}".format, some_nick, some_nick),
    st.text(st.characters(exclude_characters="\n")),
)


@given(st.lists(some_line))
def test_whatever_the_log_every_line_is_one_step(log: list[str]) -> None:
    check_accounts(play("".join(line + "\n" for line in log)), len(log))


@pytest.mark.parametrize("day", DAYS, ids=lambda day: str(day.name))
def test_real_days_are_told_to_the_last_line(day: Path) -> None:
    log = day.read_bytes().decode()
    check_accounts(play(log), log.count("\n"))


def test_the_days_in_the_tests_hold_every_kind_of_line() -> None:
    happenings = [happening for day in DAYS for happening in parse(day.read_bytes().decode())]
    assert Counter(type(happening).__name__ for happening in happenings) == {
        "Said": 3368,
        "Joined": 266,
        "Renamed": 87,
        "Acted": 44,
        "Left": 21,
        "Skipped": 22,
    }


@needs_corpus
def test_the_whole_corpus_ties_out() -> None:
    logs = corpus_logs()
    happenings = [happening for log in logs for happening in parse(log)]
    kinds = Counter(type(happening).__name__ for happening in happenings)
    reasons = Counter(happening.reason for happening in happenings if isinstance(happening, Skipped))
    assert len(logs) == 153
    assert len(happenings) == 220_463
    assert (kinds["Said"], kinds["Acted"]) == (196_127, 452)
    unlike = {"no_text": 19, "channel_notice": 47, "foreign_format": 1}
    assert sum(unlike.values()) == 67
    assert reasons == unlike | {"mode": 268, "topic": 12, "kick": 6, "netsplit": 4, "notice": 658}
    membership = kinds["Joined"] + kinds["Left"] + kinds["Renamed"]
    assert membership + reasons.total() - 67 == 23_817
    said = Counter(type(step).__name__ for step in play(*logs))
    assert said["Say"] == 196_579
    for log in logs:
        check_accounts(play(log), log.count("\n"))
