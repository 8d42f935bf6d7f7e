"""What the demo's people say: a morning in #ubuntu, as its log has it, and what two of them say to each other there."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from ops.errors import OpsError
from ops.irc.lines import parse
from ops.irc.script import Say, Script
from ops.settings import HOME

TITLE: Final = "#ubuntu, 8 February 2005"
PAIR: Final = ("farruinn", "topyli")
"""Who have links. Both say a good deal, and others go on when they have said their last."""

_LOG: Final = HOME / "tests/data/ubuntu-irc/2005-02-08.train-a.raw.txt"
_LINES: Final = range(73, 162)
_LEFT_OUT: Final = frozenset({74, 77, 146})
"""Coarse words, which nobody misses."""
_ASIDE: Final = range(105, 116)
"""Here only the two speak, to each other: it becomes their direct conversation."""


class Line(Struct, frozen=True, kw_only=True):
    nick: str
    text: str
    aside: bool
    """It belongs to the direct conversation of the two."""


def read_stretch(log: Path = _LOG) -> list[Line]:
    """Raises OpsError."""
    try:
        text = log.read_bytes().decode(errors="replace")
    except OSError as error:
        raise OpsError(f"the demo plays a part of {log}, which can't be read: {error}") from error
    wanted = set(_LINES) - _LEFT_OUT
    says = (step for step in Script().steps(parse(text)) if isinstance(step, Say) and step.line in wanted)
    return [Line(nick=say.person, text=say.text, aside=say.line in _ASIDE) for say in says if say.text.strip()]
