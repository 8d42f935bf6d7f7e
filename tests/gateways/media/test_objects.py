"""The object store, on a real S3 server, and what clients may do with its addresses."""

import asyncio
import hashlib
import re
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import msgspec
import pytest

from gateways.media.objects import Address, ObjectStore, ObjectsUnavailable, Settled
from gateways.media.place import Place
from gateways.media.s3 import Bucket
from ops.child import free_port
from signet_client.payloads import to_base64
from tests.s3 import Server

WAIT_S: Final = 30
MEDIA: Final = "0f0e0d0c-0b0a-4908-8706-050403020100"
OTHER: Final = "1f0e0d0c-0b0a-4908-8706-050403020100"
TEXT: Final = bytes(range(256)) * 40
LARGE: Final = 128 << 20
"""Bytes whose copy takes long enough to be killed meanwhile."""
PART: Final = 4 << 20
"""Bytes of an upload whose half goes to the disk."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """For tests that don't break it; each has a bucket of its own."""
    with Server() as server:
        yield server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
async def store(shared: Server) -> AsyncIterator[ObjectStore]:
    async with opened(msgspec.structs.replace(shared.place, bucket=f"b-{uuid4()}")) as store:
        yield store


@asynccontextmanager
async def opened(place: Place, make_durable: Callable[[str], None] | None = None) -> AsyncIterator[ObjectStore]:
    store = ObjectStore(place, make_durable=make_durable)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def use(address: Address, content: bytes | None = None, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(address.method, address.url, headers=address.headers | headers, content=content)


async def upload(store: ObjectStore, content: bytes = TEXT, media: str = MEDIA) -> Address:
    address = store.upload_address(media, len(content))
    assert (await use(address, content)).status_code == 200
    return address


def settled(content: bytes) -> Settled:
    return Settled(size=len(content), digest=to_base64(hashlib.sha256(content).digest()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  # what is waited for is another process
            await asyncio.sleep(0.001)


async def test_what_was_uploaded_and_settled_can_be_downloaded_by_ranges_too(store: ObjectStore) -> None:
    await upload(store)
    assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)
    address = store.download_address(MEDIA)
    whole = await use(address)
    assert (whole.status_code, whole.content) == (200, TEXT)
    part = await use(address, Range="bytes=100-299")
    # rclone says 200 where others say 206.
    assert (part.headers["Content-Range"], part.content) == (f"bytes 100-299/{len(TEXT)}", TEXT[100:300])
    assert (await use(address, Range=f"bytes={len(TEXT)}-")).status_code == 416


async def test_an_empty_object_is_one(store: ObjectStore) -> None:
    await upload(store, b"")
    assert await store.settle(MEDIA, 0) == settled(b"")
    assert (await use(store.download_address(MEDIA))).content == b""


async def test_what_the_uploader_says_of_the_type_is_not_kept(store: ObjectStore) -> None:
    address = store.upload_address(MEDIA, 4)
    assert (await use(address, b"<h1>", **{"Content-Type": "text/html"})).status_code == 200
    await store.settle(MEDIA, 4)
    assert (await use(store.download_address(MEDIA))).headers["Content-Type"] == "application/octet-stream"


async def test_settled_again_it_is_the_same_whatever_was_uploaded_since(store: ObjectStore) -> None:
    address = await upload(store)
    assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)
    assert [each async for each in store.incoming()] == []
    assert (await use(address, bytes(len(TEXT)))).status_code == 200
    assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)
    assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)
    assert (await use(store.download_address(MEDIA))).content == TEXT


async def test_where_nothing_was_uploaded_nothing_is_settled(store: ObjectStore) -> None:
    await upload(store, media=OTHER)
    assert await store.settle(MEDIA, len(TEXT)) is None
    assert await store.head(MEDIA) is None
    assert await store.digest(MEDIA) is None


async def test_another_size_is_told_and_nothing_read_or_settled(store: ObjectStore) -> None:
    await upload(store)
    assert await store.settle(MEDIA, len(TEXT) + 1) == Settled(size=len(TEXT), digest="")
    assert await store.head(MEDIA) is None
    assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)
    assert await store.settle(MEDIA, len(TEXT) - 1) == Settled(size=len(TEXT), digest="")


