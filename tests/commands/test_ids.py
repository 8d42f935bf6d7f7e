"""What is random is never given out twice, whoever draws it."""

import os
from uuid import UUID

from commands.ids import draws, new_uuid


def test_ids_are_random_uuids_in_their_canonical_form() -> None:
    made = [new_uuid() for _ in range(1_000)]
    assert len(set(made)) == len(made)
    for text in made:
        assert (str(UUID(text)), UUID(text).version, UUID(text).variant) == (text, 4, UUID(made[0]).variant)
    assert {text[19] for text in made} == set("89ab")


def test_draws_have_their_size_and_never_repeat() -> None:
    drawn = draws(24)
    taken = [next(drawn) for _ in range(2_000)]
    assert {len(each) for each in taken} == {24}
    assert len(set(taken)) == len(taken)


def test_a_forked_process_draws_anew() -> None:
    """Else both would seal with the same nonces."""
    drawn = draws(24)
    next(drawn)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(next(drawn) for _ in range(3)))
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        theirs = pipe.read()
    ours = [next(drawn) for _ in range(3)]
    assert len(theirs) == 72
    assert not any(each in theirs for each in ours)
