"""Order, without a socket: whatever comes in whatever order, each item is given out once, in order of seq."""

from hypothesis import given
from hypothesis import strategies as st

from signet_client import wire
from signet_client.intake import AHEAD_MAX, FETCHES_MAX, Intake
from signet_client.records import Marks


def change(seq: int, c: str = "c") -> wire.Change:
    return wire.Change(c=c, seq=seq, at=seq, what="title", by="a", id=f"{c}{seq}", title="")


def page(seqs: list[int], *, upto: int, c: str = "c", id_: str = "") -> wire.Page:
    return wire.Page(c=c, items=[change(seq, c) for seq in seqs], head=upto, upto=upto, id=id_)


def seqs(items: list[wire.Item]) -> list[int]:
    return [item.seq for item in items]


@given(st.data())
def test_every_item_once_in_order(data: st.DataObject) -> None:
    """I3, I4: pushes are lost, doubled and shuffled, pages come late or twice; the fetches close every hole."""
    last = data.draw(st.integers(1, 30))
    hidden = data.draw(st.sets(st.integers(1, last)))
    visible = [seq for seq in range(1, last + 1) if seq not in hidden]
    marks: dict[str, Marks] = {}
    intake = Intake(marks)
    given_out: list[int] = []
    unanswered: list[wire.Fetch] = []

    def answer(fetch: wire.Fetch, limit: int) -> None:
        seen = [seq for seq in visible if seq > fetch.after]
        upto = seen[limit - 1] if len(seen) > limit else max(last, fetch.after)
        given_out.extend(seqs(intake.page(page(seen[:limit], upto=upto, id_=fetch.id))))

    for seq in data.draw(st.lists(st.sampled_from(visible), max_size=60)) if visible else ():
        given_out += seqs(intake.push(change(seq)))
        if data.draw(st.booleans()):
            unanswered += intake.fetches()
        if data.draw(st.booleans()) and unanswered:
            answer(unanswered[data.draw(st.integers(0, len(unanswered) - 1))], data.draw(st.integers(1, 4)))
    intake.want("c", last)
    while intake.holes:
        unanswered = unanswered or intake.fetches()
        answer(unanswered.pop(0), 3)
    assert given_out == visible
    assert marks["c"].cursor >= max(visible, default=0)


def test_what_waits_is_bounded() -> None:
    """I11: behind a hole no more waits than fits; the fetch brings the rest."""
    intake = Intake({})
    for seq in range(2, AHEAD_MAX + 12):
        assert intake.push(change(seq)) == []
    assert len(intake.push(change(1))) == AHEAD_MAX + 1
    assert intake.holes
    (fetch,) = intake.fetches()
    assert fetch.after == AHEAD_MAX + 1


def test_fetches_are_bounded() -> None:
    """I11: many holes at once do not make many fetches at once."""
    intake = Intake({})
    for number in range(FETCHES_MAX + 5):
        intake.want(f"c{number}", 1)
    fetches = intake.fetches()
    assert len(fetches) == FETCHES_MAX
    assert not intake.fetches()
    for fetch in fetches:
        assert seqs(intake.page(page([1], upto=1, c=fetch.c, id_=fetch.id))) == [1]
    assert len(intake.fetches()) == 5


def test_refused_fetch() -> None:
    intake = Intake({})
    intake.want("c", 2)
    (fetch,) = intake.fetches()
    assert not intake.refused("another", retry=True)
    assert intake.refused(fetch.id, retry=True)
    (again,) = intake.fetches()
    assert intake.refused(again.id, retry=False)
    assert not intake.holes