async def test_head_and_digest_tell_of_what_is_settled(store: ObjectStore) -> None:
    await upload(store)
    assert await store.head(MEDIA) is None
    await store.settle(MEDIA, len(TEXT))
    assert await store.head(MEDIA) == len(TEXT)
    assert await store.digest(MEDIA) == settled(TEXT).digest


async def test_discard_deletes_both_and_may_be_repeated(store: ObjectStore) -> None:
    await store.discard(MEDIA)
    await upload(store)
    await store.settle(MEDIA, len(TEXT))
    await upload(store)
    await store.discard(MEDIA)
    await store.discard(MEDIA)
    assert [each async for each in store.incoming()] == []
    assert [each async for each in store.objects()] == []
    assert await store.settle(MEDIA, len(TEXT)) is None


async def test_many_at_a_time_settle_it_once(store: ObjectStore) -> None:
    await upload(store)
    answers = await asyncio.gather(*(store.settle(MEDIA, len(TEXT)) for _ in range(8)))
    assert answers == [settled(TEXT)] * 8


async def test_listings_go_on_page_by_page_and_leave_out_what_others_put_there(server: Server) -> None:
    for folder in ("incoming", f"objects/{MEDIA[:2]}"):
        server.path(folder).mkdir(parents=True)
        for number in range(1_100):
            server.path(f"{folder}/{MEDIA[:-4]}{number:04}").write_bytes(b"abc")
        server.path(f"{folder}/notes.txt").write_bytes(b"")
    expected = {f"{MEDIA[:-4]}{number:04}" for number in range(1_100)}
    async with opened(server.place) as store:
        times = {media: modified async for media, modified in store.incoming()}
        assert times.keys() == expected
        told = server.path(f"incoming/{MEDIA[:-4]}0000").stat().st_mtime
        assert abs(times[f"{MEDIA[:-4]}0000"] - told * 1_000_000) < 1_000_000
        assert {media: size async for media, size in store.objects()} == dict.fromkeys(expected, 3)


async def test_addresses_are_for_the_host_that_clients_see(shared: Server) -> None:
    place = msgspec.structs.replace(shared.place, public_endpoint="https://media.example.org")
    async with opened(place) as store:
        public = store.upload_address(MEDIA, len(TEXT))
        assert public.url.startswith("https://media.example.org/media/a/b/incoming/")
        private = msgspec.structs.replace(
            public, url=shared.endpoint + public.url.removeprefix(place.public_endpoint or "")
        )
        assert (await use(private, TEXT)).status_code == 403
        assert (await use(private, TEXT, Host="media.example.org")).status_code == 200


@pytest.mark.parametrize(
    ("bucket", "host"),
    [
        ("photos", "photos.s3.eu-west-1.amazonaws.com"),
        # For a name with dots in it a wildcard's certificate is not good.
        ("my.photos", "s3.eu-west-1.amazonaws.com"),
    ],
)
def test_amazons_buckets_have_hosts_of_their_own(bucket: str, host: str) -> None:
    with closing(Bucket(Place(bucket=bucket, region="eu-west-1", key="KEY", secret="hush"))) as photos:
        assert urlsplit(photos.address("get_object", "a", life_s=60)).netloc == host


