"""How much one device, account or address may do. All of it is in memory: a restart fills every bucket again.

A *rate* is a token bucket: it holds `burst` tokens at most, and fills at so many a second. Buckets are bounded in
number; at the bound the half that was used longest ago is forgotten, that is, full again. A *max* is a plain bound.
Whoever meets one is refused by `rate_limited`, with the milliseconds after which the same command may succeed, or by a
code that says what there is too much of.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from time import monotonic
from typing import Final, Generic, TypeVar

from domain.ids import AccountId, DeviceId
from gateways.refusal import Refusal

K = TypeVar("K", bound=Hashable)
Device = tuple[AccountId, DeviceId]

BUCKETS_MAX: Final = 200_000
"""Of each kind: some 20 MB where all are in use."""

LEASE: Final = 16
"""How many tokens a connection takes ahead at most."""

LOOPBACK: Final = "loopback"

_UNITS: Final = {"s": 1, "min": 60, "hour": 3_600, "day": 86_400}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)/(s|min|hour|day) burst (\d+)")


@dataclass(frozen=True, kw_only=True)
class Rate:
    per_s: float
    burst: int

    @classmethod
    def parse(cls, text: str) -> "Rate | None":
        """`50/s burst 500`, `20/hour burst 50`; None for `off`. Raises ValueError."""
        if text == "off":
            return None
        match = _RATE.fullmatch(text)
        if match is None or float(match[1]) <= 0 or int(match[3]) < 1:
            raise ValueError(f"write a rate as '50/s burst 500' (s, min, hour or day), or 'off'; this is {text!r}")
        return cls(per_s=float(match[1]) / _UNITS[match[2]], burst=int(match[3]))


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """The limits of one server; a rate of None has no limit. Commands are messages and whatever else changes something;
    receipts are acknowledgements and read marks."""

    commands_device: Rate | None = Rate(per_s=50, burst=500)
    commands_account: Rate | None = Rate(per_s=100, burst=1_000)
    receipts_device: Rate | None = Rate(per_s=200, burst=2_000)
    requests_account: Rate | None = Rate(per_s=100, burst=1_000)
    """HTTP requests with a token, and fetches."""
    starts_account: Rate | None = Rate(per_s=20 / 3_600, burst=50)
    """Conversations that an account starts."""
    logins_device: Rate | None = Rate(per_s=0.2, burst=30)
    """With a right signature: nobody uses up another one's."""
    logins_address: Rate | None = Rate(per_s=2, burst=300)
    """Right or wrong. A burst: all people behind one address come back at once after a restart."""
    registrations_address: Rate | None = Rate(per_s=20 / 3_600, burst=20)
    connections_account_max: int = 32
    connections_address_max: int = 500
    conversations_account_max: int = 5_000
    """That an account is or was in: each welcome names them all."""
    conversations_shared_max: int = 100
    """That two accounts are or were in together, before one may put the other into a further group: nobody fills up
    somebody else's list."""
    loopback: bool = False
    """Whether this machine's own address has limits, too."""


class Buckets(Generic[K]):
    """One kind of token bucket, by key. A bucket is one number: when it will be full again."""

    def __init__(self, rate: Rate | None, clock: Callable[[], float], *, buckets_max: int = BUCKETS_MAX) -> None:
        """`clock` gives seconds, and never goes back."""
        self._clock = clock
        self._rate = rate
        # The time that a token, and a whole bucket, take to come.
        self._token_s = 0.0 if rate is None else 1 / rate.per_s
        self._whole_s = 0.0 if rate is None else rate.burst / rate.per_s
        self._half_max = buckets_max // 2
        self._turned_at = clock()
        self._new: dict[K, float] = {}
        self._old: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def take(self, key: K, count: int = 1) -> int:
        """Up to `count` tokens, as many as there are."""
        if self._rate is None:
            return count
        now = self._clock()
        full_at = max(self._full_at(key, now), now)
        # A thousandth of a token is what the sum of floats may be short of.
        taken = min(count, int((now + self._whole_s - full_at) / self._token_s + 0.001))
        if taken > 0:
            self._new[key] = full_at + taken * self._token_s
            self._old.pop(key, None)
        return max(taken, 0)

    def give_back(self, key: K, count: int) -> None:
        """Tokens that were taken and not used."""
        if self._rate is not None and count > 0:
            self._new[key] = self._full_at(key, self._clock()) - count * self._token_s
            self._old.pop(key, None)

    def wait_s(self, key: K) -> float:
        """How long it takes until there is a token again."""
        now = self._clock()
        return max(0.0, self._full_at(key, now) + self._token_s - self._whole_s - now)

    def _full_at(self, key: K, now: float) -> float:
        # What no one has touched for the time that a bucket takes to fill is full, and needs no entry. In two
        # generations: to drop single entries from the front of a dict walks over the holes of earlier drops.
        if now - self._turned_at >= self._whole_s or len(self._new) >= self._half_max:
            self._old, self._new, self._turned_at = self._new, {}, now
        return self._new.get(key) or self._old.get(key, 0.0)


