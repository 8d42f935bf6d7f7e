"""The HTTP part: registration, devices, conversations and who is in them, pages of history, names.

A request that got no answer, or a refusal that may be retried, is sent again a few times with the same command id, so
that it is done once however often it arrives.
"""

import asyncio
import random
from collections.abc import Iterable
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec

from signet_client import matrix, payloads, wire
from signet_client.connection import tls_context
from signet_client.crypto.lists import KeysFound
from signet_client.crypto.proofs import Statement
from signet_client.errors import Refused, Unreachable
from signet_client.identity import Identity
from signet_client.media.transfer import Address
from signet_client.records import Profile, UploadFile

ATTEMPTS_MAX: Final = 5
RETRY_FIRST_S: Final = 0.2
RETRY_AFTER_MAX_S: Final = 15.0
"""Who is told to wait for longer than this decides by itself."""
TIMEOUT_S: Final = 15.0
COMPLETE_TIMEOUT_S: Final = 120.0
"""The server reads through what was uploaded."""

Method = Literal["GET", "POST", "PUT", "DELETE"]
T = TypeVar("T", bound=msgspec.Struct)


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """A command to a conversation is on disk."""

    id: str
    conversation: str
    seq: int
    at: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str | None
    """None: it was erased."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    key: str
    """Ed25519, unpadded base64."""
    active: bool
    """False: revoked, for ever."""
    linked_at: int
    """Microseconds since 1970, UTC."""
    by: str | None
    """The device that let it in."""


class ConversationShown(msgspec.Struct, frozen=True, kw_only=True):
    overview: wire.Overview
    members: dict[str, wire.Role] | None
    """None to a former member."""


class MemberMarks(msgspec.Struct, frozen=True, kw_only=True):
    """How far one member is."""

    delivered: int
    read: int
    undelivered: list[int] = []
    """The latest seqs that it could not decrypt."""


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    media: str
    upload: Address | None
    """Where it is to be uploaded; None: it is stored."""


class MediaShown(msgspec.Struct, frozen=True, kw_only=True):
    media: str
    size: int
    """Bytes of ciphertext."""
    digest: str
    """Their SHA-256, unpadded base64."""
    download: Address


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    media: str


class _Challenge(msgspec.Struct, frozen=True, kw_only=True):
    nonce: str
    server: str


class _AccountChanged(msgspec.Struct, frozen=True, kw_only=True):
    account: str


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    token: str


class _Devices(msgspec.Struct, frozen=True, kw_only=True):
    devices: list[Device]


class _Conversations(msgspec.Struct, frozen=True, kw_only=True):
    conversations: list[wire.Overview]


class _Receipts(msgspec.Struct, frozen=True, kw_only=True):
    members: dict[str, MemberMarks]


class _Undelivered(msgspec.Struct, frozen=True, kw_only=True):
    seqs: list[int]
    before: int


class _KeysUploaded(msgspec.Struct, frozen=True, kw_only=True):
    one_time_key_counts: dict[str, int]


class _KeysClaimed(msgspec.Struct, frozen=True, kw_only=True):
    one_time_keys: dict[str, dict[str, dict[str, matrix.Object]]]


class _ToDeviceTaken(msgspec.Struct, frozen=True, kw_only=True):
    refused: dict[str, dict[str, str]] = {}


class _Statements(msgspec.Struct, frozen=True, kw_only=True):
    statements: list[Statement]


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    text: str
    retry: bool
    retry_after_ms: int = 0


class Api:
    """The HTTP API as one device uses it. Every method raises Refused and Unreachable."""

    def __init__(self, profile: Profile, identity: Identity) -> None:
        self._profile = profile
        self._identity = identity
        self._token = ""
        # No proxies from the environment: the live connection knows of none either.
        self._http = httpx.AsyncClient(
            base_url=profile.url.rstrip("/") + "/v1", verify=tls_context(), timeout=TIMEOUT_S, trust_env=False
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def server_name(self) -> str:
        return (await self._challenge()).server

    # Accounts and devices

    async def register(self, name: str, *, invitation: str | None = None) -> str:
        """Makes the account that the profile's `registration` names, and gives its id."""
        command, device, key = self._profile.registration, self._profile.device, self._identity.key
        challenge = await self._challenge()
        signature = self._identity.sign(
            payloads.registration_payload(
                nonce=challenge.nonce, server=challenge.server, command_id=command, device=device, key=key
            )
        )
        content = {
            "id": command, "nonce": challenge.nonce, "name": name, "device": device, "key": key, "signature": signature,
            "invitation": invitation,
        }  # fmt: skip
        return (await self._ask(_AccountChanged, "POST", "/accounts", content, token=False)).account

    async def link_device(self, device: str, key: str) -> None:
        """Lets another device into the account."""
        server = (await self._challenge()).server
        payload = payloads.link_payload(server=server, account=self._profile.account, device=device, key=key)
        content = {"id": _new_id(), "device": device, "key": key, "signature": self._identity.sign(payload)}
        await self._ask(_AccountChanged, "POST", "/devices", content)

    async def revoke_device(self, device: str) -> None:
        await self._ask(_AccountChanged, "DELETE", f"/devices/{_part(device)}?id={_new_id()}")

    async def devices(self) -> list[Device]:
        return (await self._ask(_Devices, "GET", "/devices")).devices

    async def account(self, account: str) -> Account:
        return await self._ask(Account, "GET", f"/accounts/{_part(account)}")

    async def rename(self, name: str) -> None:
        await self._ask(_AccountChanged, "PUT", "/accounts/me/name", {"id": _new_id(), "name": name})

    # Conversations

    async def conversations(self) -> list[wire.Overview]:
        """All of them, the most recent first."""
        return (await self._ask(_Conversations, "GET", "/conversations")).conversations

    async def conversation(self, conversation: str) -> ConversationShown:
        return await self._ask(ConversationShown, "GET", f"/conversations/{_part(conversation)}")

    async def start(
        self, kind: wire.Kind, members: list[str], *, title: str | None, protection: wire.Protection
    ) -> Changed:
        content = {"id": _new_id(), "kind": kind, "members": members, "title": title, "protection": protection}
        return await self._ask(Changed, "POST", "/conversations", content)

    async def command(self, method: Method, conversation: str, path: str, *, after: int, **content: object) -> Changed:
        """A command to a conversation; `after` is the last seq that the device holds."""
        where = f"/conversations/{_part(conversation)}/{path}"
        if method == "DELETE":
            return await self._ask(Changed, method, f"{where}?id={_new_id()}&after={after}")
        return await self._ask(Changed, method, where, {"id": _new_id(), "after": after, **content})

    async def events(self, conversation: str, *, after: int, limit: int) -> wire.Page:
        """A page of history as the server has it."""
        return await self._ask(
            wire.Page, "GET", f"/conversations/{_part(conversation)}/events?after={after}&limit={limit}"
        )

    async def receipts(self, conversation: str) -> dict[str, MemberMarks]:
        """How far each member is."""
        return (await self._ask(_Receipts, "GET", f"/conversations/{_part(conversation)}/receipts")).members

    async def undelivered(self, conversation: str) -> list[int]:
        """All seqs that some other member could not decrypt."""
        path = f"/conversations/{_part(conversation)}/undelivered"
        page = await self._ask(_Undelivered, "GET", path)
        seqs = page.seqs
        while page.before:
            page = await self._ask(_Undelivered, "GET", f"{path}?before={page.before}")
            seqs += page.seqs
        return seqs

    # Keys and mail

    async def upload_keys(self, body: dict[str, Any]) -> int:
        """Publishes what `Machine.upload` made; gives how many one-time keys the server has then."""
        counts = (await self._ask(_KeysUploaded, "POST", "/keys/upload", body)).one_time_key_counts
        return counts.get(matrix.SIGNED_CURVE25519, 0)

    async def query_keys(self, users: list[str], versions: dict[str, int]) -> KeysFound:
        """The devices of these users, but for lists that still have the version named here."""
        content = {"device_keys": {user: [] for user in users}, "versions": versions}
        return await self._ask(KeysFound, "POST", "/keys/query", content)

    async def claim_keys(
        self, devices: Iterable[tuple[str, str]], *, request: str
    ) -> dict[str, dict[str, dict[str, matrix.Object]]]:
        """A one-time key of each (user, device); the same ones for the same `request`, a uuid."""
        wanted: dict[str, dict[str, str]] = {}
        for user, device in devices:
            wanted.setdefault(user, {})[device] = matrix.SIGNED_CURVE25519
        content = {"one_time_keys": wanted, "id": request}
        return (await self._ask(_KeysClaimed, "POST", "/keys/claim", content)).one_time_keys

    async def send_to_device(
        self, type_: str, transaction: str, messages: dict[str, dict[str, Any]]
    ) -> dict[str, dict[str, str]]:
        """User → device → content; gives the devices that do not get it, and why."""
        path = f"/sendToDevice/{_part(type_)}/{_part(transaction)}"
        return (await self._ask(_ToDeviceTaken, "PUT", path, {"messages": messages})).refused

    async def statements(self, conversation: str) -> list[Statement]:
        """What the members' devices have signed of how far they have come."""
        return (await self._ask(_Statements, "GET", f"/conversations/{_part(conversation)}/statements")).statements

    # Media

    async def reserve_media(self, file: UploadFile) -> Reserved:
        """Said again it gives another address."""
        content = {"id": file.command, "kind": file.kind, "size": file.size, "digest": file.digest}
        return await self._ask(Reserved, "POST", "/media", content)

    async def complete_media(self, media: str) -> None:
        """It is uploaded."""
        await self._ask(_Stored, "POST", f"/media/{_part(media)}/complete", timeout_s=COMPLETE_TIMEOUT_S)

    async def media(self, media: str, *, conversation: str) -> MediaShown:
        """`conversation`: where a message shows it."""
        return await self._ask(MediaShown, "GET", f"/media/{_part(media)}?conversation={_part(conversation)}")

    # Inside

    async def _challenge(self) -> _Challenge:
        return await self._ask(_Challenge, "GET", "/challenge", token=False)

    async def _log_in(self) -> str:
        challenge = await self._challenge()
        account, device = self._profile.account, self._profile.device
        payload = payloads.hello_payload(nonce=challenge.nonce, server=challenge.server, account=account, device=device)
        content = {
            "nonce": challenge.nonce, "account": account, "device": device, "signature": self._identity.sign(payload)
        }  # fmt: skip
        return (await self._ask(_Token, "POST", "/token", content, token=False)).token

    async def _ask(
        self,
        answer: type[T],
        method: Method,
        path: str,
        content: object = None,
        *,
        token: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        attempt = 0
        while True:
            attempt += 1
            wait_s = RETRY_FIRST_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
            had_token = bool(self._token)
            try:
                return _read(answer, await self._request(method, path, content, token=token, timeout_s=timeout_s))
            except Refused as refused:
                # A server that was started anew, perhaps since the last attempt, knows neither token nor nonce.
                stale = token and refused.code == "not_authenticated"
                too_long = refused.retry_after_s > RETRY_AFTER_MAX_S
                if stale and had_token:
                    self._token = ""
                    attempt -= 1  # that was the token's failure
                    continue
                if attempt == ATTEMPTS_MAX or too_long or not (stale or refused.retry):
                    raise
                wait_s += refused.retry_after_s
                if stale:
                    self._token = ""
            except Unreachable:
                if attempt == ATTEMPTS_MAX:
                    raise
            await asyncio.sleep(wait_s)

    async def _request(
        self, method: Method, path: str, content: object, *, token: bool, timeout_s: float
    ) -> httpx.Response:
        headers: dict[str, str] = {}
        if token:
            self._token = self._token or await self._log_in()
            headers["authorization"] = f"Bearer {self._token}"
        body: Any = None if content is None else msgspec.json.encode(content)
        try:
            return await self._http.request(method, path, content=body, headers=headers, timeout=timeout_s)
        except httpx.HTTPError as error:
            where = self._profile.url
            raise Unreachable(f"{where} can't be reached: {str(error) or type(error).__name__}") from error


def _read(answer: type[T], response: httpx.Response) -> T:
    try:
        if response.is_success:
            return msgspec.json.decode(response.content, type=answer)
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError as error:
        raise Unreachable(f"the answer ({response.status_code}) is none of a Signet server") from error
    raise Refused(problem.code, problem.text, retry=problem.retry, retry_after_s=problem.retry_after_ms / 1_000)


def _new_id() -> str:
    return str(uuid4())


def _part(text: str) -> str:
    return quote(text, safe="")
