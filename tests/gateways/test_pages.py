"""The web client's pages: the right files, well labelled, and nothing else of the disk."""

import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateways.http import make_app
from gateways.pages import POLICY, Pages
from tests.gateways.engine import Engine, sqlite_engine

INDEX = b"<!doctype html><title>Signet</title>"
SCRIPT = b"console.log('a build');" * 100
JS, WASM, ICON = "assets/index-AbC_-123.js", "assets/crypto-0a1b2c3d.wasm", "assets/icon.svg"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """As a build leaves it. What brotli would have made of a file is a text here."""
    dist = tmp_path / "web/dist"
    (dist / "assets").mkdir(parents=True)
    for name, content in (("index.html", INDEX), (JS, SCRIPT), (WASM, b"\0asm"), (ICON, b"<svg/>")):
        (dist / name).write_bytes(content)
        (dist / f"{name}.br").write_bytes(b"brotli of " + name.encode())
        (dist / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    return dist


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with sqlite_engine(tmp_path) as engine:
        yield engine


@pytest.fixture
async def web(engine: Engine, dist: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(engine.services, Pages(dist)))
    async with httpx.AsyncClient(transport=transport, base_url="http://signet.test") as web:
        del web.headers["accept-encoding"]
        yield web


async def test_the_page_is_asked_for_anew_and_its_hashed_parts_are_kept(web: httpx.AsyncClient) -> None:
    page, script, icon = [await web.get(path) for path in ("/", f"/{JS}", f"/{ICON}")]
    assert (page.content, script.content) == (INDEX, SCRIPT)
    assert [each.headers["cache-control"] for each in (page, script, icon)] == [
        "no-cache", "public, max-age=31536000, immutable", "no-cache",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        (f"/{JS}", "text/javascript; charset=utf-8"),
        (f"/{WASM}", "application/wasm"),
        (f"/{ICON}", "image/svg+xml"),
    ],
)
async def test_every_answer_names_its_type_and_what_the_page_may_do(
    web: httpx.AsyncClient, path: str, content_type: str
) -> None:
    """I12: nothing of another server, and nothing that somebody has written, runs in the page."""
    headers = (await web.get(path)).headers
    assert headers["content-type"] == content_type
    assert headers["content-security-policy"] == POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert "set-cookie" not in headers


