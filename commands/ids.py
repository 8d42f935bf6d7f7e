"""New ids for what the server makes, events and keys, and nonces."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

_DRAW: Final = 256
"""How many are made at once: one by one, the kernel's random bytes alone would be half of the price."""

_FORM: Final = b"xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx "
"""RFC 9562, 5.4: each x is a random digit; of the digit y, two bits are."""

_RANDOM: Final = [place for place, mark in enumerate(_FORM) if mark in b"xy"]
_VARIANT: Final = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)


def new_uuid() -> str:
    """A random uuid (version 4) in its canonical form. For the loop's thread only."""
    return next(_uuids)


def draws(size: int) -> Iterator[bytes]:
    """Random bytes of the kernel's, `size` at a time, no two the same: a process that is forked off drops those that
    are drawn already. For one thread only."""

    def draw() -> list[bytes]:
        drawn = os.urandom(size * _DRAW)
        return [drawn[at : at + size] for at in range(0, len(drawn), size)]

    return _ahead(draw)


def _ahead(make: Callable[[], Sequence[T]]) -> Iterator[T]:
    while True:
        made, forks = make(), _forks
        for each in made:
            if forks != _forks:
                break
            yield each


def _make_uuids() -> list[str]:
    """Digit by digit, the first one of all, then the second one: that costs a tenth of cutting each one's digits."""
    digits = os.urandom(16 * _DRAW).hex().encode()
    text = bytearray(_FORM * _DRAW)
    for digit, place in enumerate(_RANDOM):
        text[place :: len(_FORM)] = digits[digit::32]
    variants = slice(_FORM.index(b"y"), None, len(_FORM))
    text[variants] = text[variants].translate(_VARIANT)
    return text.decode().split()


_uuids: Final = _ahead(_make_uuids)
_forks = 0
"""How often this process's line has been forked off."""


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)
