"""What an import has put into a log, without what chance or the clock has put there."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from commands.keyring import FileKeyring
from commands.sealing import Sealer
from commands.stores import open_log
from domain.codec import CODEC, Event
from domain.entry import Sealed
from domain.log import START
from ops.datafolder import KEYRING
from ops.importing.files import day_logs
from ops.importing.run import Imported, import_logs
from ops.settings import Settings

_CHANCE = ("digest", "key", "signature")
"""Salts and keys are random."""


async def import_files(settings: Settings, *paths: Path) -> Imported:
    with day_logs(paths) as logs:
        return await import_logs(
            settings, logs, "#ubuntu", on_chunk=lambda counts, messages: None, on_position=lambda name, progress: None
        )


async def streams(settings: Settings) -> dict[str, list[Any]]:
    """All of them, each event with its command, its time, and its facts with texts unsealed."""
    log = open_log(settings.events_url)
    keyring = FileKeyring(settings.data / KEYRING, read_only=True)
    sealer = Sealer(keyring, lambda: 0)
    found: dict[str, list[Any]] = defaultdict(list)
    after = START
    while page := await log.read_all(after=after, limit=2_000):
        after = page[-1].position
        for recorded in page:
            event = CODEC.decode(recorded)
            assert event.version == len(found[event.stream])
            found[event.stream].append((recorded.topic, event.entry.cmd, event.entry.occ, _facts(event, sealer)))
    keyring.close()
    await log.close()
    return found


def _facts(event: Event, sealer: Sealer) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name in event.entry.e.__struct_fields__:
        value = getattr(event.entry.e, name)
        if isinstance(value, Sealed):
            facts[name] = _without_salt(sealer.unseal(value))
        elif name == "header":
            facts[name] = {field: it for field, it in json.loads(value).items() if field != "h"}
        elif name not in _CHANCE:
            facts[name] = msgspec.to_builtins(value)
    return facts


def _without_salt(text: str) -> Any:
    try:
        body = json.loads(text)
    except ValueError:
        return text
    return {name: value for name, value in body.items() if name != "salt"} if isinstance(body, dict) else text
