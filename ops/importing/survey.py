"""A first look at all the logs, before anything is stored."""

from collections.abc import Sequence

import msgspec

from ops.errors import OpsError
from ops.importing.files import DayLog
from ops.importing.ids import ChannelIds
from ops.importing.stored import StoredChannel
from ops.importing.times import occurred_at
from ops.irc.lines import parse
from ops.irc.script import Enter, Person, Say, Script


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    messages: int
    persons: int
    """Who come in."""
    begins_at: int
    """When the first line was written, microseconds since 1970 UTC."""
    first_said: list[int | None]
    """For each log the line of its first message; None where nobody says anything."""


def survey(logs: Sequence[DayLog]) -> Survey:
    """Raises OpsError where a file can't be read, or nobody says anything in all of them."""
    script, persons = Script(), set[Person]()
    messages, begins_at = 0, None
    first_said: list[int | None] = []
    for log in logs:
        happenings = list(parse(log.text()))
        if begins_at is None and happenings:
            begins_at = occurred_at(log.date, happenings)[0]
        steps = list(script.steps(happenings))
        persons.update(step.person for step in steps if isinstance(step, Enter))
        said = [step.line for step in steps if isinstance(step, Say)]
        messages += len(said)
        first_said.append(said[0] if said else None)
    if begins_at is None or not messages:
        raise OpsError(
            f"nobody says anything in {', '.join(log.name for log in logs[:3])}; is it the raw log of a channel?"
        )
    return Survey(messages=messages, persons=len(persons), begins_at=begins_at, first_said=first_said)


def check_order(logs: Sequence[DayLog], surveyed: Survey, stored: StoredChannel, ids: ChannelIds) -> None:
    """Whether all that is new comes after what was imported before: the order of what is stored stays. Raises
    OpsError."""
    new: DayLog | None = None
    for log, line in zip(logs, surveyed.first_said, strict=True):
        if line is None:
            continue
        if stored.seq_of(ids.command("say", log.name, line)) is None:
            new = new or log
        elif new is not None:
            raise OpsError(
                f"{log.name} was imported before, and {new.name}, which comes first here, was not: only later days can"
                " be added to a channel. Name the new ones last; or import all of them anew, as another --channel or"
                " into another folder by --data."
            )
