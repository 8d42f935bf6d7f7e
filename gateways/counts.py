"""What the edges count as they go: plain numbers, which `gateways/metrics.py` shows when it is asked."""

from collections import Counter
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from gateways.services import Services


class Counts:
    """Of all connections and requests since the start."""

    __slots__ = (
        "disconnects", "fetches", "pings", "receipts", "refusals", "requests", "resyncs", "sends", "slow",
        "slow_readers",
    )  # fmt: skip

    def __init__(self) -> None:
        # Frames of devices that are logged in
        self.sends = 0
        self.receipts = 0
        self.fetches = 0
        self.pings = 0
        self.refusals: Counter[str] = Counter()
        """By code, live and by HTTP."""
        self.disconnects: Counter[str] = Counter()
        """By code: connections that the server has closed."""
        self.slow = 0
        """Devices that read too slowly now."""
        self.slow_readers = 0
        """How often one began to."""
        self.resyncs = 0
        """How often one had missed pushes."""
        self.requests: Counter[tuple[str, int]] = Counter()
        """HTTP requests by the operation's name and the status."""


class CountRequests:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, services: "Services") -> None:
        self._app = app
        self._counts = services.counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                self._counts.requests[getattr(route, "name", "none"), message["status"]] += 1
            await send(message)

        await self._app(scope, receive, send_answer)
