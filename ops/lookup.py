"""The writer's look-up of old command ids, by the `messages` read model where it can vouch for its answer."""

from collections.abc import Callable

from commands.lookup import StreamLookup
from domain.ids import CommandId, ConversationId, conversation_stream
from domain.recent import First
from projections.database import DatabaseUnavailable
from projections.messages import Messages


class ReadModelLookup:
    """Waits for nothing, since the writer waits for it. What stands in the model's rows is right in any case; what they
    lack of that which was asked for, as where the model stands still or its database is away, is read from the
    stream."""

    def __init__(self, messages: Callable[[], Messages], stream: StreamLookup) -> None:
        self._messages = messages
        self._stream = stream

    async def find_command(self, conversation: ConversationId, command_id: CommandId, *, upto: int) -> First | None:
        try:
            return await self._find(conversation, command_id, upto=upto)
        except DatabaseUnavailable:
            return await self._stream.find_command(conversation, command_id, upto=upto)

    async def _find(self, conversation: ConversationId, command_id: CommandId, *, upto: int) -> First | None:
        if self._messages().parking.skips(conversation_stream(conversation)):
            return await self._stream.find_command(conversation, command_id, upto=upto)
        found = await self._messages().find_command(conversation, command_id)
        if found is not None:
            return found
        # Rows are made in order: what they lack comes after the last one.
        last_seq = await self._messages().last_seq(conversation)
        if last_seq >= upto:
            return None
        return await self._stream.find_command(conversation, command_id, upto=upto, after=last_seq - 1)
