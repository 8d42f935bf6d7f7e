"""Who may speak to this server, and from where: the names it goes by, the pages that may use it, whose word it takes.

A web page of somebody else can make its visitor's browser speak to a server that only the visitor reaches. The browser
names the page (`Origin`), or, where the page's own name was made to point here, that name (`Host`); so both are
checked. A proxy names the client that it speaks for (`X-Forwarded-For`); only a proxy that the operator trusts is
believed, since anybody may send that.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from gateways.refusal import Refusal
from gateways.services import EdgeSettings, Services

_LOCALHOST: Final = "localhost"


class Gate:
    """One for all edges of a server."""

    def __init__(self, settings: EdgeSettings, server_name: str) -> None:
        self._names = frozenset(name.lower() for name in (_LOCALHOST, server_name, *settings.hosts))
        self._origins = frozenset(origin.lower() for origin in settings.origins)
        self._proxies = tuple(ipaddress.ip_network(proxy) for proxy in settings.trusted_proxies)

    def check_host(self, hosts: Sequence[str]) -> None:
        """`hosts`: all headers of that name. None is fine: every browser sends one. Raises Refusal(`wrong_host`)."""
        if len(hosts) > 1 or (hosts and not self._is_ours(_without_port(hosts[0]).lower())):
            raise Refusal("wrong_host", ", ".join(hosts)[:100])

    def check_origin(self, origins: Sequence[str], hosts: Sequence[str]) -> None:
        """Who is no browser sends no `Origin`. Raises Refusal(`wrong_origin`)."""
        for origin in map(str.lower, origins):
            ours = origin.partition("://")[2] in [host.lower() for host in hosts] or origin in self._origins
            if len(origins) > 1 or not ours:
                raise Refusal("wrong_origin", origin[:100])

    def _is_ours(self, name: str) -> bool:
        # An address can't be made to point somewhere else, as a name can.
        return name.rstrip(".") in self._names or _address(name) is not None

    def client(self, peer: str, forwarded: Iterable[str]) -> str:
        """The client's address: the last one of the `X-Forwarded-For` headers that no trusted proxy has; the peer's own
        where that is none."""
        address = _canonical(peer)
        for named in reversed([each for header in forwarded for each in header.split(",")]):
            if not self.trusts(address):
                break
            if (before := _address(_without_port(named.strip()))) is None:
                break
            address = before
        return address

    def trusts(self, peer: str) -> bool:
        """Whether that is a proxy whose word is taken."""
        if not self._proxies:
            return False
        address = ipaddress.ip_address(peer) if _address(peer) else None
        return address is not None and any(address in network for network in self._proxies)


class GateKeeper:
    """ASGI middleware: refuses requests for other hosts, and puts the client's address and scheme in place of the
    trusted proxy's."""

    def __init__(self, app: ASGIApp, *, services: Services, refuse: Callable[[Refusal], ASGIApp]) -> None:
        self._app = app
        self._gate = Gate(services.settings, services.server_name)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._gate.check_host(_headers(scope, b"host"))
            except Refusal as refusal:
                await self._refuse(refusal)(scope, receive, send)
                return
            self._name_client(scope)
        await self._app(scope, receive, send)

    def _name_client(self, scope: Scope) -> None:
        if scope.get("client") is None:
            return
        peer, port = scope["client"]
        if self._gate.trusts(peer):
            scope["client"] = (self._gate.client(peer, _headers(scope, b"x-forwarded-for")), 0)
            for scheme in _headers(scope, b"x-forwarded-proto"):
                scope["scheme"] = "https" if scheme == "https" else "http"
        else:
            scope["client"] = (_canonical(peer), port)


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _without_port(host: str) -> str:
    """`[::1]:8700`, `signet.example:8700`, `::1` and so on, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _address(text: str) -> str | None:
    """The address as it is written canonically, an IPv4 one that came over IPv6 as such; None: it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def _canonical(peer: str) -> str:
    return _address(peer) or peer
