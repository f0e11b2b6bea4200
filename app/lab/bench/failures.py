"""Outcomes of a part other than figures."""


class BenchFailed(Exception):
    """The run cannot continue. The text gives the reason."""


class Skipped(Exception):
    """A part cannot measure anything in this environment. The text gives the reason."""
