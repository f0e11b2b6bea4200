"""What can come of a part beside figures."""


class BenchFailed(Exception):
    """The run cannot go on; the text says why, for whoever started it."""


class Skipped(Exception):
    """A part has nothing to measure here; the text says why."""
