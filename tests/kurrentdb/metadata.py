"""What a stream's metadata says of which events its reads show; it stands as JSON in the stream `$$NAME`."""

import json
from typing import Final, NamedTuple

METADATA: Final = "$metadata"
"""The type of its events."""
NOTHING: Final = b"{}"
DELETED: Final = 2**63 - 1
"""The `$tb` of a stream that is deleted, but has no tombstone."""


class Meta(NamedTuple):
    max_count: int | None = None
    max_age_s: float | None = None
    truncate_before: int = 0


def parse(raw: bytes) -> Meta | None:
    """None where it is no JSON object."""
    try:
        said = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    return Meta(said.get("$maxCount"), said.get("$maxAge"), said.get("$tb", 0))


def with_truncate_before(raw: bytes, version: int) -> bytes:
    """What else it says stays."""
    return json.dumps({**json.loads(raw), "$tb": version}).encode()
