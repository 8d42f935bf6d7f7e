"""Two people on one machine, each in a real terminal (a pty), with a real engine."""

import asyncio
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ops.engine import engine
from tests.client.media.samples import picture, saved

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30


class Terminal:
    """A chat in a terminal of its own, and all that it has shown."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self._master = master
        self._shown = ""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def shown(self) -> str:
        """Without colours."""
        return re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", self._shown)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self._shown += data.decode(errors="replace")
        self._more.set()

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    async def shows(self, text: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while text not in self.shown:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pytest.fail(f"{text!r} was never shown, but:\n{self.shown}")

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        os.close(self._master)


@asynccontextmanager
async def terminal(data: Path, *arguments: str) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "ops.cli", "chat", *arguments, "--data", str(data),
        cwd=ROOT, stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    chat = Terminal(process, master)
    try:
        yield chat
    finally:
        await chat.close()


async def test_two_terminals_hold_a_conversation_and_one_that_was_killed_shows_everything_once(tmp_path: Path) -> None:
    """I4: what was missed is there after a hard kill, once and in order."""
    async with engine(tmp_path), terminal(tmp_path, "ann") as ann:
        await ann.shows("/help lists what can be typed")
        async with terminal(tmp_path, "ben", "--to", "ann") as ben:
            await ben.shows("— ann —")
            ben.type("hello Ann \x07")
            await ann.shows("ben: hello Ann")
            await ben.shows("✓✓ read #2")
            ann.type("hello Ben")
            await ben.shows("ann: hello Ben")
            assert "\x07" not in ann.shown.replace("^G", "")
            ben.process.kill()
            await ben.process.wait()
        ann.type("are you there?")
        ann.type("Ben?")
        await ann.shows("you: Ben?")
        async with terminal(tmp_path, "ben") as ben:
            await ben.shows("ann: Ben?")
            said = re.findall(r"#(\d+) (\w+): ", ben.shown)
            assert said == [("2", "you"), ("3", "ann"), ("4", "ann"), ("5", "ann")]
            await ann.shows("✓✓ read #5")
            ben.type("/quit")
            assert await asyncio.wait_for(ben.process.wait(), PATIENCE_S) == 0


async def test_pictures_and_files_go_from_one_terminal_to_the_other(tmp_path: Path) -> None:
    (tmp_path / "my lake.png").write_bytes(saved(picture(side=160), "PNG"))
    (tmp_path / "film.bin").write_bytes(os.urandom(3_000_000))
    data = tmp_path / "data"
    async with engine(data), terminal(data, "ann") as ann, terminal(data, "ben") as ben:
        await ann.shows("no conversation yet")
        await ben.shows("no conversation yet")
        ann.type("/file x")
        await ann.shows("to whom?")
        ann.type("/to ben")
        await ann.shows("— ben —")
        ann.type(f'/file "{tmp_path}/my lake.png" at the lake')
        await ben.shows("ann: [image my lake.png ")
        await ben.shows("160×120] at the lake")
        ben.type("/look 2")
        await ben.shows("▀" * 70)
        ben.type(f"/save 2 {tmp_path}/got.png")
        await ben.shows(f"saved {tmp_path}/got.png")
        assert (tmp_path / "got.png").read_bytes() == (tmp_path / "my lake.png").read_bytes()
        ann.type(f"/as-is {tmp_path}/film.bin")
        await ann.shows("100 %")
        await ben.shows("ann: [file film.bin 3.0 MB]")
        ben.type("/look 3")
        await ben.shows("there is no preview of it; /save 3 saves it")
        ben.type(f"/save 3 {tmp_path}")
        await ben.shows(f"saved {tmp_path}/film (1).bin")
        assert (tmp_path / "film (1).bin").read_bytes() == (tmp_path / "film.bin").read_bytes()
        ben.type("/save 1")
        await ben.shows("message #1 shows no file")
        for odd in ("/look ²", f"/look {10**30}", "/save 2 ~nosuch/x", "/file ~nosuch/x"):
            ben.type(odd)
        await ben.shows("which one?")
        ben.type(f"/look {10**14}")
        await ben.shows(f"message #{10**14} shows no file")
        ann.type(f"/file {tmp_path}/missing.jpg")
        await ann.shows("missing.jpg")
        (tmp_path / "cut.jpg").write_bytes(saved(picture(), "JPEG")[:500])
        ann.type(f"/file {tmp_path}/cut.jpg")
        await ann.shows("send it as a file, as it is")


async def test_groups_lists_and_wrong_commands(tmp_path: Path) -> None:
    async with engine(tmp_path), terminal(tmp_path, "ann") as ann, terminal(tmp_path, "ben") as ben:
        for each in (ann, ben):
            await each.shows("no conversation yet")
        ann.type("to nobody")
        await ann.shows("to whom?")
        ann.type("/dance")
        await ann.shows("there is no /dance")
        ann.type("/to zoe")
        await ann.shows("there is no 'zoe' here; known are ann, ben")
        ann.type('/group "Two of us" ben')
        await ben.shows("#1 ann started the conversation")
        ann.type("welcome")
        await ben.shows("ann: welcome")
        await ann.shows("✓✓ read #2")
        ann.type("/retract 2")
        await ben.shows("ann took #2 back")
        ben.type("/list")
        await ben.shows("1 Two of us")
        ben.type("/open 1")
        await ben.shows("ann: (retracted)")
        ben.type("/leave")
        await ann.shows("ben left")


async def test_one_name_chats_in_one_terminal(tmp_path: Path) -> None:
    async with engine(tmp_path), terminal(tmp_path, "ann") as ann:
        await ann.shows("no conversation yet")
        async with terminal(tmp_path, "ann") as again:
            await again.shows("ann chats in another terminal already")
            assert await asyncio.wait_for(again.process.wait(), PATIENCE_S) == 1


async def test_without_an_engine_it_says_how_to_start_one(tmp_path: Path) -> None:
    async with terminal(tmp_path, "ann") as ann:
        await ann.shows("./signet up")
        assert await asyncio.wait_for(ann.process.wait(), PATIENCE_S) == 1


async def test_a_chat_finds_its_engine_again_where_it_is_now(tmp_path: Path) -> None:
    async with engine(tmp_path), terminal(tmp_path, "ann") as ann, terminal(tmp_path, "ben") as ben:
        await ben.shows("no conversation yet")
        await ann.shows("no conversation yet")
        ann.type("/to ben")
        await ann.shows("— ben —")
        ann.type("one")
        await ben.shows("ann: one")
        ann.type("/quit")
        assert await asyncio.wait_for(ann.process.wait(), PATIENCE_S) == 0
    async with engine(tmp_path), terminal(tmp_path, "ann") as ann:  # on another port
        await ann.shows("you: one")
        ann.type("two")
        await ann.shows("you: two")


async def test_opening_a_conversation_while_its_messages_come_shows_them_once(tmp_path: Path) -> None:
    """I4: what the history shows, an event that comes late does not show again."""
    async with engine(tmp_path), terminal(tmp_path, "ann") as ann:
        await ann.shows("no conversation yet")
        async with terminal(tmp_path, "ben", "--to", "ann") as ben:
            await ben.shows("— ann —")
            ben.type("/quit")
            await asyncio.wait_for(ben.process.wait(), PATIENCE_S)
        await ann.shows("#1 ben started the conversation")
        ann.type("/to ben")
        await ann.shows("— ben —")
        for number in range(10):
            ann.type(f"line {number}")
        await ann.shows("you: line 9")
        async with terminal(tmp_path, "ben", "--to", "ann") as ben:
            await ben.shows("ann: line 9")
            await ann.shows("✓✓ read #11")
            ben.type("/address")
            await ben.shows("your address is")
            assert re.findall(r"ann: line (\d)", ben.shown) == [str(number) for number in range(10)]


async def test_lines_from_a_pipe(tmp_path: Path) -> None:
    async with engine(tmp_path), terminal(tmp_path, "ann") as ann:
        await ann.shows("no conversation yet")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "ops.cli", "chat", "ben", "--to", "ann", "--data", str(tmp_path),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello\nwithout an end of line")
        await process.stdin.drain()
        await ann.shows("ben: hello")
        process.stdin.close()
        await ann.shows("ben: without an end of line")
        said = await asyncio.wait_for(process.stdout.read(), PATIENCE_S)
        assert "\x1b" not in said.decode()
        assert await process.wait() == 0
