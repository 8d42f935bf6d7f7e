"""A server that was restored from a backup has lost what came after it: a device that was there before must know how
far its conversations are still what it holds."""

import msgspec

from domain.ids import ConversationId
from projections.messages import Messages


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """Since the last restore."""

    id: str = ""
    before: str = ""
    """The one that was backed up; empty where there is none."""
    position: int = 0
    """Up to which the log is what it was then."""

    async def kept(self, known: str, messages: Messages, conversation: ConversationId) -> int | None:
        """Up to which seq a device that knows the epoch `known` holds what the server holds, too. None: all of it.
        Where the server can't tell, since it was restored more than once meanwhile, nothing is."""
        if not known or known == self.id:
            return None
        if known != self.before:
            return 0
        return await messages.last_seq_upto(conversation, self.position)
