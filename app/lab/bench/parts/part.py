"""The interface of a part."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from app.lab.bench.environment import BenchEnvironment, Measured
from app.lab.bench.service_processes import Program

Figures = dict[str, Any]
"""The figures of a part, as stored in the JSON under the part's name."""

Turn = Callable[[], Measured]
"""Measures a part once, at full speed."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """How a part is compared with others in rounds.

    Attributes:
        prepare: starts the part's processes, which run until the block ends. Raises Skipped if it cannot.
        processes: names of the processes whose CPU time its heartbeats cost, besides the load generator.
    """

    prepare: Callable[[BenchEnvironment], AbstractContextManager[Turn]]
    processes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BenchPart:
    """One measurement of a run.

    Attributes:
        name: value of ``--only``, and key in the JSON.
        run: measures; raises Skipped if it cannot measure here.
        summary: the figures in a few words.
        contender: None for a part that is not compared in rounds.
    """

    name: str
    run: Callable[[BenchEnvironment], Figures]
    summary: Callable[[Figures], str]
    contender: Contender | None = None


def baseline_part(
    *,
    name: str,
    what: str,
    program: Callable[[BenchEnvironment], Program],
    processes: tuple[str, ...] = (),
) -> BenchPart:
    """A part that sends the usual load to another program.

    ``processes`` are those of a `Contender`; without them the part is not compared in rounds.
    """

    def run(stage: BenchEnvironment) -> Figures:
        wanted = program(stage)
        stage.open_sessions()
        with stage.replace_service(wanted, flushes=False) as crew:
            return figures_of(stage.measure_baseline(crew, what))

    @contextmanager
    def prepare(stage: BenchEnvironment) -> Iterator[Turn]:
        wanted = program(stage)
        stage.open_sessions()
        with stage.start_beside(wanted, workers=stage.plan.workers) as crew:
            stage.measure_baseline(crew, f"warming up {what}")
            yield lambda: stage.measure_baseline(crew, what)

    contender = Contender(prepare=prepare, processes=processes) if processes else None
    return BenchPart(name=name, run=run, summary=summary_of, contender=contender)


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
