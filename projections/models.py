"""All read models that this release knows, each in all versions that it can serve."""

from typing import Final

from projections.attestations import Attestations
from projections.directory import Directory
from projections.inbox import Inbox
from projections.media import Media
from projections.messages import Messages
from projections.readmodel import ReadModel
from projections.receipts import Receipts
from projections.statistics import Statistics

MODELS: Final[dict[str, tuple[type[ReadModel], ...]]] = {
    Messages.name: (Messages,),
    Inbox.name: (Inbox,),
    Receipts.name: (Receipts,),
    Directory.name: (Directory,),
    Statistics.name: (Statistics,),
    Attestations.name: (Attestations,),
    Media.name: (Media,),
}
"""By name; of each the oldest version first. The last one is the one to be built; the others serve until it is, and are
there to go back to: a class may be deleted one release after its successor came."""


def newest(name: str) -> type[ReadModel]:
    return MODELS[name][-1]


def newest_of_all() -> tuple[type[ReadModel], ...]:
    return tuple(versions[-1] for versions in MODELS.values())
