"""New ids for what the server makes: events and keys."""

import os
from collections.abc import Iterator
from typing import Final

_DRAW: Final = 256
"""How many ids' worth of random bytes are asked of the kernel at once; one by one, that would be half of the price."""

_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""RFC 9562: of the digit that names the variant, two bits are random."""


def new_uuid() -> str:
    """A random uuid (version 4) in its canonical form. For the loop's thread only."""
    digits = next(_digits)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def _draw() -> Iterator[str]:
    while True:
        drawn = os.urandom(16 * _DRAW).hex()
        yield from (drawn[at : at + 32] for at in range(0, len(drawn), 32))


_digits: Final = _draw()
