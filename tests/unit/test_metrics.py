"""Counts of the fast path reach the metrics completely, and the reference page lists every metric."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Counter, Histogram

from app.observability import metrics
from app.observability.reference import metrics_table
from scripts.monitoring import alerts
from scripts.references import METRICS

PROMTOOL = Path("/usr/bin/promtool")


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_every_metric_is_documented_as_it_is() -> None:
    assert metrics_table() in METRICS.read_text(encoding="utf-8"), "run scripts/documents"


def test_a_hot_histogram_publishes_what_the_library_would_have_counted() -> None:
    ours = Histogram("test_hot_seconds", "ours", buckets=(0.1, 0.5, 1.0))
    theirs = Histogram("test_cold_seconds", "theirs", buckets=(0.1, 0.5, 1.0))
    hot, chance = metrics.HotHistogram(ours), random.Random(7)  # noqa: S311  nothing secret
    for seconds in [0.1, 0.5, 1.0, 7.0, *(chance.uniform(0, 2) for _ in range(500))]:
        hot.observe(seconds)
        theirs.observe(seconds)
        if chance.random() < 0.02:
            hot.publish()
    hot.publish()
    hot.publish()
    for bound in ("0.1", "0.5", "1.0", "+Inf"):
        assert value("test_hot_seconds_bucket", le=bound) == value("test_cold_seconds_bucket", le=bound)
    assert value("test_hot_seconds_sum") == pytest.approx(value("test_cold_seconds_sum"))
    assert value("test_hot_seconds_count") == 504


def test_a_hot_counter_publishes_each_count_once() -> None:
    hot = metrics.HotCounter(Counter("test_hot", "ours"))
    hot.count += 3
    hot.publish()
    hot.publish()
    hot.count += 1
    hot.publish()
    assert value("test_hot_total") == 4


@pytest.mark.parametrize("enforcement", ["warning_5", "warning_15", "warning_237"])
def test_thresholds_that_parents_choose_make_no_series(enforcement: str) -> None:
    metrics.publish()  # what other tests have counted
    before = value("hourglass_heartbeat_decisions_total", enforcement="warning")
    metrics.count_decision(enforcement)
    metrics.publish()
    assert value("hourglass_heartbeat_decisions_total", enforcement="warning") == before + 1
    assert value("hourglass_heartbeat_decisions_total", enforcement=enforcement) == 0


def test_methods_that_clients_invent_make_no_series() -> None:
    metrics.observe_request("BREW", "/somewhere", 405, 0.1)
    metrics.publish()
    labels = {"route": "/somewhere", "status": "4xx"}
    assert value("http_server_request_duration_seconds_count", method="_OTHER", **labels) == 1
    assert value("http_server_request_duration_seconds_count", method="BREW", **labels) == 0


def test_counters_of_alerts_are_reported_before_they_first_count() -> None:
    """Prometheus sees no increase in a series that begins with 1."""
    worker = "worker_metrics.render_worker({}, backlog=None, holds_lock=None)"
    told = f"print((metrics.render(shared=False) + {worker}).decode())"
    fresh = f"from app.observability import metrics, worker_metrics; {told}"
    ran = subprocess.run([sys.executable, "-c", fresh], capture_output=True, timeout=60, check=True)  # noqa: S603  ours
    reported = {re.split(r"[{ ]", line)[0] for line in ran.stdout.decode().splitlines()}
    asked = {name for alert in alerts() for name in re.findall(r"(hourglass_\w+_total)", alert.query)}
    assert asked - reported == {"hourglass_job_failures_total"}, "its jobs are known once the worker starts"


@pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is not installed (Debian package prometheus)")
def test_prometheus_finds_no_fault_with_the_text() -> None:
    checked = subprocess.run(  # noqa: S603  fixed arguments
        [PROMTOOL, "check", "metrics"], input=metrics.render(shared=False), capture_output=True, timeout=30, check=False
    )
    ours = [line for line in checked.stdout.decode().splitlines() if line.startswith(("hourglass_", "http_"))]
    assert (ours, checked.stderr) == ([], b"")
    assert checked.returncode in {0, 3}  # 3: remarks, which are the library's own: process_, python_
