"""`signet tail`: every event in words, beside whoever writes the log."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest

from domain.account import DeviceLinked, DeviceRevoked, ProfileChanged
from domain.conversation import (
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    RoleChanged,
    TitleSet,
)
from domain.entry import Sealed
from domain.ids import ConversationId, DeviceId, account_stream, conversation_stream, receipts_stream
from domain.keys import DeviceKeysPublished, FallbackKeyPublished, OneTimeKeyClaimed, OneTimeKeysPublished
from domain.receipts import Receipt, ReceiptsAdvanced
from ops.errors import OpsError
from ops.settings import HOME
from ops.tail import tail
from tests.kurrentdb.double import kurrentdb_url
from tests.ops.chronicle import ANNA, BEN, PHONE, TALK, Chronicle, message
from tests.postgres import shared

SERVERS: dict[str, Callable[[], str]] = {
    "postgres": lambda: shared(18).url(shared(18).new_database()),
    "kurrentdb": kurrentdb_url,
}


def shown(capsys: pytest.CaptureFixture[str], data: Path, **options: Any) -> list[str]:
    capsys.readouterr()
    tail(data, **{"lines": 1_000, "follow": False, "json": False, **options})
    return capsys.readouterr().out.splitlines()


def words(lines: Sequence[str]) -> list[str]:
    """What stands behind position, day, time, category, stream and version."""
    return [line.split(maxsplit=6)[6] for line in lines]


async def write_all_kinds(data: Path) -> None:
    chronicle = Chronicle(data)
    await chronicle.register(ANNA, "Anna")
    await chronicle.record(
        account_stream(ANNA),
        DeviceLinked(device=DeviceId("tablet"), key="k", by=PHONE, signature="s"),
        DeviceRevoked(device=DeviceId("tablet"), by=PHONE),
        ProfileChanged(name=chronicle.seal("Annie")),
        DeviceKeysPublished(device=PHONE, keys="{}"),
        OneTimeKeysPublished(device=PHONE, keys={"A": "{}", "B": "{}"}, left=3),
        FallbackKeyPublished(device=PHONE, id="F", key="{}"),
        OneTimeKeyClaimed(device=PHONE, id="A", key="{}", by=BEN, by_device=DeviceId("tablet"), left=2),
        OneTimeKeyClaimed(device=PHONE, id="F", key="{}", by=ANNA, by_device=PHONE, left=0, fallback=True),
    )
    await chronicle.record(
        conversation_stream(TALK),
        ConversationStarted(
            by=ANNA, kind="group", protection="none", members={ANNA: "owner"}, members_max=9, title=chronicle.seal("Us")
        ),
        MembersAdded(by=ANNA, accounts=[BEN], visible_from=2),
        RoleChanged(by=ANNA, account=BEN, role="admin"),
        TitleSet(by=ANNA, title=chronicle.seal("All of us")),
    )
    await chronicle.say("Hello\nthere \x1b[31m")
    sealed = chronicle.seal('{"algorithm": "m.megolm.v1.aes-sha2"}')
    await chronicle.record(
        conversation_stream(TALK),
        message(sealed),
        message(chronicle.seal("no JSON")),
        message(Sealed(key="destroyed", box=sealed.box)),
        message(Sealed(key=sealed.key, box=bytes(len(sealed.box)))),
        MessageRetracted(by=ANNA, target=5, author=ANNA),
        MemberRemoved(by=ANNA, account=BEN),
        MemberLeft(by=ANNA),
    )
    read = Receipt(account=ANNA, device=PHONE, delivered=7, read=6)
    late = Receipt(account=BEN, device=PHONE, delivered=7, undecryptable=[6])
    await chronicle.record(receipts_stream(TALK), ReceiptsAdvanced(receipts=[read, late]))
    await chronicle.close()


def test_every_kind_of_event_is_told_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(write_all_kinds(tmp_path))
    lines = shown(capsys, tmp_path)
    assert words(lines) == [
        "registered as 'Anna'",
        "device phone linked",
        "device tablet linked by phone",
        "device tablet revoked by phone",
        "is now called 'Annie'",
        "device phone publishes its keys",
        "device phone publishes 2 one-time keys, and has 3",
        "device phone publishes a fallback key",
        "device phone has a one-time key (2 left) claimed by bbbbbbbb's device tablet",
        "device phone has the fallback key claimed by Annie's device phone",
        "Annie starts a group conversation 'Us' with Annie",
        "Annie adds bbbbbbbb",
        "Annie makes bbbbbbbb admin",
        "Annie calls it 'All of us'",
        "Annie: Hello there \N{REPLACEMENT CHARACTER}[31m",
        "Annie: (encrypted)",
        "Annie: no JSON",
        "Annie: (key_missing)",
        "Annie: (damaged)",
        "Annie retracts message 5",
        "Annie removes bbbbbbbb",
        "Annie leaves",
        "Annie has 7, read 6; bbbbbbbb has 7, read 0, could not decrypt [6]",
    ]
    assert lines[0].split()[:6] == ["1", "2026-05-28", "20:26:40.123", "account", "aaaaaaaa", "0"]


def test_json_leaves_sealed_what_is_sealed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """I12"""
    asyncio.run(write_all_kinds(tmp_path))
    lines = shown(capsys, tmp_path, json=True)
    events = [json.loads(line) for line in lines]
    assert [event["position"] for event in events] == list(range(1, 24))
    assert events[14]["event"] == "MessageSent"
    assert events[14]["stream"] == conversation_stream(TALK)
    assert events[14]["version"] == 4
    assert set(events[14]["entry"]["e"]["body"]) == {"key", "box"}
    assert "Hello" not in "".join(lines)


async def write_many(data: Path) -> None:
    chronicle = Chronicle(data)
    await chronicle.register(ANNA, "Anna")
    await chronicle.say(*(str(number) for number in range(1_200)))
    await chronicle.close()


@pytest.mark.parametrize("lines", [0, 1, 20, 1_200])
def test_the_last_lines_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: int) -> None:
    asyncio.run(write_many(tmp_path))
    assert words(shown(capsys, tmp_path, lines=lines)) == [f"Anna: {number}" for number in range(1_200 - lines, 1_200)]


def test_a_log_without_events_has_no_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(Chronicle(tmp_path).close())
    assert shown(capsys, tmp_path) == []


def test_without_a_log_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"there is no log in .* yet; start an engine"):
        tail(tmp_path, follow=False)


def test_a_log_or_a_keyring_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    asyncio.run(write_many(tmp_path))
    (tmp_path / "keyring.db").write_text("no keyring at all, but longer than a header")
    with pytest.raises(OpsError, match=r"the keyring .* can't be read"):
        tail(tmp_path, follow=False)
    for each in tmp_path.glob("log.db*"):
        each.unlink()
    (tmp_path / "log.db").write_text("no log at all, but longer than a header")
    with pytest.raises(OpsError, match=r"the event log .*log\.db"):
        tail(tmp_path, follow=False)


async def test_it_goes_on_as_events_are_recorded(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    await chronicle.register(ANNA, "Anna")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "ops.cli", "tail", "--data", str(tmp_path), "-n", "1",
        cwd=HOME, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output = cast(asyncio.StreamReader, process.stdout)
    try:
        async with asyncio.timeout(60):
            assert words([(await output.readline()).decode()]) == ["device phone linked\n"]
            for text in ("one", "two"):
                await chronicle.say(text)
                assert words([(await output.readline()).decode()]) == [f"Anna: {text}\n"]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await chronicle.close()


@pytest.mark.parametrize("server", SERVERS)
async def test_the_last_events_of_a_log_on_a_server(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Positions there may be anything that grows."""
    url = SERVERS[server]()
    monkeypatch.setenv("SIGNET_EVENTS", url)
    chronicle = Chronicle(tmp_path, url)
    chronicle.conversation = ConversationId(str(uuid4()))
    await chronicle.say("one", "two", "three")
    await chronicle.close()
    for lines in (1, 2, 3):
        await asyncio.to_thread(tail, data=tmp_path, lines=lines, follow=False)
        said = capsys.readouterr().out.splitlines()
        assert len(said) == lines
        assert "three" in said[-1]
