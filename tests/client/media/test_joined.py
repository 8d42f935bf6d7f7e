"""Pieces read as one file."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signet_client.media.joined import joined


@given(pieces=st.lists(st.binary(max_size=20)), steps=st.lists(st.tuples(st.integers(0, 200), st.integers(-1, 70))))
def test_reads_as_if_they_were_one(pieces: list[bytes], steps: list[tuple[int, int]]) -> None:
    whole = io.BytesIO(b"".join(pieces))
    file = joined([memoryview(piece) for piece in pieces])
    for at, length in steps:
        assert file.seek(at) == whole.seek(at)
        assert file.read(length) == whole.read(length)
    assert file.seek(0, io.SEEK_END) == whole.seek(0, io.SEEK_END)
    assert file.seek(0) == 0
    assert file.read() == whole.getvalue()


def test_there_is_nothing_before_the_beginning() -> None:
    with pytest.raises(OSError, match="before the beginning"):
        joined([b"abc"]).seek(-1)
