"""Who is speaking: challenges, Ed25519 signatures of devices, and the bearer tokens of the HTTP edge.

Nonces, tokens and revocations known here live in memory and are not derived from the log: after a restart, devices ask
for a fresh challenge and log in again.
"""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from domain.account import DeviceRevoked
from domain.codec import Event
from domain.ids import AccountId, CommandId, DeviceId, account_id, account_stream
from gateways.fading import Fading
from gateways.limits import Limits
from gateways.refusal import Refusal
from gateways.services import parked, shown
from projections.directory import DeviceRow
from signet_client import payloads

NONCE_LIFE_S: Final = 60
NONCES_USED_MAX: Final = 100_000
"""How many used nonces are remembered; at the bound further log-ins are refused as `busy`. Only devices with a right
signature use a nonce up, and a nonce that nobody used takes no memory: a flood of challenges harms nobody."""

TOKEN_LIFE_S: Final = 3_600
TOKENS_MAX: Final = 200_000
"""How many tokens there may be; at the bound further ones are refused as `busy`."""
TOKENS_OF_DEVICE_MAX: Final = 8
"""How many tokens a device may have; a further one ends its oldest."""

DEVICE_CHARS_MAX: Final = 64

_SECOND: Final = 1_000_000
_RANDOM_BYTES: Final = 16
_TIME_BYTES: Final = 8
_MAC_BYTES: Final = 16


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """The device on the other side, and whose it is."""

    account: AccountId
    device: DeviceId


class DeviceDirectory(Protocol):
    """The part of the directory that knows devices."""

    async def device(self, account: AccountId, device: DeviceId) -> DeviceRow | None: ...


