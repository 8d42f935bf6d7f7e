"""The object store that the settings name: any S3, or one of our own on a folder of the data folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from gateways.media.objects import ObjectStore, ObjectsUnavailable
from gateways.media.place import Place
from ops.datafolder import MEDIA, free_bytes
from ops.errors import OpsError
from ops.rclone import Rclone, find_rclone
from ops.settings import Settings

KEPT_FREE_BYTES: Final = 512_000_000
"""For the log and all else: media are refused before that is touched."""
_COPIES: Final = 2
"""While an upload is taken in it lies there twice."""


@asynccontextmanager
async def open_objects(settings: Settings) -> AsyncIterator[ObjectStore]:
    """Raises ObjectsUnavailable with what to do."""
    if settings.media:
        place = Place.parse(settings.media, public_endpoint=settings.media_public_url)
        async with _opened(ObjectStore(place, address_life_s=settings.media_address_s)) as store:
            yield store
        return
    try:
        async with _embedded(settings) as store:
            yield store
    except OpsError as error:
        raise ObjectsUnavailable(str(error)) from error


def check_objects(settings: Settings) -> None:
    """Whether what is needed for them is installed, since they are opened only when they are first needed. Raises
    OpsError."""
    if not settings.media:
        find_rclone()


def room_for(settings: Settings) -> int | None:
    """How many bytes of media there is room for; None where nobody here knows."""
    if settings.media:
        return None
    return max(0, free_bytes(settings.data) - KEPT_FREE_BYTES) // _COPIES


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[ObjectStore]:
    opening: set[asyncio.Task[None]] = set()

    def moved(place: Place) -> None:
        opening.add(asyncio.create_task(store.open(_public(place))))

    def _public(place: Place) -> Place:
        return msgspec.structs.replace(place, public_endpoint=settings.media_public_url)

    async with Rclone.serving(settings.data / MEDIA, port=settings.media_port, moved=moved) as server:
        store = ObjectStore(
            _public(server.place), make_durable=server.make_durable, address_life_s=settings.media_address_s
        )
        async with _opened(store):
            yield store
        await asyncio.gather(*opening, return_exceptions=True)


@asynccontextmanager
async def _opened(store: ObjectStore) -> AsyncIterator[ObjectStore]:
    try:
        await store.open()
        yield store
    finally:
        await store.close()
