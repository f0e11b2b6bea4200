"""The garbage collector of a process that creates many objects and hardly any cycles."""

import gc

_THRESHOLDS = (20_000, 20, 100)


def collect_rarely() -> None:
    """Collect rarely from now on, and never again look at what exists now. Call it once the process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
