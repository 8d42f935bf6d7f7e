"""What a message answers: its header's field `b` says it by a seq."""

from typing import Any, Final

import msgspec


class _About(msgspec.Struct, frozen=True):
    """What is needed of a message's header. A client may have put anything there before the field had a meaning."""

    b: Any = None


_about: Final = msgspec.json.Decoder(_About).decode


def answered_seq(header: str, seq: int) -> int | None:
    """Of the message at `seq`: the earlier one that it answers. A later one is none, or it would matter which messages
    are known when the header is read."""
    # Three of four messages answer none, and need no parsing. (A key may be written with an escape.)
    if '"b"' not in header and "\\" not in header:
        return None
    about = _about(header).b
    return about if type(about) is int and 0 < about < seq else None
