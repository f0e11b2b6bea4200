"""Speed of the flusher alone: every child is dirty, nothing else runs."""

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.parts.part import BenchPart, Figures

ROWS_AN_ENTRY = 2
"""Rows per child: the balance of the day and the session."""


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    with crew.worker_halted():
        again = stage.send_once(crew, "making everybody dirty")
        stage.stop_service()
    processes = stage.processes()
    before = processes.cpu_seconds()
    with stage.view.doing("flushing"):
        entries, seconds = stage.drain()
    return {
        "rows_per_second": round(ROWS_AN_ENTRY * entries / seconds, 1),
        "entries": entries,
        "seconds": round(seconds, 3),
        "errors": again.errors,
        "cpu_seconds": processes.used_since(before),
    }


def summary(figures: Figures) -> str:
    return f"{figures['rows_per_second']:,.0f} rows/s ({figures['entries']:,} children in {figures['seconds']:.1f} s)"


PART = BenchPart(name="flush", run=run, summary=summary)
