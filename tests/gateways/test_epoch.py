"""How far a device holds what a restored server holds (I4)."""

from gateways.epoch import Epoch
from projections.messages import Messages
from tests.projections.histories import History, fold, must

NOW = Epoch(id="third", before="second", position=0)


async def test_up_to_the_last_event_that_was_restored() -> None:
    history = History()
    ann, ben, cho = (history.register(name) for name in ("ann", "ben", "cho"))
    talk, other, later = history.direct(ann, ben), history.direct(ann, cho), history.direct(ben, cho)
    kept = must(history.send(talk, ann))
    elsewhere = must(history.send(other, ann))
    history.send(talk, ben)
    history.send(later, ben)
    messages = fold(Messages, history.events)
    epoch = Epoch(id="second", before="first", position=elsewhere.position)
    assert await epoch.kept("first", messages, talk) == kept.version + 1
    assert await epoch.kept("first", messages, other) == elsewhere.version + 1
    started = Epoch(id="second", before="first", position=1)
    assert await started.kept("first", messages, later) == 0, "it began after the backup"


async def test_all_where_nothing_was_lost_and_nothing_where_it_can_t_be_told() -> None:
    """Restored once more, a server knows nothing of what the restore before had left."""
    history = History()
    talk = history.direct(history.register("ann"), history.register("ben"))
    messages = fold(Messages, history.events)
    assert await NOW.kept("third", messages, talk) is None
    assert await NOW.kept("", messages, talk) is None, "it was never told of one"
    assert await NOW.kept("first", messages, talk) == 0
