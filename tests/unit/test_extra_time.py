"""Grants and requests as values, and the remaining time of a day without counters."""

from collections.abc import Sequence
from datetime import date

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from app.domain.counters import Counters
from app.domain.grants import (
    ExtraTimeRequest,
    GrantEntry,
    RequestStatus,
    running_allowance,
    running_day,
    with_grant,
    without_grant,
)
from app.domain.idempotency import IdempotencyKey
from app.domain.policy import Grant, OfflineUse, Policy, exceeded_ms, terms_of
from app.domain.viewing_day import DAY_MS, Calendar, ViewingDay, day_number_of
from app.errors import AlreadyDecided, CountersUnavailable
from app.parents.used import UsedTime

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
MINUTE = 60_000
TODAY = date(2026, 3, 2)
CALENDAR = Calendar.opened(NOON, timezone="Europe/Oslo", reset_hour=6)
CHILD = Policy("child", "account", 4, True, 1, 120, 180, True, (15, 5), CALENDAR)


def _entry(minutes: int | None, *, day: date = TODAY) -> GrantEntry:
    return GrantEntry(grant_id="g", minutes=minutes, day=day, granted_by="parent", is_remote=True, granted_ms=NOON)


def _allowance_minutes(policy: Policy) -> float:
    return running_allowance(policy, at_ms=NOON, weekend_days=(5, 6)).allowance_ms / MINUTE


def test_giving_and_taking_back_leaves_the_allowance_as_it_was() -> None:
    given = with_grant(with_grant(CHILD, _entry(15)), _entry(15))
    assert (given.version, _allowance_minutes(given)) == (6, 150)
    taken = without_grant(given, _entry(15))
    assert (taken.version, taken.grants, _allowance_minutes(taken)) == (7, (Grant(day_number_of(TODAY), 15),), 135)
    assert _allowance_minutes(without_grant(taken, _entry(15))) == 120


_ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("limit"), st.sampled_from([15, 30, 60, 120, 480, None])),
        st.tuples(st.just("give"), st.sampled_from([15, 30, 60, None])),
        st.tuples(st.just("revoke"), st.integers(0, 9)),
        st.tuples(st.just("watch"), st.integers(0, 90 * MINUTE)),
        st.tuples(st.just("offline"), st.integers(0, 90 * MINUTE)),
    ),
    max_size=12,
)


@hypothesis.given(acts=_ACTS)
@hypothesis.example(acts=[("watch", 60 * MINUTE), ("limit", 15)])
def test_a_grant_always_gives_its_minutes_from_then_on(acts: list[tuple[str, int | None]]) -> None:
    """A child without remaining time gets the minutes; one with remaining time gets them in addition."""
    day = CALENDAR.day_at(NOON)
    policy, used_ms, entries = CHILD, 0, list[GrantEntry]()

    def left_ms() -> int | None:
        allowance_ms = terms_of(policy, day, weekend_days=(5, 6)).allowance_ms
        return None if allowance_ms == -1 else max(0, allowance_ms - used_ms)

    for what, value in [*acts, ("give", 15)]:
        before_ms = left_ms()
        if what == "limit":
            policy = msgspec.structs.replace(policy, weekday_limit_minutes=value, weekend_limit_minutes=value)
        elif what == "give":
            over_ms = exceeded_ms(policy, day, used_ms=used_ms, weekend_days=(5, 6))
            entry = msgspec.structs.replace(_entry(value), covered_ms=0 if value is None else over_ms)
            policy = with_grant(policy, entry)
            entries.append(entry)
            expected_ms = None if value is None or before_ms is None else before_ms + value * MINUTE
            assert left_ms() == expected_ms
        elif what == "revoke" and entries and value is not None:
            policy = without_grant(policy, entries.pop(value % len(entries)))
        elif what == "watch" and value is not None:
            used_ms += value if before_ms is None else min(value, before_ms)
        elif what == "offline" and value is not None:
            policy = msgspec.structs.replace(policy, offline=(OfflineUse(day.number, value),))


def test_a_cover_goes_with_its_grant() -> None:
    entry = msgspec.structs.replace(_entry(15), covered_ms=25 * MINUTE)
    given = with_grant(CHILD, entry)
    assert (_allowance_minutes(given), given.granted_minutes(entry.grant_in(CHILD).day_number)) == (160, 15)
    assert without_grant(given, entry).grants == ()


def test_minutes_beside_a_lifted_limit_are_still_known() -> None:
    given = with_grant(with_grant(CHILD, _entry(30)), _entry(None))
    assert (given.granted_minutes(day_number_of(TODAY)), given.granted_ms(day_number_of(TODAY))) == (30, -1)


def test_the_running_day_is_the_one_that_counters_have_pinned() -> None:
    """Also where the calendar would have it otherwise, and for a clock that is a little behind."""
    calendar_day = CALENDAR.day_at(NOON)
    pinned = ViewingDay(calendar_day.number + 1, NOON - 1000, NOON + DAY_MS)
    assert running_day(CHILD, NOON, pinned=pinned) == pinned
    assert running_day(CHILD, NOON - 5000, pinned=pinned) == pinned
    after = running_day(CHILD, pinned.ends_ms, pinned=pinned)
    assert (after.starts_ms, after.number) == (pinned.ends_ms, pinned.number + 1)
    assert running_day(CHILD, NOON, pinned=CALENDAR.day_at(NOON - 2 * DAY_MS)) == calendar_day
    assert running_day(CHILD, NOON) == calendar_day


