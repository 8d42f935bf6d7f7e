"""I12: what people say and what things are called stands in no file of the server, nor in what it logs."""

import base64
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from signet_client import Client
from tests.scenarios.stage import Place, hold, register, running, texts

NAME: Final = "Ottilie Zwetschgenbaum"
RENAMED: Final = "Ottilie Mirabellenhain"
TITLE: Final = "The heron's reed bed"
RETITLED: Final = "The bittern's hiding place"
SAID: Final = "meet me at the weir before the fog lifts"
TAKEN_BACK: Final = "I never liked the ferryman's brother"
PHRASES: Final = (NAME, RENAMED, TITLE, RETITLED, SAID, TAKEN_BACK)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", in_memory=False)


async def test_no_file_of_the_server_and_no_log_has_a_plain_text(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While it runs, write-ahead logs included, and after a stop and a new start, which makes read models anew."""
    caplog.set_level(logging.DEBUG)
    async with place.engine():
        anna, ben = await register(place.url, NAME, tmp_path), await register(place.url, "ben", tmp_path)
        async with running(anna, ben):
            group = await talk(anna, ben)
            assert_sealed(place.data, tmp_path)
            assert [path for path in place.data.rglob("*-wal") if path.stat().st_size]
    assert_sealed(place.data, tmp_path)
    for file in (place.data / "readmodels").iterdir():
        file.unlink()
    async with place.engine():
        async with running(anna := Client.open(tmp_path / f"{NAME}.db"), ben := Client.open(tmp_path / "ben.db")):
            assert texts(anna, group) == texts(ben, group) == [SAID, None]
            assert await ben.overviews()
        assert_sealed(place.data, tmp_path)
    assert not [phrase for phrase in PHRASES if phrase in caplog.text]


async def talk(anna: Client, ben: Client) -> str:
    """Every text that a person may enter; the group."""
    group = await anna.start_group([ben.account], title=TITLE)
    said = await anna.send(group, SAID)
    slip = await anna.send(group, TAKEN_BACK)
    await hold([ben], group, slip.seq)
    ben.read(group, said.seq)
    await anna.retract(group, slip.seq)
    await anna.set_title(group, RETITLED)
    await anna.rename(RENAMED)
    await hold([anna, ben], group, slip.seq + 2)
    assert await ben.name(anna.account) == RENAMED
    assert (await ben.overviews())[0].title == RETITLED
    return group


def assert_sealed(data: Path, clients: Path) -> None:
    """Nothing that is said, and no client's secret key, is anywhere in the folder."""
    stored = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert {"log.db", "keyring.db"} <= {path.name for path in stored}
    # What is looked for would be found: who is in a conversation stands in the log as it is.
    assert any(b"ConversationStarted" in content for content in stored.values())
    secrets = [path.read_bytes() for path in clients.glob("*.key")]
    assert len(secrets) == 2
    looked_for = [*(phrase.encode() for phrase in PHRASES), *secrets]
    found = [
        (path.name, plain)
        for path, content in stored.items()
        for plain in looked_for
        for form in forms(plain)
        if form in content
    ]
    assert found == []


def forms(plain: bytes) -> Iterator[bytes]:
    """The ways in which the bytes may stand in a file without being sealed."""
    yield plain
    yield plain.hex().encode()
    for shift in range(3):
        # Base64 of what the bytes stand in the middle of, without the characters that have bits of their neighbours.
        yield base64.b64encode(bytes(shift) + plain)[4 * (shift > 0) : -4]
        yield base64.urlsafe_b64encode(bytes(shift) + plain)[4 * (shift > 0) : -4]
