"""The interface of a part."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.lab.bench.environment import BenchEnvironment, Measured

Figures = dict[str, Any]
"""The figures of a part, as stored in the JSON under the part's name."""


@dataclass(frozen=True, kw_only=True)
class BenchPart:
    """One measurement of a run.

    Attributes:
        name: value of ``--only``, and key in the JSON.
        run: measures; raises Skipped if it cannot measure here.
        summary: the figures in one line.
    """

    name: str
    run: Callable[[BenchEnvironment], Figures]
    summary: Callable[[Figures], str]


def figures_of(measured: Measured) -> Figures:
    """Figures that are reported for every load."""
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
