"""What is to be played: the steps of all files, and what they ask of the engine."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ops.errors import OpsError
from ops.irc.lines import Skipped, parse
from ops.irc.script import Enter, Leave, Person, Rename, Say, Script, Step

PERSONS_MAX: Final = 2_000
"""Each is a client with a connection, a store and keys; this process and the engine hold a few files for each."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    lines: int
    messages: int
    steps: list[Step]
    """In order, without those that were skipped."""
    names: dict[Person, str]
    """Who comes in, and what each is called when it first does, in order of coming."""
    members_max: int
    """How many are in at a time, at most."""
    skipped: dict[str, int]
    """Lines that are none of a step, by reason."""


def read_plan(files: Sequence[Path]) -> Plan:
    """The plan of files that are one channel, in order. Raises OpsError."""
    script, lines, steps, skipped = Script(), 0, list[Step](), Counter[str]()
    for path in files:
        happenings = list(parse(_text(path)))
        lines += len(happenings)
        for step in script.steps(happenings):
            if isinstance(step, Skipped):
                skipped[step.reason] += 1
            else:
                steps.append(step)
    messages = sum(isinstance(step, Say) for step in steps)
    if not messages:
        raise OpsError(f"nobody says anything in {', '.join(map(str, files))}; is it the raw log of an IRC channel?")
    names = _names(steps)
    if len(names) > PERSONS_MAX:
        raise OpsError(
            f"{len(names)} persons come in, and one play has at most {PERSONS_MAX}: play fewer files at once"
        )
    return Plan(
        lines=lines, messages=messages, steps=steps, names=names, members_max=_most(steps), skipped=dict(skipped)
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError as error:
        raise OpsError(f"{path} can't be read: {error}") from error


def _names(steps: Iterable[Step]) -> dict[Person, str]:
    names: dict[Person, str] = {}
    for step in steps:
        if isinstance(step, Enter):
            names.setdefault(step.person, step.nick)
    return names


def _most(steps: Iterable[Step]) -> int:
    inside = most = 0
    for step in steps:
        match step:
            case Enter():
                inside += 1
                most = max(most, inside)
            case Leave():
                inside -= 1
            case Say() | Rename() | Skipped():
                pass
    return most
