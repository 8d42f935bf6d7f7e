"""Python's garbage collector, where much is made and nothing of it is cyclic."""

import gc


def calm_garbage_collector() -> None:
    """What stands now stays. Of what messages, connections and requests make nothing is cyclic, so looking for cycles
    every 700 objects, as is the default, would find nothing and cost a tenth of the CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
