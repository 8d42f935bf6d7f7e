"""Names under which files that came from others are kept."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signet_client.media.names import NAME_BYTES_MAX, NAME_CHARACTERS_MAX, safe_name


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("garden.jpg", "garden.jpg"),
        ("Grüße aus Köln.jpg", "Grüße aus Köln.jpg"),
        ("日本.png", "日本.png"),
        ("archive.tar.gz", "archive.tar.gz"),
        ("", "file"),
        ("...", "file"),
        ("/", "file"),
        ("..", "file"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
        ("a/b/", "b"),
        (".bashrc", "bashrc"),
        (" . hidden", "hidden"),
        ("ends in a dot. ", "ends in a dot"),
        ("a\0b\nc\x7fd\x85e", "abcde"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("\u2066x\u2069.txt", "x.txt"),
        ('a<b>c:d"e|f?g*h', "a_b_c_d_e_f_g_h"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("Com1.tar.gz", "_Com1.tar.gz"),
        ("lpt¹ .x", "_lpt¹ .x"),
        ("console.txt", "console.txt"),
        ("\ud800x", "x"),
        ("cafe\u0301", "café"),
    ],
)
def test_what_becomes_of_a_name(told: str, kept: str) -> None:
    assert safe_name(told) == kept


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_name("x" * 500 + ".jpg") == "x" * (NAME_CHARACTERS_MAX - 4) + ".jpg"
    assert safe_name("x" * 500) == "x" * NAME_CHARACTERS_MAX
    assert safe_name("x." + "y" * 500) == "x." + "y" * (NAME_CHARACTERS_MAX - 2)
    assert safe_name("😀" * 119 + ".jpg") == "😀" * 59 + ".jpg"


@given(st.text() | st.text(alphabet="./\\ \t\u00a0conau1:\u202e😀é\u0301", max_size=300))
@example(". \u00a0x")
def test_every_name_is_safe(told: str) -> None:
    name = safe_name(told)
    assert 0 < len(name) <= NAME_CHARACTERS_MAX
    assert len(name.encode()) <= NAME_BYTES_MAX
    assert not set(name) & set('/\\<>:"|?*')
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert not {unicodedata.category(character) for character in name} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert safe_name(name) == name
