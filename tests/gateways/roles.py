"""People of every role in one group, for the tests of who gets what."""

from typing import Final
from uuid import uuid4

from tests.gateways.engine import Engine, Person, command
from tests.gateways.uploads import upload

ROLES: Final = ("no_token", "expired", "revoked", "stranger", "left", "removed", "member", "admin", "owner")
"""Nobody that the server knows; a device whose token or challenge is too old; one that was revoked; somebody who never
was in the group, who has left it, who was removed; and those who are in it."""


class Scene:
    """People of every role, and a group of theirs that is made anew for each try."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.people: dict[str, Person] = {}
        self.group = ""
        self.seq = 0
        self._pictures: dict[str, str] = {}

    async def picture(self) -> str:
        """A media's id: the target has uploaded it, and shows it in the group."""
        if self.group not in self._pictures:
            target = self.people["target"]
            media = self._pictures[self.group] = await upload(target, b"what looks like a picture")
            path = f"/conversations/{self.group}/messages"
            await target.do("POST", path, target.message(self.group, "look", m=[media]))
        return self._pictures[self.group]

    async def enter(self) -> None:
        """Everybody comes; the tokens of one device expire, and another one is revoked."""
        expired = await self.engine.person("Member")
        member = Person(self.engine, "Member", "laptop", expired.signing_key)
        member.account = expired.account
        self.engine.clock.forward(3_700)
        await member.log_in()
        revoked = await member.new_device("lost phone")
        await member.do("DELETE", "/devices/lost phone", id=str(uuid4()))
        nobody = Person(self.engine, "Member", "laptop", expired.signing_key)
        nobody.account = expired.account
        self.people = {"no_token": nobody, "expired": expired, "revoked": revoked, "member": member}
        for role in ("stranger", "left", "removed", "admin", "owner", "target", "newcomer"):
            self.people[role] = await self.engine.person(role)

    async def set_up(self) -> None:
        """A group in which everybody has its role, with one message of the target's."""
        people = self.people
        owner = people["owner"]
        members = ("left", "removed", "admin", "member", "target")
        self.group = await owner.start_group(*(people[role] for role in members))
        at = f"/conversations/{self.group}"
        await owner.do("PUT", f"{at}/members/{people['admin'].account}/role", command(role="admin"))
        await people["left"].do("POST", f"{at}/leave", command())
        await owner.do("DELETE", f"{at}/members/{people['removed'].account}", **command())
        self.seq = await people["target"].send(self.group, "mine")

    async def head(self) -> int:
        head: int = (await self.people["owner"].history(self.group))["head"]
        return head
