"""The format of a sealed file: it opens only whole, in order, and where it belongs."""

import hashlib
import io
import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from signet_client.media.sealing import (
    CHUNK_BYTES,
    SEALED_SEGMENT_BYTES,
    SEGMENT_BYTES,
    Opener,
    SourceChanged,
    Tampered,
    new_key,
    pieces_of,
    seal,
    sealed_size,
    segment_count,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

KEY = bytes(range(32))
MEDIA = UUID("6f1c8d2e-3b4a-4c5d-8e9f-0123456789ab")
SEALED_CHUNK = CHUNK_BYTES + 17
EDGES = [
    0,
    1,
    *(size + more for size in (CHUNK_BYTES, SEGMENT_BYTES) for more in (-1, 0, 1)),
    2 * SEGMENT_BYTES,
    2 * SEGMENT_BYTES + 1,
]


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def sealed(plain: bytes, *, key: bytes = KEY, media: UUID = MEDIA) -> bytes:
    target = io.BytesIO()
    seal([plain], target, key=key, media=media, size=len(plain))
    return target.getvalue()


def opened(
    ciphertext: bytes,
    *,
    size: int,
    key: bytes = KEY,
    media: UUID = MEDIA,
    digest: bytes | None = None,
    cut: Callable[[int], int] = lambda at: 100_000,
) -> bytes:
    """`cut`: how long the piece is that begins at a byte."""
    opener = Opener(key=key, media=media, size=size, digest=digest or hashlib.sha256(ciphertext).digest())
    return through(opener, ciphertext, cut)


def through(opener: Opener, ciphertext: bytes, cut: Callable[[int], int] = lambda at: 100_000) -> bytes:
    plain = bytearray()
    at = 0
    while at < len(ciphertext):
        piece = memoryview(ciphertext)[at : at + cut(at)]
        at += len(piece)
        for part in opener.feed(piece):
            plain += part
    opener.finish()
    return bytes(plain)


@pytest.mark.parametrize("size", EDGES)
def test_what_was_sealed_opens(size: int) -> None:
    plain = some_bytes(size)
    target = io.BytesIO()
    digest = seal(pieces_of(io.BytesIO(plain)), target, key=KEY, media=MEDIA, size=size)
    ciphertext = target.getvalue()
    assert hashlib.sha256(ciphertext).digest() == digest
    assert len(ciphertext) == sealed_size(size)
    assert opened(ciphertext, size=size, digest=digest) == plain


@pytest.mark.parametrize("size", EDGES)
def test_the_format_is_what_its_page_says(size: int) -> None:
    """Opened by a reader that shares nothing with the code but libsodium."""
    plain = some_bytes(size)
    assert b"".join(_read_by_the_page(sealed(plain), segment_count(size))) == plain


def _read_by_the_page(ciphertext: bytes, count: int) -> Iterator[bytes]:
    pull = bindings.crypto_secretstream_xchacha20poly1305_pull
    for number in range(count):
        segment = ciphertext[number * 4_195_416 : (number + 1) * 4_195_416]
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        bindings.crypto_secretstream_xchacha20poly1305_init_pull(state, segment[:24], KEY)
        chunks = [segment[at : at + 65_553] for at in range(24, len(segment), 65_553)]
        bound = b"signet.media.v1\n" + MEDIA.bytes + number.to_bytes(8, "big") + count.to_bytes(8, "big")
        for index, chunk in enumerate(chunks, start=1):
            plain, tag = pull(state, chunk, bound)
            assert (tag == 3) == (index == len(chunks))
            yield plain


def test_a_file_of_the_first_version_still_opens() -> None:
    ciphertext = bytes.fromhex(
        "379c1ec8da4b1468d4d5da9a7747fa509bea0f41d57069b381396c2698e50f60e9554bde10f164df"
        "afd3393e9fcef019fb3f9d4c9bfcaabcf4"
    )
    digest = bytes.fromhex("34d54b03512fca08f6c86325f0d26680046ffe27daf9a5671bdcf6dc2beb18ed")
    assert opened(ciphertext, size=16, digest=digest) == b"Meet me at nine."


@given(st.integers(0, 2**50))
def test_a_longer_file_is_longer_when_it_is_sealed(size: int) -> None:
    assert size < sealed_size(size) < sealed_size(size + 1)


def test_no_file_is_shorter_than_none() -> None:
    with pytest.raises(ValueError, match="can't have"):
        sealed_size(-1)


@settings(max_examples=60)
@given(size=st.integers(0, 5 * CHUNK_BYTES), seed=st.integers(), longest=st.sampled_from([1, 40, 70_000, 400_000]))
def test_pieces_of_any_length_give_the_same(size: int, seed: int, longest: int) -> None:
    """Some are of one byte, or none; the plaintext comes in pieces as well."""
    chance = random.Random(seed)
    longest = max(longest, size // 2000)
    plain = some_bytes(size)
    pieces = []
    at = 0
    while at < size:
        length = chance.randint(0, longest)
        pieces.append(memoryview(plain)[at : at + length])
        at += length
    target = io.BytesIO()
    digest = seal(pieces, target, key=KEY, media=MEDIA, size=size)
    ciphertext = target.getvalue()
    assert opened(ciphertext, size=size, digest=digest, cut=lambda _: chance.randint(0, longest)) == plain


SIZE = 2 * SEGMENT_BYTES + 3 * CHUNK_BYTES + 5
PLAIN = some_bytes(SIZE)
WHOLE = sealed(PLAIN)


def _chunk(number: int) -> slice:
    """A chunk of the first segment."""
    return slice(24 + number * SEALED_CHUNK, 24 + (number + 1) * SEALED_CHUNK)


def _segment(number: int) -> slice:
    return slice(number * SEALED_SEGMENT_BYTES, (number + 1) * SEALED_SEGMENT_BYTES)


def _flipped(at: int) -> bytes:
    changed = bytearray(WHOLE)
    changed[at] ^= 1
    return bytes(changed)


def _swapped(one: slice, other: slice) -> bytes:
    return WHOLE[: one.start] + WHOLE[other] + WHOLE[one.stop : other.start] + WHOLE[one] + WHOLE[other.stop :]


def _dropped(part: slice) -> bytes:
    return WHOLE[: part.start] + WHOLE[part.stop :]


def _doubled(part: slice) -> bytes:
    return WHOLE[: part.stop] + WHOLE[part.start :]


TAMPERED = {
    "nothing": b"",
    "cut after the header": WHOLE[:24],
    "cut after a chunk": WHOLE[: _chunk(5).stop],
    "cut in a chunk": WHOLE[: _chunk(5).stop - 7],
    "cut after a segment": WHOLE[: _segment(1).stop],
    "cut before the last chunk": WHOLE[: -(5 + 17)],
    "cut by a byte": WHOLE[:-1],
    "chunks swapped": _swapped(_chunk(2), _chunk(3)),
    "segments swapped": _swapped(_segment(0), _segment(1)),
    "headers swapped": _swapped(slice(0, 24), slice(SEALED_SEGMENT_BYTES, SEALED_SEGMENT_BYTES + 24)),
    "a chunk dropped": _dropped(_chunk(2)),
    "the first chunk dropped": _dropped(_chunk(0)),
    "the last chunk of a segment dropped": _dropped(_chunk(63)),
    "a segment dropped": _dropped(_segment(1)),
    "the last segment dropped": _dropped(slice(_segment(2).start, len(WHOLE))),
    "a chunk doubled": _doubled(_chunk(2)),
    "a segment doubled": _doubled(_segment(0)),
    "a header flipped": _flipped(3),
    "a tag flipped": _flipped(24),
    "a bit flipped": _flipped(_segment(1).start + 1000),
    "the last bit flipped": _flipped(len(WHOLE) - 1),
    "a byte appended": WHOLE + b"\0",
    "a segment appended": WHOLE + WHOLE[_segment(0)],
    "the whole doubled": WHOLE + WHOLE,
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_refused(what: str) -> None:
    """Even where the digest is that of the changed file."""
    with pytest.raises(Tampered):
        opened(TAMPERED[what], size=SIZE)


@pytest.mark.parametrize("what", TAMPERED)
def test_and_where_it_comes_as_a_range(what: str) -> None:
    opener = Opener(key=KEY, media=MEDIA, size=SIZE, digest=None, segments=range(3))
    with pytest.raises(Tampered):
        through(opener, TAMPERED[what])


def test_another_media_id_key_size_or_digest_is_refused() -> None:
    assert opened(WHOLE, size=SIZE) == PLAIN
    refused: list[Callable[[], bytes]] = [
        lambda: opened(WHOLE, size=SIZE, media=UUID(int=7)),
        lambda: opened(WHOLE, size=SIZE, key=new_key()),
        lambda: opened(WHOLE, size=SIZE, digest=bytes(32)),
        lambda: opened(WHOLE, size=SIZE - 1),
        lambda: opened(WHOLE, size=SIZE + 1),
        lambda: opened(WHOLE[: _segment(1).stop], size=2 * SEGMENT_BYTES),
        lambda: opened(WHOLE[_segment(0)], size=SEGMENT_BYTES),
        lambda: opened(WHOLE[_segment(0)] * 2, size=2 * SEGMENT_BYTES),
    ]
    for opening in refused:
        with pytest.raises(Tampered):
            opening()


def test_two_files_with_one_key_can_not_be_mixed() -> None:
    other = sealed(some_bytes(SIZE - 1) + b"x", media=UUID(int=7))
    mixed = WHOLE[_segment(0)] + other[_segment(1)] + WHOLE[_segment(2)]
    with pytest.raises(Tampered, match="segment 1"):
        opened(mixed, size=SIZE)


def test_a_segment_that_its_sealer_ended_early_is_refused() -> None:
    """By somebody who has the key: a chunk that is FINAL where more must come, and one that isn't where it must be."""
    for size, tags in ((CHUNK_BYTES + 1, (3, 3)), (CHUNK_BYTES + 1, (0, 0)), (5, (1,)), (5, (2,))):
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        forged = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, KEY)
        bound = b"signet.media.v1\n" + MEDIA.bytes + bytes(8) + (1).to_bytes(8, "big")
        for index, tag in enumerate(tags):
            chunk = bytes(min(CHUNK_BYTES, size - index * CHUNK_BYTES))
            forged += bindings.crypto_secretstream_xchacha20poly1305_push(state, chunk, bound, tag)
        with pytest.raises(Tampered, match="does not end"):
            opened(forged, size=size)


def test_nothing_more_is_opened_after_a_fault() -> None:
    opener = Opener(key=KEY, media=MEDIA, size=SIZE, digest=None, segments=range(3))
    with pytest.raises(Tampered, match="segment 0"):
        opener.feed(_flipped(_chunk(0).start + 9)[: _chunk(0).stop])
    with pytest.raises(Tampered, match="earlier"):
        opener.feed(WHOLE[_chunk(1)])
    with pytest.raises(Tampered, match="earlier"):
        opener.finish()


def test_a_range_of_segments_opens_alone() -> None:
    for segments in (range(1), range(1, 2), range(2, 3), range(1, 3)):
        opener = Opener(key=KEY, media=MEDIA, size=SIZE, digest=None, segments=segments)
        span = slice(segments.start * SEALED_SEGMENT_BYTES, segments.stop * SEALED_SEGMENT_BYTES)
        assert opener.expected == len(WHOLE[span])
        assert through(opener, WHOLE[span]) == PLAIN[segments.start * SEGMENT_BYTES : segments.stop * SEGMENT_BYTES]


@pytest.mark.parametrize("segments", [range(0), range(3, 4), range(2, 4), range(-1, 1), range(0, 3, 2)])
def test_segments_that_a_file_has_not_are_refused(segments: range) -> None:
    with pytest.raises(ValueError, match="3 segments"):
        Opener(key=KEY, media=MEDIA, size=SIZE, digest=None, segments=segments)


def test_goes_on_after_a_break_at_any_byte() -> None:
    opener = Opener(key=KEY, media=MEDIA, size=SIZE, digest=hashlib.sha256(WHOLE).digest())
    plain = b"".join(opener.feed(WHOLE[:5_000_001]))
    with pytest.raises(Tampered, match="only 5000001 of"):
        opener.finish()
    plain += through(opener, WHOLE[opener.received :])
    assert plain == PLAIN


def test_the_source_must_have_the_size_that_was_told() -> None:
    for size, told in (
        (10, 9),
        (10, 11),
        (0, 1),
        (1, 0),
        (CHUNK_BYTES, CHUNK_BYTES + 1),
        (CHUNK_BYTES + 1, CHUNK_BYTES),
    ):
        with pytest.raises(SourceChanged):
            seal([bytes(size)], io.BytesIO(), key=KEY, media=MEDIA, size=told)


def test_each_sealing_is_another_ciphertext() -> None:
    assert sealed(b"the same") != sealed(b"the same")
    assert len(new_key()) == 32
    assert new_key() != new_key()


class _Sink(io.RawIOBase):
    """Feeds an opener with what is written, and keeps nothing."""

    def __init__(self, opener: Opener) -> None:
        self.opener = opener
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: "ReadableBuffer", /) -> int:
        self.size += sum(map(len, self.opener.feed(memoryview(piece))))
        return memoryview(piece).nbytes


def test_memory_stays_flat() -> None:
    size = 40_000_000
    block = bytes(1_000_000)
    tracemalloc.start()
    try:
        opener = Opener(key=KEY, media=MEDIA, size=size, digest=None, segments=range(segment_count(size)))
        sink = _Sink(opener)
        with io.BufferedWriter(sink) as target:
            seal((block for _ in range(40)), target, key=KEY, media=MEDIA, size=size)
        opener.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sink.size == size
    assert peak < 3_000_000
