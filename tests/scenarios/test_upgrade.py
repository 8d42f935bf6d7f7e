"""A new version of a read model is built and takes over under live load; nobody is shown anything wrong (I7, I9)."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import pytest

from commands.stores import open_log
from ops.bench.historian import Historian
from ops.child import free_port
from ops.engine import EngineProcess, engine
from ops.settings import load_settings
from ops.writing import write_side
from projections.building import Builder, position_of
from projections.catalogue import Build, Catalogue
from projections.sqlite import SqliteDatabase
from signet_client import Client, SignetError
from tests.ops.long_history import answer
from tests.scenarios.stage import UNBOUNDED, WAIT_S, register, running
from tests.scenarios.upgraded import NewInbox

EVENTS: Final = 20_000
SPEAKERS: Final = 8
MESSAGES_PER_S: Final = 200
OLD, NEW = Build(NewInbox.version - 1), Build(NewInbox.version)
UPGRADED: Final = "tests.scenarios.upgraded"


class Server:
    """One server, whose engine comes and goes."""

    def __init__(self, data: Path, engines: AsyncExitStack) -> None:
        self.data = data
        self.port = free_port()
        self.is_down = asyncio.Event()
        """It was killed, and is not up again."""
        self._engines = engines
        self.process: EngineProcess

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, module: str = UPGRADED) -> None:
        settings = {"log_level": "error", "test_slow_build": "1", "sample_interval_s": "0.05", **UNBOUNDED}
        started = engine(self.data, settings, port=self.port, module=module)
        self.process = await self._engines.enter_async_context(started)
        self.is_down.clear()

    async def end(self, number: signal.Signals) -> None:
        self.is_down.set()
        self.process.process.send_signal(number)
        await self.process.process.wait()

    @property
    def serving(self) -> Build | None:
        row = Catalogue(self.data / "readmodels").get("inbox")
        return None if row is None else row.build

    def built(self) -> int:
        """Up to which position the new version is filled."""
        file = NewInbox.file_in(self.data / "readmodels")
        if not file.exists():
            return 0
        with closing(SqliteDatabase(file, read_only=True)) as db:
            return position_of(db) if db.has_table("readmodel") else 0

    def builders(self) -> list[int]:
        """The pids of the engine's children."""
        pid = self.process.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Speakers:
    """They say `MESSAGES_PER_S` together, each in the conversation that it has with the checker."""

    def __init__(self, clients: Sequence[Client], talks: Sequence[str]) -> None:
        self._clients = clients
        self._talks = talks
        self.begun: Counter[str] = Counter()
        """How many messages in each conversation may be stored."""
        self.accepted: Counter[str] = Counter()
        """How many are."""

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        ended = asyncio.Event()
        tasks = [
            asyncio.create_task(self._talk(client, talk, ended))
            for client, talk in zip(self._clients, self._talks, strict=True)
        ]
        try:
            yield
        finally:
            ended.set()
            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(*tasks)

    async def _talk(self, client: Client, talk: str, ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not ended.is_set():
            self.begun[talk] += 1
            await client.send(talk, f"message {self.begun[talk]}")
            self.accepted[talk] += 1
            # What could not be said while the engine was down is not said all at once.
            due = max(due + SPEAKERS / MESSAGES_PER_S, loop.time() - 0.1)
            await asyncio.sleep(max(0.0, due - loop.time()))


class Checker:
    """One who looks at the list of conversations all the time, and knows what it must show."""

    def __init__(self, client: Client, server: Server, speakers: Speakers, before: dict[str, int]) -> None:
        """`before`: the heads, all read, before anybody spoke."""
        self._client = client
        self._server = server
        self._speakers = speakers
        self._before = before
        self._heads = dict(before)
        self.looks = 0

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        ended = asyncio.Event()
        task = asyncio.create_task(self._look_on(ended))
        try:
            yield
        finally:
            ended.set()
            await asyncio.wait_for(task, WAIT_S)

    async def _look_on(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            await self.look()
            if self.looks % 20 == 0:
                for talk, head in self._heads.items():
                    self._client.read(talk, min(head, self._client.marks(talk).cursor))
            await asyncio.sleep(0.01)  # a pause between two looks

    async def look(self) -> None:
        accepted, was_down = self._speakers.accepted.copy(), self._server.is_down.is_set()
        try:
            overviews = await self._client.overviews()
        except SignetError:
            assert was_down or self._server.is_down.is_set(), "a read has failed, though the engine was up"
            await asyncio.sleep(0.05)  # it comes again soon
            return
        assert {overview.c for overview in overviews} == set(self._before)
        for shown in overviews:
            before = self._before[shown.c]
            assert before + accepted[shown.c] <= shown.head <= before + self._speakers.begun[shown.c]
            assert shown.head >= self._heads[shown.c], "nothing that was shown goes away"
            assert shown.unread == shown.head - max(shown.read, before), "each message after the mark, and no other"
            self._heads[shown.c] = shown.head
        self.looks += 1


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[tuple[Server, Speakers, Checker]]:
    """A server with a history, of the older release; people who are about to speak; and the checker."""
    data = tmp_path / "data"
    async with write_side(load_settings(data)) as side:
        await Historian(side, accounts=60, directs=40, groups=5).write(EVENTS, lambda events: None)
    async with AsyncExitStack() as stack:
        server = Server(data, stack)
        await server.start("ops.cli")
        people = [await register(server.url, f"p{number}", tmp_path / "people") for number in range(SPEAKERS + 1)]
        await stack.enter_async_context(running(*people))
        client, *others = people
        talks = [await client.start_direct(other.account) for other in others]
        before = {overview.c: overview.head for overview in await client.overviews()}
        speakers = Speakers(others, talks)
        yield server, speakers, Checker(client, server, speakers, before)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty_clients")
async def test_a_new_version_takes_over_under_load_and_goes_back_and_forward(tmp_path: Path) -> None:
    """Killed three times meanwhile: the engine, the process that builds, and the engine again."""
    async with scene(tmp_path) as (server, speakers, checker):
        await server.end(signal.SIGTERM)
        async with speakers.talking(), checker.looking():
            await server.start()
            for number in range(3):
                await until_more_is_built(server)
                assert server.serving == OLD, "it is not over yet"
                if number == 1:
                    for pid in server.builders():
                        os.kill(pid, signal.SIGKILL)
                else:
                    await server.end(signal.SIGKILL)
                    await server.start()
            await until_served(server, NEW)
            looks = checker.looks
            await until_looked(checker, looks + 50)
        await checker.look()
        await check_rows(server)

        async with speakers.talking(), checker.looking():
            rolled = await verb("rollback", server)
            assert (rolled["version"], server.serving) == (OLD.version, OLD)
            await until_looked(checker, checker.looks + 20)
            await server.end(signal.SIGTERM)
            await server.start()
            await until_looked(checker, checker.looks + 20)
            assert server.serving == OLD, "somebody went back: it stays so after a start"
            forward = await verb("rebuild", server)
            assert (forward["version"], server.serving) == (NEW.version, NEW)
            await until_looked(checker, checker.looks + 20)
        await checker.look()
        await check_rows(server)


async def until_more_is_built(server: Server) -> None:
    before = server.built()
    async with asyncio.timeout(WAIT_S):
        while server.built() <= before:  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.01)


async def until_served(server: Server, build: Build) -> None:
    async with asyncio.timeout(WAIT_S):
        while server.serving != build:  # noqa: ASYNC110  # it is another process
            await asyncio.sleep(0.05)


async def until_looked(checker: Checker, looks: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while checker.looks < looks:  # noqa: ASYNC110  # it counts, and tells nobody
            await asyncio.sleep(0.01)


async def verb(name: str, server: Server) -> Any:
    made = await asyncio.to_thread(answer, name, "inbox", "--data", str(server.data), module=UPGRADED)
    return made["inbox"]


async def check_rows(server: Server) -> None:
    """At rest: every row is what the log says, and the hash that of a recomputation."""
    report = await asyncio.to_thread(answer, "check", "inbox", "--data", str(server.data), module=UPGRADED)
    assert report["drift"] == 0
    log = open_log(load_settings(server.data).events_url, read_only=True)
    with (
        closing(NewInbox(SqliteDatabase(":memory:"))) as again,
        closing(SqliteDatabase(NewInbox.file_in(server.data / "readmodels"), read_only=True)) as live,
    ):
        compared = await Builder(log, again).compare(live)
        assert compared is not None
        assert compared.equal
    await log.close()