def test_the_policy_lets_in_nothing_of_others_and_nothing_inline() -> None:
    assert POLICY == (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data: blob:; "
        "font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("br;q=0.1, gzip", "br"),
        ("gzip, deflate", "gzip"),
        ("GZIP;q=1.0", "gzip"),
        ("br;q=0, gzip;q=0.000", None),
        ("identity", None),
        ("", None),
    ],
)
async def test_a_file_comes_in_the_coding_that_the_client_takes(
    web: httpx.AsyncClient, accepted: str, coding: str | None
) -> None:
    async with web.stream("GET", f"/{JS}", headers={"accept-encoding": accepted}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["content-length"] == str(len(raw))
    expected = {None: SCRIPT, "gzip": gzip.compress(SCRIPT, mtime=0), "br": b"brotli of " + JS.encode()}
    assert raw == expected[coding]


async def test_a_file_that_was_not_packed_comes_as_it_is(web: httpx.AsyncClient, dist: Path) -> None:
    (dist / f"{JS}.br").unlink()
    (dist / f"{JS}.gz").unlink()
    answer = await web.get(f"/{JS}", headers={"accept-encoding": "br, gzip"})
    assert "content-encoding" not in answer.headers
    assert answer.content == SCRIPT


@pytest.mark.parametrize("path", ["/", f"/{JS}"])
async def test_what_the_client_has_already_is_not_sent_again(web: httpx.AsyncClient, path: str) -> None:
    tags = {}
    for coding in ("", "gzip"):
        first = await web.get(path, headers={"accept-encoding": coding})
        tags[coding] = first.headers["etag"]
        for known in (tags[coding], f'"old", W/{tags[coding]}', "*"):
            again = await web.get(path, headers={"accept-encoding": coding, "if-none-match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["content-security-policy"] == POLICY
    assert len(set(tags.values())) == 2
    other = await web.get(path, headers={"if-none-match": tags["gzip"]})
    assert other.status_code == 200


@pytest.mark.parametrize("asked", ["bytes=0-9", "bytes=0-1,5-6", "bytes=99999-", "nonsense"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_a_file_comes_whole_whatever_part_is_asked_for(web: httpx.AsyncClient, asked: str, coding: str) -> None:
    answer = await web.get(f"/{JS}", headers={"range": asked, "accept-encoding": coding})
    assert (answer.status_code, answer.content) == (200, SCRIPT)
    assert answer.headers["accept-ranges"] == "none"


async def test_a_head_tells_all_but_the_content(web: httpx.AsyncClient) -> None:
    for path in ("/", f"/{JS}"):
        whole, head = await web.get(path), await web.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers == whole.headers


@pytest.mark.parametrize(
    "path",
    [
        "/index.html",
        "/secret.txt",
        "/assets",
        "/assets/",
        "/assets/nothing.js",
        "/assets/secret.txt",
        "/assets/linked.js",
        "/assets/folder.js",
        "/assets/deep/in.js",
        f"/{JS}.br",
        f"/{JS}%00",
        "/assets/%2e%2e/index.html",
        "/assets/..%2f..%2f..%2fsecret.js",
        "/assets/%2fetc%2fpasswd",
        "/assets/%5c..%5csecret.js",
        "/v1/assets/index.js",
    ],
)
async def test_nothing_else_of_the_disk_is_served(web: httpx.AsyncClient, dist: Path, path: str) -> None:
    """I12: and what is not there is refused as the API refuses it."""
    secret = dist.parent.parent / "secret.js"
    for hidden in (secret, dist / "secret.txt", dist / "assets/secret.txt"):
        hidden.write_text("secret")
    (dist / "assets/linked.js").symlink_to(secret)
    (dist / "assets/folder.js").mkdir()
    (dist / "assets/deep").mkdir()
    (dist / "assets/deep/in.js").write_text("secret")
    answer = await web.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")


async def test_a_build_beside_the_engine_shows_at_once(web: httpx.AsyncClient, dist: Path) -> None:
    before = await web.get("/")
    new = dist.with_name("dist.new")
    (new / "assets").mkdir(parents=True)
    (new / "index.html").write_bytes(b"<!doctype html>new")
    (new / "assets/index-deadbeef.js").write_bytes(b"new")
    os.rename(dist, dist.with_name("dist.old"))
    assert (await web.get("/")).status_code == 503
    os.rename(new, dist)
    after = await web.get("/", headers={"if-none-match": before.headers["etag"]})
    assert after.content == b"<!doctype html>new"
    assert (await web.get("/assets/index-deadbeef.js")).content == b"new"
    assert (await web.get(f"/{JS}")).status_code == 404


async def test_where_nothing_is_built_the_page_says_so_and_the_api_serves(engine: Engine, tmp_path: Path) -> None:
    transport = httpx.ASGITransport(make_app(engine.services, Pages(tmp_path / "none")))
    async with httpx.AsyncClient(transport=transport, base_url="http://signet.test") as web:
        page = await web.get("/")
        assert page.status_code == 503
        assert "./signet up" in page.text
        assert page.headers["content-security-policy"] == POLICY
        assert (await web.get("/v1/")).status_code == 200


async def test_the_pages_take_no_route_of_the_api(engine: Engine, web: httpx.AsyncClient) -> None:
    for path in ("/", f"/{JS}"):
        assert (await engine.http.get(path)).status_code == 404
    for path in make_app(engine.services).openapi()["paths"]:
        assert (await web.get(path)).status_code == (await engine.http.get(path)).status_code
    for path in ("/openapi.json", "/asyncapi.json", "/docs/live"):
        assert (await web.get(path)).content == (await engine.http.get(path)).content


async def test_pages_are_read_only_and_of_this_server_alone(web: httpx.AsyncClient) -> None:
    answer = await web.post("/", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (405, "no_such_route")
    answer = await web.get("/", headers={"host": "evil.example"})
    assert answer.json()["code"] == "wrong_host"
