"""given / when / then for the keys that devices publish and others claim; and I12's sister for keys: each one-time key
is handed out once, ever."""

from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.account import Account, AccountEvent, AccountRegistered, DeviceLinked, DeviceRevoked, decide, evolve
from domain.entry import Entry, Sealed
from domain.errors import (
    DeviceExists,
    DeviceNotActive,
    IdTaken,
    NoKeys,
    NoKeysLeft,
    NoSuchAccount,
    NoSuchDevice,
    Rejected,
    TooManyKeys,
)
from domain.ids import AccountId, CommandId, DeviceId
from domain.keys import (
    ONE_TIME_KEYS_MAX,
    ClaimKey,
    DeviceKeysPublished,
    FallbackKeyPublished,
    Keys,
    OneTimeKeyClaimed,
    OneTimeKeysPublished,
    PublishKeys,
)

ANN, BEN, CAT = (AccountId(name) for name in ("ann", "ben", "cat"))
PHONE, TABLET, LAPTOP = DeviceId("phone"), DeviceId("tablet"), DeviceId("laptop")
IN = (
    AccountRegistered(name=Sealed(key="k", box=b"Ann")),
    DeviceLinked(device=PHONE, key="K1", signature="S1"),
    DeviceLinked(device=TABLET, key="K2", by=PHONE, signature="S2"),
)
"""Ann is in, with a phone and a tablet."""
IDENTITY = DeviceKeysPublished(device=PHONE, keys="{phone}")
GONE = DeviceRevoked(device=PHONE, by=TABLET)
Done = tuple[str, AccountEvent]


class Scenario:
    """What Ann's devices have published, and what a command does to it."""

    def __init__(self, history: tuple[AccountEvent | Done, ...]) -> None:
        self.state = Account()
        for number, done in enumerate(history):
            command, event = done if isinstance(done, tuple) else (f"c{number}", done)
            self.record(command, event)

    @property
    def keys(self) -> Keys:
        """The phone's."""
        keys = self.state.devices[PHONE].keys
        assert keys is not None
        return keys

    def record(self, command: str, event: AccountEvent) -> None:
        version = self.state.version + 1
        evolve(self.state, version, Entry(v=1, id=f"e{version}", cmd=command, at=100 + version, e=event))

    def when(self, command: PublishKeys | ClaimKey) -> list[AccountEvent]:
        return decide(self.state, command)

    def does(self, command: PublishKeys | ClaimKey) -> list[AccountEvent]:
        """And it is recorded."""
        events = self.when(command)
        for event in events:
            self.record(command.id, event)
        return events

    def refuses(self, command: PublishKeys | ClaimKey, error: type[Rejected]) -> None:
        with pytest.raises(error):
            self.when(command)


def given(*history: AccountEvent | Done) -> Scenario:
    """After Ann's devices are in."""
    return Scenario((*IN, *history))


def text(id_: str) -> str:
    return f"{{{id_}}}"


def one_time(*ids: str, left: int | None = None) -> OneTimeKeysPublished:
    keys = {id_: text(id_) for id_ in ids}
    return OneTimeKeysPublished(device=PHONE, keys=keys, left=len(ids) if left is None else left)


def fallback(id_: str = "F") -> FallbackKeyPublished:
    return FallbackKeyPublished(device=PHONE, id=id_, key=text(id_))


def claimed(id_: str, *, left: int = 0, by: AccountId = BEN, **more: Any) -> OneTimeKeyClaimed:
    return OneTimeKeyClaimed(device=PHONE, id=id_, key=text(id_), by=by, by_device=LAPTOP, left=left, **more)


def publish(
    *ids: str, keys: str | None = None, fallback: str | None = None, device: DeviceId = PHONE, cmd: str = "p"
) -> PublishKeys:
    return PublishKeys(
        id=CommandId(cmd), account=ANN, device=device, device_keys=keys,
        one_time_keys={id_: text(id_) for id_ in ids},
        fallback_key=None if fallback is None else (fallback, text(fallback)),
    )  # fmt: skip


def claim(cmd: str = "x", *, by: AccountId = BEN, of: DeviceId = PHONE) -> ClaimKey:
    return ClaimKey(id=CommandId(cmd), account=ANN, device=of, by=by, by_device=LAPTOP)