async def test_no_proxy_is_asked_for_this_machine(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with opened(shared.place) as store:
        assert await store.head(OTHER) is None


# What addresses don't allow.


def _with(address: Address, pattern: str, replacement: str) -> Address:
    url, count = re.subn(pattern, replacement, address.url)
    assert count == 1
    return msgspec.structs.replace(address, url=url)


@pytest.mark.parametrize(
    ("pattern", "replacement", "status", "code"),
    [
        (MEDIA, OTHER, 403, "SignatureDoesNotMatch"),
        ("/incoming/", f"/objects/{MEDIA[:2]}/", 403, "SignatureDoesNotMatch"),
        ("X-Amz-Signature=[0-9a-f]{8}", "X-Amz-Signature=00000000", 403, "SignatureDoesNotMatch"),
        ("X-Amz-Expires=900", "X-Amz-Expires=9000", 403, "SignatureDoesNotMatch"),
        ("content-length%3Bhost", "host", 403, "SignatureDoesNotMatch"),
        ("X-Amz-Credential=key", "X-Amz-Credential=other", 403, "InvalidAccessKeyId"),
        (r"\?.*", "", 400, "UnsupportedAlgorithm"),
    ],
)
async def test_a_changed_address_is_refused(
    store: ObjectStore, pattern: str, replacement: str, status: int, code: str
) -> None:
    answer = await use(_with(store.upload_address(MEDIA, len(TEXT)), pattern, replacement), TEXT)
    assert (answer.status_code, re.findall("<Code>(.*)</Code>", answer.text)) == (status, [code])
    assert [each async for each in store.incoming()] == []


@pytest.mark.parametrize("size", [0, len(TEXT) - 1, len(TEXT) + 1])
async def test_no_other_size_can_be_uploaded(store: ObjectStore, size: int) -> None:
    answer = await use(store.upload_address(MEDIA, len(TEXT)), bytes(size), **{"Content-Length": str(size)})
    assert answer.status_code == 403
    assert [each async for each in store.incoming()] == []


async def test_an_address_is_good_for_one_thing_only(store: ObjectStore) -> None:
    await upload(store)
    await store.settle(MEDIA, len(TEXT))
    download, written = store.download_address(MEDIA), store.upload_address(MEDIA, len(TEXT))
    for method in ("PUT", "DELETE", "POST"):
        assert (await use(msgspec.structs.replace(download, method=method), TEXT)).status_code == 403
    for method in ("GET", "DELETE", "HEAD"):
        assert (await use(msgspec.structs.replace(written, method=method, headers={}))).status_code == 403
    assert (await use(download)).content == TEXT


async def test_after_its_time_an_address_is_refused(shared: Server) -> None:
    with closing(Bucket(shared.place)) as bucket:
        bucket.check()
        url = bucket.address("put_object", f"a/b/incoming/{OTHER}", life_s=1, ContentLength=1)
        address = Address(url=url, method="PUT", headers={}, expires_in_s=1)
    async with asyncio.timeout(WAIT_S):
        while (answer := await use(address, b"a")).status_code == 200:  # noqa: ASYNC110  # what is waited for is another process
            await asyncio.sleep(0.1)
    assert answer.status_code == 400
    assert "AccessDenied" in answer.text


# What is cut, killed and cancelled.


async def _upload_half(server: Server, address: Address, size: int) -> socket.socket:
    """Returns when it is on its way; the caller ends it."""
    sock = socket.create_connection(("127.0.0.1", server.port))
    path = address.url.removeprefix(server.endpoint)
    head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {size}\r\n\r\n"
    sock.sendall(head.encode() + bytes(size // 2))
    await until(lambda: any(".rclone_temp_put_" in file for file in server.files()))
    return sock


async def test_an_upload_that_was_cut_leaves_nothing(server: Server) -> None:
    async with opened(server.place) as store:
        address = store.upload_address(MEDIA, PART)
        (await _upload_half(server, address, PART)).close()
        await until(lambda: server.files() == [])
        assert await store.settle(MEDIA, PART) is None
        await upload(store, bytes(PART))
        (await _upload_half(server, address, PART)).close()
        await until(lambda: len(server.files()) == 1)
        assert await store.settle(MEDIA, PART) == settled(bytes(PART))


async def test_a_server_killed_during_an_upload_has_nothing_of_it(server: Server) -> None:
    async with opened(server.place) as store:
        with await _upload_half(server, store.upload_address(MEDIA, PART), PART):
            server.kill()
        with pytest.raises(ObjectsUnavailable, match="look whether it runs"):
            await store.settle(MEDIA, PART)
        server.restart()
        assert await store.settle(MEDIA, PART) is None
        assert [each async for each in store.incoming()] == []
        await upload(store, bytes(PART))
        assert await store.settle(MEDIA, PART) == settled(bytes(PART))


async def test_a_copy_killed_halfway_is_no_object(server: Server) -> None:
    uploaded = server.path(f"incoming/{MEDIA}")
    uploaded.parent.mkdir(parents=True)
    _make_large(uploaded)
    async with opened(server.place) as store:
        settling = asyncio.create_task(store.settle(MEDIA, LARGE))
        await until(lambda: any("objects/" in file and ".rclone_temp_put_" in file for file in server.files()))
        server.kill()
        with pytest.raises(ObjectsUnavailable):
            await settling
        assert not server.path(f"objects/{MEDIA[:2]}/{MEDIA}").exists()
        server.restart()
        assert await store.head(MEDIA) is None
        assert [each async for each in store.objects()] == []
        answer = await store.settle(MEDIA, LARGE)
        assert answer is not None
        assert (answer.size, await store.digest(MEDIA)) == (LARGE, answer.digest)
        assert not uploaded.exists()


async def test_a_server_killed_after_the_copy_has_it_settled_by_the_next_call(server: Server) -> None:
    kept: list[str] = []

    def kill_once(key: str) -> None:
        kept.append(key)
        if len(kept) == 1:
            server.kill()

    async with opened(server.place, kill_once) as store:
        await upload(store)
        with pytest.raises(ObjectsUnavailable):
            await store.settle(MEDIA, len(TEXT))
        server.restart()
        await upload(store, bytes(len(TEXT)))
        assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)
        assert kept == [f"a/b/objects/{MEDIA[:2]}/{MEDIA}"] * 2
        assert [each async for each in store.incoming()] == []


async def test_what_does_not_come_to_the_disk_is_not_settled(shared: Server) -> None:
    def fail(_: str) -> None:
        raise OSError("no space left on device")

    async with opened(shared.place, fail) as store:
        await upload(store)
        with pytest.raises(ObjectsUnavailable, match="no space left on device"):
            await store.settle(MEDIA, len(TEXT))
        await store.discard(MEDIA)


class Held:
    """Holds what is copied before it comes to the disk."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, key: str) -> None:
        self.reached.set()
        assert self.go_on.wait(WAIT_S)


async def test_whoever_goes_away_while_it_is_settled_leaves_it_settled(shared: Server) -> None:
    held = Held()
    async with opened(shared.place, held) as store:
        await upload(store)
        settling = asyncio.create_task(store.settle(MEDIA, len(TEXT)))
        await until(held.reached.is_set)
        settling.cancel()
        discarding = asyncio.create_task(store.discard(MEDIA))
        await asyncio.wait([settling])
        assert settling.cancelled()
        assert await store.head(MEDIA) == len(TEXT)
        held.go_on.set()
        await discarding
        assert await store.head(MEDIA) is None


async def test_closing_waits_for_what_is_settled_and_reads_no_further(shared: Server) -> None:
    held = Held()
    async with opened(shared.place, held) as store:
        await upload(store)
        settling = asyncio.create_task(store.settle(MEDIA, len(TEXT)))
        await until(held.reached.is_set)
        closing_it = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        held.go_on.set()
        await closing_it
        with pytest.raises(ObjectsUnavailable, match="the engine stops"):
            await settling
    async with opened(shared.place) as store:
        assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)


async def test_once_it_closes_it_refuses(shared: Server) -> None:
    async with opened(shared.place) as store:
        pass
    with pytest.raises(ObjectsUnavailable, match="the engine stops"):
        await store.head(MEDIA)


def _make_large(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(LARGE)


# What is told when it can't be used.


async def _told(place: Place) -> str:
    with pytest.raises(ObjectsUnavailable) as unavailable:
        async with opened(place):
            pass
    assert "correct-horse" not in str(unavailable.value)
    return str(unavailable.value)


async def test_a_bucket_that_is_missing_is_made(server: Server) -> None:
    async with opened(server.place) as store:
        await upload(store)
    assert server.files() == [f"a/b/incoming/{MEDIA}"]
    async with opened(server.place) as store:
        assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)


async def test_a_bucket_that_may_not_be_made_is_asked_for() -> None:
    with Server("--read-only") as server:
        assert "the bucket is missing, and could not be made" in await _told(server.place)


async def test_a_wrong_login_is_told(shared: Server) -> None:
    wrong = msgspec.structs.replace(shared.place, secret="wrong")
    assert "(SignatureDoesNotMatch). To do: correct KEY:SECRET" in await _told(wrong)
    wrong = msgspec.structs.replace(shared.place, key="wrong")
    assert "(InvalidAccessKeyId). To do: correct KEY:SECRET" in await _told(wrong)


async def test_a_login_that_was_changed_since_is_no_answer(server: Server) -> None:
    async with opened(server.place) as store:
        await upload(store)
        await store.settle(MEDIA, len(TEXT))
        server.kill()
        server.secret = "changed"
        server.restart()
        calls = [store.head(MEDIA), store.digest(MEDIA), store.settle(OTHER, 1), store.discard(MEDIA)]
        for call in [*calls, anext(store.objects()), anext(store.incoming())]:
            with pytest.raises(ObjectsUnavailable, match=r"\(SignatureDoesNotMatch\)|it answers 403"):
                await call
        with closing(Bucket(server.place)) as bucket, pytest.raises(ObjectsUnavailable, match="SignatureDoesNotMatch"):
            bucket.copy(f"a/b/objects/{MEDIA[:2]}/{MEDIA}", f"a/b/objects/{OTHER[:2]}/{OTHER}")


async def test_a_bucket_that_is_gone_is_no_upload_that_never_came(server: Server) -> None:
    async with opened(server.place) as store:
        server.kill()
        shutil.rmtree(server.folder / "media")
        server.restart()
        with pytest.raises(ObjectsUnavailable, match=r"\(NoSuchBucket\). To do: make the bucket"):
            await store.settle(MEDIA, len(TEXT))


async def test_without_any_login_it_is_told_where_one_is_looked_for(
    shared: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    assert "AWS_ACCESS_KEY_ID" in await _told(msgspec.structs.replace(shared.place, key=None, secret=None))


async def test_where_nobody_answers_it_is_told_soon(shared: Server) -> None:
    nowhere = msgspec.structs.replace(shared.place, endpoint=f"http://127.0.0.1:{free_port()}")
    async with asyncio.timeout(20):
        told = await _told(nowhere)
    assert "Could not connect" in told
    assert "look whether it runs" in told


@pytest.mark.parametrize("status", [200, 404, 403])
async def test_what_is_no_s3_is_told(shared: Server, status: int) -> None:
    with _page(status) as endpoint:
        told = await _told(msgspec.structs.replace(shared.place, endpoint=endpoint))
    assert "correct endpoint= in the URL" in told


async def test_a_bucket_in_another_region_is_told(shared: Server) -> None:
    listing = "<ListBucketResult><Name>media</Name></ListBucketResult>"
    with _page(200, listing, **{"x-amz-bucket-region": "eu-north-1"}) as endpoint:
        told = await _told(msgspec.structs.replace(shared.place, endpoint=endpoint))
    assert "write region=eu-north-1 into the URL" in told


async def test_it_works_again_when_the_server_is_back(server: Server) -> None:
    store = ObjectStore(server.place)
    try:
        with pytest.raises(ObjectsUnavailable, match="was not opened yet"):
            store.upload_address(MEDIA, 1)
        server.kill()
        with pytest.raises(ObjectsUnavailable):
            await store.open()
        server.restart()
        await store.open()
        await upload(store)
        server.kill()
        with pytest.raises(ObjectsUnavailable):
            await store.settle(MEDIA, len(TEXT))
        server.port = free_port()
        server.restart()
        await store.open(server.place)
        assert await store.settle(MEDIA, len(TEXT)) == settled(TEXT)
    finally:
        await store.close()


@contextmanager
def _page(status: int, content: str = "<html><body>Hello</body></html>", **headers: str) -> Iterator[str]:
    """An HTTP server that answers everything alike; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content.encode())

        do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()
