"""What nobody names is swept, after its time of grace, and nothing else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from domain.ids import CommandId, MediaId
from domain.media import ExpireMedia
from gateways.media.objects import folder_of
from gateways.media.place import Place
from gateways.media.sweep import UPLOAD_KEPT_S, Swept, Unswept
from tests.gateways.engine import Engine, Person, command, sqlite_engine
from tests.gateways.media.test_uploads import SEALED, facts, refused, show
from tests.gateways.uploads import put, reservation, upload
from tests.s3 import Server

GRACE_S, HOLD_S = 3_600, 600
NOTHING = Swept(expired=0, deleted=0, uploads=0)


@dataclass
class Bucket:
    """A part of the server's bucket that one test has for itself."""

    server: Server
    prefix: str

    @property
    def place(self) -> Place:
        return msgspec.structs.replace(self.server.place, prefix=self.prefix)

    def keys(self, folder: str) -> list[str]:
        return [key for key in self.server.files() if key.startswith(f"{self.prefix}/{folder}/")]

    def has(self, media: str) -> bool:
        """What was stored of it."""
        return f"{self.prefix}/{folder_of(media)}/{media}" in self.server.files()

    def has_upload(self, media: str) -> bool:
        return f"{self.prefix}/incoming/{media}" in self.server.files()


@pytest.fixture
def bucket(s3: Server) -> Bucket:
    return Bucket(s3, str(uuid4()))


@pytest.fixture
async def engine(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Engine]:
    async with sqlite_engine(tmp_path, bucket=bucket.place) as engine:
        yield engine


@pytest.fixture
async def anna(engine: Engine) -> Person:
    return await engine.person("Anna")


async def later(engine: Engine, seconds: float, *people: Person) -> None:
    engine.clock.forward(seconds)
    for person in people:
        await person.log_in()


async def phases(engine: Engine, media: str) -> list[str]:
    return [type(fact).__name__ for fact in await facts(engine, media)]


async def test_what_nobody_names_expires_and_then_is_deleted(engine: Engine, anna: Person, bucket: Bucket) -> None:
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    media, reserved = await upload(anna, SEALED), (await anna.do("POST", "/media", reservation(SEALED)))["media"]
    assert await sweeper.sweep() == NOTHING
    await later(engine, GRACE_S + 1, anna)
    assert await sweeper.sweep() == Swept(expired=2, deleted=0, uploads=0)
    assert bucket.has(media)
    assert refused(await anna.ask("GET", f"/media/{media}")) == "no_such_media"
    await later(engine, HOLD_S + 1, anna)
    assert await sweeper.sweep() == Swept(expired=0, deleted=2, uploads=0)
    assert not bucket.has(media)
    assert await phases(engine, media) == ["MediaReserved", "MediaStored", "MediaExpired", "MediaDeleted"]
    assert await phases(engine, reserved) == ["MediaReserved", "MediaExpired", "MediaDeleted"]
    assert await sweeper.sweep() == NOTHING


async def test_what_a_message_names_stays_until_it_is_retracted(engine: Engine, anna: Person, bucket: Bucket) -> None:
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    ben = await engine.person("Ben")
    group = await anna.start_group(ben)
    media = await upload(anna, SEALED)
    seq = (await show(anna, group, media)).json()["seq"]
    await later(engine, 1_000 * GRACE_S, anna, ben)
    assert await sweeper.sweep() == NOTHING
    await ben.do("GET", f"/media/{media}")
    await anna.do("POST", f"/conversations/{group}/messages/{seq}/retract", command())
    assert await sweeper.sweep() == NOTHING, "its time of grace begins anew"
    await later(engine, GRACE_S + 1)
    assert (await sweeper.sweep()).expired == 1
    await later(engine, HOLD_S + 1)
    assert (await sweeper.sweep()).deleted == 1
    assert not bucket.has(media)


async def test_what_has_expired_can_neither_be_shown_nor_completed(engine: Engine, anna: Person) -> None:
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    ben = await engine.person("Ben")
    group = await anna.start_group(ben)
    asked = reservation(SEALED)
    reserved = await anna.do("POST", "/media", asked)
    media = await upload(anna, SEALED)
    await later(engine, GRACE_S + 1, anna)
    await sweeper.sweep()
    assert refused(await show(anna, group, media)) == "no_such_media"
    await put(reserved["upload"], SEALED)
    gone = await anna.ask("POST", f"/media/{reserved['media']}/complete")
    assert (gone.status_code, refused(gone)) == (410, "media_expired")


async def test_who_was_away_for_long_reserves_it_anew(engine: Engine, anna: Person, bucket: Bucket) -> None:
    """With what it had sealed under the same id; also when all of it is gone, and while it is about to go."""
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    ben = await engine.person("Ben")
    group = await anna.start_group(ben)
    for passes in (1, 2):
        asked = reservation(SEALED)
        media = await upload(anna, SEALED, id=asked["id"])
        await later(engine, GRACE_S + 1, anna, ben)
        await sweeper.sweep()
        if passes == 2:
            await later(engine, HOLD_S + 1, anna, ben)
            assert (await sweeper.sweep()).deleted > 0
        assert refused(await show(anna, group, media)) == "no_such_media"
        assert await upload(anna, SEALED, id=asked["id"]) == media
        assert (await show(anna, group, media)).status_code == 200
        await later(engine, GRACE_S + 1, anna, ben)
        await sweeper.sweep()
        assert bucket.has(media)