class Auth:
    """Challenges, log-ins and tokens of one server. Give it the feed's events (`Feed.listen(auth.hear)`): that is how
    a token dies with its device."""

    def __init__(
        self,
        *,
        server_name: str,
        directory: Callable[[], DeviceDirectory],
        catch_up: Callable[[], Awaitable[None]],
        clock: Callable[[], int],
        limits: Limits,
        is_parked: Callable[[AccountId], bool] = lambda account: False,
    ) -> None:
        """`catch_up` returns when the directory shows every event that is published; `clock` gives microseconds;
        `is_parked` tells whether the directory lacks events of an account: a revocation may be among them."""
        self._server_name = server_name
        self._directory = directory
        self._catch_up = catch_up
        self._clock = clock
        self._is_parked = is_parked
        self._limits = limits
        self._secret = secrets.token_bytes(32)
        self._used: Fading[str, bool] = Fading(life_us=NONCE_LIFE_S * _SECOND, entries_max=NONCES_USED_MAX)
        self._grants: Fading[str, _Grant] = Fading(life_us=TOKEN_LIFE_S * _SECOND, entries_max=TOKENS_MAX)
        self._tokens: Fading[Caller, list[str]] = Fading(life_us=TOKEN_LIFE_S * _SECOND, entries_max=TOKENS_MAX)

    # Challenges

    def challenge(self) -> str:
        """A fresh nonce, good for one log-in within a minute. It proves itself, so nothing is kept for it."""
        message = self._clock().to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
        return payloads.to_base64(message + self._mac(message))

    def _mac(self, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=self._secret, digest_size=_MAC_BYTES).digest()

    def _check_fresh(self, nonce: str) -> None:
        try:
            raw = payloads.from_base64(nonce)
        except ValueError:
            raw = b""
        message, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        # Compared as text too: several base64 texts may stand for the same bytes, and each would be another nonce.
        if not hmac.compare_digest(mac, self._mac(message)) or payloads.to_base64(raw) != nonce:
            raise Refusal("not_authenticated", "this nonce is not of this server's run; ask for a challenge")
        age_us = self._clock() - int.from_bytes(message[:_TIME_BYTES], "big")
        if age_us > NONCE_LIFE_S * _SECOND:
            raise Refusal("not_authenticated", "the nonce is too old; ask for a challenge")

    # Log-in

    async def log_in(self, *, nonce: str, account: str, device: str, signature: str, address: str) -> Caller:
        """Checks a hello: the nonce, the device, and its signature over `payloads.hello_payload`. The nonce is used up.
        `address`: whence it came.

        Raises Refusal: `not_authenticated` (nonce or account), `device_revoked` (also: never linked), `bad_signature`,
        `rate_limited`, `busy`, `unavailable`.
        """
        self._limits.take_login_from(address)
        self._check_fresh(nonce)
        caller = Caller(account=AccountId(account), device=DeviceId(device))
        key = await self._key_of(caller)
        _check_signature(
            key,
            signature,
            lambda: payloads.hello_payload(nonce=nonce, server=self._server_name, account=account, device=device),
        )
        self._limits.take_login(caller.account, caller.device)
        self._use_up(nonce)
        return caller

    def _use_up(self, nonce: str) -> None:
        now = self._clock()
        if self._used.get(nonce, now) is not None:
            raise Refusal("not_authenticated", "the nonce was used before; ask for a challenge")
        self._used.put(nonce, True, now)

    async def _key_of(self, caller: Caller) -> str:
        await shown(self._catch_up())
        if self._is_parked(caller.account):
            raise parked()
        row = await self._directory().device(caller.account, caller.device)
        if row is None or not row.active:
            raise Refusal("device_revoked")
        return row.key

    # Tokens

    async def token(self, *, nonce: str, account: str, device: str, signature: str, address: str) -> tuple[str, int]:
        """Logs a device in and gives it a bearer token, and when that expires (microseconds). Raises what `log_in`
        does."""
        caller = await self.log_in(nonce=nonce, account=account, device=device, signature=signature, address=address)
        token, expires_at = self._grant(caller)
        try:
            # Once more, with the token in place: a revocation published since the log-in's look has not found it.
            await self._key_of(caller)
        except Refusal:
            self._grants.drop(token)
            raise
        return token, expires_at

    def _grant(self, caller: Caller) -> tuple[str, int]:
        now = self._clock()
        token = secrets.token_urlsafe(32)
        grant = _Grant(caller=caller, expires_at=now + TOKEN_LIFE_S * _SECOND)
        self._grants.put(token, grant, now)
        tokens = [*(self._tokens.get(caller, now) or ()), token]
        for ended in tokens[:-TOKENS_OF_DEVICE_MAX]:
            self._grants.drop(ended)
        self._tokens.put(caller, tokens[-TOKENS_OF_DEVICE_MAX:], now)
        return token, grant.expires_at

    def caller(self, token: str, *, revoked_too: bool = False) -> Caller:
        """Whose token it is; `revoked_too`: also where its device was revoked since. Raises Refusal:
        `not_authenticated`, `device_revoked`."""
        now = self._clock()
        grant = self._grants.get(token, now)
        if grant is None or grant.expires_at <= now:
            raise Refusal("not_authenticated")
        if grant.revoked and not revoked_too:
            raise Refusal("device_revoked")
        return grant.caller

    def hear(self, events: Sequence[Event]) -> None:
        """Ends the tokens of revoked devices."""
        for event in events:
            if isinstance(event.entry.e, DeviceRevoked):
                self._revoke(event.stream, event.entry.e.device)

    def _revoke(self, stream: str, device: DeviceId) -> None:
        account = AccountId(stream.removeprefix(account_stream(AccountId(""))))
        now = self._clock()
        for token in self._tokens.get(Caller(account=account, device=device), now) or ():
            grant = self._grants.get(token, now)
            if grant is not None:
                # Kept until it expires, so that the device is told why.
                grant.revoked = True

    # New devices

    def check_registration(
        self, *, nonce: str, command_id: CommandId, device: str, key: str, signature: str, address: str, by_key: bool
    ) -> AccountId:
        """The account that this registration makes; `by_key`: its id is derived from the key, too. Raises Refusal.

        The nonce is not used up: saying a registration again makes nothing new, and its answer may have been lost.
        """
        self._limits.take_registration_from(address)
        self._check_fresh(nonce)
        check_device(device, key)
        _check_signature(
            key,
            signature,
            lambda: payloads.registration_payload(
                nonce=nonce, server=self._server_name, command_id=command_id, device=device, key=key
            ),
        )
        return account_id(command_id=command_id, key=key if by_key else "")

    async def check_link(self, caller: Caller, *, device: str, key: str, signature: str) -> None:
        """Whether the caller's device has signed the new device's key. Raises Refusal."""
        check_device(device, key)
        _check_signature(
            await self._key_of(caller),
            signature,
            lambda: payloads.link_payload(server=self._server_name, account=caller.account, device=device, key=key),
        )


def check_device(device: str, key: str) -> None:
    """Whether a device may be called so and have this key. Raises Refusal."""
    if not device or len(device) > DEVICE_CHARS_MAX or not device.isprintable():
        raise Refusal("bad_frame", f"device: 1 to {DEVICE_CHARS_MAX} printable characters")
    try:
        raw = payloads.from_base64(key)
    except ValueError:
        raw = b""
    # Ids are derived from the text of a key, so only its one canonical form may come in.
    if len(raw) != 32 or payloads.to_base64(raw) != key:
        raise Refusal("bad_frame", "key: the 32 bytes of an Ed25519 public key as unpadded base64")


def _check_signature(key: str, signature: str, payload: Callable[[], bytes]) -> None:
    try:
        VerifyKey(payloads.from_base64(key)).verify(payload(), payloads.from_base64(signature))
    except (BadSignatureError, ValueError) as error:
        # A ValueError: no base64, or a line break where the payload has none.
        raise Refusal("bad_signature") from error


class _Grant(msgspec.Struct):
    caller: Caller
    expires_at: int
    revoked: bool = False
