"""What the service itself counts, read from the folder in which its processes share their metrics."""

from pathlib import Path

from prometheus_client import CollectorRegistry, multiprocess


def sample(folder: Path, name: str) -> float:
    """One number, summed over processes; 0 where nobody has counted yet."""
    collector = multiprocess.MultiProcessCollector(CollectorRegistry(), str(folder))  # type: ignore[no-untyped-call]
    return sum(found.value for metric in collector.collect() for found in metric.samples if found.name == name)  # type: ignore[no-untyped-call]
