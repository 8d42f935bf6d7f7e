"""One import, from the logs to read models that serve."""

import time
from collections.abc import Callable, Sequence

import msgspec

from domain.ids import ConversationId
from ops.importing.files import DayLog
from ops.importing.ids import ChannelIds
from ops.importing.importer import Counts, Importer
from ops.importing.stored import StoredChannel
from ops.importing.survey import check_order, survey
from ops.readmodels import OnPosition, catch_up
from ops.settings import Settings
from ops.writing import WriteSide, write_side

OnChunk = Callable[[Counts, int], None]
"""Hears what came of the lines so far, and how many messages there are in all."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the log of the lines that were named; `lines` is `messages`, `changes` and `skipped` together."""

    conversation: ConversationId
    lines: int
    messages: int
    changes: int
    """Lines by which somebody came in, left or took another name."""
    skipped: dict[str, int]
    """Lines that nothing came of, by reason."""
    persons: int
    replies: int
    """Messages that say which one they answer."""
    links_dropped: dict[str, int]
    """Links of the annotations that no message says, by reason."""
    added: int
    """Messages that this run has added."""
    events: int
    """Events that this run has added."""
    seconds: float
    """What that took, from the first look at the logs (in archives: unpacked already) to the last answer."""
    messages_per_s: int
    """Of those that this run has added."""
    readmodels_s: float
    """What it took after that to bring the read models up to date."""


async def import_logs(
    settings: Settings, logs: Sequence[DayLog], channel: str, *, on_chunk: OnChunk, on_position: OnPosition
) -> Imported:
    """Owns the data folder meanwhile. Raises OpsError, StoreUnavailable, KeyringUnavailable; what is stored by then
    stays, and the next run goes on."""
    ids = ChannelIds(channel)
    async with write_side(settings) as side:
        began = time.perf_counter()
        importer = await _take(side, logs, channel, ids, on_chunk)
        seconds = time.perf_counter() - began
        readmodels_s = await catch_up(settings, side.log, on_position)
        counts = importer.counts
        return Imported(
            conversation=ids.conversation, lines=counts.lines, messages=counts.messages, changes=counts.changes,
            skipped=_sorted(counts.skipped), persons=importer.persons, replies=counts.replies,
            links_dropped=_sorted(counts.dropped), added=counts.added, events=side.writer.measures.events,
            seconds=round(seconds, 3), messages_per_s=round(counts.added / seconds),
            readmodels_s=round(readmodels_s, 3),
        )  # fmt: skip


async def _take(side: WriteSide, logs: Sequence[DayLog], channel: str, ids: ChannelIds, on_chunk: OnChunk) -> Importer:
    surveyed = survey(logs)
    stored = await StoredChannel.read(side.log, ids.conversation)
    check_order(logs, surveyed, stored, ids)
    importer = Importer(side, channel, ids, stored)
    await importer.start(surveyed)
    await importer.take(logs, lambda: on_chunk(importer.counts, surveyed.messages))
    return importer


def _sorted(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(counts.items()) if count}
