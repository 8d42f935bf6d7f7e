"""Who may be brought into a further conversation, so that nobody can fill up somebody else's list.

The `inbox` read model counts; what is on its way is counted here, or many commands at once would all pass. A command
that was done before passes: its accounts are in, or were.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol, TypeVar

from domain.ids import AccountId, ConversationId
from gateways.limits import Limits

K = TypeVar("K")

_AT_ONCE: Final = 16
"""After so many accounts the loop has its turn."""


class Lists(Protocol):
    """What must be known of the conversations of accounts; `limit` is the most that is worth counting to."""

    async def is_listed(self, account: AccountId, conversation: ConversationId) -> bool: ...

    async def count(self, account: AccountId, *, limit: int) -> int: ...

    async def count_shared(self, one: AccountId, other: AccountId, *, limit: int) -> int: ...


class Admission:
    """One for all edges."""

    def __init__(self, lists: Callable[[], Lists], limits: Limits) -> None:
        self._lists = lists
        self._limits = limits
        self._coming: Counter[AccountId] = Counter()
        self._brought: Counter[tuple[AccountId, AccountId]] = Counter()

    @asynccontextmanager
    async def start(
        self, conversation: ConversationId, by: AccountId, others: Sequence[AccountId], *, group: bool
    ) -> AsyncIterator[None]:
        """Within it the conversation may be started. Raises Refusal: `rate_limited`, `too_many_conversations`."""
        if await self._lists().is_listed(by, conversation):
            yield
            return
        self._limits.take_start(by)
        async with self._bring(by, [by, *others], group=group):
            yield

    @asynccontextmanager
    async def add(
        self, conversation: ConversationId, by: AccountId, accounts: Sequence[AccountId]
    ) -> AsyncIterator[None]:
        """Within it the accounts may be added. Raises Refusal: `too_many_conversations`."""
        newcomers = [each for each in accounts if not await self._lists().is_listed(each, conversation)]
        async with self._bring(by, newcomers, group=True):
            yield

    @asynccontextmanager
    async def _bring(self, by: AccountId, accounts: Sequence[AccountId], *, group: bool) -> AsyncIterator[None]:
        pairs = [(by, account) for account in accounts if account != by]
        self._coming.update(accounts)
        self._brought.update(pairs)
        try:
            for index, account in enumerate(accounts, start=1):
                await self._check(by, account, group=group)
                if index % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            yield
        finally:
            _take_out(self._coming, accounts)
            _take_out(self._brought, pairs)

    async def _check(self, by: AccountId, account: AccountId, *, group: bool) -> None:
        bounds = self._limits.settings
        held = await self._lists().count(account, limit=bounds.conversations_account_max)
        self._limits.check_conversations(held + self._coming[account] - 1)
        # Who is in few conversations shares few.
        if group and account != by and held + self._brought[by, account] > bounds.conversations_shared_max:
            shared = await self._lists().count_shared(by, account, limit=bounds.conversations_shared_max)
            self._limits.check_shared(shared + self._brought[by, account] - 1)


def _take_out(counter: Counter[K], keys: Sequence[K]) -> None:
    counter.subtract(keys)
    for key in keys:
        if counter[key] <= 0:
            del counter[key]
