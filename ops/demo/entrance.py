"""Log-in links: whoever has one becomes a new device of the account that it is for.

A link's secret has 256 random bits, is kept as a digest only, and dies with the engine. The first device that uses it
has it for good: said again by that device, since an answer may get lost, it answers the same. What a link lets in is
linked by a client of the account, as any further device is.
"""

import hashlib
import hmac
import secrets
from typing import Annotated, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Response

from gateways.api.edge import Edge, Whence, answer, body_of
from gateways.auth import check_device
from gateways.refusal import Refusal
from signet_client import Client, Refused, SignetError

_SECRET_BYTES: Final = 32


class Look(msgspec.Struct, frozen=True, kw_only=True):
    secret: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a link lets in."""

    account: str
    name: str


class Enter(msgspec.Struct, frozen=True, kw_only=True):
    secret: str
    device: str
    key: str
    """The new device's Ed25519 public key, unpadded base64."""


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    account: str


class _Device(NamedTuple):
    name: str
    key: str


class _Link(msgspec.Struct, eq=False):
    digest: bytes
    name: str
    client: Client
    device: _Device | None = None
    """Who has used it."""


class Entrance:
    """All links of this run, with the routes that take them."""

    def __init__(self) -> None:
        self._links: list[_Link] = []
        self.router = APIRouter(prefix="/v1/demo", include_in_schema=False)
        self.router.add_api_route("/links", self.look, methods=["POST"])
        self.router.add_api_route("/devices", self.enter, methods=["POST"])

    def let_in(self, name: str, client: Client) -> str:
        """A new secret, for one device of this client's account."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        self._links.append(_Link(digest=_digest(secret), name=name, client=client))
        return secret

    async def look(self, services: Edge, whence: Whence, body: Annotated[Look, Depends(body_of(Look))]) -> Response:
        """Whom the link would let in; it can be used afterwards."""
        services.limits.take_login_from(whence)
        link = self._link(body.secret)
        if link.device is not None:
            raise _used()
        return answer(Shown(account=link.client.account, name=link.name))

    async def enter(self, services: Edge, whence: Whence, body: Annotated[Enter, Depends(body_of(Enter))]) -> Response:
        services.limits.take_login_from(whence)
        link = self._link(body.secret)
        device = _Device(body.device, body.key)
        if link.device not in (None, device):
            raise _used()
        check_device(*device)
        link.device = device  # before any wait: of two that come at once, one gets in
        try:
            await link.client.link_device(*device)
        except Refused as refused:
            link.device = None
            raise Refusal(refused.code) from refused
        except SignetError as error:
            raise Refusal("unavailable") from error
        return answer(Entered(account=link.client.account))

    def _link(self, secret: str) -> _Link:
        digest = _digest(secret)
        found = [link for link in self._links if hmac.compare_digest(link.digest, digest)]
        if not found:
            raise Refusal("not_authenticated", "this log-in link is not of this engine's run")
        return found[0]


def _used() -> Refusal:
    return Refusal("not_authenticated", "this log-in link was used")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
