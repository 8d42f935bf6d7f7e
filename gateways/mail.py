"""From the mailbox to the device: one for each connection, which gives what waits, in order, as the socket takes it."""

from collections.abc import Awaitable, Callable
from typing import Final

from domain.ids import AccountId, DeviceId
from gateways.mailbox import Mailbox
from signet_client import matrix, wire

GIVEN_BYTES: Final = 65_536
"""How much is given, about, before the socket is asked whether it takes more."""


class MailCarrier:
    """Gives each letter once; what the device doesn't say that it took comes again with its next connection."""

    __slots__ = ("_carrying", "_given", "_mailbox", "_server", "address")

    def __init__(self, mailbox: Mailbox, server: str, account: AccountId, device: DeviceId) -> None:
        self._mailbox = mailbox
        self._server = server
        self.address = (account, device)
        self._given = 0
        self._carrying = False

    @property
    def idle(self) -> bool:
        """It is not under way: who has heard of mail starts it."""
        return not self._carrying

    async def carry(self, send: Callable[[wire.Mail], None], drained: Callable[[], Awaitable[None]]) -> None:
        """Returns when nothing waits that was not given. Raises Refusal(`unavailable`)."""
        self._carrying = True
        given = 0
        try:
            while letters := self._mailbox.page(self.address, after=self._given):
                for letter in letters:
                    sender = matrix.user_id(letter.sender, self._server)
                    send(wire.Mail(n=letter.number, type=letter.type, sender=sender, content=letter.content))
                    self._given = letter.number
                    given += len(letter.content)
                    if given > GIVEN_BYTES:
                        given = 0
                        await drained()
                await drained()
        finally:
            self._carrying = False
