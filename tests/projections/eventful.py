"""Histories of one group and one direct conversation in which nearly every step has an effect: members come back after
having written, retract what counts and what doesn't, repair what they named undecryptable.

A step's numbers pick among what the state allows, so hardly anything that Hypothesis draws is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from hypothesis import strategies as st

from domain.ids import AccountId, ConversationId, DeviceId
from tests.projections.histories import PHONE, History, play_media

_NAMES: Final = ("ann", "ben", "cem", "dot")
_DEVICES: Final = (PHONE, DeviceId("laptop"))
_Step = tuple[str, int, int, int]


def eventful(*, steps_min: int = 20, steps_max: int = 60) -> st.SearchStrategy[History]:
    numbers = st.integers(min_value=0, max_value=1_000)
    step = st.tuples(st.sampled_from([*_STEPS]), numbers, numbers, numbers)
    return st.lists(step, min_size=steps_min, max_size=steps_max).map(_play)


def _play(steps: Sequence[_Step]) -> History:
    history = History()
    accounts = [history.register(name) for name in _NAMES]
    group, chat = history.group(*accounts[:3]), history.direct(*accounts[:2])
    for name, who, which, number in steps:
        target = chat if number % 5 == 0 else group
        state = history.conversations[target]
        if state.members:
            by = sorted(state.visible)[who % len(state.visible)] if name in _OF_ANYBODY else _pick(state.members, who)
            _STEPS[name](history, target, by, which)
    return history


def _pick(among: Mapping[AccountId, object], number: int) -> AccountId:
    return sorted(among)[number % len(among)]


def _send(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    history.send(to, by, f"text {number}", counts=number % 4 != 0, device=_DEVICES[number % 2])


def _retract(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    messages = sorted(set(history.messages.get(to, {})) - history.conversations[to].retracted)
    if messages:
        target = messages[number % len(messages)]
        history.retract(to, history.messages[to][target].by if number % 2 else by, target)


def _receive(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    """Mostly up to the end or near it, now and then from further back."""
    end = history.conversations[to].visible_end(by)
    upto = max(0, end - number % 4) if number % 3 else number % (end + 1)
    read = upto if number % 2 else 0
    history.receive(to, by, delivered=upto if number % 7 else 0, read=read, device=_DEVICES[number % 5 % 2])


def _except(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    end = history.conversations[to].visible_end(by)
    seqs = {max(1, end - number % 3), max(1, end - number % 7)}
    history.receive(to, by, delivered=end, undecryptable=tuple(seqs), device=_DEVICES[number % 2])


def _repair(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    """Of whoever has something to repair; now and then before it was named."""
    for account, devices in history.receipts[to].marks.items() if to in history.receipts else ():
        for device, marks in devices.items():
            if marks.excepted:
                excepted = sorted(marks.excepted)
                history.receive(to, account, repaired=(excepted[number % len(excepted)],), device=device)
                return
    history.receive(to, by, delivered=1, repaired=(1,))


def _sign(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    """Either mark may lie behind what is known already."""
    end = history.conversations[to].visible_end(by)
    upto, read = max(0, end - number % 4), max(0, end - number % 3)
    named = (upto,) if upto and number % 4 == 0 else ()
    history.receive(
        to, by, delivered=upto, read=read if number % 5 else 0, undecryptable=named, device=_DEVICES[number % 2],
        signature=f"signed {number}",
    )  # fmt: skip


def _publish(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    history.publish_keys(by, f"{number}", f"{number + 1}", fallback=f"{number}" if number % 2 else None)


def _claim(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    history.claim_key(_pick(history.accounts, number), by)


def _upload(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    play_media(history, "upload", to, by, number)


def _show(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    play_media(history, "show", to, by, number)


def _sweep(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    play_media(history, "sweep", to, by, number)


def _come_or_go(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    """An owner adds whoever is out, or takes one out; or somebody leaves by itself."""
    state = history.conversations[to]
    outside = [account for account in history.accounts if account not in state.members]
    owners = [account for account, role in state.members.items() if role == "owner"]
    if outside and number % 2 and owners:
        history.add(to, owners[0], outside[number % len(outside)])
    elif number % 3 and owners:
        history.remove(to, owners[0], by)
    else:
        history.leave(to, by)


def _change(history: History, to: ConversationId, by: AccountId, number: int) -> None:
    owners = [account for account, role in history.conversations[to].members.items() if role == "owner"]
    if owners and number % 2:
        history.change_role(to, owners[0], by, ("owner", "admin", "member")[number % 3])
    elif owners:
        history.set_title(to, owners[0], f"title {number}")


# What stands here twice is twice as likely.
_STEPS: Final[dict[str, Callable[[History, ConversationId, AccountId, int], None]]] = {
    "send": _send,
    "send again": _send,
    "send once more": _send,
    "retract": _retract,
    "receive": _receive,
    "receive again": _receive,
    "receive once more": _receive,
    "except": _except,
    "repair": _repair,
    "sign": _sign,
    "sign again": _sign,
    "publish": _publish,
    "claim": _claim,
    "upload": _upload,
    "show": _show,
    "sweep": _sweep,
    "come or go": _come_or_go,
    "come or go again": _come_or_go,
    "change": _change,
}
_OF_ANYBODY: Final = ("receive", "receive again", "except", "sign")
"""What one who has left may still do."""
