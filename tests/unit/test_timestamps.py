"""Instants and durations in answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.timestamps import minutes, ms_of, rfc3339, utc


@given(at_ms=st.integers(-(2**42), 2**42))
def test_an_instant_is_told_to_the_millisecond(at_ms: int) -> None:
    told = utc(at_ms)
    assert rfc3339(at_ms) == told.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert ms_of(told) == at_ms


@pytest.mark.parametrize(
    ("length_ms", "expected"),
    [(0, 0.0), (299, 0.0), (300, 0.01), (899, 0.01), (900, 0.02), (2_099_000, 34.98), (7_199_700, 120.0)],
)
def test_minutes_are_rounded_to_two_places_halves_up(length_ms: int, expected: float) -> None:
    assert minutes(length_ms) == expected


@given(length_ms=st.integers(0, 10**9).filter(lambda length_ms: length_ms % 600 != 300))
def test_other_minutes_are_the_nearest_of_two_places(length_ms: int) -> None:
    assert minutes(length_ms) == round(length_ms / 60_000, 2)
