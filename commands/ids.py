"""New ids for what the server makes, events and keys, and nonces."""

import os
from collections.abc import Iterator
from typing import Final

_DRAW: Final = 256
"""How many ids' worth of random bytes are asked of the kernel at once; one by one, that would be half of the price."""

_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""RFC 9562: of the digit that names the variant, two bits are random."""


def new_uuid() -> str:
    """A random uuid (version 4) in its canonical form. For the loop's thread only."""
    digits = next(_sixteen).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def draws(size: int) -> Iterator[bytes]:
    """Random bytes of the kernel's, `size` at a time, no two the same: a process that is forked off drops those that
    are drawn already. For one thread only."""
    while True:
        drawn, forks = os.urandom(size * _DRAW), _forks
        for at in range(0, len(drawn), size):
            if forks != _forks:
                break
            yield drawn[at : at + size]


_sixteen: Final = draws(16)
_forks = 0
"""How often this process's line has been forked off."""


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)