class Limits:
    """All limits of one server, and how often each was met."""

    def __init__(self, settings: LimitSettings | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.settings = settings or LimitSettings()
        self.met: Counter[str] = Counter()
        """By the name of the limit."""
        self._commands_device: Buckets[Device] = Buckets(self.settings.commands_device, clock)
        self._commands_account: Buckets[AccountId] = Buckets(self.settings.commands_account, clock)
        self._receipts: Buckets[Device] = Buckets(self.settings.receipts_device, clock)
        self._requests: Buckets[AccountId] = Buckets(self.settings.requests_account, clock)
        self._starts: Buckets[AccountId] = Buckets(self.settings.starts_account, clock)
        self._logins_device: Buckets[Device] = Buckets(self.settings.logins_device, clock)
        self._logins_address: Buckets[str] = Buckets(self.settings.logins_address, clock)
        self._registrations: Buckets[str] = Buckets(self.settings.registrations_address, clock)
        self._connections: Counter[str] = Counter()

    # Each method raises Refusal where the limit is met.

    def take_commands(self, account: AccountId, device: DeviceId, count: int = 1) -> int:
        """Leave for at least one command, `count` at most; given for one connection, to be used one by one."""
        granted = self._commands_account.take(account, count)
        if not granted:
            raise self._over("commands_account", self._commands_account.wait_s(account))
        of_device = self._commands_device.take((account, device), granted)
        self._commands_account.give_back(account, granted - of_device)
        if not of_device:
            raise self._over("commands_device", self._commands_device.wait_s((account, device)))
        return of_device

    def take_receipts(self, account: AccountId, device: DeviceId, count: int = 1) -> int:
        """As `take_commands`."""
        return self._take("receipts_device", self._receipts, (account, device), count)

    def take_request(self, account: AccountId) -> None:
        self._take("requests_account", self._requests, account)

    def take_start(self, account: AccountId) -> None:
        """To start a conversation."""
        self._take("starts_account", self._starts, account)

    def take_login(self, account: AccountId, device: DeviceId) -> None:
        """Once the signature is known to be right."""
        self._take("logins_device", self._logins_device, (account, device))

    def take_login_from(self, address: str) -> None:
        if self._is_bounded(network := network_of(address)):
            self._take("logins_address", self._logins_address, network)

    def take_registration_from(self, address: str) -> None:
        if self._is_bounded(network := network_of(address)):
            self._take("registrations_address", self._registrations, network)

    def check_connections(self, others: int) -> None:
        """Whether an account that has so many connections may have another one."""
        if others >= self.settings.connections_account_max:
            raise self._over("connections_account", 0)

    def check_conversations(self, held: int) -> None:
        """Whether an account that is or was in so many conversations may come into another one."""
        most = self.settings.conversations_account_max
        if held >= most:
            self.met["conversations_account"] += 1
            raise Refusal("too_many_conversations", f"an account is in at most {most}")

    def check_shared(self, shared: int) -> None:
        """Whether somebody may put an account into a group with whom it shares so many conversations."""
        most = self.settings.conversations_shared_max
        if shared >= most:
            self.met["conversations_shared"] += 1
            raise Refusal("too_many_conversations", f"two accounts share at most {most}")

    # Connections by address

    def connect(self, address: str) -> bool:
        """Counts a connection in, to be counted out by `disconnect`; False: there are as many as there may be."""
        network = network_of(address)
        if self._is_bounded(network) and self._connections[network] >= self.settings.connections_address_max:
            self.met["connections_address"] += 1
            return False
        self._connections[network] += 1
        return True

    def disconnect(self, address: str) -> None:
        network = network_of(address)
        self._connections[network] -= 1
        if not self._connections[network]:
            del self._connections[network]

    @property
    def connections(self) -> int:
        """All that are open."""
        return self._connections.total()

    # Inside

    def _is_bounded(self, network: str) -> bool:
        return network != LOOPBACK or self.settings.loopback

    def _take(self, name: str, buckets: Buckets[K], key: K, count: int = 1) -> int:
        taken = buckets.take(key, count)
        if not taken:
            raise self._over(name, buckets.wait_s(key))
        return taken

    def _over(self, name: str, wait_s: float) -> Refusal:
        self.met[name] += 1
        return Refusal("rate_limited", name, retry_after_ms=ceil(wait_s * 1_000))


@lru_cache(maxsize=65_536)
def network_of(address: str) -> str:
    """What is counted as one peer: an IPv4 address, or the /64 of an IPv6 one, which one peer has to itself; LOOPBACK
    for all of this machine's own."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address  # no socket of the internet's
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return LOOPBACK
    return str(ip) if ip.version == 4 else str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
