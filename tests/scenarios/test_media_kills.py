"""Engine, S3 server and client are killed again and again while files are sent and while unused ones are swept: what
the log says is stored is there, what a message shows stays, and every file arrives, once."""

import asyncio
import hashlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast

import httpx
import pytest
from nacl.signing import SigningKey

from domain.codec import CODEC
from domain.media import MediaDeleted, MediaStored
from gateways.media.objects import folder_of
from ops.child import free_port
from ops.engine import EngineProcess, engine
from signet_client import Client, Message
from signet_client.payloads import to_base64
from tests.corpus import ROOT
from tests.gateways.engine import SERVER, Clock, Engine, Person
from tests.gateways.uploads import reservation, upload
from tests.scenarios.courier import content
from tests.scenarios.stage import UNBOUNDED, WAIT_S, Heard, Place, open_events, people, register, seed

KILLS: Final = 15
"""While files are sent; five more while unused ones are swept."""
SWEEP_KILLS: Final = 5
FILES: Final = 2
"""That each life of the client begins to send."""
LIFE_MAX_S: Final = 1.0
ORPHANS: Final = 6
SETTINGS: Final = {"server_name": SERVER, "log_level": "error", **UNBOUNDED}
SWEEPING: Final = {"media_grace_s": "0.2", "media_address_s": "1"}


