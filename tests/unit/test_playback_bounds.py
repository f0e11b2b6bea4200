"""Bounds of the playing time of a session, split at every reset."""

from app.domain.playback_bounds import PlaybackBounds, bounds_ms

SESSION = PlaybackBounds(
    profile_id="child", opened_after_ms=1_000, opened_before_ms=1_040, ended_after_ms=9_000, ended_before_ms=9_100
)


def test_a_session_lies_between_its_bounds() -> None:
    assert SESSION.bounds_ms(0, 100_000) == (7_960, 8_100)


def test_each_day_has_its_part() -> None:
    assert SESSION.bounds_ms(0, 5_000) == (3_960, 4_000)
    assert SESSION.bounds_ms(5_000, 100_000) == (4_000, 4_100)
    assert SESSION.bounds_ms(50_000, 100_000) == (0, 0)


def test_one_that_was_never_sure_may_count_for_nothing() -> None:
    hasty = PlaybackBounds(
        profile_id="child", opened_after_ms=1_000, opened_before_ms=5_000, ended_after_ms=1_000, ended_before_ms=6_000
    )
    assert hasty.bounds_ms(0, 100_000) == (0, 5_000)


def test_sessions_add_up() -> None:
    assert bounds_ms([SESSION, SESSION], 0, 100_000) == (15_920, 16_200)
