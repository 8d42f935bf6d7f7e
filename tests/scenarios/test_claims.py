"""One-time keys are handed out once, ever, also by an engine that is killed while it hands them out."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from uuid import UUID, uuid4, uuid5

import httpx
import pytest
from nacl.signing import SigningKey

from domain.codec import CODEC
from domain.ids import AccountId, account_stream
from domain.keys import OneTimeKeyClaimed
from ops.child import free_port
from ops.engine import EngineProcess, engine
from signet_client.matrix import SIGNED_CURVE25519
from tests.gateways.engine import SERVER, Clock, Engine, Person
from tests.gateways.published import device_keys, fallback_key, one_time_keys, user
from tests.scenarios.stage import UNBOUNDED, WAIT_S, open_events, seed

KILLS: Final = 20
CLAIMERS: Final = 6
CLAIMS_BETWEEN: Final = 40
KEYS_AT_ONCE: Final = 7
REPEATED: Final = 0.3
"""How often something is said once more that was answered."""
FALLBACK: Final = "F"
SETTINGS: Final = {
    "server_name": SERVER, "log_level": "error", "limit_requests_account": "off", "limit_logins_device": "off",
    **UNBOUNDED,
}  # fmt: skip


@pytest.mark.slow
async def test_no_key_is_handed_out_twice_over_twenty_kills(tmp_path: Path) -> None:
    """I1, I2: whatever was answered stays so, and the same key is in no other answer; but for the fallback key."""
    rng, port, data = random.Random(seed()), free_port(), tmp_path / "data"
    async with AsyncExitStack() as stack, asyncio.timeout(3 * WAIT_S):

        async def start() -> EngineProcess:
            return await stack.enter_async_context(engine(data, SETTINGS, port=port))

        started = await start()
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=started.url, trust_env=False))
        crowd = await Crowd.come(Engine(cast(Any, None), Clock(), http), rng)
        async with asyncio.TaskGroup() as tasks:
            at_work = [tasks.create_task(each) for each in crowd.at_work()]
            for number in range(1, KILLS + 1):
                # At once after the start now and then; else somewhere in the midst.
                if rng.random() > 0.2:
                    await crowd.more(rng.randint(1, CLAIMS_BETWEEN))
                await asyncio.sleep(rng.uniform(0.0, 0.05))  # the moment of the kill
                crowd.up.clear()
                started.process.kill()
                await started.process.wait()
                print(f"kill {number} of {KILLS}: {len(crowd.answers)} claims answered so far", flush=True)
                started = await start()
                crowd.up.set()
            await crowd.more(CLAIMS_BETWEEN)
            for each in at_work:
                each.cancel()
        await crowd.check_repeated()
    await check(data, crowd)


class Answer(NamedTuple):
    by: Person
    key: str
    """Its id."""


class Crowd:
    """A device that publishes keys, and others that claim them; each says what it says until it is answered."""

    def __init__(self, owner: Person, claimers: list[Person], rng: random.Random) -> None:
        self.owner = owner
        self.answers: dict[str, Answer] = {}
        """By the claim's id."""
        self.up = asyncio.Event()
        self.up.set()
        self._claimers = claimers
        self._rng = rng
        self._news = asyncio.Event()
        self._published = 0

    @classmethod
    async def come(cls, engine: Engine, rng: random.Random) -> "Crowd":
        people = [Person(engine, f"p{number}", "laptop", SigningKey.generate()) for number in range(CLAIMERS + 1)]
        for person in people:
            await person.register()
            await person.log_in()
        owner, *claimers = people
        first = {"device_keys": device_keys(owner), "fallback_keys": fallback_key(owner, FALLBACK)}
        await owner.do("POST", "/keys/upload", first)
        return cls(owner, claimers, rng)

    def at_work(self) -> list[Coroutine[Any, Any, None]]:
        return [self._publish(), *(self._claim(person) for person in self._claimers)]

    async def more(self, count: int) -> None:
        """Returns when so many more claims are answered."""
        wanted = len(self.answers) + count
        while len(self.answers) < wanted:
            await self._heard()

    async def check_repeated(self) -> None:
        """Said again after all the kills, claims have the answers that they had."""
        for id_ in self._rng.sample(sorted(self.answers), min(len(self.answers), 100)):
            by, key = self.answers[id_]
            assert await self._claimed(by, id_) == key

    async def _publish(self) -> None:
        """A few keys at a time, with some that were uploaded before; while enough of them wait, none."""
        while True:
            numbers = [*range(self._published, self._published + KEYS_AT_ONCE)]
            if self._rng.random() < REPEATED:
                numbers += self._rng.sample(range(self._published), min(self._published, 3))
            body = {
                "one_time_keys": one_time_keys(self.owner, *(f"K{number}" for number in numbers)),
                "fallback_keys": fallback_key(self.owner, FALLBACK),
            }
            await self._answered(self.owner, "/keys/upload", body)
            self._published += KEYS_AT_ONCE
            while self._published > len(self.answers) + 2 * KEYS_AT_ONCE:
                await self._heard()

    async def _claim(self, person: Person) -> None:
        said: list[str] = []
        while True:
            again = bool(said) and self._rng.random() < REPEATED
            id_ = self._rng.choice(said) if again else str(uuid4())
            key = await self._claimed(person, id_)
            assert self.answers.setdefault(id_, Answer(person, key)).key == key, "the same claim has another answer"
            said.append(id_)
            self._news.set()

    async def _claimed(self, by: Person, id_: str) -> str:
        wanted = {user(self.owner): {self.owner.device: SIGNED_CURVE25519}}
        answer = await self._answered(by, "/keys/claim", {"one_time_keys": wanted, "id": id_})
        [name] = answer["one_time_keys"][user(self.owner)][self.owner.device]
        return str(name).removeprefix(f"{SIGNED_CURVE25519}:")

    async def _answered(self, person: Person, path: str, body: Any) -> Any:
        """Said again while the engine is away, and with another token once it is back, until it is answered."""
        while True:
            try:
                response = await person.ask("POST", path, body)
                if response.status_code == 200:
                    return response.json()
                assert response.json()["code"] in ("not_authenticated", "unavailable"), response.text
                await person.log_in()
            except httpx.TransportError:
                await self.up.wait()

    async def _heard(self) -> None:
        self._news.clear()
        await self._news.wait()


async def check(data: Path, crowd: Crowd) -> None:
    """Against what stands in the log."""
    owner = crowd.owner
    log, claims = open_events(data), dict[str, OneTimeKeyClaimed]()
    try:
        version = -1
        while page := await log.read_stream(account_stream(AccountId(owner.account)), after=version, limit=500):
            version = page[-1].version
            for entry in (CODEC.decode(recorded).entry for recorded in page):
                if isinstance(entry.e, OneTimeKeyClaimed):
                    assert claims.setdefault(entry.cmd, entry.e) is entry.e, "a claim was decided twice"
    finally:
        await log.close()
    handed_out = [claimed.id for claimed in claims.values() if not claimed.fallback]
    assert len(handed_out) == len(set(handed_out)), "a key is in two events"
    answered = [answer.key for answer in crowd.answers.values() if answer.key != FALLBACK]
    assert len(answered) == len(set(answered)), "a key is in two answers"
    for id_, answer in crowd.answers.items():
        assert claims[str(uuid5(UUID(id_), f"{owner.account}\n{owner.device}"))].id == answer.key
    print(f"{len(crowd.answers)} claims answered; {len(answered)} of {len(handed_out)} one-time keys have arrived")
    assert len(answered) > KILLS
