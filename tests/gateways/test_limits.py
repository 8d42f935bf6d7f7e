"""I11: what one device, account or address may do is bounded, and whoever meets a bound is told what and how long."""

from dataclasses import replace
from typing import Any

import pytest

from domain.ids import AccountId, DeviceId
from gateways.limits import LEASE, Buckets, Limits, LimitSettings, Rate, network_of
from gateways.refusal import Refusal

ANN, BOB = AccountId("ann"), AccountId("bob")
LAPTOP, PHONE = DeviceId("laptop"), DeviceId("phone")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, **settings: Any) -> Limits:
    return Limits(replace(LimitSettings(), **settings), clock)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50/s burst 500", Rate(per_s=50, burst=500)),
        ("0.5/s burst 1", Rate(per_s=0.5, burst=1)),
        ("12/min burst 30", Rate(per_s=0.2, burst=30)),
        ("36/hour burst 5", Rate(per_s=0.01, burst=5)),
        ("864/day burst 5", Rate(per_s=0.01, burst=5)),
        ("off", None),
    ],
)
def test_a_rate_is_written_as_text(text: str, rate: Rate | None) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "50", "50/s", "50/s burst 0", "0/s burst 5", "-1/s burst 5", "5/week burst 5"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write a rate as"):
        Rate.parse(text)


def test_a_bucket_gives_its_burst_and_then_what_has_come(clock: Clock) -> None:
    """I11"""
    buckets: Buckets[str] = Buckets(Rate(per_s=2, burst=5), clock)
    assert [buckets.take("ann") for _ in range(6)] == [1, 1, 1, 1, 1, 0]
    assert buckets.wait_s("ann") == pytest.approx(0.5)
    clock.now += 0.5
    assert [buckets.take("ann"), buckets.take("ann")] == [1, 0]
    clock.now += 1_000
    assert buckets.take("ann", 100) == 5
    assert buckets.take("bob") == 1


def test_a_bucket_gives_as_many_tokens_as_there_are_and_takes_them_back(clock: Clock) -> None:
    buckets: Buckets[str] = Buckets(Rate(per_s=1, burst=10), clock)
    assert buckets.take("ann", 8) == 8
    assert buckets.take("ann", 8) == 2
    buckets.give_back("ann", 3)
    assert buckets.take("ann", 8) == 3


def test_without_a_rate_there_is_no_end(clock: Clock) -> None:
    buckets: Buckets[str] = Buckets(None, clock)
    assert buckets.take("ann", 1_000_000) == 1_000_000
    assert len(buckets) == 0


def test_full_buckets_take_no_memory_and_a_bound_holds_for_the_others(clock: Clock) -> None:
    """I11"""
    buckets: Buckets[int] = Buckets(Rate(per_s=1, burst=2), clock, buckets_max=100)
    for key in range(1_000):
        buckets.take(key)
    assert len(buckets) <= 100
    assert buckets.take(999, 2) == 1  # the last ones are remembered
    clock.now += 2
    buckets.take(1)
    clock.now += 2
    buckets.take(2)
    assert len(buckets) <= 2


def test_what_is_forgotten_was_full(clock: Clock) -> None:
    """I11: nobody gets a full bucket before its time by waiting for the book-keeping."""
    buckets: Buckets[str] = Buckets(Rate(per_s=1, burst=10), clock)
    taken = 0
    for _ in range(400):
        taken += buckets.take("ann", 10)
        clock.now += 0.25
    assert taken <= 10 + 100


def test_a_device_is_stopped_before_its_account_and_both_are(clock: Clock) -> None:
    """I11"""
    bounds = limits(clock, commands_device=Rate(per_s=1, burst=3), commands_account=Rate(per_s=1, burst=5))
    assert bounds.take_commands(ANN, LAPTOP, LEASE) == 3
    with pytest.raises(Refusal) as refused:
        bounds.take_commands(ANN, LAPTOP, LEASE)
    assert (refused.value.code, refused.value.retry_after_ms) == ("rate_limited", 1_000)
    assert "commands_device" in refused.value.text
    # What the device was not given is still there for the account's other one.
    assert bounds.take_commands(ANN, PHONE, LEASE) == 2
    with pytest.raises(Refusal, match="rate_limited") as refused:
        bounds.take_commands(ANN, PHONE)
    assert "commands_account" in refused.value.text
    assert bounds.take_commands(BOB, LAPTOP) == 1
    assert bounds.met == {"commands_device": 1, "commands_account": 1}


def test_an_address_logs_in_and_registers_so_often(clock: Clock) -> None:
    """I11"""
    bounds = limits(clock, logins_address=Rate(per_s=1, burst=2), registrations_address=Rate(per_s=0.01, burst=1))
    bounds.take_login_from("192.0.2.1")
    bounds.take_login_from("192.0.2.1")
    bounds.take_login_from("192.0.2.2")
    with pytest.raises(Refusal):
        bounds.take_login_from("192.0.2.1")
    bounds.take_registration_from("2001:db8::1")
    with pytest.raises(Refusal) as refused:
        bounds.take_registration_from("2001:db8::2")
    assert refused.value.retry_after_ms == 100_000
    bounds.take_registration_from("2001:db8:0:1::1")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_this_machine_s_own_address_has_limits_only_where_that_is_set(clock: Clock, address: str) -> None:
    """I11: a proxy on it that doesn't say for whom it speaks would share one limit among all."""
    spared = limits(clock, logins_address=Rate(per_s=1, burst=2), connections_address_max=1)
    for _ in range(10):
        spared.take_login_from(address)
        assert spared.connect(address)
    assert spared.connections == 10
    bounded = limits(clock, connections_address_max=1, loopback=True)
    assert [bounded.connect(address), bounded.connect(address)] == [True, False]


def test_connections_of_an_address_are_counted_in_and_out(clock: Clock) -> None:
    """I11"""
    bounds = limits(clock, connections_address_max=2)
    assert [bounds.connect("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert bounds.connect("192.0.2.2")
    assert bounds.connections == 3
    bounds.disconnect("192.0.2.1")
    assert bounds.connect("192.0.2.1")
    assert bounds.met["connections_address"] == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_an_ipv6_peer_is_known_by_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
