"""What is to be sent, in order: one unanswered message in each conversation, so that a refused one that may be retried
is never overtaken by the next. Pure: no I/O and no clock."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from signet_client.records import Outgoing


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The server has the message on disk."""

    conversation: str
    id: str
    seq: int
    at: int
    """When the server recorded it, in microseconds since 1970, UTC."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One message without an answer."""

    message: Outgoing
    answer: "asyncio.Future[Sent] | None" = None
    sent_at: float = 0.0
    """The loop's time at which it went out on the present connection; 0: it did not."""
    refusals: int = 0
    """How often it was refused with leave to try again."""


class Outbox:
    """The messages of all conversations that have no final answer."""

    def __init__(self, messages: Iterable[Outgoing]) -> None:
        self._queues: dict[str, deque[Waiting]] = {}
        self._by_id: dict[str, Waiting] = {}
        for message in messages:
            self.add(Waiting(message))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._by_id

    def add(self, waiting: Waiting) -> None:
        self._by_id[waiting.message.id] = waiting
        self._queues.setdefault(waiting.message.conversation, deque()).append(waiting)

    def messages(self) -> list[Outgoing]:
        """Each conversation's in order."""
        return [waiting.message for queue in self._queues.values() for waiting in queue]

    def get(self, id_: str) -> Waiting | None:
        return self._by_id.get(id_)

    def pop(self, id_: str) -> Waiting | None:
        """Takes out a message that has its answer; None where there is none of this id."""
        waiting = self._by_id.pop(id_, None)
        if waiting is not None:
            queue = self._queues[waiting.message.conversation]
            queue.remove(waiting)
            if not queue:
                del self._queues[waiting.message.conversation]
        return waiting

    def first(self, conversation: str) -> Waiting | None:
        """The one that is to go out, or has gone out, in this conversation."""
        queue = self._queues.get(conversation)
        return queue[0] if queue else None

    def firsts(self) -> list[Waiting]:
        return [queue[0] for queue in self._queues.values()]

    def reset(self) -> None:
        """The connection is gone: what had gone out on it is to be sent again."""
        for waiting in self.firsts():
            waiting.sent_at = 0.0

    def oldest(self) -> float:
        """When the message went out that has waited longest for its answer; infinity where none has."""
        return min((waiting.sent_at for waiting in self.firsts() if waiting.sent_at), default=float("inf"))

    def answers(self) -> list["asyncio.Future[Sent]"]:
        """Those who wait for an answer."""
        return [waiting.answer for waiting in self._by_id.values() if waiting.answer is not None]
