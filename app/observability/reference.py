"""The reference of metrics, made from the metrics themselves."""

from collections.abc import Iterator
from types import ModuleType

import msgspec
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.domain.unflushed import Backlog
from app.observability import metrics, worker_metrics
from app.observability.worker_metrics import WORKER, JobState


class Described(msgspec.Struct, frozen=True, order=True):
    """A metric as a reader meets it. ``processes`` are those that have it."""

    name: str
    processes: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def metrics_table() -> str:
    """Every metric as a row of a Markdown table, in the order of their names."""
    rows = [
        f"| `{each.name}` | {each.processes} | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)}"
        f" | {each.meaning} |"
        for each in sorted(described())
    ]
    return "\n".join(["| metric | of | type | labels | meaning |", "|---|---|---|---|---|", *rows])


def names() -> frozenset[str]:
    """Every name that a query may use: those of samples."""
    found = set[str]()
    for each in described():
        is_histogram = each.kind == "histogram"
        found |= {f"{each.name}_{part}" for part in ("bucket", "sum", "count")} if is_histogram else {each.name}
    return frozenset(found)


def described() -> Iterator[Described]:
    """Every metric of ours."""
    of_worker = {metric._name for metric in WORKER._collector_to_names if isinstance(metric, MetricWrapperBase)}  # noqa: SLF001  the library tells it nowhere else
    for metric in _kept_in(metrics):
        yield _described(metric, "API, worker" if metric._name in of_worker else "API")  # noqa: SLF001  likewise
    for metric in _kept_in(worker_metrics):
        yield _described(metric, "worker")
    state = JobState(success_age_seconds=0.0, has_succeeded=True, is_overdue=False)
    backlog = Backlog(children=0, closed=0, oldest_ms=None, at_ms=0)
    for family in worker_metrics.asked_families({"job": state}, backlog=backlog, holds_lock=True):
        labels = tuple(family.samples[0].labels)
        yield Described(family.name, "worker", family.type, labels, family.documentation)


def _kept_in(module: ModuleType) -> Iterator[MetricWrapperBase]:
    return (value for value in vars(module).values() if isinstance(value, MetricWrapperBase))


def _described(metric: MetricWrapperBase, processes: str) -> Described:
    kind = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}[type(metric)]
    name = f"{metric._name}_total" if kind == "counter" else metric._name  # noqa: SLF001  likewise
    return Described(name, processes, kind, tuple(metric._labelnames), metric._documentation)  # noqa: SLF001  likewise