def test_a_grant_of_a_day_long_past_is_revoked_without_effect() -> None:
    given = with_grant(CHILD, _entry(15))
    assert without_grant(given, _entry(60, day=date(2026, 1, 1))).grants == given.grants


def test_only_a_grant_makes_an_override() -> None:
    lifted = running_allowance(with_grant(CHILD, _entry(None)), at_ms=NOON, weekend_days=(5, 6))
    free = msgspec.structs.replace(CHILD, weekday_limit_minutes=None, weekend_limit_minutes=None)
    unlimited = running_allowance(free, at_ms=NOON, weekend_days=(5, 6))
    assert (lifted.allowance_ms, lifted.is_override) == (-1, True)
    assert (unlimited.allowance_ms, unlimited.is_override) == (-1, False)


def test_an_adult_has_no_running_day() -> None:
    with pytest.raises(ValueError, match="adult"):
        running_day(msgspec.structs.replace(CHILD, calendar=None), NOON)


REQUEST = ExtraTimeRequest(
    request_id="r",
    minutes=30,
    note=None,
    day=TODAY,
    status=RequestStatus.OPEN,
    requested_ms=NOON,
    expires_ms=NOON + 100,
)


def test_a_request_is_open_until_its_day_ends() -> None:
    assert REQUEST.status_at(NOON + 99) == RequestStatus.OPEN
    assert REQUEST.status_at(NOON + 100) == RequestStatus.EXPIRED
    with pytest.raises(AlreadyDecided):
        REQUEST.answered(RequestStatus.APPROVED, at_ms=NOON + 100, grant_id="g")


def test_an_answer_outlives_the_day_and_can_be_repeated_but_not_changed() -> None:
    approved = REQUEST.answered(RequestStatus.APPROVED, at_ms=NOON + 1, grant_id="g")
    assert (approved.status, approved.decided_ms, approved.grant_id) == (RequestStatus.APPROVED, NOON + 1, "g")
    assert approved.answered(RequestStatus.APPROVED, at_ms=NOON + 500, grant_id="h") is approved
    assert approved.status_at(NOON + 500) == RequestStatus.APPROVED
    with pytest.raises(AlreadyDecided):
        approved.answered(RequestStatus.DENIED, at_ms=NOON + 2)


def test_keys_tell_requests_apart() -> None:
    digests = [
        IdempotencyKey.of("k", *request).digest
        for request in (("grant", "a", 15), ("grant", "a", None), ("grant", "a", 1), ("grant", "a1", 5))
    ]
    assert len(set(digests)) == 4
    assert IdempotencyKey.of("k", "grant", "a", 15) == IdempotencyKey.of("k", "grant", "a", 15)


class FakeCounters:
    """Counters of one child, no counters, or an unreachable Redis."""

    def __init__(self, counters: Counters | None, *, is_away: bool = False) -> None:
        self._live = counters
        self._is_away = is_away

    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Counters | None]]:
        if self._is_away:
            raise CountersUnavailable
        return [(NOON, self._live) for _ in profile_ids]

    async def recover(self, profile_ids: Sequence[str]) -> list[Counters | None]:
        return [self._live for _ in profile_ids]


def _live(used_minutes: int, *, days_ago: int = 0) -> Counters:
    day = CALENDAR.day_at(NOON - days_ago * DAY_MS)
    return Counters(
        version=1,
        generation=0,
        policy_version=1,
        dirty_since_ms=0,
        day_number=day.number,
        day_starts_ms=day.starts_ms,
        day_ends_ms=day.ends_ms,
        limit_ms=0,
        allowance_ms=0,
        used_ms=used_minutes * MINUTE,
    )


NOTHING = FakeCounters(None)


@pytest.mark.parametrize(
    ("counters", "flushed", "remaining_minutes"),
    [
        (NOTHING, NOTHING, 120),
        (FakeCounters(_live(50)), NOTHING, 70),
        (NOTHING, FakeCounters(_live(40)), 80),
        (FakeCounters(_live(50)), FakeCounters(_live(40)), 70),
        (FakeCounters(_live(200)), NOTHING, 0),
        (FakeCounters(_live(50, days_ago=1)), NOTHING, 120),
        (FakeCounters(None, is_away=True), FakeCounters(_live(40)), None),
    ],
)
async def test_what_is_left_is_counted_or_not_known(
    counters: FakeCounters, flushed: FakeCounters, remaining_minutes: int | None
) -> None:
    used = await UsedTime(counters=counters, flushed=flushed, max_gap_ms=300_000).of("child")
    remaining_ms = used.remaining_ms(CHILD, running_allowance(CHILD, at_ms=NOON, weekend_days=(5, 6)))
    assert remaining_ms == (None if remaining_minutes is None else remaining_minutes * MINUTE)
    lifted = running_allowance(with_grant(CHILD, _entry(None)), at_ms=NOON, weekend_days=(5, 6))
    assert used.remaining_ms(CHILD, lifted) is None
