"""The check of accuracy: what is an error, and to what it is attributed."""

import msgspec
import pytest

from app.domain.accuracy import TOLERANCE_MS, AccuracyError, CounterSample, ErrorCause, is_period, judged
from app.domain.counters import Counters
from app.domain.day_usage import DayUsage

NOON = 1_772_452_800_000
DAY_NUMBER = 20_514


def look(
    at_ms: int, *, counted: int = 600_000, claimed: int = 600_000, silent_ms: int = 10_000, earlier_ms: int = 0
) -> CounterSample:
    """A look at a child that has watched for ``counted`` ms and claims ``claimed`` ms."""
    counters = Counters(
        version=at_ms - silent_ms,
        generation=0,
        policy_version=1,
        dirty_since_ms=1,
        day_number=DAY_NUMBER,
        day_starts_ms=NOON - 21_600_000,
        day_ends_ms=NOON + 64_800_000,
        limit_ms=7_200_000,
        allowance_ms=7_200_000,
        session_id="s",
        used_ms=counted,
        session_used_ms=counted,
        session_earlier_ms=earlier_ms,
        watched_ms=claimed,
        last_beat_ms=at_ms - silent_ms,
    )
    return CounterSample(counters, at_ms)


def verdict(
    before: CounterSample, after: CounterSample | None, kept: DayUsage | None = None, *, clock_step_ms: int = 0
) -> AccuracyError | None:
    return judged(before, after, kept, profile_id="p", clock_step_ms=clock_step_ms)


BEFORE = look(NOON)
AFTER = look(NOON + 60_000, counted=660_000, claimed=660_000)


def kept(used_ms: int) -> DayUsage:
    return msgspec.structs.replace(DayUsage.of("p", BEFORE.counters), used_ms=used_ms)


def test_a_minute_in_which_all_agree_is_right() -> None:
    assert verdict(BEFORE, AFTER, kept(640_000)) is None
    assert verdict(BEFORE, AFTER) is None


@pytest.mark.parametrize("off_ms", [TOLERANCE_MS, -TOLERANCE_MS])
def test_an_interval_more_or_less_is_right(off_ms: int) -> None:
    assert verdict(BEFORE, look(NOON + 60_000, counted=660_000 + off_ms, claimed=660_000)) is None


@pytest.mark.parametrize("off_ms", [TOLERANCE_MS + 1, -TOLERANCE_MS - 1])
def test_a_claim_that_differs_though_heartbeats_come_in_time_is_a_claim(off_ms: int) -> None:
    after = look(NOON + 60_000, counted=660_000 + off_ms, claimed=660_000)
    assert verdict(BEFORE, after) == AccuracyError(ErrorCause.CLAIM, TOLERANCE_MS + 1)


def test_a_gap_before_which_no_heartbeat_came_is_a_late_beat() -> None:
    silent = look(NOON, silent_ms=45_001)
    after = look(NOON + 60_000, counted=700_000)
    assert verdict(silent, after) == AccuracyError(ErrorCause.LATE_BEAT, 100_000)
    assert verdict(look(NOON, silent_ms=45_000), after) == AccuracyError(ErrorCause.CLAIM, 100_000)


def test_a_clock_that_was_set_is_the_cause_before_a_late_beat() -> None:
    after = look(NOON + 180_000, counted=780_000, claimed=660_000)
    found = verdict(look(NOON, silent_ms=50_000), after, clock_step_ms=120_000)
    assert found == AccuracyError(ErrorCause.CLOCK, 120_000)
    assert verdict(BEFORE, AFTER, clock_step_ms=120_000) is None  # nothing went wrong


def test_counters_in_the_future_are_the_clock() -> None:
    after = look(NOON + 60_000, counted=630_000, claimed=660_000, silent_ms=-TOLERANCE_MS - 1)
    assert verdict(BEFORE, after) == AccuracyError(ErrorCause.CLOCK, TOLERANCE_MS + 1)


@pytest.mark.parametrize("counted", [500_000, 560_000])
def test_less_than_before_or_than_postgresql_has_is_a_loss_of_redis(counted: int) -> None:
    after = look(NOON + 60_000, counted=counted, claimed=counted)
    assert verdict(BEFORE, after) == AccuracyError(ErrorCause.REDIS_LOSS, 600_000 - counted)
    assert verdict(look(NOON, counted=counted, claimed=counted), after, kept(counted + 40_000)) == AccuracyError(
        ErrorCause.REDIS_LOSS, 40_000
    )


def test_counters_that_are_gone_are_a_loss_where_the_profile_is_known() -> None:
    assert verdict(BEFORE, None, kept(600_000)) == AccuracyError(ErrorCause.REDIS_LOSS, 600_000)
    assert verdict(BEFORE, None) is None  # it may have been erased


def test_a_new_day_and_another_session_are_not_compared_with_the_last() -> None:
    counters = look(NOON, counted=0, earlier_ms=600_000).counters
    tomorrow = msgspec.structs.replace(counters, day_number=DAY_NUMBER + 1)
    assert verdict(BEFORE, CounterSample(tomorrow, NOON), kept(600_000)) is None
    other = msgspec.structs.replace(AFTER.counters, session_id="other", watched_ms=0)
    assert verdict(BEFORE, CounterSample(other, AFTER.at_ms)) is None


@pytest.mark.parametrize("place", [0, 1])
def test_pauses_and_offline_syncs_are_not_compared_with_claims(place: int) -> None:
    looks = [BEFORE, look(NOON + 60_000, counted=900_000)]
    changed = [*looks]
    changed[place] = CounterSample(
        msgspec.structs.replace(looks[place].counters, paused_since_ms=1), looks[place].at_ms
    )
    assert verdict(changed[0], changed[1]) is None
    changed[place] = CounterSample(msgspec.structs.replace(looks[place].counters, uncounted=(1, 2)), looks[place].at_ms)
    assert verdict(changed[0], changed[1]) is None
    assert verdict(looks[0], looks[1]) is not None


def test_a_minute_without_a_heartbeat_is_no_period() -> None:
    assert not is_period(BEFORE, CounterSample(BEFORE.counters, NOON + 60_000))
    assert is_period(BEFORE, AFTER)
    assert is_period(BEFORE, None)
    assert is_period(BEFORE, CounterSample(BEFORE.counters, BEFORE.counters.last_beat_ms - TOLERANCE_MS - 1))
