"""What an id on the command line means: a conversation or an account of the log, by its id or by how it begins."""

import re
from collections.abc import Callable
from typing import Final

from domain.ids import AccountId, ConversationId, account_stream, conversation_stream, is_uuid
from domain.log import EventLog
from ops.errors import OpsError
from ops.history.streams import read_log

_PREFIX_MIN: Final = 4
_NAMED_MAX: Final = 5


async def find_subject(log: EventLog, wanted: str, seen: Callable[[int], None]) -> str:
    """The name of the conversation's or account's stream. A whole id is asked for; what begins with a prefix is known
    after a pass over the log. Raises OpsError."""
    wanted = wanted.lower()
    if is_uuid(wanted):
        found = await _find_whole(log, wanted)
    elif len(wanted) < _PREFIX_MIN or not re.fullmatch("[0-9a-f-]+", wanted):
        raise OpsError(f"{wanted!r} is no id: give the id, or at least {_PREFIX_MIN} characters of its beginning")
    else:
        found = await _find_prefix(log, wanted, seen)
    if not found:
        raise OpsError(
            f"the log has no conversation or account {wanted}; "
            "`signet conversations` and `signet accounts` list the ids"
        )
    if len(found) > 1:
        named = ", ".join(found[:_NAMED_MAX]) + (", …" if len(found) > _NAMED_MAX else "")
        raise OpsError(f"{wanted} is the beginning of more than one id; give more of it: {named}")
    return found[0]


async def _find_whole(log: EventLog, uuid: str) -> list[str]:
    streams = (conversation_stream(ConversationId(uuid)), account_stream(AccountId(uuid)))
    return [stream for stream in streams if await log.read_stream(stream, limit=1)]


async def _find_prefix(log: EventLog, prefix: str, seen: Callable[[int], None]) -> list[str]:
    begins = (conversation_stream(ConversationId(prefix)), account_stream(AccountId(prefix)))
    return sorted(
        [event.stream async for event in read_log(log, seen) if not event.version and event.stream.startswith(begins)]
    )