class Server:
    """An engine that is killed, and comes back with the same port."""

    def __init__(self, data: Path, stack: AsyncExitStack) -> None:
        self.data = data
        self.port = free_port()
        self._stack = stack
        self._engine: EngineProcess

    async def start(self, settings: Mapping[str, str] | None = None) -> None:
        chosen = {**SETTINGS, **(settings or {})}
        self._engine = await self._stack.enter_async_context(engine(self.data, chosen, port=self.port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def kill(self) -> None:
        self._engine.process.kill()
        await self._engine.process.wait()

    def kill_s3(self) -> None:
        """It may not have been started yet, or may be dead."""
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((self.data / "media/rclone.pid").read_text()), signal.SIGKILL)

    async def check_objects(self) -> None:
        """No MediaStored without its object: the very bytes."""
        log = open_events(self.data)
        try:
            stored: dict[str, MediaStored] = {}
            position = 0
            while page := await log.read_all(after=position, limit=1_000):
                position = page[-1].position
                for event in map(CODEC.decode, page):
                    media, fact = event.stream.removeprefix("media-"), event.entry.e
                    if isinstance(fact, MediaStored):
                        stored[media] = fact
                    elif isinstance(fact, MediaDeleted):
                        stored.pop(media, None)
        finally:
            await log.close()
        for media, fact in stored.items():
            found = self.object(media).read_bytes()
            assert (len(found), to_base64(hashlib.sha256(found).digest())) == (fact.size, fact.digest)

    def object(self, media: str) -> Path:
        return self.data / "media/signet" / folder_of(media) / media


class Courier:
    """A client that is killed, and comes back with the same store."""

    def __init__(self, client: Client, talk: str, folder: Path) -> None:
        self._store = client._store.path
        self._talk = talk
        self._folder = folder
        self._process: asyncio.subprocess.Process
        self._begun = 0
        self.posted: set[str] = set()
        """Names of the files that are in its store, or went out."""

    async def start(self, files: int) -> None:
        numbers = range(self._begun, self._begun + files)
        self._begun += files
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "tests.scenarios.courier",
            str(self._store), self._talk, str(self._folder), *map(str, numbers),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._ended()

    async def ended(self) -> None:
        """By itself: all that it had has been accepted."""
        assert await self._ended() == 0

    async def _ended(self) -> int:
        said, _ = await asyncio.wait_for(self._process.communicate(), WAIT_S)
        self.posted |= {line.split()[1] for line in said.decode().splitlines() if line.startswith("posted")}
        assert self._process.returncode is not None
        return self._process.returncode


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[tuple[Server, Client, Courier]]:
    async with AsyncExitStack() as stack, asyncio.timeout(4 * WAIT_S):
        server = Server(tmp_path / "data", stack)
        await server.start()
        anna = await register(server.url, "anna", tmp_path)
        [ben] = await stack.enter_async_context(people(server.url, tmp_path, "ben"))
        async with anna:
            talk = await anna.start_direct(ben.account)
            await anna.held(talk, 1)
        folder = tmp_path / "files"
        folder.mkdir()
        yield server, ben, Courier(anna, talk, folder)


@pytest.mark.slow
async def test_twenty_kills_lose_no_file_and_no_object(tmp_path: Path) -> None:
    """I1, I2"""
    chance = random.Random(seed())
    async with scene(tmp_path) as (server, ben, courier):
        for number in range(KILLS):
            await courier.start(FILES)
            await asyncio.sleep(chance.uniform(0.3, LIFE_MAX_S))  # the moment of the kill
            victim = ("engine", "s3", "client")[number % 3]
            if victim == "engine":
                await server.kill()
                await server.check_objects()
                await server.start()
            elif victim == "s3":
                server.kill_s3()
                # The client goes on for a while, with a server that comes back.
                await asyncio.sleep(chance.uniform(0.0, LIFE_MAX_S))
            await courier.kill()
        await courier.start(FILES)
        await courier.ended()
        talk = next(each.conversation for each in ben.conversations())
        await Heard(ben).until(lambda: courier.posted <= {name for name, _ in _files(ben, talk)})
        names = Counter(name for name, _ in _files(ben, talk))
        assert max(names.values()) == 1
        for name, message in _files(ben, talk):
            assert message.attachment is not None
            await ben.download(message, tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == content(int(name)), name
        await _sweep_and_kill(server, ben, talk, chance)
        await server.check_objects()


def _files(client: Client, talk: str) -> list[tuple[str, Message]]:
    return [(message.attachment.name, message) for message in client.messages(talk) if message.attachment is not None]


async def _sweep_and_kill(server: Server, ben: Client, talk: str, chance: random.Random) -> None:
    """What was stored and never shown goes, whatever is killed meanwhile; what is shown stays."""
    orphans = await _leave_orphans(server.url)
    await server.kill()
    await server.start(SWEEPING)
    for number in range(SWEEP_KILLS):
        await asyncio.sleep(chance.uniform(0.2, 1.0))  # the moment of the kill
        if number % 2:
            server.kill_s3()
        else:
            await server.kill()
            await server.check_objects()
            await server.start(SWEEPING)
    async with asyncio.timeout(WAIT_S):
        while any(server.object(media).exists() for media in orphans):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)
    shown = [media for _, message in _files(ben, talk) if message.attachment for media in message.attachment.media]
    assert all(server.object(media).exists() for media in shown)


async def _leave_orphans(url: str) -> list[str]:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        cleo = Person(Engine(cast(Any, None), Clock(), http), "Cleo", "laptop", SigningKey.generate())
        await cleo.register()
        await cleo.log_in()
        await cleo.do("POST", "/media", reservation(b"never uploaded"))
        return [await upload(cleo, os.urandom(100_000)) for _ in range(ORPHANS)]


@pytest.mark.slow
async def test_an_engine_that_is_started_anew_costs_no_file(tmp_path: Path) -> None:
    """It knows none of the tokens that it gave out, and is back between any attempt and the next, however many there
    were before. What was being sent or fetched goes on."""
    place = Place(tmp_path / "data", in_memory=False)
    (tmp_path / "file").write_bytes(content := os.urandom(10_000))
    async with AsyncExitStack() as stack, asyncio.timeout(2 * WAIT_S):
        async with place.engine():
            anna, ben = await stack.enter_async_context(people(place.url, tmp_path, "anna", "ben"))
            talk = await anna.start_direct(ben.account)
            sent = await anna.send_file(talk, tmp_path / "file")
            await ben.held(talk, sent.seq)
        for away_s in (0.9, 1.3, 1.7, 2.1):
            answer = await anna.post_file(talk, tmp_path / "file")
            fetching = asyncio.create_task(ben.download(ben.messages(talk)[0], tmp_path / "got"))
            await asyncio.sleep(away_s)  # as long as it takes to start an engine anew
            async with place.engine():
                await answer
                await fetching
                assert (tmp_path / "got").read_bytes() == content
                assert anna.uploads() == []
