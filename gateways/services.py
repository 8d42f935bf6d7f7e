"""What all edges work with, wired once by ops: the way to the writer, the read models, and the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from gateways.counts import Counts
from gateways.epoch import Epoch
from gateways.refusal import Refusal
from gateways.turnstile import Turnstiles
from projections.readmodel import ReadModelStopped

if TYPE_CHECKING:
    # Only names of types: the hub, for one, needs this module itself.
    from commands.measures import Histogram
    from commands.sealing import Sealer
    from commands.writer import Writer
    from domain.log import EventLog
    from domain.media import MediaKind
    from gateways.admission import Admission
    from gateways.auth import Auth
    from gateways.hub import Hub
    from gateways.invitations import Invitations
    from gateways.limits import Limits
    from gateways.mailbox import Mailbox
    from gateways.media.access import ObjectAccess
    from gateways.readiness import Readiness
    from projections.attestations import Attestations
    from projections.directory import Directory
    from projections.feed import Feed
    from projections.inbox import Inbox
    from projections.media import Media
    from projections.messages import Messages
    from projections.receipts import Receipts
    from projections.runner import Runner
    from projections.sampling import Sampler
    from projections.served import Served

CATCH_UP_MAX_S: Final = 5.0
"""How long a request waits for each read model to show what it must see; then it is refused as `unavailable`."""


@dataclass(frozen=True, kw_only=True)
class MediaLimits:
    """Of ciphertext, in bytes, by what the device says that it is."""

    image: int = 64 * 2**20
    video: int = 1_024 * 2**20
    audio: int = 256 * 2**20
    file: int = 2_048 * 2**20
    preview: int = 256 * 2**10

    def bytes_max(self, kind: MediaKind) -> int:
        limit: int = getattr(self, kind)
        return limit


@dataclass(frozen=True, kw_only=True)
class EdgeSettings:
    """What the edges let through."""

    registration: Literal["open", "invited", "closed"] = "invited"
    """Who may register accounts: everybody, who has an invitation, nobody."""
    body_bytes_max: int = 65_536
    """Of a message's body, as UTF-8."""
    frame_bytes_max: int = 262_144
    """Of a WebSocket frame, and of the body of an HTTP request."""
    hosts: tuple[str, ...] = ()
    """Names by which the server is reached, beside its own, `localhost`, and addresses."""
    origins: tuple[str, ...] = ()
    """Web pages that may connect (`https://chat.example`), beside those that come from this server."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    members_max: int = 1_024
    name_chars_max: int = 128
    title_chars_max: int = 256
    media: MediaLimits = field(default_factory=MediaLimits)
    metrics_token: str | None = None
    """What operators show; None: who asks from this machine is one."""
    trusts_loopback: bool = True
    """False: behind a proxy everybody seems to ask from this machine."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """One engine, as its edges see it."""

    server_name: str
    """Set at the first start, and never changed: devices sign it."""
    log: EventLog
    writer: Writer
    sealer: Sealer
    feed: Feed
    served: Served
    """The read models."""
    auth: Auth
    hub: Hub
    mailbox: Mailbox
    objects: ObjectAccess
    """Where media lie."""
    clock: Callable[[], int]
    """Microseconds since 1970, UTC."""
    limits: Limits
    admission: Admission
    invitations: Invitations
    readiness: Readiness
    epoch: Epoch = field(default_factory=Epoch)
    settings: EdgeSettings = field(default_factory=EdgeSettings)
    counts: Counts = field(default_factory=Counts)
    turnstiles: Turnstiles = field(default_factory=Turnstiles)
    sampler: Sampler | None = None
    """What compares the read models with the log; None: nothing does."""
    commits: Histogram | None = None
    """How long the store's commits took, where it tells."""

    @property
    def runners(self) -> Mapping[str, Runner]:
        """By the name of the read model."""
        return self.served.runners

    @property
    def messages(self) -> Messages:
        return self.served.messages

    @property
    def inbox(self) -> Inbox:
        return self.served.inbox

    @property
    def receipts(self) -> Receipts:
        return self.served.receipts

    @property
    def attestations(self) -> Attestations:
        return self.served.attestations

    @property
    def directory(self) -> Directory:
        return self.served.directory

    @property
    def media(self) -> Media:
        return self.served.media

    async def catch_up(self, *names: str, to: int | None = None) -> None:
        """Returns when these read models show every event up to position `to`; by default all that anybody can know of:
        what is published, and what the writer has answered, which a feed that follows the log brings later. Raises
        Refusal(`unavailable`)."""
        position = max(self.feed.head, self.writer.position) if to is None else to
        for name in names:
            runner = self.runners[name]
            if runner.position < position:
                await shown(runner.wait(position))

    def check_whole(self, name: str, *streams: str) -> None:
        """Whether a read model shows these streams as far as it has come: none of their events is parked. Raises
        Refusal(`unavailable`)."""
        if self.runners[name].is_parked(*streams):
            raise parked()


def parked() -> Refusal:
    """For what a read model shows no further, while it shows all the rest."""
    return Refusal("unavailable", "an event of it could not be applied, and waits for the operator")


def away() -> Refusal:
    """For what can't be read while the read models' database is away."""
    return Refusal("unavailable", "the read models' database is away")


async def shown(waiting: Awaitable[None]) -> None:
    """Waits for a read model, and no longer than `CATCH_UP_MAX_S`. Raises Refusal(`unavailable`)."""
    try:
        async with asyncio.timeout(CATCH_UP_MAX_S):
            await waiting
    except (TimeoutError, ReadModelStopped) as error:
        raise Refusal("unavailable", "a read model is behind") from error
