"""given / when / then for receipts, and I6: marks only move forward, and the order in which they come never matters."""

from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.entry import Entry
from domain.ids import AccountId, CommandId, ConversationId, DeviceId
from domain.receipts import EXCEPTIONS_MAX, AdvanceReceipts, Receipt, Receipts, ReceiptsAdvanced, decide, evolve

ANN, BEN = AccountId("ann"), AccountId("ben")
PHONE, TABLET = DeviceId("phone"), DeviceId("tablet")


def receipt(
    account: AccountId = ANN,
    device: DeviceId = PHONE,
    *,
    delivered: int = 0,
    read: int = 0,
    undecryptable: list[int] | None = None,
    repaired: list[int] | None = None,
    signature: str | None = None,
) -> Receipt:
    return Receipt(
        account=account, device=device, delivered=delivered, read=read, undecryptable=undecryptable or [],
        repaired=repaired or [], signature=signature,
    )  # fmt: skip


def given(*stated: Receipt) -> Receipts:
    state = Receipts()
    for version, each in enumerate(stated):
        evolve(state, version, Entry(v=1, id="e", cmd="c", at=version, e=ReceiptsAdvanced(receipts=[each])))
    return state


def when(state: Receipts, *stated: Receipt, end: int = 10) -> list[ReceiptsAdvanced]:
    command = AdvanceReceipts(id=CommandId("r"), conversation=ConversationId("t"), receipts=list(stated))
    return decide(state, command, {ANN: end, BEN: end})


def test_several_devices_make_one_event() -> None:
    stated = [receipt(delivered=3, read=2), receipt(BEN, delivered=1)]
    assert when(given(), *stated) == [ReceiptsAdvanced(receipts=stated)]


def test_i6_what_says_nothing_new_is_silent() -> None:
    state = given(receipt(delivered=5, read=4, undecryptable=[3]))
    assert when(state, receipt(delivered=5)) == []
    assert when(state, receipt(delivered=2, read=1)) == []
    assert when(state, receipt(delivered=5, undecryptable=[3])) == []


def test_i6_a_mark_never_goes_back() -> None:
    state = given(receipt(delivered=5, read=4))
    assert when(state, receipt(delivered=7, read=1)) == [ReceiptsAdvanced(receipts=[receipt(delivered=7, read=4)])]


def test_read_may_pass_delivered() -> None:
    assert when(given(), receipt(read=6)) == [ReceiptsAdvanced(receipts=[receipt(read=6)])]


def test_what_the_account_cannot_see_is_left_out() -> None:
    assert when(given(), receipt(delivered=11)) == []
    assert when(given(), receipt(read=11)) == []
    assert when(given(), receipt(AccountId("stranger"), delivered=1)) == []


def test_i5_exceptions_lie_within_what_was_delivered_and_are_named_once() -> None:
    state = given(receipt(delivered=4, undecryptable=[2]))
    assert when(state, receipt(delivered=6, undecryptable=[2, 6, 5, 5, 9, 0])) == [
        ReceiptsAdvanced(receipts=[receipt(delivered=6, undecryptable=[5, 6])])
    ]
    assert when(state, receipt(repaired=[2])) == [ReceiptsAdvanced(receipts=[receipt(delivered=4, repaired=[2])])]
    evolve(state, 1, Entry(v=1, id="e", cmd="c", at=1, e=ReceiptsAdvanced(receipts=[receipt(repaired=[2])])))
    assert state.of(ANN, PHONE).excepted == set()


def test_i5_a_receipt_with_too_many_exceptions_is_left_out_whole() -> None:
    """To cut it would call delivered what the device could not read."""
    many, end = list(range(1, EXCEPTIONS_MAX + 2)), 2 * EXCEPTIONS_MAX
    assert when(given(), receipt(delivered=end, undecryptable=many), end=end) == []
    assert when(given(), receipt(delivered=end, repaired=many), end=end) == []
    assert when(given(), receipt(delivered=end, undecryptable=many[1:]), end=end) == [
        ReceiptsAdvanced(receipts=[receipt(delivered=end, undecryptable=many[1:])])
    ]
    assert when(given(), receipt(delivered=end, repaired=many[1:]), end=end) != []


