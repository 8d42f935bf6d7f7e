"""Uploads and downloads over a line, and with servers, that fail in every way: what ends well, and what is told."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from signet_client import Refused, SendRefused, Sent, StoreFailed, Unreachable, Uploading
from signet_client.api import MediaShown, Reserved
from signet_client.crypto.box import Box
from signet_client.events import Event
from signet_client.media import download as downloads
from signet_client.media import sealing
from signet_client.media.attachment import Attachment, Sealed
from signet_client.media.download import NotSaved, download
from signet_client.media.sealing import Tampered, sealed_size
from signet_client.media.transfer import Address, AddressRefused, ObjectLost, Transfers
from signet_client.media.uploads import TRIES_MAX, Uploads
from signet_client.messages import encode_body
from signet_client.payloads import to_base64
from signet_client.records import Outgoing, Upload, UploadFile
from signet_client.store import Store
from tests.client.fake import PATIENCE_S

MEDIA = UUID("101106d6-8da2-59d5-9203-5191ebed6b7f")
KEY = bytes(range(32))
PLAIN = os.urandom(3_000_000)

pytestmark = pytest.mark.usefixtures("short_waits")


class ObjectServer:
    """As much of an S3 server as one object needs. `faults` are what it does instead, one after the other."""

    def __init__(self) -> None:
        self.url = ""
        self.content = b""
        self.faults: list[str] = []
        self.puts = 0
        """How many uploads were taken."""
        self.heads: list[str] = []
        """What each request began with, in small letters."""
        self.ranges: list[int] = []
        """From where each download has begun."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["ObjectServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/object"
        async with server:
            yield self

    def address(self, method: str) -> Address:
        headers = {"content-length": str(sealed_size(len(PLAIN)))} if method == "PUT" else {}
        return Address(method=method, url=self.url, headers=headers, expires_in_s=900)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            self.heads.append(head)
            fault = self.faults.pop(0) if self.faults else ""
            if fault.isdigit():
                if head.startswith("put"):
                    await reader.readexactly(_length_of(head))
                writer.write(f"HTTP/1.1 {fault} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            elif head.startswith("put"):
                await self._take(head, reader, writer, fault)
            else:
                self._give(head, writer, fault)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _take(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: str) -> None:
        length = _length_of(head)
        if fault == "cut":
            await reader.readexactly(length // 2)
            return
        self.content = await reader.readexactly(length)
        self.puts += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    def _give(self, head: str, writer: asyncio.StreamWriter, fault: str) -> None:
        start = int(head.partition("range: bytes=")[2].partition("-")[0] or 0)
        self.ranges.append(start)
        rest = self.content[start:]
        told = f"content-range: bytes {start}-{len(self.content) - 1}/{len(self.content)}\r\n" if start else ""
        if fault == "no ranges":
            told, rest = "", self.content
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(rest)}\r\n{told}connection: close\r\n\r\n".encode())
        writer.write(rest[: len(rest) // 2] if fault == "cut" else rest)


def _length_of(head: str) -> int:
    return int(head.partition("content-length: ")[2].partition("\r\n")[0])


@pytest.fixture
async def objects() -> AsyncIterator[ObjectServer]:
    async with ObjectServer().serving() as server:
        yield server


@pytest.fixture
async def transfers() -> AsyncIterator[Transfers]:
    made = Transfers()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "GATHER_BYTES", 100_000)


def seal_into(path: Path) -> Sealed:
    with path.open("wb") as file:
        digest = sealing.seal([PLAIN], file, key=KEY, media=MEDIA, size=len(PLAIN))
    return Sealed(media=str(MEDIA), key=to_base64(KEY), digest=to_base64(digest), size=len(PLAIN))


# Downloads


class Fetching:
    def __init__(self, objects: ObjectServer, transfers: Transfers, tmp_path: Path) -> None:
        self.objects = objects
        self.sealed = seal_into(tmp_path / "sealed")
        objects.content = (tmp_path / "sealed").read_bytes()
        self.target = tmp_path / "got"
        self.asked = 0
        self.shown = MediaShown(
            media=str(MEDIA),
            size=len(objects.content),
            digest=self.sealed.digest,
            download=objects.address("GET"),
        )
        self._transfers = transfers

    async def run(self) -> bytes:
        async def ask(media: str) -> MediaShown:
            assert media == str(MEDIA)
            self.asked += 1
            return self.shown

        fetching = download(self.sealed, self.target, ask=ask, transfers=self._transfers, moved=lambda *_: None)
        await asyncio.wait_for(fetching, PATIENCE_S)
        return self.target.read_bytes()

    async def fails(self, error: type[Exception]) -> None:
        with pytest.raises(error):
            await self.run()
        assert not self.target.exists()
        assert [path.name for path in self.target.parent.iterdir() if ".part" in path.name] == []


@pytest.fixture
def fetching(objects: ObjectServer, transfers: Transfers, tmp_path: Path) -> Fetching:
    return Fetching(objects, transfers, tmp_path)


async def test_a_download_that_breaks_goes_on_where_it_was(fetching: Fetching) -> None:
    fetching.objects.faults = ["cut"] * 12
    assert await fetching.run() == PLAIN
    starts = fetching.objects.ranges
    assert starts == sorted(starts)
    assert starts[1] == sealed_size(len(PLAIN)) // 2


async def test_an_address_that_is_refused_is_asked_for_anew(fetching: Fetching) -> None:
    fetching.objects.faults = ["403", "cut", "400", "503"]
    assert await fetching.run() == PLAIN
    assert fetching.asked == 5


async def test_what_fails_again_and_again_is_told(fetching: Fetching) -> None:
    fetching.objects.faults = ["503"] * downloads.TRIES_MAX
    await fetching.fails(Unreachable)
    fetching.objects.faults = ["403"] * downloads.TRIES_MAX
    await fetching.fails(AddressRefused)
    fetching.objects.faults = ["404"]
    await fetching.fails(ObjectLost)
    fetching.objects.faults = ["cut", *["no ranges"] * downloads.TRIES_MAX]
    await fetching.fails(Unreachable)


async def test_an_object_that_is_too_short_or_too_long_or_another_is_no_file(fetching: Fetching) -> None:
    whole = fetching.objects.content
    for wrong in (whole[:-1], whole[:-20_000], b"", whole + b"x", whole[::-1], bytes(len(whole))):
        fetching.objects.content = wrong
        await fetching.fails(Tampered)


async def test_a_server_that_names_another_file_is_not_believed(fetching: Fetching) -> None:
    right = fetching.shown
    for change in ({"digest": to_base64(bytes(32))}, {"size": right.size + 1}):
        fetching.shown = msgspec.structs.replace(right, **change)
        await fetching.fails(Tampered)
    assert fetching.objects.ranges == []


async def test_where_it_can_t_be_written_it_is_told(fetching: Fetching, tmp_path: Path) -> None:
    fetching.target = tmp_path / "no such folder" / "got"
    with pytest.raises(NotSaved, match="no such folder"):
        await fetching.run()


async def test_a_file_of_that_name_stays_until_the_new_one_is_whole(fetching: Fetching) -> None:
    fetching.target.write_bytes(b"before")
    whole = fetching.objects.content
    fetching.objects.content = whole[:-1]
    with pytest.raises(Tampered):
        await fetching.run()
    assert fetching.target.read_bytes() == b"before"
    fetching.objects.content = whole
    assert await fetching.run() == PLAIN


# Uploads


class Asking:
    """The server: what it refuses, one after the other; then it takes all."""

    def __init__(self, objects: ObjectServer) -> None:
        self._objects = objects
        self.refusals: list[str] = []
        self.reserve_refusals: list[str] = []
        self.stored = False
        self.reserved = 0

    async def reserve_media(self, file: UploadFile) -> Reserved:
        self.reserved += 1
        self._refuse(self.reserve_refusals)
        return Reserved(media=file.media, upload=None if self.stored else self._objects.address("PUT"))

    async def complete_media(self, media: str) -> None:
        self._refuse(self.refusals)
        self.stored = True

    def _refuse(self, codes: list[str]) -> None:
        if codes:
            code = codes.pop(0)
            if code == "unreachable":
                raise Unreachable("away")
            raise Refused(code, "no", retry=code in ("unavailable", "storage_full", "busy", "rate_limited", "failed"))


class Sending:
    def __init__(self, objects: ObjectServer, transfers: Transfers, tmp_path: Path) -> None:
        self.objects = objects
        self.asking = Asking(objects)
        self.events: list[Event] = []
        self.posted: list[Outgoing] = []
        self.store = Store(tmp_path / "device.db", durable=False)
        self.store.box = Box(bytes(32))
        self._transfers = transfers
        self.uploads = self.anew()
        self.uploads.resume()
        spool = self.uploads.spool
        spool.mkdir()
        self.sealed = seal_into(spool / str(MEDIA))
        attachment = Attachment(kind="file", name="a file", type="x/y", file=self.sealed)
        self.upload = Upload(
            message="message",
            conversation="talk",
            name="a file",
            clear=encode_body("", kind="file", reply_to=None, attachment=attachment),
            counts=True,
            files=[
                UploadFile(
                    command="command",
                    media=str(MEDIA),
                    kind="file",
                    size=sealed_size(len(PLAIN)),
                    digest=self.sealed.digest,
                )
            ],
        )

    def anew(self) -> Uploads:
        return Uploads(self.store, lambda: self.asking, lambda: self._transfers, self._post, self.events.append)

    def _post(self, message: Outgoing) -> asyncio.Future[Sent]:
        self.posted.append(message)
        self.store.drop_upload(message.id)
        self.store.settle()
        answer: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        answer.set_result(Sent(conversation=message.conversation, id=message.id, seq=7, at=1))
        return answer

    async def run(self) -> Sent:
        return await asyncio.wait_for(self.uploads.add(self.upload), PATIENCE_S)

    def left(self) -> list[str]:
        return [path.name for path in self.uploads.spool.iterdir()]


@pytest.fixture
async def sending(objects: ObjectServer, transfers: Transfers, tmp_path: Path) -> AsyncIterator[Sending]:
    made = Sending(objects, transfers, tmp_path)
    yield made
    await made.uploads.close(StoreFailed("the test is over"))
    made.store.close()


async def test_an_upload_is_tried_until_it_is_there(sending: Sending) -> None:
    sending.objects.faults = ["cut", "503", "403", "429"]
    sending.asking.reserve_refusals = ["unreachable", "unavailable", "storage_full"]
    sending.asking.refusals = ["unavailable", "not_uploaded", "wrong_digest", "media_expired", "unreachable"]
    assert (await sending.run()).seq == 7
    assert hashlib.sha256(sending.objects.content).digest() == sending.sealed.raw_digest
    assert [message.id for message in sending.posted] == ["message"]
    await _until(lambda: not sending.left())
    assert sending.store.uploads() == []
    assert sending.store.uploaded(str(MEDIA)) == sending.upload.files[0]


async def _until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not reached():  # noqa: ASYNC110 - the task that was just answered goes on
            await asyncio.sleep(0)


@pytest.mark.parametrize("code", ["too_large", "id_taken", "device_revoked"])
async def test_what_is_refused_for_good_is_told_once(sending: Sending, code: str) -> None:
    sending.asking.reserve_refusals = [code]
    with pytest.raises(Refused, match=code):
        await sending.run()
    [refused] = [event for event in sending.events if isinstance(event, SendRefused)]
    assert (refused.id, refused.code) == ("message", code)
    assert sending.posted == []
    assert sending.store.uploads() == []
    await _until(lambda: not sending.left())


async def test_a_store_that_spoils_it_each_time_is_given_up(sending: Sending) -> None:
    sending.asking.refusals = ["wrong_digest"] * TRIES_MAX
    with pytest.raises(Refused, match="wrong_digest"):
        await sending.run()
    assert sending.asking.reserved == TRIES_MAX


async def test_what_was_stored_by_an_earlier_life_is_not_uploaded_again(sending: Sending) -> None:
    sending.asking.stored = True
    await sending.run()
    assert sending.objects.content == b""


async def test_closed_it_goes_on_at_the_next_start(sending: Sending) -> None:
    sending.asking.reserve_refusals = ["unavailable"] * 1_000
    answer = sending.uploads.add(sending.upload)
    await sending.uploads.close(StoreFailed("closed"))
    with pytest.raises(StoreFailed, match="closed"):
        await answer
    (sending.uploads.spool / "a leftover").touch()
    sending.asking.reserve_refusals = []
    sending.uploads = sending.anew()
    sending.uploads.resume()
    assert sending.left() == [str(MEDIA)]
    await _until(lambda: bool(sending.posted))
    assert sending.posted[0].clear == sending.upload.clear


async def test_without_its_sealed_copy_it_is_given_up_unless_the_server_has_it(sending: Sending) -> None:
    (sending.uploads.spool / str(MEDIA)).unlink()
    sending.asking.refusals = ["not_uploaded"]
    with pytest.raises(Refused, match="not_uploaded"):
        await sending.run()
    await sending.run()  # it is there after all
    assert len(sending.posted) == 1


@pytest.mark.parametrize("status", ["404", "413", "301", "400"])
async def test_an_object_store_that_takes_nothing_is_not_asked_for_ever(sending: Sending, status: str) -> None:
    """A proxy that knows no such path, say, or takes nothing so large."""
    sending.objects.faults = [status] * TRIES_MAX
    with pytest.raises(Refused, match=f"not_uploaded.*{status}"):
        await sending.run()
    told = [event.trouble for event in sending.events if isinstance(event, Uploading)]
    assert sum(status in trouble for trouble in told) == TRIES_MAX - 1
    assert sending.store.uploads() == []


async def test_what_is_uploaded_is_not_uploaded_again_while_the_server_is_busy(sending: Sending) -> None:
    sending.asking.refusals = ["busy", "unavailable", "rate_limited", "not_authenticated", "failed"]
    await sending.run()
    assert sending.objects.puts == 1
    assert sending.asking.reserved == 1


async def test_what_says_nothing_of_the_file_gives_up_none(sending: Sending) -> None:
    sending.asking.reserve_refusals = ["not_authenticated", "wrong_host", "no_such_route", "of a newer server"]
    await sending.run()
    assert len(sending.posted) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"method": "DELETE"},
        {"url": "file:///etc/passwd"},
        {"url": "http://"},
        {"url": "http://user:secret@127.0.0.1:9/"},
        {"url": "http://[::1"},
        {"url": "no address \x00"},
    ],
    ids=str,
)
async def test_an_address_that_is_none_is_not_followed(
    objects: ObjectServer, transfers: Transfers, tmp_path: Path, change: dict[str, str]
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    put, get = (msgspec.structs.replace(objects.address(method), **change) for method in ("PUT", "GET"))
    with pytest.raises(AddressRefused):
        await transfers.upload(put, tmp_path / "file", 1, lambda done: None)
    with pytest.raises(AddressRefused):
        await anext(transfers.download(get, start=0))
    assert objects.heads == []


async def test_headers_that_would_speak_for_this_machine_are_not_sent(fetching: Fetching) -> None:
    headers = {"Host": "router.local", "Authorization": "Basic x", "x-amz-checksum": "c", "x-amz-é": "d", "Cookie": "e"}
    address = msgspec.structs.replace(fetching.shown.download, headers=headers)
    fetching.shown = msgspec.structs.replace(fetching.shown, download=address)
    assert await fetching.run() == PLAIN
    [head] = fetching.objects.heads
    assert "x-amz-checksum: c" in head
    assert not any(word in head for word in ("router", "authorization", "cookie", "é"))


async def test_two_downloads_to_one_place_are_both_right(fetching: Fetching) -> None:
    got = await asyncio.gather(*(fetching.run() for _ in range(4)))
    assert got == [PLAIN] * 4


async def test_httpx_tells_no_signed_address(fetching: Fetching, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "httpx")
    address = fetching.shown.download
    fetching.shown = msgspec.structs.replace(
        fetching.shown, download=msgspec.structs.replace(address, url=address.url + "?X-Amz-Signature=secret")
    )
    await fetching.run()
    assert "/object" in caplog.text
    assert "secret" not in caplog.text
