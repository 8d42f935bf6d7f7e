"""A group as it must be, worked out from what happened in it in the plainest way. It shares no code with the engine.

Everything is a `Deed`: what somebody asks for, and what has happened, which may be less (whoever is a member already is
not added again). A group is what it is after some deeds; each further deed makes another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Role = Literal["owner", "admin", "member"]
What = Literal["started", "message", "retracted", "added", "removed", "left", "role", "title"]
Tick = Literal["sent", "delivered", "read"]
Refusal = Literal[
    "no_such_conversation", "not_a_member", "not_allowed", "last_owner", "no_such_account", "no_such_message"
]


class Deed(NamedTuple):
    what: What
    by: str
    whom: tuple[str, ...] = ()
    """Accounts that it concerns."""
    role: Role | None = None
    target: int = 0
    """The seq of a message."""
    text: str = ""
    id: str = ""
    """A message's, which its sender chose."""
    counts: bool = True
    """Whether a message counts as unread."""


class Marks(NamedTuple):
    """How far an account is: the greatest of its devices."""

    delivered: int = 0
    read: int = 0


@dataclass(frozen=True)
class Group:
    deeds: tuple[Deed, ...]
    """What took the seqs 1, 2, 3 …"""
    roles: Mapping[str, Role]
    sees: Mapping[str, frozenset[int]]
    """The very seqs that each account may see, that ever was a member."""
    joined: Mapping[str, int]
    """When each account came in last."""
    left: Mapping[str, int]
    """When each account went out last."""
    retracted: Mapping[int, int]
    """Messages, and the seqs of their retractions."""

    @property
    def seq(self) -> int:
        return len(self.deeds)

    def deed(self, seq: int) -> Deed:
        return self.deeds[seq - 1]

    # What is refused

    def decide(self, asked: Deed) -> Deed | Refusal | None:
        """What happens where this is asked for, or why it is refused. None: it is so already."""
        if asked.by not in self.sees:
            return "no_such_conversation"
        if asked.by not in self.roles:
            return "not_a_member"
        role = self.roles[asked.by]
        manages = role in ("owner", "admin")
        if asked.what in ("added", "removed", "title", "role") and not manages:
            return "not_allowed"
        if asked.what == "added":
            return asked._replace(whom=tuple(each for each in asked.whom if each not in self.roles))
        if asked.what == "removed":
            return self._decide_removal(asked, role)
        if asked.what == "role":
            return self._decide_role(asked, role)
        if asked.what == "retracted":
            return self._decide_retraction(asked, manages)
        if asked.what == "left" and self._is_last_owner(asked.by) and len(self.roles) > 1:
            return "last_owner"
        return asked

    def _decide_removal(self, asked: Deed, role: Role) -> Deed | Refusal:
        (whom,) = asked.whom
        if whom == asked.by or (role == "admin" and self.roles.get(whom) in ("owner", "admin")):
            return "not_allowed"
        return asked if whom in self.roles else "no_such_account"

    def _decide_role(self, asked: Deed, role: Role) -> Deed | Refusal:
        (whom,) = asked.whom
        if role != "owner":
            return "not_allowed"
        if whom not in self.roles:
            return "no_such_account"
        if asked.role != "owner" and self._is_last_owner(whom):
            return "last_owner"
        return asked

    def _decide_retraction(self, asked: Deed, manages: bool) -> Deed | Refusal | None:
        if asked.target not in self.sees[asked.by] or self.deed(asked.target).what != "message":
            return "no_such_message"
        if self.deed(asked.target).by != asked.by and not manages:
            return "not_allowed"
        return None if asked.target in self.retracted else asked

    def _is_last_owner(self, account: str) -> bool:
        return [each for each, role in self.roles.items() if role == "owner"] == [account]

    # What it is then

    def after(self, deed: Deed) -> "Group":
        seq = self.seq + 1
        roles = _roles_after(self.roles, deed)
        concerned = set(self.roles) | set(roles)
        return Group(
            deeds=(*self.deeds, deed),
            roles=roles,
            sees={**self.sees, **{each: self.sees.get(each, frozenset()) | {seq} for each in concerned}},
            joined={**self.joined, **dict.fromkeys(set(roles) - set(self.roles), seq)},
            left={**self.left, **dict.fromkeys(set(self.roles) - set(roles), seq)},
            retracted={**self.retracted, **({deed.target: seq} if deed.what == "retracted" else {})},
        )

    # What an account is shown

    def end(self, account: str) -> int:
        """The last seq that it may see."""
        return self.seq if account in self.roles else max(self.sees[account])

    def retraction(self, account: str, seq: int) -> int | None:
        """Of a message: whoever has left hears of none that came later, and who is back hears of all."""
        retraction = self.retracted.get(seq)
        return retraction if retraction is not None and retraction <= self.end(account) else None

    def messages(self, account: str) -> list[int]:
        return [seq for seq in sorted(self.sees[account]) if self.deed(seq).what == "message"]

    def of_others(self, account: str) -> list[int]:
        return [seq for seq in self.messages(account) if self.deed(seq).by != account]

    def unread(self, account: str, read: int) -> int:
        return sum(
            self.deed(seq).counts and seq > read and self.retraction(account, seq) is None
            for seq in self.of_others(account)
        )

    def title(self, account: str) -> str:
        titled = [deed.text for deed in self.deeds[: self.end(account)] if deed.what in ("started", "title")]
        return titled[-1]

    def ticks(self, author: str, marks: Mapping[str, Marks]) -> dict[int, Tick]:
        """Of its own messages: a message waits for those who were members at its seq, and are still."""
        return {seq: self._tick(author, seq, marks) for seq in self.messages(author) if self.deed(seq).by == author}

    def _tick(self, author: str, seq: int, marks: Mapping[str, Marks]) -> Tick:
        others = set(self.roles) - {author}
        if not others:
            # What was said before the last of them left is settled; what was said to nobody never is.
            last = max((left for account, left in self.left.items() if account != author), default=0)
            return "read" if seq <= last else "sent"
        awaited = [marks.get(other, Marks()) for other in others if self.joined[other] <= seq]
        if any(each.delivered < seq for each in awaited):
            return "sent"
        return "delivered" if any(each.read < seq for each in awaited) else "read"


def start(owner: str, members: tuple[str, ...], title: str) -> Group:
    empty = Group(deeds=(), roles={}, sees={}, joined={}, left={}, retracted={})
    return empty.after(Deed("started", owner, whom=(owner, *members), text=title))


def _roles_after(roles: Mapping[str, Role], deed: Deed) -> dict[str, Role]:
    if deed.what == "started":
        return {**dict.fromkeys(deed.whom, "member"), deed.by: "owner"}
    if deed.what == "added":
        return {**roles, **dict.fromkeys(deed.whom, "member")}
    if deed.what == "role":
        assert deed.role is not None
        return {**roles, **dict.fromkeys(deed.whom, deed.role)}
    gone = {"removed": deed.whom, "left": (deed.by,)}.get(deed.what, ())
    return {account: role for account, role in roles.items() if account not in gone}
