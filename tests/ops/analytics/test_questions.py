"""The ready questions, against counts that are made from the raw logs by other code."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from domain.codec import Event
from ops.analytics.names import Names, with_names
from ops.analytics.opening import loaded
from ops.analytics.place import connect
from ops.analytics.questions import QUESTIONS
from ops.analytics.warehouse import Answer
from ops.errors import OpsError
from ops.settings import Settings
from tests.corpus import DAYS
from tests.ops.analytics import rawlogs
from tests.ops.analytics.loads import command, load, log_of
from tests.projections.histories import START_AT, History

LATE = [file for file in DAYS if file.name >= "2007-10"]
"""With a clock that tells morning from evening."""


def ask(settings: Settings, name: str, **given: str) -> Answer:
    question = QUESTIONS[name]
    with closing(connect(settings, "reader")) as warehouse:
        return warehouse.select(question.sql, question.values(given))


def named(settings: Settings, answer: Answer) -> list[dict[str, Any]]:
    with Names.opened(settings) as names:
        shown = with_names(answer, names)
    return [dict(zip(shown.names, row, strict=True)) for row in shown.data]


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_an_answer(sample: Settings, name: str) -> None:
    """Imported days have no receipts, so delays have no rows."""
    answer = ask(sample, name)
    assert bool(answer.data) != name.endswith("-delays")


def test_messages_by_day_are_those_of_the_files(sample: Settings) -> None:
    found = {day: messages for day, messages, *_ in ask(sample, "messages-by-day").data}
    assert found == Counter(said.day for said in rawlogs.messages(DAYS))


def test_messages_by_hour_are_those_of_the_files(sample: Settings) -> None:
    found = {hour: messages for hour, messages, *_ in ask(sample, "messages-by-hour", **{"from": "2007-10-01"}).data}
    assert found == Counter(said.hour for said in rawlogs.messages(LATE))


def test_busiest_people_are_those_of_the_files(sample: Settings) -> None:
    rows = named(sample, ask(sample, "busiest-people", limit="10"))
    assert {row["account_name"]: row["messages"] for row in rows} == dict(rawlogs.people(DAYS).most_common(10))


def test_answers_are_those_of_the_annotations(sample: Settings) -> None:
    expected = {pair: times for pair, times in rawlogs.answers(DAYS).items() if pair[0] != pair[1]}
    most = dict(sorted(expected.items(), key=lambda item: -item[1])[:10])
    rows = named(sample, ask(sample, "who-answers-whom", limit="10"))
    assert {(row["answering_name"], row["answered_name"]): row["answers"] for row in rows} == most
    assert sum(row[1] for row in ask(sample, "answer-times").data) == sum(expected.values())


def test_a_day_is_one_of_the_time_zone(sample: Settings) -> None:
    utc, berlin = (ask(sample, "messages-by-day", zone=zone).data for zone in ("UTC", "Europe/Berlin"))
    assert [row[0] for row in utc] == ["2005-02-08", "2011-12-07", "2011-12-08", "2013-10-04"]
    assert sum(row[1] for row in utc) == sum(row[1] for row in berlin)
    hours = {hour: messages for hour, messages, *_ in ask(sample, "messages-by-hour", zone="Asia/Kolkata").data}
    assert hours != {hour: messages for hour, messages, *_ in ask(sample, "messages-by-hour").data}


async def test_delays_are_told_in_seconds(settings: Settings) -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    sent = [history.send(chat, ann)[0].entry.at for _ in range(4)]
    stored = history.receive(chat, ben, delivered=5)[0].entry.at
    read = history.receive(chat, ben, delivered=5, read=3)[0].entry.at
    async with log_of(settings, history.events) as log:
        await load(settings, log)
    day = "2023-11-14"
    assert START_AT // 1_000_000 == 1_700_000_000, "that is on this day"
    [[*delivered]] = ask(settings, "delivery-delays").data
    assert (delivered[:2], delivered[-1]) == ([day, 4], pytest.approx((stored - sent[0]) / 1e6, abs=0.001))
    [[*reading]] = ask(settings, "reading-delays").data
    assert (reading[:2], reading[-1]) == ([day, 2], pytest.approx((read - sent[0]) / 1e6, abs=0.001))
    assert delivered[2] <= delivered[3] <= delivered[4] <= delivered[5]


async def test_active_people_are_counted_over_days(settings: Settings) -> None:
    """Within 7 days, as within 30: who wrote on any of them."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    group = history.group(ann, ben, cem)
    day_us = 86_400_000_000
    for who, days in ((ann, 0), (ben, 6), (ben, 6), (cem, 7), (ann, 36)):
        history.send(group, who)
        history.postpone(days * day_us)
    async with log_of(settings, history.events) as log:
        await load(settings, log)
    assert [row[1:] for row in ask(settings, "active-people").data] == [[1, 1, 1], [1, 2, 2], [1, 2, 3], [1, 1, 2]]


