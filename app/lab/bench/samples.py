"""Metrics of the service: API processes from their shared folder, the worker from its port."""

import contextlib
import http.client
from pathlib import Path

from prometheus_client import CollectorRegistry, multiprocess
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_SECONDS = 5.0
_COUNTED = "hourglass_heartbeats_total"
_CALLS = "hourglass_record_calls_total"


def sample(folder: Path, name: str) -> float:
    """One number, summed over processes; 0 before the first count."""
    collector = multiprocess.MultiProcessCollector(CollectorRegistry(), str(folder))  # type: ignore[no-untyped-call]
    return sum(found.value for metric in collector.collect() for found in metric.samples if found.name == name)  # type: ignore[no-untyped-call]


def counted_and_calls(folder: Path) -> tuple[float, float]:
    """Heartbeats counted so far, and the script calls that counted them."""
    return sample(folder, _COUNTED), sample(folder, _CALLS)


def sample_of_worker(port: int, name: str) -> float | None:
    """One number of the worker from its port; None without an answer or a value."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        families = text_string_to_metric_families(text)
        return next((found.value for family in families for found in family.samples if found.name == name), None)
    return None
