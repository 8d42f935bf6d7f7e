"""Names of files that came from others."""

import re
import unicodedata
from typing import Final

NAME_CHARACTERS_MAX: Final = 120
NAME_BYTES_MAX: Final = 240
"""As UTF-8. File systems take 255, and a download may want to hang a few on it."""
NAME_INSTEAD: Final = "file"
_EXTENSION_CHARACTERS_MAX: Final = 16
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that nobody sees, or that turn others around: a name must read as what it is."""
_NOT_ON_WINDOWS: Final = str.maketrans('<>:"|?*', "_______")
_AT_THE_ENDS: Final = re.compile(r"^[.\s]+|[.\s]+$")
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {name + digit for name in ("com", "lpt") for digit in "0123456789¹²³"}
)


def safe_name(text: str) -> str:
    """The name under which a received file may be kept in a folder on any system, whatever its sender called it.

    Never empty, at most NAME_CHARACTERS_MAX and NAME_BYTES_MAX long, keeps a short extension, and is what it was where
    it is given again.
    """
    last = text.replace("\\", "/").rstrip("/ ").rpartition("/")[2]
    seen = "".join(character for character in last if unicodedata.category(character) not in _UNSEEN)
    name = _trimmed(unicodedata.normalize("NFC", seen).translate(_NOT_ON_WINDOWS)) or NAME_INSTEAD
    # Windows takes these for devices, whatever extension follows.
    if name.partition(".")[0].rstrip().lower() in _DEVICES:
        name = f"_{name}"
    return _shortened(name)


def _trimmed(name: str) -> str:
    """Dots at the beginning hide a file, and Windows drops those at the end."""
    return _AT_THE_ENDS.sub("", name)


def _shortened(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > _EXTENSION_CHARACTERS_MAX:
        stem, ending = name, ""
    else:
        ending = dot + extension
    while len(stem + ending) > NAME_CHARACTERS_MAX or len((stem + ending).encode()) > NAME_BYTES_MAX:
        stem = stem[:-1]
    return _trimmed(stem + ending)
