"""The accounts of those who talk in an imported channel. Nobody can log in as one of them: the private half of the key
is thrown away, and no device signs anything."""

from nacl.bindings import crypto_sign_keypair

from domain.account import ChangeProfile, RegisterAccount
from domain.ids import AccountId, CommandId
from ops.importing.ids import DEVICE, ChannelIds
from ops.importing.stored import commands_of
from ops.irc.script import Person
from ops.writing import WriteSide
from signet_client import payloads


class People:
    def __init__(self, side: WriteSide, ids: ChannelIds, *, is_new: bool) -> None:
        """`is_new`: the channel is, so nobody is registered."""
        self._side = side
        self._ids = ids
        self._is_new = is_new
        self._accounts: dict[Person, AccountId] = {}
        self._names: dict[Person, str] = {}
        """What each is called now."""

    def __contains__(self, person: Person) -> bool:
        return person in self._accounts

    def __len__(self) -> int:
        return len(self._accounts)

    def account(self, person: Person) -> AccountId:
        return self._accounts[person]

    def is_called(self, person: Person, name: str) -> bool:
        return self._names[person] == name

    async def meet(self, person: Person, name: str, *, is_there: bool) -> RegisterAccount | None:
        """One that comes in for the first time in this run: the registration that it needs. `is_there`: that it came
        in is stored already. Raises StoreUnavailable, KeyringUnavailable."""
        account = self._accounts[person] = self._ids.account(person)
        self._names[person] = name
        registration = self._ids.registration(person)
        if is_there or (not self._is_new and registration in await commands_of(self._side.log, account)):
            return None
        return self.registration(account, registration, name)

    async def rename(self, person: Person, name: str, command: CommandId) -> ChangeProfile | None:
        """None: that is stored already. Raises StoreUnavailable, KeyringUnavailable."""
        account = self._accounts[person]
        self._names[person] = name
        if not self._is_new and command in await commands_of(self._side.log, account):
            return None
        return ChangeProfile(id=command, account=account, by=DEVICE, name=self._side.sealer.seal(account, name))

    def registration(self, account: AccountId, command: CommandId, name: str) -> RegisterAccount:
        public, _ = crypto_sign_keypair()
        return RegisterAccount(
            id=command, account=account, name=self._side.sealer.seal(account, name), device=DEVICE,
            key=payloads.to_base64(public), signature="",
        )  # fmt: skip
