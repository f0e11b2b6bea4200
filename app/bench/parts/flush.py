"""How fast the flusher alone writes: every child dirty, nothing else going on."""

from app.bench.parts.part import Figures, Part
from app.bench.stage import Stage

ROWS_AN_ENTRY = 2
"""The balance of the day and the session."""


def run(stage: Stage) -> Figures:
    crew = stage.open_sessions()
    with crew.worker_halted():
        again = stage.everybody_once(crew, "making everybody dirty")
        stage.dismiss()
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


PART = Part(name="flush", run=run, summary=summary)
