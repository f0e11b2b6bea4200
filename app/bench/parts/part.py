"""What a part of a run is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.bench.stage import Measured, Stage

Figures = dict[str, Any]
"""What a part found, as it goes into the JSON under the part's name."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One question that a run answers.

    Attributes:
        name: for ``--only``, and its place in the JSON.
        run: measures; raises Skipped where there is nothing to measure.
        summary: the figures in a line.
    """

    name: str
    run: Callable[[Stage], Figures]
    summary: Callable[[Figures], str]


def figures_of(measured: Measured) -> Figures:
    """What every load is worth telling."""
    loaded = measured.loaded
    return {
        "per_second": round(loaded.per_second, 1),
        "p50_ms": loaded.p50_ms,
        "p99_ms": loaded.p99_ms,
        "p999_ms": loaded.p999_ms,
        "errors": loaded.errors,
        "error_kinds": {kind: count for kind, count in loaded.error_kinds.items() if count},
        "requests": loaded.requests,
        "seconds": round(loaded.seconds, 3),
        "cpu_seconds": dict(measured.cpu_seconds),
    }


def summary_of(figures: Figures) -> str:
    errors = "" if not figures["errors"] else f", {figures['errors']} errors {figures['error_kinds']}"
    return f"{figures['per_second']:,.0f}/s, p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms{errors}"
