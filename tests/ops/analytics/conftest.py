"""Both places of ClickHouse: embedded, and a server."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ops.analytics.place import connect
from ops.settings import Settings
from tests.clickhouse import new_database
from tests.corpus import DAYS
from tests.ops.analytics.loads import load, log_of
from tests.ops.imports import import_files

PLACES = ("embedded", "server")


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Settings]:
    if kind == "server":
        with new_database() as url:
            yield Settings(data=folder, analytics=url)
        return
    settings = Settings(data=folder)
    # It stays open meanwhile: to open it takes longer than most tests.
    with closing(connect(settings, "reader")):
        yield settings


@pytest.fixture(params=PLACES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Of a server without a log yet."""
    with place(request.param, tmp_path) as settings:
        yield settings


@pytest.fixture(scope="session", params=PLACES)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The sample days, imported and loaded. Nobody writes."""
    folder = tmp_path_factory.mktemp("sample")
    asyncio.run(import_files(Settings(data=folder), *DAYS))
    with place(request.param, folder) as settings:
        asyncio.run(_load(settings))
        yield settings


async def _load(settings: Settings) -> None:
    async with log_of(settings) as log:
        await load(settings, log)
