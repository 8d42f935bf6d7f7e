"""The writer's look-up of old command ids, by the `messages` read model where it can vouch for its answer."""

from commands.lookup import CommandLookup
from domain.ids import CommandId, ConversationId
from domain.recent import First
from projections.feed import Feed
from projections.messages import Messages
from projections.readmodel import ReadModelStopped
from projections.runner import Runner


class ReadModelLookup:
    """Waits until the read model shows everything that is committed; where it has stopped, the stream is read."""

    def __init__(self, feed: Feed, runner: Runner, messages: Messages, otherwise: CommandLookup) -> None:
        self._feed = feed
        self._runner = runner
        self._messages = messages
        self._otherwise = otherwise

    async def find_command(self, conversation: ConversationId, command_id: CommandId) -> First | None:
        try:
            await self._runner.wait(self._feed.head)
        except ReadModelStopped:
            return await self._otherwise.find_command(conversation, command_id)
        return await self._messages.find_command(conversation, command_id)
