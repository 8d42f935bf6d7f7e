"""When something happened is claimed by an importer alone: nobody from outside can."""

from typing import Any, Final
from uuid import uuid4

import msgspec

from domain.log import START
from signet_client import wire
from tests.gateways.engine import command
from tests.gateways.live import MemoryDevice, live_engine, send

CLAIMS: Final = {"occ": 1, "occurred": 1, "occurred_at": 1}


async def test_what_a_header_or_a_request_claims_is_not_believed() -> None:
    async with live_engine() as engine:
        ann, bob = await engine.person("Ann"), await engine.person("Bob")
        start = command(kind="group", members=[bob.account], title="t", protection="none", **CLAIMS)
        room = (await ann.do("POST", "/conversations", start))["conversation"]
        where = f"/conversations/{room}"
        message: dict[str, Any] = ann.message(room, "by HTTP", **CLAIMS)
        await ann.do("POST", f"{where}/messages", message | CLAIMS)
        device = await MemoryDevice(engine, ann).live()
        device.say(send(ann, room, "live", **CLAIMS))
        await device.next(wire.Accepted)
        await bob.do("POST", f"{where}/leave", {"id": str(uuid4()), "after": 1, **CLAIMS})
        await ann.do("POST", f"{where}/members", command(after=1, accounts=[bob.account], **CLAIMS))
        events = await engine.services.feed.read(after=START, limit=100)
        assert len(events) >= 9
        assert {event.entry.occ for event in events} == {None}


def test_no_frame_of_a_client_has_room_for_it() -> None:
    names = {field.encode_name for frame in wire.ClientFrame.__args__ for field in msgspec.structs.fields(frame)}
    assert "header" in names
    assert not any(name.startswith("occ") for name in names)
