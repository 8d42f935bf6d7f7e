"""The writer's look-up of old command ids, by the `messages` read model where it can vouch for its answer."""

import asyncio
from typing import Final

from commands.lookup import CommandLookup
from domain.ids import CommandId, ConversationId, conversation_stream
from domain.recent import First
from projections.feed import Feed
from projections.messages import Messages
from projections.readmodel import ReadModelStopped
from projections.runner import Runner

WAIT_MAX_S: Final = 1.0
"""How long the writer waits for the read model: as long as it does, nobody's commands are decided."""


class ReadModelLookup:
    """Waits until the read model shows everything that is committed; where it doesn't come to that, or lacks events of
    the conversation, the stream is read."""

    def __init__(self, feed: Feed, runner: Runner, messages: Messages, otherwise: CommandLookup) -> None:
        self._feed = feed
        self._runner = runner
        self._messages = messages
        self._otherwise = otherwise

    async def find_command(self, conversation: ConversationId, command_id: CommandId) -> First | None:
        if await self._is_up_to_date() and not self._messages.parking.lacks(conversation_stream(conversation)):
            return await self._messages.find_command(conversation, command_id)
        return await self._otherwise.find_command(conversation, command_id)

    async def _is_up_to_date(self) -> bool:
        try:
            async with asyncio.timeout(WAIT_MAX_S):
                await self._runner.wait(self._feed.head)
        except (TimeoutError, ReadModelStopped):
            return False
        return True
