"""What `hourglass size` says fits what was measured, and what the page shows is what it says."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.size import CHILDREN_A_VIEWER, described
from app.domain.sizing import (
    API_BASE_BYTES,
    API_BYTES,
    API_US,
    FLUSHER_ROWS_PER_SECOND,
    POSTGRES_US,
    PRESET_CACHE_ENTRIES,
    REDIS_BYTES,
    REDIS_US,
    WORKER_US,
    Assumptions,
    Size,
    limits,
    size,
)
from app.settings.settings import Settings

PERFORMANCE = Path(__file__).parents[2] / "docs" / "reference" / "performance.md"
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "scale.md"
SHOWN = (10_000, 100_000, 500_000, 2_000_000, 10_000_000)


def of(viewers: int) -> Size:
    return size(Assumptions(viewers=viewers, children=viewers * CHILDREN_A_VIEWER))


def table() -> str:
    """The table of the page."""
    columns = [described(of(viewers)) for viewers in SHOWN]
    head = "| viewers at once | " + " | ".join(f"{viewers:,}" for viewers in SHOWN) + " |"
    rows = [
        f"| {lines[0][0]} | " + " | ".join(value for _, value in lines) + " |" for lines in zip(*columns, strict=True)
    ]
    return "\n".join([head, "|---" * (len(SHOWN) + 1) + "|", *rows])


def limits_table() -> str:
    """The table of what is full first."""
    rows = [f"| {limit.what} | {limit.viewers / 1e6:.1f} million | {limit.remedy} |" for limit in limits()]
    return "\n".join(["| what is full | at viewers | then |", "|---|---|---|", *rows])


def test_the_page_shows_what_the_command_says() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), "run scripts/documents"
    assert limits_table() in PAGE.read_text(encoding="utf-8"), "run scripts/documents"


def test_the_figures_are_the_measured_ones() -> None:
    """Each stands in the table of measurements; a new measurement changes both."""
    measured = PERFORMANCE.read_text(encoding="utf-8")
    assert f"API {API_US}, Valkey {REDIS_US}, " in measured
    assert f"PostgreSQL {POSTGRES_US}, worker {WORKER_US}, " in measured
    assert f"{API_BYTES} B on a base of {API_BASE_BYTES // 10**6} MB" in measured
    assert f"{FLUSHER_ROWS_PER_SECOND:,} rows/s" in measured
    assert re.search(r"\b368 B: .* shared policy 240 and key space", measured)
    assert REDIS_BYTES == 368 + 240 + 100


def test_the_preset_caches_are_those_of_the_settings() -> None:
    for name in ("policy_cache_size", "token_cache_size"):
        assert Settings.model_fields[name].default == PRESET_CACHE_ENTRIES


@given(st.integers(1, 50_000_000))
def test_no_worker_has_more_to_flush_than_it_can(viewers: int) -> None:
    needed = of(viewers)
    assert needed.rows_per_second / needed.deployments <= 0.6 * FLUSHER_ROWS_PER_SECOND
    assert (needed.deployments > 1) == (viewers > next(limit.viewers for limit in limits() if "worker" in limit.what))


@given(st.integers(1, 50_000_000))
def test_a_process_remembers_everybody_it_may_meet(viewers: int) -> None:
    needed = of(viewers)
    assert needed.cache_entries * needed.deployments >= viewers


def test_the_measured_machine_comes_out() -> None:
    """Two API processes, one Valkey and 394 bytes a viewer carried 500,000 viewers (reference/performance.md)."""
    needed = of(500_000)
    assert needed.beats_per_second == pytest.approx(16_667, abs=1)
    assert (needed.api_processes, needed.redis_masters) == (2, 1)
    assert 280e6 < needed.api_bytes < 300e6
    assert needed.rows_per_second < 69_249, "what one flusher was measured to write"


@given(st.integers(1, 50_000_000), st.integers(1, 50_000_000))
def test_more_viewers_never_need_less(first: int, second: int) -> None:
    fewer, more = of(min(first, second)), of(max(first, second))
    for field in ("api_processes", "redis_masters", "postgres_connections", "disk_bytes", "redis_cores"):
        assert getattr(fewer, field) <= getattr(more, field)


@given(st.integers(1, 50_000_000))
def test_no_processor_is_busier_than_it_may_be(viewers: int) -> None:
    needed = of(viewers)
    assert needed.redis_cores / needed.redis_masters <= 0.6
    assert needed.beats_per_second * 50e-6 / needed.api_processes <= 0.6
