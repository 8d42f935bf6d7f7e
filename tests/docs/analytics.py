"""The answers in docs/analytics.md: `python -m tests.docs.analytics` writes them anew."""

import asyncio
import re
import shlex
import tempfile
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console

from ops.analytics.asking import given, table_of
from ops.analytics.names import Names, with_names
from ops.analytics.place import connect
from ops.analytics.questions import QUESTIONS
from ops.settings import Settings
from tests.corpus import DAYS
from tests.ops.analytics.loads import load, log_of
from tests.ops.imports import import_files

PAGE: Final = Path(__file__).parents[2] / "docs/analytics.md"
_WIDTH: Final = 130
_BLOCK: Final = re.compile(r"(?<=^```\n)\$ \./signet analytics (query|sql) (.*)\n(?:.*\n)*?(?=^```$)", re.MULTILINE)


def answered(page: str, settings: Settings) -> str:
    """The page, with the answers of the sample days, which these settings have loaded."""
    return _BLOCK.sub(lambda block: f"{block[0].splitlines()[0]}\n{_answer(settings, block[1], block[2])}", page)


def _answer(settings: Settings, verb: str, arguments: str) -> str:
    words = shlex.split(arguments)
    named = "--names" in words
    name, *parameters = [word for word in words if word != "--names"]
    with closing(connect(settings, "reader")) as warehouse:
        if verb == "sql":
            answer = warehouse.ask(name)
        else:
            answer = warehouse.select(QUESTIONS[name].sql, QUESTIONS[name].values(given(parameters)))
    if named:
        with Names.opened(settings) as names:
            answer = with_names(answer, names)
    out = StringIO()
    Console(file=out, width=_WIDTH).print(table_of(answer, short_ids=named))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


async def _load(settings: Settings) -> None:
    await import_files(settings, *DAYS)
    async with log_of(settings) as log:
        await load(settings, log)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sample = Settings(data=Path(folder))
        asyncio.run(_load(sample))
        PAGE.write_text(answered(PAGE.read_text(), sample))