async def test_a_message_of_the_same_moment_saves_it(engine: Engine, anna: Person, bucket: Bucket) -> None:
    """The expiry stands in one stream and the message in another: whichever comes first in the log, the object of what
    a message names stays."""
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    ben = await engine.person("Ben")
    group = await anna.start_group(ben)
    media = await upload(anna, SEALED)
    writer = engine.services.writer
    # Decided in one batch: the message by what was committed before it.
    expire = ExpireMedia(id=CommandId("5c7be2de-8a0e-4f3f-a79e-0a4f4f3a1c11"), media=MediaId(media))
    writer.submit(expire, turn="sweep", reply=lambda reply: None)
    assert (await show(anna, group, media)).status_code in (200, 404)
    await writer.execute(expire, turn="sweep")
    await later(engine, 1_000 * GRACE_S, anna, ben)
    await sweeper.sweep()
    named = await engine.services.media.named_in(MediaId(media), limit=1)
    assert bucket.has(media) == bool(named)
    assert ((await ben.ask("GET", f"/media/{media}")).status_code == 200) == bool(named)


async def test_an_expired_one_that_a_message_names_is_kept(engine: Engine, anna: Person, bucket: Bucket) -> None:
    """As `test_a_message_of_the_same_moment_saves_it`, where the message is first."""
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    ben = await engine.person("Ben")
    group = await anna.start_group(ben)
    media = await upload(anna, SEALED)
    assert (await show(anna, group, media)).status_code == 200
    expire = ExpireMedia(id=CommandId("5c7be2de-8a0e-4f3f-a79e-0a4f4f3a1c11"), media=MediaId(media))
    await engine.services.writer.execute(expire, turn="sweep")
    await later(engine, 1_000 * GRACE_S, anna, ben)
    assert (await sweeper.sweep()).deleted == 0
    assert bucket.has(media)
    await ben.do("GET", f"/media/{media}")


async def test_nothing_is_swept_while_the_read_model_is_not_whole(engine: Engine, anna: Person, bucket: Bucket) -> None:
    """An event that it lacks may be the very message that names it."""
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    media = await upload(anna, SEALED)
    await later(engine, GRACE_S + 1, anna)
    model = engine.services.media
    with model.db.transaction():
        model.db.execute("INSERT INTO skipped VALUES ('conversation-x', 3, 9, 'T', 'e', 'why', 1, 2)")
    with pytest.raises(Unswept):
        await sweeper.sweep()
    assert await phases(engine, media) == ["MediaReserved", "MediaStored"]


async def test_what_is_uploaded_once_more_is_cleared_away(engine: Engine, anna: Person, bucket: Bucket) -> None:
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    asked = reservation(SEALED)
    reserved = await anna.do("POST", "/media", asked)
    await put(reserved["upload"], SEALED)
    await anna.do("POST", f"/media/{reserved['media']}/complete")
    await put(reserved["upload"], SEALED)
    waiting = (await anna.do("POST", "/media", reservation(SEALED)))["upload"]
    await put(waiting, SEALED)
    assert await sweeper.sweep() == NOTHING, "somebody may be uploading it"
    await later(engine, HOLD_S + 1)
    assert await sweeper.sweep() == Swept(expired=0, deleted=0, uploads=1)
    assert not bucket.has_upload(reserved["media"])
    assert bucket.has(reserved["media"])
    assert bucket.keys("incoming"), "what is reserved may still be completed"


async def test_a_sweep_that_was_broken_off_goes_on(engine: Engine, anna: Person, bucket: Bucket) -> None:
    sweeper = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S)
    media = await upload(anna, SEALED)
    await later(engine, GRACE_S + 1)
    await sweeper.sweep()
    await later(engine, HOLD_S + 1)
    bucket.server.kill()
    try:
        with pytest.raises(Exception, match="object store"):
            await sweeper.sweep()
    finally:
        bucket.server.restart()
    assert (await phases(engine, media))[-1] == "MediaExpired"
    assert (await sweeper.sweep()).deleted == 1


async def test_a_restored_server_waits_for_what_devices_bring_again(engine: Engine, anna: Person) -> None:
    """The times in its log are old, and the message that names it may be yet to come."""
    media = await upload(anna, SEALED)
    await later(engine, GRACE_S + 1)
    waiting = engine.sweeper(grace_s=GRACE_S, hold_s=HOLD_S, not_before=engine.clock() + 1_000_000)
    assert (await waiting.sweep()).expired == 0
    engine.clock.forward(2)
    assert (await waiting.sweep()).expired == 1
    assert (await phases(engine, media))[-1] == "MediaExpired"


async def test_an_upload_that_nobody_completes_goes_long_before_its_reservation(
    engine: Engine, anna: Person, bucket: Bucket
) -> None:
    sweeper = engine.sweeper(grace_s=1_000 * GRACE_S, hold_s=HOLD_S)
    asked = reservation(SEALED)
    reserved = await anna.do("POST", "/media", asked)
    await put(reserved["upload"], SEALED)
    await later(engine, HOLD_S + UPLOAD_KEPT_S + 1, anna)
    assert await sweeper.sweep() == Swept(expired=0, deleted=0, uploads=1)
    assert not bucket.has_upload(reserved["media"])
    assert refused(await anna.ask("POST", f"/media/{reserved['media']}/complete")) == "not_uploaded"
    assert await upload(anna, SEALED, id=asked["id"]) == reserved["media"]
