"""The ready questions: each a query with parameters, which ClickHouse fills in.

Days and hours are of the time zone that `zone` names. A message counts where its `counts` is true, by its `at`.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from domain.ids import is_uuid
from ops.errors import OpsError


class Parameter(msgspec.Struct, frozen=True):
    name: str
    type: str
    """ClickHouse's."""
    default: Any
    about: str
    parse: Callable[[str], Any]
    """Raises ValueError, KeyError."""

    def read(self, text: str) -> Any:
        """Raises OpsError."""
        try:
            return self.parse(text)
        except (ValueError, KeyError) as error:
            raise OpsError(f"{self.name} = {text!r}: {self.about}") from error


class Question(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    about: str
    """One line."""
    parameters: tuple[Parameter, ...]
    sql: str
    """Columns whose names end with `_s` are seconds."""

    def values(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Of all parameters; what is given as text is read. Raises OpsError."""
        known = {each.name: each for each in self.parameters}
        for name in given:
            if name not in known:
                raise OpsError(
                    f"{self.name} has no parameter {name!r}; it has {', '.join(known)}: signet analytics query --help"
                )
        return {name: each.read(given[name]) if name in given else each.default for name, each in known.items()}


def _number(text: str) -> int:
    number = int(text)
    if not 1 <= number <= LIMIT_MAX:
        raise ValueError(number)
    return number


def _zone(text: str) -> str:
    return ZoneInfo(text).key


def _conversation(text: str) -> str:
    if not is_uuid(text):
        raise ValueError(text)
    return text


def _day(text: str) -> str:
    return str(date.fromisoformat(text))


LIMIT_MAX: Final = 1_000_000
FROM: Final = Parameter("from", "Date32", "1900-01-01", "the first day, YYYY-MM-DD", _day)
TO: Final = Parameter("to", "Date32", "2299-12-31", "the last day, YYYY-MM-DD", _day)
ZONE: Final = Parameter("zone", "String", "UTC", "a time zone, as Europe/Berlin", _zone)
CONVERSATION: Final = Parameter("conversation", "String", "", "a conversation's id: of this one alone", _conversation)
LIMIT: Final = Parameter("limit", "UInt32", 20, f"how many rows, at least 1 and at most {LIMIT_MAX:,}", _number)

_SPAN: Final = (FROM, TO, ZONE, CONVERSATION)
_DAY: Final = "toDate32(at, {zone:String})"
_DAYS: Final = f"{_DAY} BETWEEN {{from:Date32}} AND {{to:Date32}}"
_CONVERSATION: Final = "({conversation:String} = '' OR conversation = toUUIDOrZero({conversation:String}))"
_WHERE: Final = f"{_DAYS} AND {_CONVERSATION}"
_SENT: Final = f"FROM messages WHERE counts AND {_WHERE}"


def _delays(column: str) -> str:
    where = _WHERE.replace("toDate32(at,", "toDate32(recorded_at,")
    quantile = "round(quantileTDigestArray({level})({column}) / 1000, 3)"
    parts = ", ".join(
        f"{quantile.format(level=level, column=column)} AS p{int(level * 100)}_s" for level in (0.5, 0.9, 0.99)
    )
    return (
        f"SELECT toDate32(recorded_at, {{zone:String}}) AS day, sum(length({column})) AS messages, {parts}, "
        f"round(max(arrayMax({column})) / 1000, 3) AS longest_s FROM receipts "
        f"WHERE notEmpty({column}) AND {where} GROUP BY day ORDER BY day"
    )


_ANSWERS: Final = f"""
(SELECT conversation, author AS answering, at AS answered_at, answers FROM messages
 WHERE counts AND answers > 0 AND {_WHERE}) AS answer
JOIN (SELECT conversation, seq AS answers, author AS answered, at AS asked_at FROM messages WHERE counts) AS question
USING (conversation, answers)
WHERE answering != answered
"""

QUESTIONS: Final = {
    question.name: question
    for question in (
        Question(
            name="totals",
            about="How many messages were written, by how many people, from how many devices, on how many days.",
            parameters=_SPAN,
            sql=f"SELECT count() AS messages, uniqExact(author) AS people, uniqExact(conversation) AS conversations, "
            f"uniqExact(author, device) AS devices, uniqExact({_DAY}) AS days {_SENT}",
        ),
        Question(
            name="messages-by-day",
            about="How many messages were written each day, by how many people, in how many conversations.",
            parameters=_SPAN,
            sql=f"SELECT {_DAY} AS day, count() AS messages, uniqExact(author) AS people, "
            f"uniqExact(conversation) AS conversations, sum(bytes) AS bytes {_SENT} GROUP BY day ORDER BY day",
        ),
        Question(
            name="messages-by-hour",
            about="How many messages were written, and by how many people, in each hour of the day.",
            parameters=_SPAN,
            sql=f"SELECT toHour(at, {{zone:String}}) AS hour, count() AS messages, uniqExact(author) AS people, "
            f"round(count() / (SELECT uniqExact({_DAY}) {_SENT}), 1) AS messages_a_day {_SENT} "
            "GROUP BY hour ORDER BY hour",
        ),
        Question(
            name="messages-by-weekday-and-hour",
            about="How many messages were written in each hour of the week; weekday 1 is Monday.",
            parameters=_SPAN,
            sql=f"SELECT toDayOfWeek({_DAY}) AS weekday, toHour(at, {{zone:String}}) AS hour, count() AS messages, "
            f"round(count() / (SELECT uniqExact({_DAY}) {_SENT}), 1) AS messages_a_day {_SENT} "
            "GROUP BY weekday, hour ORDER BY weekday, hour",
        ),
        Question(
            name="active-people",
            about="How many people wrote on each day, within the 7 and within the 30 days that end with it.",
            parameters=_SPAN,
            sql=f"""
            WITH wrote AS (
                    SELECT DISTINCT {_DAY} AS day, author FROM messages
                    WHERE counts AND {_DAY} BETWEEN {{from:Date32}} - 29 AND {{to:Date32}} AND {_CONVERSATION}
                ),
                days AS (SELECT DISTINCT day FROM wrote WHERE day >= {{from:Date32}})
            SELECT days.day AS day, uniqExactIf(author, age = 0) AS within_1_day,
                uniqExactIf(author, age < 7) AS within_7_days, uniqExact(author) AS within_30_days
            FROM (SELECT arrayJoin(range(30)) AS age, author, day + age AS reached FROM wrote) AS lasting
            JOIN days ON days.day = lasting.reached
            GROUP BY day ORDER BY day
            """,
        ),
        Question(
            name="busiest-conversations",
            about="The conversations with the most messages: by how many people, from when to when.",
            parameters=(FROM, TO, ZONE, LIMIT),
            sql=f"""
            SELECT conversation, kind, messages, people, toTimeZone(first_at, {{zone:String}}) AS first_at,
                toTimeZone(last_at, {{zone:String}}) AS last_at FROM (
                SELECT conversation, count() AS messages, uniqExact(author) AS people, min(at) AS first_at,
                    max(at) AS last_at
                FROM messages WHERE counts AND {_DAYS}
                GROUP BY conversation
            ) AS busy
            LEFT JOIN (SELECT conversation, kind FROM conversations) AS about USING (conversation)
            ORDER BY messages DESC, conversation LIMIT {{limit:UInt32}}
            """,
        ),
        Question(
            name="busiest-people",
            about="Who writes most: messages, conversations, and on how many days.",
            parameters=(*_SPAN, LIMIT),
            sql=f"SELECT author AS account, count() AS messages, uniqExact(conversation) AS conversations, "
            f"uniqExact({_DAY}) AS days {_SENT} GROUP BY account ORDER BY messages DESC, account "
            "LIMIT {limit:UInt32}",
        ),
        Question(
            name="delivery-delays",
            about="How long messages took until they were on a device of the recipient, by the day they came there.",
            parameters=_SPAN,
            sql=_delays("delivery_ms"),
        ),
        Question(
            name="reading-delays",
            about="How long messages took until the recipient read them, by the day they were read.",
            parameters=_SPAN,
            sql=_delays("reading_ms"),
        ),
        Question(
            name="who-answers-whom",
            about="Who answers whom most, oneself left out, and how long it takes (where protection is none).",
            parameters=(*_SPAN, LIMIT),
            sql=f"""
            SELECT answering, answered, count() AS answers,
                round(quantileExact(0.5)(dateDiff('second', asked_at, answered_at)), 0) AS median_s,
                round(quantileExact(0.9)(dateDiff('second', asked_at, answered_at)), 0) AS p90_s
            FROM {_ANSWERS}
            GROUP BY answering, answered ORDER BY answers DESC, answering, answered LIMIT {{limit:UInt32}}
            """,
        ),
        Question(
            name="answer-times",
            about="How many answers came within a minute, five minutes, an hour, …, to oneself left out.",
            parameters=_SPAN,
            sql=f"""
            SELECT within, count() AS answers, round(100 * count() / sum(count()) OVER (), 1) AS percent FROM (
                SELECT dateDiff('second', asked_at, answered_at) AS took,
                    multiIf(took <= 60, 60, took <= 300, 300, took <= 900, 900, took <= 3600, 3600,
                        took <= 86400, 86400, 0) AS upto_s,
                    transform(upto_s, [60, 300, 900, 3600, 86400],
                        ['1 minute', '5 minutes', '15 minutes', '1 hour', '1 day'], 'longer') AS within
                FROM {_ANSWERS}
            ) GROUP BY within, upto_s ORDER BY if(upto_s = 0, 1000000, upto_s)
            """,
        ),
        Question(
            name="group-sizes",
            about="How many members each group had at the end of each day on which that changed; the largest groups.",
            parameters=(*_SPAN, LIMIT),
            sql=f"""
            WITH largest AS (
                SELECT conversation FROM membership
                WHERE change != 'role' AND {_WHERE}
                    AND conversation IN (SELECT conversation FROM conversations WHERE kind = 'group')
                GROUP BY conversation ORDER BY max(members) DESC, conversation LIMIT {{limit:UInt32}}
            )
            SELECT conversation, {_DAY} AS day, argMax(members, (position, number)) AS members,
                countIf(change = 'joined') AS joined, countIf(change IN ('left', 'removed')) AS gone
            FROM membership
            WHERE change != 'role' AND conversation IN largest AND {_WHERE}
            GROUP BY conversation, day ORDER BY conversation, day
            """,
        ),
        Question(
            name="comings-and-goings",
            about="How many members came into conversations and went, each day.",
            parameters=_SPAN,
            sql=f"SELECT {_DAY} AS day, countIf(change = 'joined') AS joined, countIf(change = 'left') AS left, "
            "countIf(change = 'removed') AS removed, uniqExactIf(account, change = 'joined') AS people_joined "
            f"FROM membership WHERE change != 'role' AND {_WHERE} GROUP BY day ORDER BY day",
        ),
        Question(
            name="devices-by-day",
            about="How many devices were linked and revoked each day, and how many keys were published and claimed.",
            parameters=(FROM, TO, ZONE),
            sql=f"SELECT {_DAY} AS day, countIf(change = 'linked') AS linked, countIf(change = 'revoked') AS revoked, "
            "sumIf(keys, change IN ('keys', 'one_time_keys', 'fallback_key')) AS keys_published, "
            "countIf(change = 'claimed') AS keys_claimed FROM devices "
            f"WHERE {_DAYS} GROUP BY day ORDER BY day",
        ),
        Question(
            name="events-by-type",
            about="How many events of each type the log holds, and how many of them came on its busiest day.",
            parameters=(FROM, TO, ZONE),
            sql=f"SELECT type, sum(n) AS events, max(n) AS on_busiest_day FROM (SELECT type, {_DAY} AS day, "
            f"count() AS n FROM events WHERE day BETWEEN {{from:Date32}} AND {{to:Date32}} GROUP BY type, day) "
            "GROUP BY type ORDER BY events DESC, type",
        ),
    )
}