class TestPublish:
    def test_identity_keys_one_time_keys_and_a_fallback_key(self) -> None:
        assert given().when(publish("B", "A", keys="{phone}", fallback="F")) == [
            IDENTITY, one_time("B", "A"), fallback(),
        ]  # fmt: skip

    def test_more_of_them_later(self) -> None:
        scenario = given(IDENTITY, one_time("A"), fallback())
        assert scenario.when(publish("B", fallback="G")) == [one_time("B", left=2), fallback("G")]

    def test_said_again_it_is_silent(self) -> None:
        scenario = given(IDENTITY, one_time("A", "B"), fallback())
        assert scenario.when(publish("A", "B", keys="{phone}", fallback="F", cmd="another")) == []
        assert scenario.when(publish()) == []

    def test_one_time_keys_that_were_handed_out_do_not_come_in_again(self) -> None:
        """The answer to the upload may have been lost, and a key of it claimed since."""
        scenario = given(IDENTITY, one_time("A", "B"), claimed("A", left=1))
        assert scenario.when(publish("A", "B")) == []
        assert scenario.when(publish("A", "B", "C")) == [one_time("C", left=2)]

    def test_an_id_stands_for_one_key(self) -> None:
        scenario = given(IDENTITY, one_time("A"), fallback())
        other = PublishKeys(id=CommandId("p"), account=ANN, device=PHONE, one_time_keys={"B": "{B}", "A": "{other}"})
        scenario.refuses(other, IdTaken)
        other = PublishKeys(id=CommandId("p"), account=ANN, device=PHONE, fallback_key=("F", "{other}"))
        scenario.refuses(other, IdTaken)

    def test_identity_keys_come_first(self) -> None:
        given().refuses(publish("A"), NoKeys)
        given().refuses(publish(fallback="F"), NoKeys)
        given(IDENTITY).refuses(publish("A", device=TABLET), NoKeys)

    def test_identity_keys_never_change(self) -> None:
        """Others have pinned them."""
        given(IDENTITY).refuses(publish("A", keys="{others}"), DeviceExists)

    def test_so_many_one_time_keys_wait_and_no_more(self) -> None:
        ids = [f"{number}" for number in range(ONE_TIME_KEYS_MAX)]
        scenario = given(IDENTITY, one_time(*ids))
        scenario.refuses(publish("A"), TooManyKeys)
        assert scenario.when(publish(*ids)) == []
        scenario.record("x", claimed("0", left=ONE_TIME_KEYS_MAX - 1))
        scenario.refuses(publish("A", "B"), TooManyKeys)
        assert scenario.when(publish("A")) == [one_time("A", left=ONE_TIME_KEYS_MAX)]

    def test_only_by_a_device_that_is_in(self) -> None:
        given(IDENTITY, GONE).refuses(publish("A"), DeviceNotActive)
        given().refuses(publish(keys="{}", device=LAPTOP), DeviceNotActive)
        Scenario(()).refuses(publish(keys="{}"), NoSuchAccount)

    def test_each_device_has_its_own(self) -> None:
        scenario = given(IDENTITY, one_time("A"))
        tablets = [
            DeviceKeysPublished(device=TABLET, keys="{tablet}"),
            OneTimeKeysPublished(device=TABLET, keys={"A": "{A}"}, left=1),
        ]
        assert scenario.does(publish("A", keys="{tablet}", device=TABLET)) == tablets
        assert scenario.when(claim()) == [claimed("A")]


