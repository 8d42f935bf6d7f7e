"""`signet replay`: the exact lines of a history, the same from each store."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from commands.stores import open_log
from domain.account import ProfileChanged
from domain.codec import CODEC
from domain.conversation import ConversationStarted, MemberLeft, MessageRetracted, TitleSet
from domain.entry import Sealed
from domain.ids import ConversationId, account_stream, conversation_stream, receipts_stream
from domain.log import Append, Appended, NewEvent, RecordedEvent
from domain.receipts import Receipt, ReceiptsAdvanced
from ops.errors import OpsError
from ops.history.replay import replay
from tests.kurrentdb.double import empty_kurrentdb_url
from tests.ops.chronicle import ANNA, BEN, PHONE, TALK, Chronicle, message
from tests.postgres import shared

SERVERS: dict[str, Callable[[], str]] = {
    "postgres": lambda: shared(18).url(shared(18).new_database()),
    "kurrentdb": empty_kurrentdb_url,
}
SECOND = 1_000_000
OTHER = ConversationId("cccccccc-1111-4000-8000-000000000000")
LONG_AGO_US = 1_100_000_000_000_000
"""2004-11-09 11:33:20 UTC"""


async def write_history(data: Path) -> None:
    chronicle = Chronicle(data)
    await chronicle.register(ANNA, "Anna")
    await chronicle.register(BEN, "Ben")
    start = ConversationStarted(
        by=ANNA, kind="group", protection="none", members={ANNA: "owner", BEN: "member"}, members_max=9
    )
    await chronicle.record(conversation_stream(TALK), start)
    chronicle.now += SECOND
    body = chronicle.seal(json.dumps({"kind": "text", "text": "old"}))
    await chronicle.record(conversation_stream(TALK), message(body), occ=LONG_AGO_US)
    # At one and the same microsecond, and the receipts first: the conversation comes first all the same.
    chronicle.now += SECOND
    receipt = Receipt(account=BEN, device=PHONE, delivered=2, read=1, undecryptable=[2], repaired=[2])
    await chronicle.record(receipts_stream(TALK), ReceiptsAdvanced(receipts=[receipt]))
    await chronicle.say("new\nline")
    chronicle.now += SECOND
    await chronicle.record(account_stream(ANNA), ProfileChanged(name=chronicle.seal("Annie")))
    chronicle.now += SECOND
    lost = Sealed(key="destroyed", box=body.box)
    await chronicle.record(
        conversation_stream(TALK),
        message(lost),
        MessageRetracted(by=ANNA, target=2, author=ANNA),
        TitleSet(by=ANNA, title=lost),
        MemberLeft(by=BEN),
    )
    await chronicle.record(conversation_stream(OTHER), start)
    await chronicle.close()


def replayed(capsys: pytest.CaptureFixture[str], data: Path, subject: str = TALK, **options: Any) -> list[str]:
    capsys.readouterr()
    replay(subject, data, **{"from_": None, "to": None, "json": False, **options})
    return capsys.readouterr().out.splitlines()


A, B = f"({ANNA})", f"({BEN})"
CONVERSATION, RECEIPTS = conversation_stream(TALK), receipts_stream(TALK)
DAY = "2026-05-28T20:26"
NOT_CLAIMED = "-" + " " * 26
LINES = [
    f"       5  {DAY}:40.123456Z  {NOT_CLAIMED}       1  {CONVERSATION}  "
    f"Anna {A} starts a group conversation with Anna {A}, Ben {B}",
    f"       6  {DAY}:41.123456Z  2004-11-09T11:33:20.000000Z       2  {CONVERSATION}  Anna {A}: old",
    f"       8  {DAY}:42.123456Z  {NOT_CLAIMED}       3  {CONVERSATION}  Anna {A}: new line",
    f"       7  {DAY}:42.123456Z  {NOT_CLAIMED}       -  {RECEIPTS}  "
    f"Ben {B} has 2, read 1, could not decrypt [2], has repaired [2]",
    f"      10  {DAY}:44.123456Z  {NOT_CLAIMED}       4  {CONVERSATION}  Annie {A}: (key_missing)",
    f"      11  {DAY}:44.123456Z  {NOT_CLAIMED}       5  {CONVERSATION}  Annie {A} retracts message 2",
    f"      12  {DAY}:44.123456Z  {NOT_CLAIMED}       6  {CONVERSATION}  Annie {A} calls it '(key_missing)'",
    f"      13  {DAY}:44.123456Z  {NOT_CLAIMED}       7  {CONVERSATION}  Ben {B} leaves",
]


def test_a_conversation_is_told_line_by_line_with_the_names_of_the_moment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(write_history(tmp_path))
    assert replayed(capsys, tmp_path) == LINES
    assert replayed(capsys, tmp_path, "cccccccc-0") == LINES


def test_an_account_is_told_with_all_that_it_did_and_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(write_history(tmp_path))
    words = [line.split("  ")[-1] for line in replayed(capsys, tmp_path, "bbbb")]
    assert words == [
        f"Ben {B}: registered as 'Ben'",
        f"Ben {B}: device phone linked",
        f"Anna {A} starts a group conversation with Anna {A}, Ben {B}",
        f"Ben {B} has 2, read 1, could not decrypt [2], has repaired [2]",
        f"Ben {B} leaves",
        f"Annie {A} starts a group conversation with Annie {A}, Ben {B}",
    ]


def test_json_has_all_facts_with_the_texts_unsealed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(write_history(tmp_path))
    events = [json.loads(line) for line in replayed(capsys, tmp_path, json=True)]
    assert len({tuple(event) for event in events}) == 1
    old, lost = events[1], events[4]
    assert (old["position"], old["seq"], old["who"], old["name"]) == (6, 2, ANNA, "Anna")
    assert (old["recorded_at"], old["occurred_at"]) == (f"{DAY}:41.123456Z", "2004-11-09T11:33:20.000000Z")
    assert json.loads(old["facts"]["body"]["text"])["text"] == "old"
    assert old["facts"]["header"] == "{}"
    assert lost["facts"]["body"] == {"key": "destroyed", "unreadable": "key_missing"}
    assert lost["name"] == "Annie"
    assert events[3]["facts"]["receipts"][0] == {
        "account": BEN, "device": "phone", "delivered": 2, "read": 1, "undecryptable": [2], "repaired": [2],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("span", "told"),
    [
        ({"from_": "2026-05-28"}, [0, 2, 3, 4, 5, 6, 7]),
        ({"to": "2026-05-28"}, [1]),
        ({"from_": f"{DAY}:42.123456", "to": "2026-05-28T22:26:44.123456+02:00"}, [2, 3]),
        ({"from_": "2004-11-09T11:33:20Z", "to": "2004-11-09T11:33:20Z"}, []),
    ],
)
def test_a_span_goes_by_the_time_of_occurrence_and_leaves_out_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], span: dict[str, str], told: list[int]
) -> None:
    asyncio.run(write_history(tmp_path))
    assert replayed(capsys, tmp_path, **span) == [LINES[number] for number in told]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ("cccccccc", "more than one id.*conversation-cccccccc-0.*conversation-cccccccc-1"),
        ("ccc", "at least 4 characters"),
        ("Anna's", "is no id"),
        ("dddddddd", "signet conversations.*signet accounts"),
        ("dddddddd-0000-4000-8000-000000000000", "signet conversations.*signet accounts"),
    ],
)
def test_what_names_no_history_is_refused_with_a_remedy(tmp_path: Path, wanted: str, says: str) -> None:
    asyncio.run(write_history(tmp_path))
    with pytest.raises(OpsError, match=says):
        replay(wanted, tmp_path)


def test_a_span_that_is_no_time_is_refused(tmp_path: Path) -> None:
    asyncio.run(write_history(tmp_path))
    with pytest.raises(OpsError, match="--from 'yesterday' is no day or time; write 2026-05-28"):
        replay(TALK, tmp_path, from_="yesterday")


def test_without_a_log_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"there is no log in .* yet; start an engine"):
        replay(TALK, tmp_path)


async def written(data: Path) -> list[RecordedEvent]:
    await write_history(data)
    log = open_log(f"sqlite:///{data / 'log.db'}", read_only=True)
    try:
        return await log.read_all(limit=1_000)
    finally:
        await log.close()


async def copy(events: list[RecordedEvent], url: str, ids: dict[str, str]) -> None:
    """Appends them to another log; `ids` by those that they replace."""
    log = open_log(url)
    try:
        for recorded in events:
            stream, data = _with(ids, recorded.stream), _with(ids, recorded.data.decode()).encode()
            entry = CODEC.decode_entry(recorded.topic, data)
            new = NewEvent(id=entry.id, topic=recorded.topic, data=data, cause=entry.cmd)
            [outcome] = await log.append([Append(stream=stream, expected=recorded.version - 1, events=[new])])
            assert isinstance(outcome, Appended)
    finally:
        await log.close()


def _with(ids: dict[str, str], text: str) -> str:
    for old, new in ids.items():
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("server", SERVERS)
def test_each_store_gives_the_same_bytes_but_for_the_positions(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the order between the streams is another one."""
    events = asyncio.run(written(tmp_path))
    # Ids of this test alone, since tests share a KurrentDB; in the same order.
    ids: dict[str, str] = {old: old[:13] + str(uuid4())[13:] for old in (ANNA, BEN, TALK, OTHER)}
    url = SERVERS[server]()
    asyncio.run(copy(sorted(events, key=lambda each: (each.stream, each.version)), url, ids))
    for subject in (TALK, ANNA, BEN):
        for as_json in (False, True):
            monkeypatch.delenv("SIGNET_EVENTS", raising=False)
            here = replayed(capsys, tmp_path, subject, json=as_json)
            assert replayed(capsys, tmp_path, subject, json=as_json) == here
            monkeypatch.setenv("SIGNET_EVENTS", url)
            there = replayed(capsys, tmp_path, ids[subject], json=as_json)
            assert replayed(capsys, tmp_path, ids[subject], json=as_json) == there
            assert [_positionless(line) for line in there] == [_positionless(_with(ids, line)) for line in here]


def _positionless(line: str) -> str:
    return line.split(",", 1)[1] if line.startswith("{") else line.split(maxsplit=1)[1]


def test_it_reads_beside_whoever_writes_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def write_and_read() -> None:
        chronicle = Chronicle(tmp_path)
        await chronicle.register(ANNA, "Anna")
        # More than a page of a stream.
        for number in range(3):
            await chronicle.say(*(str(number) for _ in range(400)))
            lines = await asyncio.to_thread(replayed, capsys, tmp_path)
            assert len(lines) == 400 * (number + 1)
            assert lines[-1].endswith(f"Anna {A}: {number}")
        await chronicle.close()

    asyncio.run(write_and_read())


def test_an_account_that_the_log_does_not_know_is_called_by_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write() -> None:
        chronicle = Chronicle(tmp_path)
        await chronicle.record(conversation_stream(TALK), MemberLeft(by=BEN))
        await chronicle.close()

    asyncio.run(write())
    assert replayed(capsys, tmp_path)[0].endswith(f"{CONVERSATION}  {BEN} leaves")
