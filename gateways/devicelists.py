"""Who hears that an account has other devices: all that share a conversation with it, and are connected.

Only a hint, like every push: who connects later asks for the list anew before it encrypts.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from domain.ids import AccountId
from gateways.hub import Hub
from projections.database import DatabaseUnavailable
from projections.delivery import Delivery, DeviceListPush, Push
from projections.inbox import Inbox
from signet_client import wire

_log = logging.getLogger("signet.devices")

WAITING_MAX: Final = 1_000
"""How many accounts' changes wait to be told at most; the rest hears of them when it encrypts next after a connect."""


class DeviceLists:
    def __init__(self, delivery: Delivery, hub: Hub, inbox: Callable[[], Inbox]) -> None:
        self._hub = hub
        self._inbox = inbox
        self._waiting: dict[AccountId, None] = {}
        self._telling: asyncio.Task[None] | None = None
        delivery.subscribe(self._receive)

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])

    def _receive(self, pushes: Sequence[Push]) -> None:
        for push in pushes:
            if isinstance(push, DeviceListPush) and len(self._waiting) < WAITING_MAX:
                self._waiting[push.account] = None
        if self._waiting and self._telling is None:
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        try:
            while self._waiting:
                account = next(iter(self._waiting))
                del self._waiting[account]
                try:
                    self._hub.tell(await self._concerned(account), wire.DeviceLists(accounts=[account]))
                except DatabaseUnavailable as error:
                    _log.warning("nobody is told of the new devices of %s: %s", account, error)
        finally:
            self._telling = None

    async def _concerned(self, account: AccountId) -> set[AccountId]:
        concerned = {account}
        for row in await self._inbox().conversations(account):
            if row.role is not None:
                concerned.update(await self._inbox().members(row.conversation))
            # An account may be in a thousand conversations.
            await asyncio.sleep(0)
        return concerned
