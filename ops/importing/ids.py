"""The ids of what is imported. They are derived from the channel and the line, so that a run that comes again, or goes
on where another was killed, finds what is there."""

from typing import Final
from uuid import UUID, uuid5

from domain.ids import AccountId, CommandId, ConversationId, DeviceId, group_id
from ops.irc.script import Person

DEVICE: Final = DeviceId("import")

_CHANNELS: Final = UUID("5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a11")


class ChannelIds:
    """Of one channel."""

    def __init__(self, channel: str) -> None:
        self._root = uuid5(_CHANNELS, channel)
        self.owner = AccountId(self._of("owner"))
        self.owner_registration = CommandId(self._of("register the owner"))
        self.start = CommandId(self._of("start"))
        self.conversation: ConversationId = group_id(creator=self.owner, command_id=self.start)

    def account(self, person: Person) -> AccountId:
        return AccountId(self._of(f"account\n{person}"))

    def registration(self, person: Person) -> CommandId:
        """Of the person, whichever line it comes in with: files may be read from another day on."""
        return CommandId(self._of(f"register\n{person}"))

    def command(self, purpose: str, file: str, line: int) -> CommandId:
        return CommandId(self._of(f"{purpose}\n{line}\n{file}"))

    def _of(self, name: str) -> str:
        return str(uuid5(self._root, name))
