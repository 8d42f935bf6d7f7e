"""Pictures and other files from one client to another, through a real S3 server that the engine has started."""

import asyncio
import io
import os
import shutil
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
from PIL import Image

from gateways.media.objects import folder_of
from ops.child import free_port
from ops.engine import engine
from ops.node import Node
from signet_client import Attachment, Client, ClientClosed, Found, Message, Refused, SendRefused, Uploading
from signet_client.events import Event
from signet_client.media.pictures import BadFile, BadPicture
from signet_client.media.sealing import Tampered
from tests.client.media.samples import MARK, exif, gif, jpeg, picture, png, saved
from tests.ops.long_history import answer
from tests.scenarios.stage import UNBOUNDED, WAIT_S, Heard, Place, hold, people, register, reopen, running

SETTINGS: Final = {"log_level": "error", **UNBOUNDED}
PDF: Final = b"%PDF-1.7\n" + MARK + os.urandom(200_000)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", in_memory=False)


@pytest.fixture
async def node(place: Place) -> AsyncIterator[Node]:
    async with place.engine() as node:
        yield node


class Exchange:
    """Anna sends, Ben gets."""

    def __init__(self, anna: Client, ben: Client, talk: str, folder: Path) -> None:
        self.anna = anna
        self.ben = ben
        self.talk = talk
        self.folder = folder
        self._made = 0

    async def send(self, name: str, content: bytes, *, as_is: bool = False) -> Message:
        """The message as Ben has it."""
        path = self.folder / name
        path.write_bytes(content)
        sent = await asyncio.wait_for(self.anna.send_file(self.talk, path, "look", as_is=as_is), WAIT_S)
        await hold([self.ben], self.talk, sent.seq)
        [message] = self.ben.history(self.talk, after=sent.seq - 1, limit=1)
        assert isinstance(message, Message)
        return message

    async def fetch(self, message: Message) -> bytes:
        self._made += 1
        target = self.folder / f"got {self._made}"
        await asyncio.wait_for(self.ben.download(message, target), WAIT_S)
        return target.read_bytes()

    async def preview(self, name: str) -> bytes | None:
        """Of the last message, which shows a file of this name."""
        message = self.ben.messages(self.talk)[-1]
        assert message.attachment is not None
        assert message.attachment.name == name
        return await asyncio.wait_for(self.ben.preview(message), WAIT_S)

    async def brought(self, name: str, content: bytes, *, as_is: bool = False) -> tuple[Attachment, bytes]:
        message = await self.send(name, content, as_is=as_is)
        assert message.text == "look"
        assert message.attachment is not None
        assert message.kind == message.attachment.kind
        return message.attachment, await self.fetch(message)


@pytest.fixture
async def exchange(node: Node, tmp_path: Path) -> AsyncIterator[Exchange]:
    async with people(node.url, tmp_path / "clients", "anna", "ben") as (anna, ben):
        folder = tmp_path / "files"
        folder.mkdir()
        yield Exchange(anna, ben, await anna.start_direct(ben.account), folder)


def seen(data: bytes) -> bytes:
    """Its first frame's pixels."""
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").tobytes()


async def test_files_come_as_they_were_sent(exchange: Exchange) -> None:
    plain = {
        "lake.png": saved(picture(), "PNG"),
        "dance.gif": saved(picture(), "GIF", save_all=True, append_images=[picture(shift=9)], loop=0),
        "lake.jpg": saved(picture(), "JPEG"),
        "report.pdf": PDF,
        "nothing": b"",
        "one more than a segment": os.urandom(4 * 2**20 + 1),
    }
    for name, content in plain.items():
        attachment, got = await exchange.brought(name, content)
        assert (attachment.name, got) == (name, content)
        assert attachment.kind == ("image" if name.startswith(("lake", "dance")) else "file")
        preview = await exchange.preview(name)
        assert (preview is not None) == (attachment.kind == "image")
        if preview is not None:
            assert (attachment.width, attachment.height) == Image.open(io.BytesIO(preview)).size == (48, 36)


async def test_pictures_leave_without_what_they_tell_of_place_and_time(exchange: Exchange) -> None:
    for name, content in {"garden.jpg": jpeg(), "garden.png": png(), "garden.gif": gif()}.items():
        attachment, got = await exchange.brought(name, content)
        assert MARK in content
        assert MARK not in got
        assert seen(got) == seen(content)
        assert not Image.open(io.BytesIO(got)).getexif().get_ifd(0x8825), "no GPS"
        preview = await exchange.preview(name)
        assert preview is not None
        assert MARK not in preview
    attachment, got = await exchange.brought("garden.jpg", jpeg(), as_is=True)
    assert (attachment.kind, attachment.preview, got) == ("file", None, jpeg())


