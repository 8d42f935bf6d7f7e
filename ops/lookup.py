"""The writer's look-up of old command ids, by the `messages` read model where it can vouch for its answer."""

import asyncio
from typing import Final

from commands.lookup import StreamLookup
from domain.ids import CommandId, ConversationId, conversation_stream
from domain.recent import First
from projections.feed import Feed
from projections.messages import Messages
from projections.readmodel import ReadModelStopped
from projections.runner import Runner

WAIT_MAX_S: Final = 1.0
"""How long the writer waits for the read model: as long as it does, nobody's commands are decided."""


class ReadModelLookup:
    """Waits until the read model shows everything that is committed. What stands in its rows is right in any case;
    where it stands still or the conversation is parked, the rest of the stream is read."""

    def __init__(self, feed: Feed, runner: Runner, messages: Messages, stream: StreamLookup) -> None:
        self._feed = feed
        self._runner = runner
        self._messages = messages
        self._stream = stream

    async def find_command(self, conversation: ConversationId, command_id: CommandId) -> First | None:
        parking, stream = self._messages.parking, conversation_stream(conversation)
        if parking.skips(stream):
            return await self._stream.find_command(conversation, command_id)
        is_whole = await self._is_up_to_date() and parking.get(stream) is None
        found = await self._messages.find_command(conversation, command_id)
        if found is not None or is_whole:
            return found
        # Rows are made in order: what they lack comes after the last one.
        last_seq = await self._messages.last_seq(conversation)
        return await self._stream.find_command(conversation, command_id, after=last_seq - 1)

    async def _is_up_to_date(self) -> bool:
        try:
            async with asyncio.timeout(WAIT_MAX_S):
                await self._runner.wait(self._feed.head)
        except (TimeoutError, ReadModelStopped):
            return False
        return True
