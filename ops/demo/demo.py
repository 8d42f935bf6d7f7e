"""The demo of one engine: its people arrive and talk when it serves, and each of two gets a link."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from domain.log import START, EventLog
from ops.demo.cast import Cast
from ops.demo.entrance import Entrance
from ops.demo.stretch import PAIR, read_stretch
from ops.errors import OpsError
from ops.settings import Settings
from signet_client import SignetError

_FOLDER: Final = "demo"


class Link(Struct, frozen=True):
    name: str
    url: str
    """With its secret in the fragment, which no browser sends."""


class Demo:
    """`async with` ends it: its people leave."""

    def __init__(self, settings: Settings) -> None:
        self._data = settings.data
        self._registration = settings.who_registers
        self._entrance = Entrance()
        self._stack = AsyncExitStack()
        self.router = self._entrance.router

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def check(self, log: EventLog) -> None:
        """Raises OpsError where nobody may register, and where the log is somebody's: what is said stays for ever."""
        if self._registration != "open":
            raise OpsError(
                f"the demo registers its people, and registration is {self._registration} here; leave out --demo"
            )
        if await log.head() > START and not (self._data / _FOLDER).is_dir():
            raise OpsError(
                f"{self._data} has a history already, and the demo only goes where there is none: give it a folder of "
                f"its own, ./signet up --demo --data {self._data}-demo"
            )

    async def begin(self, url: str) -> list[Link]:
        """Brings the people, lets them say what they have not said yet, and gives fresh links. Raises OpsError."""
        stretch = read_stretch()
        cast = await self._stack.enter_async_context(Cast(url, self._data / _FOLDER))
        try:
            with _progress() as progress:
                arriving = progress.add_task("people", total=None)
                await cast.arrive(dict.fromkeys(line.nick for line in stretch))
                progress.update(arriving, total=len(cast.people), completed=len(cast.people))
                if not cast.has_played:
                    playing = progress.add_task("messages", total=len(stretch))
                    await cast.play(stretch, lambda: progress.advance(playing))
        except SignetError as error:
            raise OpsError(f"the demo broke off: {error}. Start it again; it goes on where it was.") from error
        return [self._link(url, name, cast) for name in PAIR]

    def _link(self, url: str, name: str, cast: Cast) -> Link:
        return Link(name, f"{url}/#/enter/{self._entrance.let_in(name, cast.people[name])}")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4, transient=True)
