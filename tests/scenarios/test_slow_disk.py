"""A disk that takes 50 ms for an fsync: whoever sends waits for it, and nobody else."""

import random
import threading
import time
from pathlib import Path
from statistics import median
from typing import Final

import pytest
from websockets.asyncio.client import connect

from commands.stores.sqlite import SqliteLog, open_sqlite
from domain.log import EventLog
from tests.scenarios.audit import check_delivered, check_stored_once, settled
from tests.scenarios.crowd import Crowd
from tests.scenarios.stage import Place, people, seed

FSYNC_S: Final = 0.05
PINGS: Final = 25
"""On one connection: somebody who has not logged in may send 32."""
COMMITS: Final = 40


class SlowDisk(Place):
    """A server whose commits take 50 ms from `slow_down` on."""

    def __init__(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(data, in_memory=False)
        data.mkdir()
        self.store: SqliteLog = open_sqlite(f"sqlite://{data}/log.db")
        self.commit_threads: list[int] = []
        self._commit = self.store.recorder.commit
        self._monkeypatch = monkeypatch

    def log(self) -> EventLog:
        return self.store

    def slow_down(self) -> None:
        self._monkeypatch.setattr(self.store.recorder, "commit", self._slow_commit)

    def _slow_commit(self) -> None:
        self.commit_threads.append(threading.get_ident())
        time.sleep(FSYNC_S)  # the disk, which blocks whichever thread waits for it
        self._commit()


async def ping_times(url: str) -> list[float]:
    """The round trips of a connection of its own, in seconds."""
    times = []
    async with connect(url.replace("http", "ws") + "/v1/live", subprotocols=["signet.v1.json"]) as ws:  # type: ignore[list-item]
        for _ in range(PINGS):
            begin = time.perf_counter()
            await (await ws.ping())
            times.append(time.perf_counter() - begin)
    return times


async def test_other_sockets_go_on_while_a_commit_takes_50_ms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11, I1: and what gathers meanwhile goes into the next commit."""
    place = SlowDisk(tmp_path / "data", monkeypatch)
    names = [f"p{number}" for number in range(8)]
    async with place.engine() as node, people(place.url, tmp_path / "people", *names) as clients:
        crowd = Crowd(clients, random.Random(seed()))
        # What people say together decides how much one commit holds; keys that are shared first would thin it out.
        await crowd.meet((8,), protection="none")
        place.slow_down()
        async with crowd.talking():
            await crowd.more(16)
            commits, accepted = len(place.commit_threads), crowd.accepted
            times: list[float] = []
            while len(place.commit_threads) < commits + COMMITS:
                times += await ping_times(place.url)
            commits, accepted = len(place.commit_threads) - commits, crowd.accepted - accepted
        assert median(times) < 0.02
        assert sum(each > 0.8 * FSYNC_S for each in times) < len(times) / 3  # all, where it is held up
        # The first few were enough to tell.
        assert place.commit_threads.count(threading.get_ident()) <= 3
        assert accepted > 2 * commits
        ledger = await settled(place.store, clients)
        check_stored_once(ledger, crowd.said, node.services.sealer.unseal)
        check_delivered(ledger, clients, crowd.said)
    await place.store.close()
