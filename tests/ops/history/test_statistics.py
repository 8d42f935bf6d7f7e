"""`signet statistics`: of a log that was there before the read model, the whole history."""

import asyncio
import json
from pathlib import Path

import pytest

from domain.conversation import ConversationStarted
from domain.ids import conversation_stream
from ops.errors import OpsError
from ops.history.statistics import statistics
from projections.statistics import DAY_US, Statistics
from tests.ops.chronicle import ANNA, BEN, TALK, Chronicle, message
from tests.ops.history.test_listing import engine


async def write(data: Path) -> None:
    chronicle = Chronicle(data)
    await chronicle.register(ANNA, "Anna")
    await chronicle.register(BEN, "[b]Ben")
    members = {ANNA: "owner", BEN: "member"}
    start = ConversationStarted(by=ANNA, kind="group", protection="none", members=members, members_max=9)  # type: ignore[arg-type]
    await chronicle.record(conversation_stream(TALK), start)
    body = chronicle.seal("text")
    await chronicle.record(conversation_stream(TALK), message(body), occ=0)
    await chronicle.record(
        conversation_stream(TALK),
        message(body, by=BEN, header='{"b":2}'),
        message(body, by=BEN, header='{"b":2}'),
        occ=DAY_US,
    )
    await chronicle.close()


async def serve(data: Path) -> None:
    async with engine(data):
        pass


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An engine has run on the log before it knew this read model, and runs again since."""
    asyncio.run(write(tmp_path))
    asyncio.run(serve(tmp_path))
    Statistics.file_in(tmp_path / "readmodels").unlink()
    asyncio.run(serve(tmp_path))
    return tmp_path


def test_json_has_days_and_answers(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statistics("cccccccc", data, json=True)
    assert json.loads(capsys.readouterr().out) == {
        "conversation": TALK,
        "days": [
            {"day": "1970-01-01", "account": ANNA, "name": "Anna", "messages": 1},
            {"day": "1970-01-02", "account": BEN, "name": "[b]Ben", "messages": 2},
        ],
        "answers": [{"account": BEN, "name": "[b]Ben", "answers": ANNA, "answers_name": "Anna", "times": 2}],
    }


def test_tables_for_people(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    statistics(TALK, data)
    rows = [
        [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
        for line in capsys.readouterr().out.splitlines()
        if line[0] in "│┃"
    ]
    assert rows == [
        ["day", "[b]Ben", "Anna", "others", "all"],
        ["1970-01-01", "0", "1", "0", "1"],
        ["1970-01-02", "2", "0", "0", "2"],
        ["who answers", "whom", "times"],
        ["[b]Ben", "Anna", "2"],
    ]


@pytest.mark.parametrize(("wanted", "says"), [("dddd", "signet conversations"), ("Us", "is no id")])
def test_what_names_no_conversation_is_refused(data: Path, wanted: str, says: str) -> None:
    with pytest.raises(OpsError, match=says):
        statistics(wanted, data)