# Signed statements


def test_a_signed_statement_stands_there_as_it_was_signed() -> None:
    """What an unsigned one would be filled up with, sorted and thinned out, the signature doesn't cover."""
    state = given(receipt(delivered=5, read=4, undecryptable=[3]))
    for stated in (
        receipt(delivered=7, read=1, signature="s"),
        receipt(delivered=3, read=6, signature="s"),
        receipt(read=5, signature="s"),
        receipt(delivered=6, undecryptable=[6, 3, 3], signature="s"),
        receipt(delivered=3, repaired=[3], signature="s"),
    ):
        assert when(state, stated) == [ReceiptsAdvanced(receipts=[stated])]


def test_i6_a_signed_statement_that_says_nothing_new_is_silent() -> None:
    state = given(receipt(delivered=5, read=4, undecryptable=[3, 2], repaired=[2], signature="s"))
    for stated in (
        receipt(delivered=5, read=4, signature="s"),
        receipt(delivered=2, read=4, signature="t"),
        receipt(delivered=5, undecryptable=[3], repaired=[2], signature="t"),
        receipt(signature="t"),
    ):
        assert when(state, stated) == []


def test_a_signed_statement_is_left_out_whole_where_a_part_of_it_may_not_be() -> None:
    many = list(range(1, EXCEPTIONS_MAX + 2))
    for stated in (
        receipt(delivered=11, read=3, signature="s"),
        receipt(delivered=3, read=11, signature="s"),
        receipt(delivered=5, undecryptable=[5, 6], signature="s"),
        receipt(delivered=5, repaired=[0], signature="s"),
        receipt(read=5, undecryptable=[5], signature="s"),
        receipt(AccountId("stranger"), delivered=1, signature="s"),
    ):
        assert when(given(), stated) == []
    for named in (
        receipt(delivered=500, undecryptable=many, signature="s"),
        receipt(delivered=500, repaired=many, signature="s"),
    ):
        assert when(given(), named, end=500) == []


def test_i6_a_signed_statement_from_before_moves_no_mark_back() -> None:
    state = given(receipt(delivered=5, read=4), receipt(delivered=3, read=6, signature="s"))
    marks = state.of(ANN, PHONE)
    assert (marks.delivered, marks.read) == (5, 6)


receipts = st.builds(
    receipt,
    st.sampled_from([ANN, BEN]),
    st.sampled_from([PHONE, TABLET]),
    delivered=st.integers(0, 20),
    read=st.integers(0, 20),
    undecryptable=st.lists(st.integers(1, 20), max_size=3),
    repaired=st.lists(st.integers(1, 20), max_size=3),
    signature=st.sampled_from([None, "s", "t"]),
)


@for_all(st.lists(receipts, max_size=6), st.lists(receipts, max_size=6))
def test_of_signed_statements_each_is_recorded_exactly_or_not_at_all(
    past: list[Receipt], stated: list[Receipt]
) -> None:
    state = given(*past)
    recorded = [each for event in when(state, *stated) for each in event.receipts]
    assert all(each in stated for each in recorded if each.signature is not None)
    # What is left out changes nothing, or is no statement that may be made.
    for each in stated:
        if each.signature is not None and each not in recorded:
            device = (each.account, each.device)
            silent = state.of(*device) == given(*past, each).of(*device)
            beyond = (
                max(each.delivered, each.read) > 10 or max([0, *each.undecryptable, *each.repaired]) > each.delivered
            )
            assert silent or beyond


@for_all(st.lists(receipts, max_size=12).flatmap(lambda stated: st.tuples(st.just(stated), st.permutations(stated))))
def test_i6_receipts_in_any_order_give_the_same_state(orders: tuple[list[Receipt], list[Receipt]]) -> None:
    one, other = (given(*order).marks for order in orders)
    assert one == other