async def test_odd_files_have_a_clear_outcome(exchange: Exchange) -> None:
    whole = saved(picture(side=400), "JPEG", exif=exif())
    attachment, got = await exchange.brought("really.jpg", PDF)
    assert (attachment.kind, attachment.type, got) == ("file", "application/pdf", PDF)
    attachment, _ = await exchange.brought("no picture by its name.pdf", saved(picture(), "PNG"))
    assert (attachment.kind, attachment.type) == ("image", "image/png")
    for name, content in {"cut.jpg": whole[: len(whole) // 2], "bomb.png": bomb()}.items():
        with pytest.raises(BadPicture, match="as it is"):
            await exchange.send(name, content)
        attachment, got = await exchange.brought(name, content, as_is=True)
        assert (attachment.kind, got) == ("file", content)
    with pytest.raises(BadFile):
        await exchange.anna.send_file(exchange.talk, exchange.folder / "missing")
    with pytest.raises(BadFile):
        await exchange.anna.send_file(exchange.talk, exchange.folder)


def bomb() -> bytes:
    """A few bytes that unpack to 900 megapixels."""
    small = bytearray(saved(Image.new("1", (8, 8)), "PNG"))
    small[16:24] = (30_000).to_bytes(4) + (30_000).to_bytes(4)
    small[29:33] = zlib.crc32(small[12:29]).to_bytes(4)
    return bytes(small)


async def test_what_is_stored_tells_nothing(exchange: Exchange, node: Node, place: Place, tmp_path: Path) -> None:
    """I12: neither the server's files nor the objects hold a picture, its preview, what it told, or a key; nor does
    the spool beside the sender's store while it waits."""
    pictures = {"secret lake.jpg": jpeg(), "secret lake.png": png()}
    secrets = [MARK, b"secret lake", PDF[:64], PDF[-64:]]
    for name, content in {**pictures, "secret report.pdf": PDF}.items():
        message = await exchange.send(name, content)
        assert message.attachment is not None
        secrets.append(message.attachment.file.key.encode())
        secrets.append(message.attachment.file.raw_key)
        got = await exchange.fetch(message)
        secrets += [got[at : at + 64] for at in range(64, len(got) - 64, max(64, len(got) // 50))]
        if (preview := await exchange.ben.preview(message)) is not None:
            secrets += [preview[at : at + 48] for at in range(0, len(preview) - 48, 48)]
    objects = [*(place.data / "media/signet/objects").glob("*/*")]
    assert len(objects) == 5
    contents = {path: path.read_bytes() for path in place.data.rglob("*") if path.is_file()}
    assert any(objects[0].name.encode() in content for content in contents.values()), "what does stand there is found"
    for path, content in contents.items():
        for secret in secrets:
            assert secret not in content, (path, secret)
    spool = tmp_path / "clients" / "anna.db.media"
    assert [*spool.iterdir()] == [], "nothing waits any more"


async def test_a_stranger_a_tampered_object_and_a_wrong_key_are_refused(
    exchange: Exchange, node: Node, place: Place, tmp_path: Path
) -> None:
    message = await exchange.send("report.pdf", PDF)
    attachment = message.attachment
    assert attachment is not None
    async with people(node.url, tmp_path / "more", "mallory") as (mallory,):
        with pytest.raises(Refused, match="no_such_media"):
            await mallory.download(message, tmp_path / "stolen")
    path = place.data / "media/signet" / folder_of(attachment.file.media) / attachment.file.media
    sealed = path.read_bytes()
    for changed in (
        sealed[:1_000] + bytes([sealed[1_000] ^ 1]) + sealed[1_001:],
        sealed[:-1] + bytes([sealed[-1] ^ 1]),
        sealed[::-1],
    ):
        path.write_bytes(changed)
        with pytest.raises(Tampered):
            await exchange.fetch(message)
    path.write_bytes(sealed)
    assert await exchange.fetch(message) == PDF
    assert [path.name for path in exchange.folder.iterdir() if "part" in path.name] == [], "no halves are left"


async def test_progress_is_told_and_an_oversized_file_is_refused(exchange: Exchange, node: Node) -> None:
    told: list[Event] = []
    exchange.anna.listen(told.append)
    message = await exchange.send("film", os.urandom(3 * 2**20))
    uploading = [event for event in told if isinstance(event, Uploading)]
    assert [event.done for event in uploading] == sorted(event.done for event in uploading)
    assert uploading[-1].done == uploading[-1].total > 3 * 2**20
    moved: list[tuple[int, int]] = []
    await exchange.ben.download(
        message, exchange.folder / "film 2", moved=lambda done, total: moved.append((done, total))
    )
    assert moved == sorted(moved)
    assert moved[-1][0] == moved[-1][1]
    limit = node.services.settings.media.file
    object.__setattr__(node.services.settings.media, "file", 1_000)
    try:
        with pytest.raises(Refused, match="too_large"):
            await exchange.send("film", os.urandom(2_000))
    finally:
        object.__setattr__(node.services.settings.media, "file", limit)
    [refused] = [event for event in told if isinstance(event, SendRefused)]
    assert refused.code == "too_large"
    await exchange.send("after it", b"goes on")


async def test_what_waits_goes_out_after_a_restart_in_its_order(node: Node, tmp_path: Path) -> None:
    """I1: what `post_file` has taken survives the client, and texts don't wait for files."""
    folder = tmp_path / "clients"
    contents = [os.urandom(5_000_000 - number) for number in range(4)]
    async with people(node.url, folder, "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account)
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}"
            path.write_bytes(content)
            await anna.post_file(talk, path)
            path.unlink()
        await anna.send(talk, "a text")
    anna, ben = reopen(folder, "anna"), reopen(folder, "ben")
    async with running(anna, ben):
        async with asyncio.timeout(WAIT_S):
            await ben.until(lambda: len(ben.messages(talk)) == 5)
        files = [message for message in ben.messages(talk) if message.attachment is not None]
        assert [message.attachment and message.attachment.name for message in files] == ["0", "1", "2", "3"]
        for message, content in zip(files, contents, strict=True):
            await ben.download(message, tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == content
        assert [*(folder / "anna.db.media").iterdir()] == []


async def test_files_in_a_conversation_that_is_not_encrypted(node: Node, tmp_path: Path) -> None:
    async with people(node.url, tmp_path / "clients", "anna", "ben") as (anna, ben):
        talk = await anna.start_direct(ben.account, protection="none")
        (tmp_path / "lake.png").write_bytes(saved(picture(), "PNG"))
        sent = await anna.send_file(talk, tmp_path / "lake.png")
        await hold([ben], talk, sent.seq)
        [message] = ben.messages(talk)
        assert message.attachment is not None
        await ben.download(message, tmp_path / "got.png")
        assert (tmp_path / "got.png").read_bytes() == (tmp_path / "lake.png").read_bytes()


@pytest.mark.slow
async def test_a_restored_server_gets_back_what_it_had_forgotten(tmp_path: Path) -> None:
    """I1: a file that was sent after the backup comes back with its message, where the object store still has it; what
    it has lost is told to the sender."""
    old, new, port = tmp_path / "old", tmp_path / "new", free_port()
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(engine(old, SETTINGS, port=port))
        anna, ben = await stack.enter_async_context(people(first.url, tmp_path / "clients", "anna", "ben"))
        exchange = Exchange(anna, ben, await anna.start_direct(ben.account), tmp_path)
        await exchange.send("before", b"before the backup")
        await asyncio.to_thread(answer, "backup", str(tmp_path / "backup"), "--data", str(old))
        after = await exchange.send("after", b"after the backup")
        gone = await exchange.send("gone", b"of which the objects have no copy")
        first.process.kill()
        await first.process.wait()
        await asyncio.to_thread(answer, "restore", str(tmp_path / "backup"), "--data", str(new))
        shutil.copytree(old / "media", new / "media")
        assert gone.attachment is not None
        (new / "media/signet" / folder_of(gone.attachment.file.media) / gone.attachment.file.media).unlink()
        refused: list[SendRefused] = []
        found: list[Found] = []
        anna.listen(lambda event: refused.append(event) if isinstance(event, SendRefused) else None)
        ben.listen(lambda event: found.append(event) if isinstance(event, Found) else None)
        await stack.enter_async_context(engine(new, SETTINGS, port=port))
        await Heard(ben).until(lambda: bool(found))
        [again] = [event.item for event in found]
        assert again.id == after.id
        assert again.attachment is not None
        assert await exchange.fetch(again) == b"after the backup"
        await Heard(anna).until(lambda: bool(refused))
        [told] = refused
        assert (told.id, told.code) == (gone.id, "not_uploaded")


async def test_a_client_that_does_not_run_takes_no_files(exchange: Exchange, tmp_path: Path) -> None:
    cleo = await register(exchange.anna.url, "cleo", tmp_path / "clients")
    (tmp_path / "a file").write_bytes(b"x")
    with pytest.raises(ClientClosed):
        await cleo.post_file(exchange.talk, tmp_path / "a file")
    assert cleo.uploads() == []
    await cleo.close()
