"""Who is next where uploads are taken in: that keeps a disk and most of a core busy, so few are at a time.

Small ones have lanes of their own, so that a picture doesn't wait for films, and one account has a few in line at most.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from domain.ids import AccountId
from gateways.refusal import Refusal

SMALL_BYTES: Final = 16 * 2**20
SMALL_MAX: Final = 2
LARGE_MAX: Final = 1
OF_ACCOUNT_MAX: Final = 4
"""That are in line or taken in; clients have two under way."""
IN_LINE_MAX: Final = 256


class Queues:
    def __init__(self) -> None:
        self._small = asyncio.Semaphore(SMALL_MAX)
        self._large = asyncio.Semaphore(LARGE_MAX)
        self._accounts: Counter[AccountId] = Counter()

    @asynccontextmanager
    async def turn(self, account: AccountId, size: int) -> AsyncIterator[None]:
        """Begins when it is the upload's turn. Raises Refusal(`busy`)."""
        if self._accounts[account] >= OF_ACCOUNT_MAX or self._accounts.total() >= IN_LINE_MAX:
            raise Refusal("busy")
        self._accounts[account] += 1
        try:
            async with self._small if size <= SMALL_BYTES else self._large:
                yield
        finally:
            self._accounts[account] -= 1
            if not self._accounts[account]:
                del self._accounts[account]
