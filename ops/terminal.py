"""What may go to a terminal."""


def printable(text: str) -> str:
    """The text on one line, without control characters: what others write must not steer the reader's terminal."""
    return "".join(char if char.isprintable() else _stand_in(char) for char in text)


def _stand_in(char: str) -> str:
    return " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
