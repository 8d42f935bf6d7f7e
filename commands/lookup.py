"""What became of a command id that the conversation's state no longer knows: a port, and its answer from the stream."""

from typing import Final, Protocol, cast

from domain.codec import CODEC, Codec
from domain.conversation import ConversationEvent, first_outcome
from domain.entry import Entry
from domain.ids import CommandId, ConversationId, conversation_stream
from domain.log import NO_STREAM, EventLog
from domain.recent import First

_PAGE: Final = 1_000


class CommandLookup(Protocol):
    async def find_command(self, conversation: ConversationId, command_id: CommandId, *, upto: int) -> First | None:
        """The first outcome of the id in this conversation; exact for what has a seq of at most `upto`, which is
        committed. Raises StoreUnavailable."""
        ...


class StreamLookup:
    """Reads the stream: always right, and slow. A read model does better where it is up to date."""

    def __init__(self, log: EventLog, codec: Codec = CODEC) -> None:
        self._log = log
        self._codec = codec

    async def find_command(
        self, conversation: ConversationId, command_id: CommandId, *, upto: int, after: int = NO_STREAM
    ) -> First | None:
        """`after`: only in events with a greater version."""
        stream = conversation_stream(conversation)
        while (wanted := min(_PAGE, upto - 1 - after)) > 0:
            page = await self._log.read_stream(stream, after=after, limit=wanted)
            if not page:
                break
            for recorded in page:
                entry = self._codec.decode(recorded).entry
                if entry.cmd == command_id:
                    return first_outcome(recorded.version, cast(Entry[ConversationEvent], entry))
            after = page[-1].version
        return None
