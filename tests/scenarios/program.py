"""What people on several devices are told to do in a group: bursts of things that are asked for at once."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from hypothesis import strategies as st

from tests.scenarios.cast import OWNERS, PEOPLE, Cast, Device
from tests.scenarios.group import Deed, Group, Role, What

Act = Literal["send", "retract", "add", "remove", "leave", "role", "title", "read", "cut", "close", "open", "look"]

ACTS: Final[tuple[Act, ...]] = (
    *("send",) * 5, *("read",) * 3, *("add",) * 3, *("retract",) * 2, *("remove",) * 2, *("cut",) * 2, "leave", "role",
    "title", "close", "open", "look",
)  # fmt: skip
"""How often each is drawn."""
ASKS: Final[dict[Act, What]] = {
    "send": "message", "retract": "retracted", "add": "added", "remove": "removed", "leave": "left", "role": "role",
    "title": "title",
}  # fmt: skip
_ROLES: Final[tuple[Role, ...]] = get_args(Role)


@dataclass(frozen=True)
class Op:
    """`device` and `pick` say which one of what there is."""

    act: Act
    device: int
    pick: int


@dataclass(frozen=True)
class Program:
    members: frozenset[int]
    """Whom the first of the people takes into the group at its start."""
    bursts: tuple[tuple[Op, ...], ...]


_ops = st.builds(Op, act=st.sampled_from(ACTS), device=st.integers(0, len(OWNERS) - 1), pick=st.integers(0, 59))
_bursts = st.lists(_ops, min_size=1, max_size=5).map(tuple)
programs: Final = st.builds(
    Program,
    members=st.frozensets(st.integers(1, PEOPLE - 1), min_size=1),
    # Without the detour most programs would be short.
    bursts=st.integers(1, 12).flatmap(lambda size: st.lists(_bursts, min_size=size, max_size=size)).map(tuple),
)


def choose(op: Op, group: Group, cast: Cast) -> tuple[Device, Deed]:
    """Which device asks for what. Left to chance hardly anything would be allowed: so it is one of the deeds that are,
    as the group is now, but for a quarter of all."""
    device = cast.devices[op.device]
    chance = _deeds(op, group, cast, device)
    if op.pick % 4 != 3:
        openly = [(each, deed) for each in cast.devices if each.is_open for deed in _deeds(op, group, cast, each)]
        if allowed := [(each, deed) for each, deed in openly if group.decide(deed) == deed]:
            return allowed[(op.device * 7 + op.pick) % len(allowed)]
    return device, chance[op.pick % len(chance)]


def _deeds(op: Op, group: Group, cast: Cast, device: Device) -> list[Deed]:
    """All that the device could ask for, of one kind."""
    deed = Deed(ASKS[op.act], device.account)
    if op.act == "retract":
        seqs = group.messages(device.account) if device.account in group.sees else []
        return [deed._replace(target=seq) for seq in [*seqs, op.pick + 1]]
    if op.act == "role":
        deed = deed._replace(role=_ROLES[op.pick % len(_ROLES)])
    if op.act in ("add", "remove", "role"):
        return [deed._replace(whom=(account,)) for account in cast.people]
    return [deed._replace(counts=op.act != "send" or op.pick % 5 != 4)]
