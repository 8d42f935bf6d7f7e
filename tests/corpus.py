"""The chat that tests run on: the days in tests/data, and the whole corpus where it stands beside the checkout."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DAYS = sorted((ROOT / "tests/data/ubuntu-irc").glob("*.raw.txt"))
ARCHIVE = ROOT.parent / "shared/data/ubuntu-irc/train.tar.xz"

# 153 days are too many to be copied into the checkout, and a user's machine has nothing beside it.
needs_corpus = pytest.mark.skipif(
    not ARCHIVE.exists(),
    reason=f"no corpus at {ARCHIVE}: it is data/train of github.com/jkkummerfeld/irc-disentanglement, packed",
)


def corpus_logs() -> list[str]:
    """The raw logs of all 153 days, in order."""
    with tarfile.open(ARCHIVE) as archive:
        days = {name: archive.extractfile(name) for name in sorted(archive.getnames()) if name.endswith(".raw.txt")}
        return [day.read().decode() for day in days.values() if day is not None]
