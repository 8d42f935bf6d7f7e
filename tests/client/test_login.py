"""The hello: never longer than a frame may be."""

from uuid import UUID

import msgspec
import pytest

from signet_client import wire
from signet_client.identity import Identity
from signet_client.login import hello_to
from signet_client.records import Marks, Profile
from tests.client.fake import ME

TALKS = [str(UUID(int=number)) for number in range(10_000)]


def hello(talks: list[str], *, frame_bytes_max: int, most_recent: list[str]) -> wire.Hello:
    challenge = wire.Challenge(
        nonce="n" * 64, server="s" * 253, frame_bytes_max=frame_bytes_max, body_bytes_max=frame_bytes_max
    )
    profile = Profile(url="http://127.0.0.1", account=ME, device="d" * 64)
    marks = {talk: Marks(cursor=2**53 - 1) for talk in talks}
    return hello_to(challenge, profile, Identity(), marks, lambda: most_recent)


def test_names_all_where_there_is_room() -> None:
    made = hello(TALKS[:50], frame_bytes_max=4_096, most_recent=[])
    assert not made.partial
    assert set(made.cursors) == set(TALKS[:50])


@pytest.mark.parametrize("frame_bytes_max", [4_096, 262_144])
def test_names_the_most_recent_where_there_is_none(frame_bytes_max: int) -> None:
    """I11: ten thousand groups that a stranger has started with somebody lock nobody out."""
    made = hello(TALKS, frame_bytes_max=frame_bytes_max, most_recent=TALKS[::-1])
    size = len(msgspec.json.encode(made))
    assert made.partial
    assert list(made.cursors) == TALKS[: -1 - len(made.cursors) : -1]
    assert frame_bytes_max - 1_024 < size <= frame_bytes_max


def test_names_nothing_that_it_does_not_hold() -> None:
    """I4: a conversation of which nothing is held has no cursor, nor one that is in the store alone."""
    made = hello(TALKS, frame_bytes_max=4_096, most_recent=["elsewhere", TALKS[7]])
    assert list(made.cursors) == [TALKS[7]]
