"""Which names, pages and proxies a server heeds."""

import json
from typing import Any

import httpx
import pytest
from fastapi import Request

from gateways.gate import Gate
from gateways.http import make_app
from gateways.refusal import Refusal
from gateways.services import EdgeSettings
from tests.gateways.live import live_engine, live_server
from tests.gateways.raw import REQUEST, raw_connection


def gate(**settings: Any) -> Gate:
    return Gate(EdgeSettings(**settings), "signet.test")


def code_of(check: Any, *args: Any) -> str | None:
    try:
        check(*args)
    except Refusal as refusal:
        return refusal.code
    return None


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        (["signet.test"], None),
        (["Signet.Test:8700"], None),
        (["signet.test."], None),
        (["localhost:8700"], None),
        (["127.0.0.1:8700"], None),
        (["10.1.2.3"], None),
        (["[::1]:8700"], None),
        (["chat.example"], None),
        ([], None),
        (["evil.example"], "wrong_host"),
        (["evil.example:8700"], "wrong_host"),
        (["signet.test.evil.example"], "wrong_host"),
        (["signet.test", "evil.example"], "wrong_host"),
        (["127.0.0.1.evil.example"], "wrong_host"),
        ([""], "wrong_host"),
    ],
)
def test_a_server_answers_to_its_names_and_to_addresses(hosts: list[str], code: str | None) -> None:
    """I12: a name of somebody else that was made to point here is none of them."""
    assert code_of(gate(hosts=("chat.example",)).check_host, hosts) == code


@pytest.mark.parametrize(
    ("origins", "code"),
    [
        ([], None),
        (["http://signet.test:8700"], None),
        (["https://Signet.Test:8700"], None),
        (["https://chat.example"], None),
        (["http://chat.example"], "wrong_origin"),
        (["https://evil.example"], "wrong_origin"),
        (["http://signet.test"], "wrong_origin"),
        (["http://signet.test:8700", "https://evil.example"], "wrong_origin"),
        (["null"], "wrong_origin"),
        ([""], "wrong_origin"),
    ],
)
def test_pages_of_this_server_may_connect_and_those_that_are_set(origins: list[str], code: str | None) -> None:
    """I12"""
    checked = gate(origins=("https://chat.example",)).check_origin
    assert code_of(checked, origins, ["signet.test:8700"]) == code


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.9 ,10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::9]:4711"], "2001:db8::9"),
        ("10.0.0.1", ["2001:DB8::9"], "2001:db8::9"),
        ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("::ffff:192.0.2.1", [], "192.0.2.1"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_only_a_trusted_proxy_names_the_client(peer: str, forwarded: list[str], client: str) -> None:
    """I11: or limits by address would be anybody's to evade, or to turn on others."""
    assert gate(trusted_proxies=("10.0.0.0/8",)).client(peer, forwarded) == client


def test_by_default_nobody_is_trusted() -> None:
    assert gate().client("127.0.0.1", ["203.0.113.9"]) == "127.0.0.1"


@pytest.mark.parametrize(("peer", "seen"), [("10.0.0.1", ("203.0.113.9", "https")), ("10.9.0.1", ("10.9.0.1", "http"))])
async def test_a_request_over_a_trusted_proxy_shows_the_client(peer: str, seen: tuple[str, str]) -> None:
    async with live_engine(trusted_proxies=("10.0.0.1",)) as engine:
        app = make_app(engine.services)
        found: list[tuple[str, str]] = []

        @app.get("/look")
        async def look(request: Request) -> None:
            assert request.client is not None
            found.append((request.client.host, request.url.scheme))

        transport = httpx.ASGITransport(app, client=(peer, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://signet.test") as http:
            headers = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
            assert (await http.get("/look", headers=headers)).status_code == 200
        assert found == [seen]


# Over sockets


async def test_http_for_another_host_is_refused() -> None:
    """I12"""
    async with live_server() as server, httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        for path in ("/healthz", "/v1/challenge", "/nothing"):
            answer = await http.get(path, headers={"host": "evil.example"})
            assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ((b"Host: signet.test", b"Host: evil.example"), 421, "wrong_host"),
        ((b"Host: signet.test", b"Host: signet.test\r\nHost: signet.test"), 421, "wrong_host"),
        ((b"Upgrade: ws", b"Origin: https://evil.example\r\nUpgrade: ws"), 403, "wrong_origin"),
        ((b"Upgrade: ws", b"Origin: null\r\nUpgrade: ws"), 403, "wrong_origin"),
        ((b"/v1/live", b"/v1/other"), 404, "no_such_route"),
    ],
)
async def test_a_wrong_upgrade_is_refused_with_a_code(changed: tuple[bytes, bytes], status: int, code: str) -> None:
    """I12"""
    async with live_server() as server, raw_connection(server) as (reader, writer):
        request = REQUEST.replace(b"Upgrade: websocket", b"Upgrade: ws").replace(*changed)
        writer.write(request.replace(b"Upgrade: ws", b"Upgrade: websocket"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert json.loads(body)["code"] == code


async def test_a_page_of_this_server_may_connect() -> None:
    async with live_server() as server, raw_connection(server) as (reader, writer):
        writer.write(REQUEST.replace(b"Upgrade: ws", b"Origin: http://signet.test\r\nUpgrade: ws"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_the_live_path_knows_the_client_behind_a_trusted_proxy() -> None:
    async with live_server(trusted_proxies=("127.0.0.1",)) as server, raw_connection(server) as (reader, writer):
        writer.write(REQUEST.replace(b"Host:", b"X-Forwarded-For: 203.0.113.9\r\nHost:"))
        await reader.readuntil(b"\r\n\r\n")
        [connection] = server.server.server_state.connections
        assert connection.address == "203.0.113.9"  # type: ignore[union-attr]
