"""Ticks: the lowest mark of the others, against brute force (I6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.ids import AccountId
from domain.receipts import Marks
from domain.ticks import Lowest, Ticks, member_marks, undelivered, unreadable

ACCOUNTS = [AccountId(name) for name in ("ann", "ben", "cem", "dot", "eve")]
accounts = st.sampled_from(ACCOUNTS)
seqs = st.integers(min_value=0, max_value=12)


def test_a_member_has_come_as_far_as_the_best_of_its_devices() -> None:
    devices = [Marks(delivered=5, read=2), Marks(delivered=3, read=3)]
    assert member_marks(devices, joined=1) == Ticks(delivered=5, read=3)


def test_a_member_counts_as_past_everything_before_it_joined() -> None:
    """I8: what a member may not see, nobody waits for; so one that is back is past what it missed."""
    assert member_marks([], joined=7) == Ticks(delivered=7, read=7)
    assert member_marks([Marks(delivered=4, read=4)], joined=7) == Ticks(delivered=7, read=7)


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([], set()),
        ([Marks(delivered=5)], set()),
        ([Marks(delivered=5, undecryptable={2, 4})], {2, 4}),
        ([Marks(delivered=5, undecryptable={2, 4}, repaired={4})], {2}),
        ([Marks(delivered=5, undecryptable={2, 4}), Marks(delivered=3)], {4}),
        ([Marks(delivered=5, undecryptable={2, 4}), Marks(delivered=5, undecryptable={2})], {2}),
        ([Marks(delivered=5, undecryptable={2}), Marks(delivered=5, undecryptable={2}, repaired={2})], set()),
    ],
)
def test_what_no_device_of_a_member_could_read_is_not_delivered(devices: list[Marks], expected: set[int]) -> None:
    """I5: a device that is past a message and could not read it does not make it delivered; another one may."""
    assert undelivered(devices) == expected


@given(
    st.lists(
        st.builds(Marks, delivered=seqs, undecryptable=st.sets(seqs), repaired=st.sets(seqs)),
        max_size=4,
    )
)
def test_undelivered_by_brute_force(devices: list[Marks]) -> None:
    """I5, for any number of devices with exceptions up to their marks."""
    for marks in devices:
        marks.undecryptable = {seq for seq in marks.undecryptable if seq <= marks.delivered}
    expected = set()
    for seq in range(13):
        past = [marks for marks in devices if marks.delivered >= seq]
        failed = [marks for marks in past if seq in marks.undecryptable and seq not in marks.repaired]
        if failed and len(failed) == len(past):
            expected.add(seq)
    assert undelivered(devices) == expected
    assert {seq for seq in range(13) if unreadable(devices, seq)} == expected


def test_nobody_waits_for_an_author_itself() -> None:
    lowest = Lowest()
    for account, mark in zip(ACCOUNTS[:3], (1, 4, 6), strict=True):
        lowest.join(account, mark)
    assert [lowest.without(account) for account in ACCOUNTS[:3]] == [4, 1, 1]
    assert lowest.lowest == 1
    assert lowest.last == ACCOUNTS[0]


def test_an_author_alone_keeps_the_ticks_it_had() -> None:
    """I6: ticks only move forward, also when the last other member leaves."""
    lowest = Lowest()
    ann, ben = ACCOUNTS[:2]
    assert (lowest.lowest, lowest.last, lowest.without(ann)) == (0, None, 0)
    lowest.join(ann, 1)
    assert lowest.without(ann) == 0
    lowest.join(ben, 1)
    lowest.advance(ben, 4)
    assert lowest.without(ann) == 4
    lowest.leave(ben, 6)
    assert lowest.without(ann) == 6


@given(st.lists(st.tuples(accounts, st.integers(min_value=1, max_value=5)), max_size=30))
def test_members_that_meet_and_part(moves: list[tuple[AccountId, int]]) -> None:
    """I6: few marks and many moves, so that members stand at the same mark and fall in between two others."""
    lowest = Lowest()
    marks: dict[AccountId, int] = {}
    for account, mark in moves:
        if account in marks:
            lowest.advance(account, mark)
        else:
            lowest.join(account, mark)
        marks[account] = max(mark, marks.get(account, 0))
        for one in ACCOUNTS:
            assert lowest.without(one) == min((marks[other] for other in marks if other != one), default=0)


class LowestAgainstBruteForce(RuleBasedStateMachine):
    """I6: the lowest mark as it is kept == the lowest mark as it is found anew, and it never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.lowest = Lowest()
        self.marks: dict[AccountId, int] = {}
        self.departed = 0
        self.seq = 0
        self.before: dict[AccountId, int] = {}

    @rule(account=accounts)
    def join(self, account: AccountId) -> None:
        if account not in self.marks:
            self.seq += 1
            self.marks[account] = self.seq
            self.lowest.join(account, self.seq)

    @rule(account=accounts)
    def leave(self, account: AccountId) -> None:
        self.seq += 1
        self.lowest.leave(account, self.seq)
        if self.marks.pop(account, None) is not None:
            self.departed = self.seq

    @rule(messages=seqs)
    def send(self, messages: int) -> None:
        self.seq += messages

    @rule(account=accounts, back=seqs)
    def advance(self, account: AccountId, back: int) -> None:
        mark = max(0, self.seq - back)
        self.lowest.advance(account, mark)
        if account in self.marks:
            self.marks[account] = max(self.marks[account], mark)

    @invariant()
    def the_lowest_of_the_others(self) -> None:
        for account in ACCOUNTS:
            others = [mark for other, mark in self.marks.items() if other != account]
            tick = self.lowest.without(account)
            assert tick == min(others, default=self.departed)
            assert tick >= self.before.get(account, 0)
            self.before[account] = tick

    @invariant()
    def the_lowest_of_all(self) -> None:
        at_lowest = [who for who, mark in self.marks.items() if mark == min(self.marks.values())]
        assert self.lowest.lowest == min(self.marks.values(), default=0)
        assert self.lowest.last == (at_lowest[0] if len(at_lowest) == 1 else None)


TestLowestAgainstBruteForce = LowestAgainstBruteForce.TestCase