async def test_active_people_of_a_span_may_have_written_before_it(settings: Settings) -> None:
    history = History()
    ann, ben = (history.register(name) for name in ("ann", "ben"))
    chat = history.direct(ann, ben)
    for who, days in ((ann, 0), (ben, 3)):
        history.send(chat, who)
        history.postpone(days * 86_400_000_000)
    async with log_of(settings, history.events) as log:
        await load(settings, log)
    assert ask(settings, "active-people", **{"from": "2023-11-15"}).data == [["2023-11-17", 1, 2, 2]]


async def test_the_size_of_a_small_group_is_told_beside_larger_ones(settings: Settings) -> None:
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    history.group(ann, ben, cem)
    small = history.group(ann, ben)
    async with log_of(settings, history.events) as log:
        await load(settings, log)
    rows = ask(settings, "group-sizes", conversation=small, limit="1").data
    assert [(row[0], row[2]) for row in rows] == [(small, 2)]


@pytest.mark.parametrize("year", [1905, 1969, 2120, 2290])
async def test_days_of_any_century_are_told(settings: Settings, year: int) -> None:
    """An importer may claim them."""
    history = History()
    ann, ben = (history.register(name) for name in ("ann", "ben"))
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    history.postpone(round((year - 2023) * 365.2425 * 86_400_000_000))
    async with log_of(settings, history.events) as log:
        await load(settings, log)
    [[day, messages, *_]] = ask(settings, "messages-by-day").data
    assert (day[:4], messages) == (str(year), 1)


def test_rows_beyond_what_is_loaded_are_shown_to_nobody(settings: Settings) -> None:
    """I14: as a load that was broken off leaves them, the figures are of the position that is named."""
    history = History()
    ann, ben = (history.register(name) for name in ("ann", "ben"))
    history.send(history.direct(ann, ben), ann)
    asyncio.run(load_events(settings, history.events))
    command(settings, "INSERT INTO messages SELECT * REPLACE (position + 1000 AS position) FROM messages")
    with loaded(settings) as (warehouse, _):
        assert warehouse.select(QUESTIONS["totals"].sql, QUESTIONS["totals"].values({})).data[0][0] == 1
        assert warehouse.ask("SELECT count() FROM messages").data == [[1]]


async def load_events(settings: Settings, events: Sequence[Event]) -> None:
    async with log_of(settings, events) as log:
        await load(settings, log)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("messages-by-day", {"from": "2005-02-30"}, "the first day, YYYY-MM-DD"),
        ("messages-by-day", {"zone": "Europe/Nowhere"}, "a time zone, as Europe/Berlin"),
        ("messages-by-day", {"conversation": "' OR 1"}, "a conversation's id"),
        ("busiest-people", {"limit": "0"}, "at least 1"),
        ("busiest-people", {"limit": "many"}, "at least 1"),
        ("busiest-people", {"day": "2005-02-08"}, "has no parameter 'day'; it has from, to"),
    ],
)
def test_what_a_parameter_can_not_be_is_refused(name: str, given: dict[str, str], told: str) -> None:
    with pytest.raises(OpsError, match=told):
        QUESTIONS[name].values(given)
