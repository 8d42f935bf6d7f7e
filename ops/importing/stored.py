"""What earlier runs have put into the channel."""

from typing import Final

import msgspec

from domain.ids import AccountId, CommandId, ConversationId, account_stream, conversation_stream
from domain.log import NO_STREAM, EventLog

_PAGE: Final = 2_000


class _Cause(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Of an entry, what is asked for here."""

    cmd: str


_cause_of: Final = msgspec.json.Decoder(_Cause).decode


class StoredChannel:
    """The channel's commands that are in the log, with their seqs: some 200 bytes of memory each."""

    def __init__(self, seqs: dict[str, int]) -> None:
        self._seqs = seqs
        self.head = len(seqs)
        """The last seq: each command of the importer's has one event there."""

    @classmethod
    async def read(cls, log: EventLog, conversation: ConversationId) -> "StoredChannel":
        """Raises StoreUnavailable."""
        return cls(
            {command: version + 1 for command, version in await _commands(log, conversation_stream(conversation))}
        )

    def seq_of(self, command: CommandId) -> int | None:
        """None: it is not there."""
        return self._seqs.get(command)


async def commands_of(log: EventLog, account: AccountId) -> set[str]:
    """The ids of the commands that an account's stream has events of. Raises StoreUnavailable."""
    return {command for command, _ in await _commands(log, account_stream(account))}


async def _commands(log: EventLog, stream: str) -> list[tuple[str, int]]:
    """With the versions of their events."""
    found: list[tuple[str, int]] = []
    after = NO_STREAM
    while page := await log.read_stream(stream, after=after, limit=_PAGE):
        found += [(_cause_of(recorded.data).cmd, recorded.version) for recorded in page]
        after = page[-1].version
        if len(page) < _PAGE:
            break
    return found
