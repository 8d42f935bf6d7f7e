"""What a check of `signet doctor` finds."""

from typing import Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the doctor's report."""

    name: str
    level: Level
    text: str
    remedy: str = ""
    """What to do, where it is not ok."""


def ok(name: str, text: str) -> Finding:
    return Finding(name=name, level="ok", text=text)


def warn(name: str, text: str, remedy: str) -> Finding:
    return Finding(name=name, level="warn", text=text, remedy=remedy)


def fail(name: str, text: str, remedy: str) -> Finding:
    return Finding(name=name, level="fail", text=text, remedy=remedy)
