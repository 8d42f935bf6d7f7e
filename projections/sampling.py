"""A slow check in the background: what people are shown of a conversation, made anew from the log, and compared.

One conversation after the other is chosen at random. Its events are folded into an `inbox` and a `receipts` read model
in memory, and for some of its members both are asked: the ones in memory, and those that serve. What differs is drift:
the rows were changed by something else than the events, or a read model has a fault. It is counted, and named with
conversation and position in the engine's log; `signet check` compares all rows.

It takes a fiftieth of a core at most while it is at work, and the loop for 2 ms at a time.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from time import perf_counter
from typing import Final

from domain.codec import Event
from domain.ids import AccountId, ConversationId, conversation_stream, receipts_stream
from domain.log import NO_STREAM, StoreUnavailable
from projections.database import DATABASE_ERRORS
from projections.feed import Feed, Undecodable
from projections.inbox import Inbox
from projections.readmodel import ReadModelStopped
from projections.receipts import Receipts
from projections.served import Served
from projections.sqlite import SqliteDatabase

_log = logging.getLogger("signet.sampling")

PAGE: Final = 100
MEMBERS_MAX: Final = 20
"""Of how many members of a conversation the answers are compared."""
TRIES_MAX: Final = 50
"""A conversation in which something happens all the time can't be compared: then it is another one's turn."""
REST: Final = 50
"""So many times as long as each piece of work took, it rests."""
_MODELS: Final = ("inbox", "receipts")


class Sampler:
    """`run` is a task of its own, and ends when it is cancelled."""

    def __init__(self, feed: Feed, served: Served, *, interval_s: float, seed: int | None = None) -> None:
        """`interval_s`: how long it rests between two conversations."""
        self._feed = feed
        self._served = served
        self._interval_s = interval_s
        self._random = random.Random(seed)
        self.checked = 0
        """How many answers were compared."""
        self.drift = Counter(dict.fromkeys(_MODELS, 0))
        """How many of them were not what the log says, by read model."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                conversation = self._served.inbox.any_from(f"{self._random.getrandbits(128):032x}")
                if conversation is not None:
                    await self.check(conversation)
            except (StoreUnavailable, Undecodable, ReadModelStopped, *DATABASE_ERRORS) as error:
                _log.info("nothing could be compared: %r", error)  # the runners tell what is wrong
            except Exception:
                # Rows that somebody has changed may be of any kind, and the engine must not end by looking at them.
                _log.exception("a conversation could not be compared with the log")

    async def check(self, conversation: ConversationId) -> None:
        """Raises what reading the log and the databases raises."""
        streams = [conversation_stream(conversation), receipts_stream(conversation)]
        if any(self._served.runners[name].is_parked(*streams) for name in _MODELS):
            return
        inbox = type(self._served.inbox)(SqliteDatabase(":memory:"))
        receipts = type(self._served.receipts)(SqliteDatabase(":memory:"))
        with closing(inbox), closing(receipts):
            copy = _Copy(self._feed, streams, inbox, receipts)
            for _ in range(TRIES_MAX):
                await copy.fold()
                for name in _MODELS:
                    await self._served.runners[name].wait(copy.position)
                # From here to the last answer nothing else has the loop, where nothing more has come.
                if await copy.is_still_whole(self._positions):
                    await self._compare(conversation, inbox, receipts)
                    return

    def _positions(self) -> list[int]:
        return [self._served.runners[name].position for name in _MODELS]

    async def _compare(self, conversation: ConversationId, inbox: Inbox, receipts: Receipts) -> None:
        members = inbox.members_ever(conversation)
        for account in self._random.sample(members, min(MEMBERS_MAX, len(members))):
            self._note("inbox", conversation, account,
                       await self._served.inbox.conversation(account, conversation),
                       await inbox.conversation(account, conversation))  # fmt: skip
            self._note("receipts", conversation, account,
                       await self._served.receipts.ticks(conversation, account),
                       await receipts.ticks(conversation, account))  # fmt: skip

    def _note(
        self, name: str, conversation: ConversationId, account: AccountId, found: object, expected: object
    ) -> None:
        self.checked += 1
        if found == expected:
            return
        self.drift[name] += 1
        _log.error(
            "the read model %r has drifted, in conversation %s at position %d: it shows the account %s %s, and the log"
            " says %s. Run `signet check %s`, which names the rows, and `signet rebuild %s`, which mends them.",
            name, conversation, self._served.runners[name].position, account, found, expected, name, name,
        )  # fmt: skip


class _Copy:
    """Two read models of one conversation."""

    def __init__(self, feed: Feed, streams: Sequence[str], inbox: Inbox, receipts: Receipts) -> None:
        self._feed = feed
        self._models = (inbox, receipts)
        # The conversation first: receipts rest on it, and may come late.
        self._versions = dict.fromkeys(streams, NO_STREAM)
        self._receipts = streams[-1]
        self.position = 0
        """Of the last event that is in."""

    async def fold(self) -> None:
        """All that has come since the last time, of the receipts what had come before it began: those that come while
        the conversation is being read may be of members who came then, too."""
        async for events in self._pages(upto=self._feed.head):
            began = perf_counter()
            for model in self._models:
                with model.db.transaction():
                    model.apply(events)
            self.position = max(self.position, events[-1].position)
            await asyncio.sleep(REST * (perf_counter() - began))

    async def is_still_whole(self, positions: Callable[[], list[int]]) -> bool:
        """Whether nothing has come, neither to the streams nor to the rows that serve."""
        before = positions()
        async for _ in self._pages(upto=None):
            return False
        return before == positions()

    async def _pages(self, *, upto: int | None) -> AsyncIterator[list[Event]]:
        """`upto`: the position up to which receipts are read."""
        for stream, version in self._versions.items():
            while events := await self._feed.read_stream(stream, after=version, limit=PAGE):
                if upto is not None and stream == self._receipts:
                    events = [event for event in events if event.position <= upto]
                    if not events:
                        break
                yield events
                version = self._versions[stream] = events[-1].version  # not where nobody went on from there
