"""What is seen in the answers of the ready questions: for each, one sentence with the main figure, and a plot."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import plotly.graph_objects as go

from ops.analytics.reporting import plots
from ops.analytics.reporting.grain import grain_of
from ops.analytics.reporting.labels import Labels
from ops.analytics.reporting.words import counted, duration

Columns = Mapping[str, list[Any]]
"""Of an answer that has rows."""
Seen = tuple[str, go.Figure]
"""The sentence, and the plot, which may have nothing to draw."""
See = Callable[[Columns, Labels, str], Seen]
"""The third is the time zone."""

_PAIR_CHARS: Final = 12
_DENSE: Final = 0.5
"""Of the days in a span: with fewer, points are not joined by a line."""
_WITHIN: Final = {
    "1 minute": "up to<br>1 min", "5 minutes": "1–5<br>min", "15 minutes": "5–15<br>min", "1 hour": "15–60<br>min",
    "1 day": "1–24<br>h", "longer": "over<br>1 day",
}  # fmt: skip


def messages(columns: Columns, labels: Labels, zone: str) -> Seen:
    days, messages = _days(columns), columns["messages"]
    grain, top = grain_of(days), messages.index(max(messages))
    sentence = (
        f"{counted(sum(messages), 'message')} on {counted(len(days), 'day')}; the busiest was {days[top]} with "
        f"{messages[top]:,} of {counted(columns['people'][top], 'person', 'people')}."
    )
    if grain.name != "day":
        sentence += f" Each bar is a {grain.name}."
    return sentence, plots.bars_over_time(grain, days, {"messages": messages}, y=f"messages a {grain.name}")


def people(columns: Columns, labels: Labels, zone: str) -> Seen:
    days = _days(columns)
    series = {
        f"within {counted(within, 'day')}": columns[f"within_{within}_{'day' if within == 1 else 'days'}"]
        for within in (30, 7, 1)
    }
    most, last = max(series["within 1 day"]), days[-1]
    sentence = (
        f"At most {counted(most, 'person', 'people')} wrote on one day; within the 30 days up to {last} it was "
        f"{series['within 30 days'][-1]:,}."
    )
    drawn = {name: (days, numbers) for name, numbers in series.items()}
    figure = plots.lines(
        drawn, "%{y:,} people %{fullData.name}<extra></extra>", y="people who wrote", connected=_are_dense(days)
    )
    return sentence, figure


def week(columns: Columns, labels: Labels, zone: str) -> Seen:
    cells = list(zip(columns["weekday"], columns["hour"], strict=True))
    messages = dict(zip(cells, columns["messages"], strict=True))
    weekday, hour = busiest = max(messages, key=messages.__getitem__)
    sentence = (
        f"The busiest hour of the week is {plots.WEEKDAYS[weekday - 1]} from {hour}:00 to {hour}:59, with "
        f"{counted(messages[busiest], 'message')} in all."
    )
    return sentence, plots.week(messages, dict(zip(cells, columns["messages_a_day"], strict=True)), zone=zone)


def hours(columns: Columns, labels: Labels, zone: str) -> Seen:
    messages = [0] * 24
    hover = [f"{hour}:00–{hour}:59: no messages" for hour in range(24)]
    for hour, sent, people in zip(columns["hour"], columns["messages"], columns["people"], strict=True):
        messages[hour] = sent
        hover[hour] = f"{hour}:00–{hour}:59: {counted(sent, 'message')} of {counted(people, 'person', 'people')}"
    top = messages.index(max(messages))
    percent = 100 * messages[top] / sum(messages)
    sentence = f"Most is written from {top}:00 to {top}:59: {percent:.1f} % of all messages."
    return sentence, plots.bars(list(map(str, range(24))), messages, hover, x=f"hour of the day ({zone})", y="messages")


def conversations(columns: Columns, labels: Labels, zone: str) -> Seen:
    ids, messages, people = columns["conversation"], columns["messages"], columns["people"]
    hover = [
        f"{labels.drawn(id_)}: {counted(sent, 'message')} of {counted(by, 'person', 'people')}"
        for id_, sent, by in zip(ids, messages, people, strict=True)
    ]
    sentence = (
        f"The busiest conversation, {labels.label(ids[0])}, has {counted(messages[0], 'message')} of "
        f"{counted(people[0], 'person', 'people')}."
    )
    return sentence, plots.ranking(_drawn(labels, ids), messages, hover, x="messages", y="conversation")


def writers(columns: Columns, labels: Labels, zone: str) -> Seen:
    ids, messages, days = columns["account"], columns["messages"], columns["days"]
    hover = [
        f"{labels.drawn(id_)}: {counted(sent, 'message')} on {counted(on, 'day')}"
        for id_, sent, on in zip(ids, messages, days, strict=True)
    ]
    sentence = (
        f"{labels.label(ids[0])} wrote most: {counted(messages[0], 'message')} on {counted(days[0], 'day')}. "
        f"Shown {'is' if len(ids) == 1 else 'are'} the first {len(ids)}."
    )
    return sentence, plots.ranking(_drawn(labels, ids), messages, hover, x="messages", y="person")


def delays(one: str, many: str) -> Callable[[Columns, Labels, str], Seen]:
    def see(columns: Columns, labels: Labels, zone: str) -> Seen:
        days = _days(columns)
        number, half, most = (columns[name][-1] for name in ("messages", "p50_s", "p99_s"))
        sentence = (
            f"On {days[-1]}, the last day that has any, half of {counted(number, one, many)} took at most "
            f"{duration(half)}, and 99 of 100 at most {duration(most)}."
        )
        named = {"p50_s": "half", "p90_s": "90 of 100", "p99_s": "99 of 100", "longest_s": "all"}
        return sentence, plots.delays({name: (days, columns[column]) for column, name in named.items()})

    return see


def answer_times(columns: Columns, labels: Labels, zone: str) -> Seen:
    within, answers, percent = columns["within"], columns["answers"], columns["percent"]
    found = {each: (number, share) for each, number, share in zip(within, answers, percent, strict=True)}
    drawn = {step: found.get(each, (0, 0)) for each, step in _WITHIN.items()}
    hover = [f"{step.replace('<br>', ' ')}: {counted(number, 'answer')}" for step, (number, _) in drawn.items()]
    soonest = "took longer than a day" if within[0] == "longer" else f"came within {within[0]}"
    sentence = f"Of {counted(sum(answers), 'answer')} to others, {percent[0]} % {soonest}."
    shares = [share for _, share in drawn.values()]
    return sentence, plots.bars(list(drawn), shares, hover, x="time from message to answer", y="answers (%)")


def pairs(columns: Columns, labels: Labels, zone: str) -> Seen:
    pairs = list(zip(columns["answering"], columns["answered"], strict=True))
    answers, medians = columns["answers"], list(map(duration, columns["median_s"]))
    drawn = [f"{labels.drawn(one, _PAIR_CHARS)} → {labels.drawn(other, _PAIR_CHARS)}" for one, other in pairs]
    hover = [
        f"{labels.drawn(one)} to {labels.drawn(other)}: {counted(number, 'answer')}, half within {median}"
        for (one, other), number, median in zip(pairs, answers, medians, strict=True)
    ]
    one, other = map(labels.label, pairs[0])
    sentence = (
        f"{one} answered {other} most: {counted(answers[0], 'time')}, half of them within {medians[0]}. Bars tell how "
        "often, the words on them how long half of the answers took at most."
    )
    if all(median % 60 == 0 for median in columns["median_s"]):
        sentence += " Their times are known to the minute."
    figure = plots.ranking(drawn, answers, hover, x="answers", y="who → whom")
    return sentence, figure.update_traces(text=medians, textposition="auto", textangle=0)


def groups(columns: Columns, labels: Labels, zone: str) -> Seen:
    series: dict[str, tuple[list[date], list[int]]] = {}
    for id_, day, members in zip(columns["conversation"], _days(columns), columns["members"], strict=True):
        days, sizes = series.setdefault(id_, ([], []))
        days.append(day)
        sizes.append(members)
    largest, most = max(((id_, max(sizes)) for id_, (_, sizes) in series.items()), key=lambda found: found[1])
    shown = "It is shown" if len(series) == 1 else f"{len(series)} groups are shown"
    sentence = (
        f"The largest group, {labels.label(largest)}, had at most {counted(most, 'member')}. {shown}, at the end of "
        "each day on which anybody came or went."
    )
    figure = plots.lines(series, "%{y:,} members in %{fullData.name}<extra></extra>", y="members", steps=True)
    for trace in figure.data:
        trace.name = labels.drawn(trace.name)
    return sentence, figure


def comings(columns: Columns, labels: Labels, zone: str) -> Seen:
    days, grain = _days(columns), grain_of(_days(columns))
    joined, left, removed = (columns[name] for name in ("joined", "left", "removed"))
    sentence = (
        f"Members came into conversations {counted(sum(joined), 'time')} (bars up), left {counted(sum(left), 'time')} "
        f"and were removed {counted(sum(removed), 'time')} (bars down)."
    )
    series = {"joined": joined, "left": _down(left), "removed": _down(removed)}
    return sentence, plots.bars_over_time(grain, days, series, y=f"members a {grain.name}")


def devices(columns: Columns, labels: Labels, zone: str) -> Seen:
    days, grain = _days(columns), grain_of(_days(columns))
    linked, revoked, keys, claimed = (
        sum(columns[name]) for name in ("linked", "revoked", "keys_published", "keys_claimed")
    )
    sentence = f"{counted(linked, 'device')} linked (bars up) and {revoked:,} revoked (bars down)."
    if keys:
        sentence += (
            f" They published {counted(keys, 'key')} for encryption; {claimed:,} were claimed to begin to encrypt."
        )
    series = {"linked": columns["linked"], "revoked": _down(columns["revoked"])}
    return sentence, plots.bars_over_time(grain, days, series, y=f"devices a {grain.name}")


def _days(columns: Columns) -> list[date]:
    return list(map(date.fromisoformat, columns["day"]))


def _are_dense(days: Sequence[date]) -> bool:
    return len(days) >= _DENSE * ((days[-1] - days[0]).days + 1)


def _drawn(labels: Labels, ids: Sequence[str]) -> list[str]:
    return list(map(labels.drawn, ids))


def _down(numbers: Sequence[int]) -> list[int]:
    return [-number for number in numbers]
