"""Who answers whom: the annotations that stand beside a raw log.

`1002 1003 -` says that line 1003 answers line 1002, counted from 0. A line that is linked to itself begins a thread:
that is no answer. Whichever stands first, the later line answers the earlier one.
"""

import re
from collections import Counter
from collections.abc import Mapping, Set
from typing import Final

from ops.errors import OpsError

Links = dict[int, set[int]]
"""For each line the lines that it answers, all of them earlier ones."""

_LINK: Final = re.compile(r"(\d+) (\d+)(?: -)?\s*")

REASONS: Final = {
    "no_message": "one of the two lines says nothing that is stored",
    "not_the_nearest": "the line answers a later one as well, and a message names one that it answers",
}
"""Why a link is dropped."""


def parse_links(text: str, what: str) -> Links:
    """`what`: how an error names the text. Raises OpsError."""
    links: Links = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found = _LINK.fullmatch(line)
        if found is None:
            if line.strip():
                raise OpsError(f"{what}, line {number}: {line!r} is no link; one looks like `1002 1003 -`")
            continue
        earlier, later = sorted((int(found[1]), int(found[2])))
        if earlier != later:
            links.setdefault(later, set()).add(earlier)
    return links


def answered(lines: Set[int], seqs: Mapping[int, int], dropped: Counter[str]) -> int | None:
    """The seq of the message that a message with links to these lines is said to answer: of the last one before it.
    `seqs`: of all messages so far, by line. The other links are counted as dropped."""
    said = [line for line in lines if line in seqs]
    dropped["no_message"] += len(lines) - len(said)
    if not said:
        return None
    dropped["not_the_nearest"] += len(said) - 1
    return seqs[max(said)]
