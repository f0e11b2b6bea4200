"""A run from beginning to end: prepare, measure, report."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from app.lab.bench.chart import chart
from app.lab.bench.environment import BenchEnvironment, prepared_environment
from app.lab.bench.failures import Skipped
from app.lab.bench.load import program
from app.lab.bench.machine import facts, state
from app.lab.bench.parts.part import BenchPart
from app.lab.bench.plan import Plan, connections_for
from app.lab.bench.table import table
from app.lab.bench.view import View

BASELINES = {
    "echo": "echo",
    "asgi": "asgi",
    "go_service": "go_service",
    "one_script": "one_script_per_beat",
    "direct": "direct_to_database",
}
"""Keys of the ratios, by the name of the part."""


def run(
    plan: Plan,
    *,
    parts: Sequence[BenchPart],
    data_dir: Path | None,
    json_file: Path | None,
    svg_file: Path | None,
) -> dict[str, Any]:
    """Measure, print the table, and write the requested files.

    ``data_dir`` keeps the data for the next run.

    Returns:
        The content of the JSON file.

    Raises:
        BenchFailed, DeploymentError, ServerFailed: the environment cannot be prepared.
    """
    program()  # without wrk the run is pointless
    before = state()
    with _folder(data_dir) as folder, View() as view, prepared_environment(folder, plan, view) as stage:
        result = _measured(stage, parts, before)
    Console().print(table(result, parts))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if svg_file is not None:
        svg_file.write_text(chart(result), encoding="utf-8")
    return result


def _measured(stage: BenchEnvironment, parts: Sequence[BenchPart], before: dict[str, object]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "machine": facts() | {"before": before, "servers": stage.versions()},
        "run": {
            "quick": stage.plan.quick,
            "all_rules": stage.plan.all_rules,
            "viewers": stage.plan.viewers,
            "connections": connections_for(stage.plan.viewers),
            "api_processes": stage.plan.workers,
            "settings": stage.changed_settings(),
        },
    }
    skipped = {}
    for part in parts:
        try:
            result[part.name] = part.run(stage)
        except Skipped as reason:
            skipped[part.name] = str(reason)
            stage.view.note(f"[yellow]{part.name}[/]: skipped, {reason}")
        else:
            stage.view.note(f"[green]{part.name}[/]: {part.summary(result[part.name])}")
    ratios = _ratios(result)
    return result | ({"ratio_to": ratios} if ratios else {}) | ({"skipped": skipped} if skipped else {})


def _ratios(result: dict[str, Any]) -> dict[str, float]:
    """The ratio of heartbeats to each measured baseline."""
    if "heartbeat" not in result:
        return {}
    ours = result["heartbeat"]["per_second"]
    return {key: round(ours / result[name]["per_second"], 3) for name, key in BASELINES.items() if name in result}


@contextlib.contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    if data_dir is not None:
        yield data_dir.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="hourglass-bench-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # PostgreSQL may run as another user, which needs access
        yield folder
