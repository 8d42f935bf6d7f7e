"""What came of a play: what each client stored and was told, compared with what was accepted."""

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from ops.playing.crowd import Crowd, Member
from ops.playing.plan import Plan
from ops.playing.player import Accepted, Player


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The order of the fields is that of the JSON."""

    lines: int
    messages: int
    clients: int
    accepted: int
    deliveries: int
    """How often a client other than the sender's stored a message."""
    missing: int
    """Messages that a client should have, and doesn't have as they were sent."""
    doubled: int
    out_of_order: int
    ticks_missing: int
    """Messages of which their sender does not know that everybody has read them."""
    messages_per_s: float
    p50_ms: float
    """From sending a message to its being stored, over all other clients that got it."""
    p99_ms: float
    skipped: dict[str, int]

    @property
    def flawless(self) -> bool:
        wrong = self.missing + self.doubled + self.out_of_order + self.ticks_missing
        return not wrong and self.accepted == self.messages


def figures(plan: Plan, player: Player, crowd: Crowd) -> Figures:
    people = crowd.people.values()
    latencies = sorted(crowd.latencies_s)
    return Figures(
        lines=plan.lines,
        messages=plan.messages,
        clients=len(plan.names),
        accepted=len(player.accepted),
        deliveries=len(latencies),
        missing=sum(_missing(member, player.accepted, crowd) for member in people),
        doubled=sum(len(member.told) - len(set(member.told)) for member in people),
        out_of_order=sum(later < earlier for member in people for earlier, later in pairwise(member.told)),
        ticks_missing=sum(_ticks_missing(member, crowd.channel) for member in people),
        messages_per_s=round(len(player.accepted) / player.took_s, 1) if player.took_s else 0.0,
        p50_ms=_quantile_ms(latencies, 0.50),
        p99_ms=_quantile_ms(latencies, 0.99),
        skipped=plan.skipped,
    )


def strays(player: Player, crowd: Crowd) -> int:
    """How many messages clients got while their persons were not in the channel."""
    return sum(
        len(set(member.told) - {each.seq for each in _due(member, player.accepted)}) for member in crowd.people.values()
    )


def _due(member: Member, accepted: Sequence[Accepted]) -> list[Accepted]:
    return [each for stay in member.stays for each in accepted[slice(stay[0], stay[1] if len(stay) > 1 else None)]]


def _missing(member: Member, accepted: Sequence[Accepted], crowd: Crowd) -> int:
    told = set(member.told)
    stored = {message.seq: (message.sender, message.text) for message in member.client.messages(crowd.channel)}
    return sum(
        each.seq not in told or stored.get(each.seq) != (crowd.people[each.person].client.account, each.text)
        for each in _due(member, accepted)
    )


def _ticks_missing(member: Member, channel: str) -> int:
    # The channel's owner is always there: every message is due its ticks, also where its author is alone.
    return sum(member.client.ticks_of(channel, seq) != "read" for seq in member.sent)


def _quantile_ms(ascending: Sequence[float], part: float) -> float:
    """By nearest rank; 0 where there is nothing."""
    if not ascending:
        return 0.0
    return round(ascending[math.ceil(part * len(ascending)) - 1] * 1_000, 2)