class TestClaim:
    def test_keys_come_out_in_the_order_in_which_they_went_in(self) -> None:
        scenario = given(IDENTITY, one_time("B", "A"), one_time("C", left=3))
        assert [scenario.does(claim(f"x{number}")) for number in range(3)] == [
            [claimed("B", left=2)], [claimed("A", left=1)], [claimed("C", left=0)],
        ]  # fmt: skip
        scenario.refuses(claim("x3"), NoKeysLeft)

    def test_the_fallback_key_where_no_other_is_left(self) -> None:
        scenario = given(IDENTITY, one_time("A"), fallback())
        assert scenario.does(claim("1")) == [claimed("A", fallback_unused=True)]
        assert not scenario.keys.fallback_used
        for command in ("2", "3"):
            assert scenario.does(claim(command)) == [claimed("F", fallback=True)]
            assert scenario.keys.fallback_used

    def test_after_it_was_used_that_is_told_until_there_is_another(self) -> None:
        scenario = given(IDENTITY, fallback(), claimed("F", fallback=True))
        scenario.does(publish("A", "B", fallback="F"))
        assert scenario.does(claim("1")) == [claimed("A", left=1)]
        scenario.does(publish(fallback="G"))
        assert not scenario.keys.fallback_used
        assert scenario.does(claim("2")) == [claimed("B", fallback_unused=True)]
        assert scenario.does(claim("3")) == [claimed("G", fallback=True)]

    def test_a_fallback_key_that_was_replaced_never_comes_back(self) -> None:
        """The upload of it may be repeated late."""
        scenario = given(IDENTITY, fallback("F"), fallback("G"), claimed("G", fallback=True))
        assert scenario.does(publish(fallback="F")) == []
        assert scenario.keys.fallback_used
        assert scenario.when(claim()) == [claimed("G", fallback=True)]

    def test_said_again_it_is_silent_and_its_first_outcome_is_known(self) -> None:
        scenario = given(IDENTITY, one_time("A", "B"), ("1", claimed("A", left=1)), fallback("late"))
        assert scenario.when(claim("1")) == []
        first = scenario.state.outcome_of(claim("1"))
        assert first is not None
        assert (first.seq, first.at, first.by, first.what) == (6, 105, BEN, "A")
        assert scenario.state.outcome_of(claim("2")) is None
        assert scenario.state.outcome_of(publish("A", cmd="1")) is None

    def test_said_again_by_somebody_else_it_is_refused(self) -> None:
        scenario = given(IDENTITY, one_time("A", "B"), ("1", claimed("A", left=1)))
        scenario.refuses(claim("1", by=CAT), IdTaken)

    def test_a_device_without_keys_has_none_to_give(self) -> None:
        given().refuses(claim(), NoKeysLeft)
        given(IDENTITY).refuses(claim(), NoKeysLeft)
        given(IDENTITY).refuses(claim(of=TABLET), NoKeysLeft)

    def test_nor_has_one_that_is_not_in(self) -> None:
        scenario = given(IDENTITY, one_time("A"), fallback(), ("1", claimed("A")), GONE)
        for command in ("1", "2"):
            scenario.refuses(claim(command), NoSuchDevice)
        given().refuses(claim(of=LAPTOP), NoSuchDevice)
        Scenario(()).refuses(claim(), NoSuchDevice)


# Interleaved

_IDS = st.lists(st.integers(min_value=0, max_value=30).map(str), max_size=6, unique=True)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), _IDS),
        st.tuples(st.just("again"), st.integers(min_value=0, max_value=50)),
        st.tuples(st.just("claim"), st.integers(min_value=1, max_value=4)),
        st.tuples(st.just("claim again"), st.integers(min_value=0, max_value=50)),
        st.tuples(st.just("fallback"), st.sampled_from("FGH")),
    ),
    max_size=40,
)


@for_all(_STEPS)
def test_each_one_time_key_is_handed_out_once_ever_and_in_order(steps: list[tuple[str, Any]]) -> None:
    """However uploads and claims come among each other, with old ones repeated: what comes out is what went in, in the
    order of its first coming, each once; else it is the last fallback key."""
    scenario = given(IDENTITY)
    uploads: list[PublishKeys] = []
    claims: list[tuple[ClaimKey, OneTimeKeyClaimed]] = []
    went_in: dict[str, None] = {}
    came_out: list[str] = []
    fallbacks: dict[str, None] = {}
    for what, how in steps:
        if what == "upload" or (what == "again" and uploads):
            upload = publish(*how) if what == "upload" else uploads[how % len(uploads)]
            uploads.append(upload)
            scenario.does(upload)
            went_in |= dict.fromkeys(upload.one_time_keys)
        elif what == "fallback":
            scenario.does(publish(fallback=how))
            fallbacks |= {how: None}
        elif what == "claim again" and claims:
            command, before = claims[how % len(claims)]
            assert scenario.does(command) == []
            first = scenario.state.outcome_of(command)
            assert first is not None
            assert first.what == before.id
        elif what == "claim":
            for _ in range(how):
                _claim_one(scenario, claims, came_out, list(went_in), list(fallbacks))
    assert list(scenario.keys.waiting) == list(went_in)[len(came_out) :]


def _claim_one(
    scenario: Scenario,
    claims: list[tuple[ClaimKey, OneTimeKeyClaimed]],
    came_out: list[str],
    went_in: list[str],
    fallbacks: list[str],
) -> None:
    command = claim(f"claim {len(claims)}")
    if len(came_out) == len(went_in) and not fallbacks:
        scenario.refuses(command, NoKeysLeft)
        return
    [event] = scenario.does(command)
    assert isinstance(event, OneTimeKeyClaimed)
    claims.append((command, event))
    if event.fallback:
        assert came_out == went_in
        assert event.id == fallbacks[-1]
    else:
        came_out.append(event.id)
        assert came_out == went_in[: len(came_out)]
    assert event.key == text(event.id)
    assert event.left == len(went_in) - len(came_out)
