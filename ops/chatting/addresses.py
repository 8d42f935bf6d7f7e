"""Who has chatted from this machine: a folder for each name, with the device's store and the account's address."""

import re
from pathlib import Path
from typing import Final

from ops.errors import OpsError
from signet_client import Client, NoDevice, StoreInUse

_NAME: Final = re.compile(r"[\w.-]{1,64}")
_ADDRESS: Final = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Addresses:
    """The address book of one data folder. An address is an account's id."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "clients"

    async def client(self, name: str, url: str, *, invitation: str | None = None) -> Client:
        """The device of that name, registered now if there is none. Raises OpsError, SignetError."""
        if not _NAME.fullmatch(name):
            raise OpsError(f"{name!r} is no name for chat: letters, digits, dots, dashes and underscores, 64 at most")
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = folder / "device.db"
        try:
            try:
                client = Client.open(store, url=url)
            except NoDevice:
                client = await Client.register(url, name, store, invitation=invitation)
        except StoreInUse as error:
            raise OpsError(f"{name} chats in another terminal already; close that one, or take another name") from error
        (folder / "address").write_text(client.account + "\n")
        return client

    def find(self, who: str) -> str:
        """The address of a name, or the address itself. Raises OpsError."""
        if _ADDRESS.fullmatch(who):
            return who
        try:
            return (self._folder / who / "address").read_text().strip() if _NAME.fullmatch(who) else self._unknown(who)
        except OSError:
            return self._unknown(who)

    def names(self) -> dict[str, str]:
        """Names by address."""
        return {file.read_text().strip(): file.parent.name for file in self._folder.glob("*/address")}

    def _unknown(self, who: str) -> str:
        known = ", ".join(sorted(self.names().values())) or "nobody"
        raise OpsError(f"there is no {who!r} here; known are {known}. Somebody else's address will do, too.")
