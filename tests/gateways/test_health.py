"""What operators see: alive, ready, metrics; and that nobody else sees more than that."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from commands.stores.faults import Fate
from commands.stores.memory import Medium, MemoryLog
from gateways import readiness
from gateways.limits import LimitSettings, Rate
from signet_client import wire
from tests.gateways.engine import Engine, command, open_engine, sqlite_engine
from tests.gateways.live import MemoryDevice, live_engine, live_server, send

OUTSIDE = ("192.0.2.7", 4_711)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with sqlite_engine(tmp_path) as engine:
        yield engine


def from_outside(engine: Engine) -> httpx.AsyncClient:
    app = engine.http._transport.app  # type: ignore[attr-defined]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=OUTSIDE), base_url="http://signet.test")


async def metrics(engine: Engine) -> dict[str, float]:
    """By name and labels."""
    response = await engine.http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_each_stage_of_a_message_is_counted() -> None:
    limits = replace(LimitSettings(), receipts_device=Rate(per_s=0.01, burst=1))
    async with live_engine(limits=limits) as engine:
        ann, bob = await engine.person("Ann"), await engine.person("Bob")
        room = await ann.start_group(bob)
        at_ann, at_bob = await MemoryDevice(engine, ann).live(), await MemoryDevice(engine, bob).live()
        for text in ("one", "two"):
            await at_ann.sent(room, text)
            await at_bob.next(wire.Message)
        at_bob.say(wire.Ack(c=room, upto=3))
        await at_ann.next(wire.Receipt)
        at_bob.say(wire.Ack(c=room, upto=3))
        await at_bob.next(wire.Refused)
        at_bob.say(wire.Fetch(id="1", c="nowhere", after=0))
        await at_bob.next(wire.Refused)
        assert (await ann.ask("POST", f"/conversations/{room}/members", command(accounts=["x"]))).status_code == 404
        await engine.services.catch_up("inbox", "messages", "receipts", "directory")
        found = await metrics(engine)
    assert found["signet_frames_total|send"] == 2
    assert found["signet_frames_total|receipt"] == 2
    assert found["signet_frames_total|fetch"] == 1
    assert found["signet_refusals_total|rate_limited"] == 1
    assert found["signet_refusals_total|no_such_conversation"] == 1
    assert found["signet_refusals_total|no_such_account"] == 1
    assert found["signet_limits_met_total|receipts_device"] == 1
    assert found["signet_pushes_total"] >= 3
    assert found["signet_http_requests_total|register|200"] == 2
    assert found["signet_http_requests_total|add_members|404"] == 1
    # Two registrations of two events each, a start, two messages, one receipt.
    head = found["signet_log_position"]
    assert found["signet_events_total"] == 8
    assert head == found["signet_feed_position"] > 0
    assert found["signet_feed_lag"] == 0
    assert found["signet_readmodel_position|inbox"] == head
    assert found["signet_readmodel_lag|inbox"] == found["signet_readmodel_stopped|inbox"] == 0
    assert found["signet_batch_commands_sum"] >= 6
    assert found["signet_append_seconds_count"] <= found["signet_batch_commands_count"]
    assert found["signet_decide_seconds_bucket|+Inf"] == found["signet_decide_seconds_count"]
    assert found["signet_commands_waiting"] == found["signet_appends_open"] == 0


async def test_connections_and_how_they_end_are_counted() -> None:
    async with live_server() as server:
        ann = await server.engine.person("Ann")
        async with server.device(ann) as first:
            assert (await metrics(server.engine))["signet_connections"] == 1
            async with server.device(ann):
                assert await first.disconnected() == 4503
                found = await metrics(server.engine)
        assert found["signet_disconnects_total|replaced"] == 1
        assert found["signet_slow_readers"] == 0
        assert "process_open_fds" in found


async def test_what_breaks_the_protocol_is_counted_and_what_a_device_ends_is_not() -> None:
    async with live_server() as server:
        ann = await server.engine.person("Ann")
        async with server.device(ann) as device:
            await device.ws.send(b"binary")
            assert await device.disconnected() == 1003
        async with server.device(ann):
            pass  # it says goodbye
        async with server.device(ann) as device:
            await device.say(wire.Hello(account="", device="", signature=""))
            assert await device.disconnected() == 4501
        found = await metrics(server.engine)
        ended = {name: count for name, count in found.items() if name.startswith("signet_disconnects_total")}
        assert ended == {"signet_disconnects_total|unsupported_data": 1, "signet_disconnects_total|bad_frame": 1}


async def test_metrics_are_not_for_the_world(engine: Engine) -> None:
    """I12: from another machine, through a proxy on this one, or with a wrong token."""
    async with from_outside(engine) as outside:
        for response in (
            await outside.get("/metrics"),
            await outside.get("/metrics", headers={"authorization": "Bearer "}),
            await engine.http.get("/metrics", headers={"x-forwarded-for": "192.0.2.7"}),
            await engine.http.get("/metrics", headers={"forwarded": "for=192.0.2.7"}),
        ):
            assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")


async def test_behind_a_public_url_loopback_is_nobody_special(tmp_path: Path) -> None:
    """I12: a proxy on the same machine makes everybody seem to come from it."""
    async with sqlite_engine(tmp_path, trusts_loopback=False) as engine:
        assert (await engine.http.get("/metrics")).status_code == 401


async def test_a_token_opens_metrics_from_anywhere_and_nothing_else_does(tmp_path: Path) -> None:
    """I12"""
    token = "a token of operators"
    async with sqlite_engine(tmp_path, metrics_token=token) as engine, from_outside(engine) as outside:
        assert (await outside.get("/metrics", headers={"authorization": f"Bearer {token}"})).status_code == 200
        assert (await engine.http.get("/metrics")).status_code == 401
        assert (await outside.get("/metrics", headers={"authorization": f"Bearer {token}x"})).status_code == 401
        ann = await engine.person("Ann")
        headers = {"authorization": f"Bearer {ann.token}"}
        assert (await engine.http.get("/metrics", headers=headers)).status_code == 401
        assert (await engine.http.get("/v1/devices", headers={"authorization": f"Bearer {token}"})).status_code == 401


async def ready(http: httpx.AsyncClient) -> tuple[int, dict[str, str]]:
    """The status, and what is wrong with each part that is not ok."""
    response = await http.get("/readyz")
    body: Any = response.json()
    assert body["ready"] == (response.status_code == 200) == all(each["ok"] for each in body["checks"])
    return response.status_code, {each["name"]: each.get("detail", "") for each in body["checks"] if not each["ok"]}


async def test_an_engine_that_runs_is_alive_and_ready(engine: Engine) -> None:
    assert (await engine.http.get("/healthz")).json() == {"status": "ok"}
    response = await engine.http.get("/readyz")
    assert response.status_code == 200
    assert [each["name"] for each in response.json()["checks"]] == [
        "log", "keyring", "readmodel messages", "readmodel inbox", "readmodel receipts", "readmodel directory",
        "readmodel attestations",
        "readmodel media",
    ]  # fmt: skip


async def test_a_store_that_is_away_is_named_and_so_is_its_return() -> None:
    medium = Medium()
    async with open_engine(MemoryLog(medium), hands_over=True) as engine:
        ann = await engine.person("Ann")
        room = await ann.start_group()
        device = await MemoryDevice(engine, ann).live()
        medium.faults.when(lambda _: True, Fate.REFUSED)
        device.say(send(ann, room, "hello"))
        assert (await device.next(wire.Refused)).code == "unavailable"
        status, wrong = await ready(engine.http)
        assert (status, list(wrong)) == (503, ["log"])
        assert "the store refuses it" in wrong["log"]
        assert (await engine.http.get("/healthz")).status_code == 200
        medium.faults.heal()
        await device.sent(room, "hello again")
        assert await ready(engine.http) == (200, {})
        medium.faults.go_away()
        status, wrong = await ready(engine.http)
        assert (status, wrong["log"]) == (503, "the store is away")


async def test_a_read_model_that_stops_or_lags_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    await engine.person("Ann")
    await engine.services.catch_up("inbox")
    monkeypatch.setattr(engine.services.feed, "holds", lambda _position: False)
    status, wrong = await ready(engine.http)
    assert status == 503
    assert "wait until it has caught up" in wrong["readmodel inbox"]
    monkeypatch.setattr(engine.services.runners["inbox"], "stopped", "it has stopped")
    assert (await ready(engine.http))[1]["readmodel inbox"] == "it has stopped"


async def test_a_part_that_does_not_answer_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PROBE_MAX_S", 0.01)

    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async def broken() -> str:
        raise OSError("it is broken")

    found = await readiness.Readiness({"never": never, "broken": broken}).look()
    never_said = "no answer within 0.01 s: see to its server or disk, and to the network"
    assert found == {"never": never_said, "broken": "it is broken"}


async def test_strangers_learn_that_it_is_not_ready_and_not_why(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I12: reasons name paths and conversations."""
    monkeypatch.setattr(engine.services.runners["inbox"], "stopped", "a secret path")
    async with from_outside(engine) as outside:
        response = await outside.get("/readyz")
        assert response.status_code == 503
        assert "secret" not in response.text
        assert await ready(outside) == (503, {"readmodel inbox": ""})
