"""The result as a table: figures of each part, and its CPU time by process."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from app.lab.bench.parts.part import BenchPart
from app.lab.bench.usage import OTHERS, STOLEN

ELSEWHERE = (OTHERS, STOLEN)
WORTH_TELLING = 0.05


def table(result: Mapping[str, Any], parts: Sequence[BenchPart]) -> Table:
    shown = Table("part", "figures", "processor seconds", title=_title(result), title_justify="left")
    skipped = result.get("skipped", {})
    for part in parts:
        if part.name in skipped:
            shown.add_row(part.name, f"[yellow]skipped: {skipped[part.name]}[/]", "")
        else:
            figures = result[part.name]
            shown.add_row(part.name, part.summary(figures), _processors(figures.get("cpu_seconds", {})))
    shown.caption = "\n".join(_warnings(result)) or None
    for name, ratio in result.get("ratio_to", {}).items():
        shown.add_row("ratio", f"{ratio:.2f} times {name.replace('_', ' ')}", "")
    return shown


def _warnings(result: Mapping[str, Any]) -> Iterator[str]:
    """What made the figures too low."""
    before = result["machine"]["before"]
    if before["busy_processors"] > WORTH_TELLING * result["machine"]["cpus"]:
        names = ", ".join(before["programs"]) or "nothing with a name"
        yield f"before the run {before['busy_processors']:.1f} processors were busy ({names})"
    busy = _busy_elsewhere(result)
    if busy > WORTH_TELLING:
        yield f"others used {busy:.0%} of the busy processors: these figures are too low"


def _busy_elsewhere(result: Mapping[str, Any]) -> float:
    """The share of CPU time of all parts that other processes used."""
    used = list(_cpu_seconds(result))
    ours = sum(seconds for part in used for name, seconds in part.items() if name not in ELSEWHERE)
    elsewhere = sum(part.get(name, 0.0) for part in used for name in ELSEWHERE)
    return elsewhere / (ours + elsewhere) if used else 0.0


def _cpu_seconds(figures: Any) -> Iterator[Mapping[str, float]]:  # noqa: ANN401  anything that JSON can hold
    """The CPU seconds of every measurement, also of those within rounds."""
    if isinstance(figures, Mapping):
        if "cpu_seconds" in figures:
            yield figures["cpu_seconds"]
        for inner in figures.values():
            yield from _cpu_seconds(inner)
    elif isinstance(figures, list):
        for inner in figures:
            yield from _cpu_seconds(inner)


def _title(result: Mapping[str, Any]) -> str:
    machine, run = result["machine"], result["run"]
    return (
        f"{run['viewers']:,} viewers, {run['connections']} connections, {run['api_processes']} API processes; "
        f"{machine['cpus']} x {machine['cpu']}, {machine['memory_bytes'] / 2**30:.0f} GiB"
    )


def _processors(cpu_seconds: Mapping[str, float]) -> str:
    used = sorted(cpu_seconds.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in used if seconds >= 0.05)  # noqa: PLR2004  shown as 0.0
