"""The garbage collector of a process that creates many objects and hardly any cycles."""

import gc

_THRESHOLDS = (20_000, 20, 100)


def start_quickly() -> None:
    """Collect rarely while modules are imported. What they create stays, and looking at it took a sixth of a start."""
    gc.set_threshold(*_THRESHOLDS)


def collect_rarely() -> None:
    """Collect rarely from now on, and never again look at what exists now. Call it once the process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
