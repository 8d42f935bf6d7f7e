"""Sealing of personal texts: libsodium's secretbox (XSalsa20-Poly1305) with a key for each account and month."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar, Final, Literal

from nacl.bindings import crypto_secretbox_easy, crypto_secretbox_NONCEBYTES, crypto_secretbox_open_easy
from nacl.exceptions import CryptoError

from commands.ids import draws
from commands.keyring import Keyring
from domain.entry import Sealed
from domain.ids import AccountId

FRESH_MAX: Final = 2_048
"""How many texts are remembered between their sealing and their first unsealing, which is their push, soon after."""
FRESH_BYTES_MAX: Final = 4_194_304
"""How long their boxes may be together; in memory a text may take four times as much. Those of refused messages, and
of those whose members are away, are never unsealed."""

_DAY: Final = 86_400_000_000
"""In microseconds."""


class Unreadable(Exception):
    """A stored text can't be read, now or later; everything else can.

    Unreadable
    ├── KeyMissing
    └── DamagedText
    """

    code: ClassVar[Literal["key_missing", "damaged"]]


class KeyMissing(Unreadable):
    """The keyring has no such key: it was destroyed, or the keyring was restored from an older backup."""

    code = "key_missing"


class DamagedText(Unreadable):
    """A sealed text doesn't fit its key: the log or the keyring is damaged."""

    code = "damaged"


class Sealer:
    """Seals and unseals texts. The time, microseconds since 1970 UTC, comes from `clock`."""

    def __init__(self, keyring: Keyring, clock: Callable[[], int]) -> None:
        self._keyring = keyring
        self._clock = clock
        self._fresh: dict[bytes, tuple[str, str]] = {}
        """Key and text by box: what was sealed and not unsealed yet. Its key is asked for all the same, so an erasure
        holds here."""
        self._fresh_bytes = 0
        """How long these boxes are together."""
        self._nonces = draws(crypto_secretbox_NONCEBYTES)
        self._month = ""
        self._day_begins = self._day_ends = 0
        """Of the day whose month is known."""

    def seal(self, account: AccountId, text: str) -> Sealed:
        """Nothing that holds it may be stored before the keyring is saved. Raises KeyringUnavailable."""
        key = self._keyring.current(account, self._period())
        nonce = next(self._nonces)
        sealed = Sealed(key=key.name, box=nonce + crypto_secretbox_easy(text.encode(), nonce, key.key))
        self._fresh_bytes += len(sealed.box)
        if len(self._fresh) >= FRESH_MAX or self._fresh_bytes > FRESH_BYTES_MAX:
            self._fresh.clear()
            self._fresh_bytes = len(sealed.box)
        self._fresh[sealed.box] = (key.name, text)
        return sealed

    def unseal(self, sealed: Sealed) -> str:
        """The text. Raises Unreadable, and KeyringUnavailable where it can't be told now."""
        key = self._keyring.find(sealed.key)
        if key is None:
            raise KeyMissing(f"the keyring has no key {sealed.key}")
        fresh = self._fresh.pop(sealed.box, None)
        if fresh is not None:
            self._fresh_bytes -= len(sealed.box)
            if fresh[0] == sealed.key:
                return fresh[1]
        nonce, box = sealed.box[:crypto_secretbox_NONCEBYTES], sealed.box[crypto_secretbox_NONCEBYTES:]
        try:
            return crypto_secretbox_open_easy(box, nonce, key).decode()
        except (CryptoError, ValueError, TypeError) as error:
            raise DamagedText(f"a text can't be unsealed with its key {sealed.key}") from error

    def check(self) -> None:
        """Whether the keyring can be read. Raises what the keyring does."""
        self._keyring.find("")

    def _period(self) -> str:
        now = self._clock()
        if not self._day_begins <= now < self._day_ends:
            self._month = datetime.fromtimestamp(now // 1_000_000, UTC).strftime("%Y-%m")
            self._day_begins = now - now % _DAY
            self._day_ends = self._day_begins + _DAY
        return self._month
