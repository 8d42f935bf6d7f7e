"""A picture in a terminal; somebody may have sent anything as one."""

import contextlib
import struct

import pytest
from PIL import Image

from ops.chatting.drawing import COLUMNS_MAX, LINES_MAX, draw
from ops.errors import OpsError
from tests.client.media.samples import picture, saved


def jpeg(width: int, height: int) -> bytes:
    return saved(Image.new("RGB", (width, height), "red"), "JPEG")


def saying(width: int, height: int) -> bytes:
    """A small one, whose head says that it is larger."""
    whole = bytearray(jpeg(8, 8))
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(whole)


def test_two_pixels_a_character_in_colour() -> None:
    lines = draw(saved(picture(side=40), "JPEG"), columns=80, colours=True)
    assert len(lines) == 15
    assert all(line.count("▀") == 40 and line.endswith("\x1b[0m") for line in lines)


def test_without_colours_by_how_dark_it_is() -> None:
    halves = Image.new("L", (20, 20), 0)
    halves.paste(255, (10, 0, 20, 20))
    lines = draw(saved(halves, "JPEG"), columns=20, colours=False)
    assert len(lines) == 10
    assert all(set(line[:8]) <= {*" ."} and set(line[-8:]) <= {*"%@"} for line in lines)


def test_it_fits_into_the_terminal() -> None:
    for columns in (1, 10, 500):
        lines = draw(jpeg(320, 240), columns=columns, colours=False)
        assert len(lines[0]) == min(columns, COLUMNS_MAX)


def test_one_that_is_high_and_narrow_is_not_endless() -> None:
    assert len(draw(jpeg(1, 1_000), columns=80, colours=True)) <= LINES_MAX


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "data",
    [
        saying(65_500, 65_500), saying(12_000, 12_000), saying(1, 60_000), jpeg(2_000, 10), jpeg(300, 300)[:400],
        b"", b"\xff\xd8", b"no JPEG", saved(picture(), "PNG"),
    ],
)  # fmt: skip
def test_what_is_no_preview_is_told_to_be_none(data: bytes) -> None:
    with pytest.raises(OpsError, match="preview"):
        draw(data, columns=80, colours=True)


def test_whatever_is_changed_of_one_ends_no_chat() -> None:
    whole = saved(picture(), "JPEG")
    for at in range(0, len(whole), 7):
        for value in (0, 0xFF):
            changed = whole[:at] + bytes([value]) + whole[at + 1 :]
            with contextlib.suppress(OpsError):
                assert len(draw(changed, columns=80, colours=False)) <= LINES_MAX
