"""The terms of a past day equal those of an oracle that records every change."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.limits import DailyLimits
from app.domain.past_terms import ConfigVersion, KeptDay, LedgerGrant, PastTerms, extra_ms_of
from app.domain.policy import NO_OFFLINE_USE, UNLIMITED
from app.domain.viewing_day import ViewingDay

HOUR = 3_600_000
DAY = 24 * HOUR
DAYS = 4
WEEKEND = (5, 6)
MINUTE = 60_000
LIMITS = st.sampled_from([None, 15, 60, 120])
# What a parent does, at which hour.
EVENTS = st.lists(
    st.tuples(
        st.integers(1, DAYS * 24 - 1),
        st.one_of(
            st.tuples(st.just("save"), LIMITS, LIMITS, st.booleans()),
            st.tuples(st.just("grant"), st.sampled_from([15, 30, 60, None]), st.integers(1, 60)),
            st.tuples(st.just("beat")),
        ),
    ),
    max_size=12,
    unique_by=lambda event: event[0],
).map(sorted)


def day(number: int) -> ViewingDay:
    return ViewingDay(number, number * DAY, (number + 1) * DAY)


def version(from_ms: int, weekday: int | None, weekend: int | None, exempt: bool | None) -> ConfigVersion:
    return ConfigVersion(from_ms, DailyLimits(weekday, weekend), exempt)


def limit_minutes(number: int, settings: tuple[int | None, int | None, bool]) -> int | None:
    """Day 0 is a Thursday."""
    return settings[1] if number in {2, 3} else settings[0]


@given(EVENTS, LIMITS, LIMITS, st.booleans())
def test_a_day_is_judged_by_what_stood_when_it_ended(
    events: list[tuple[int, tuple[object, ...]]], weekday: int | None, weekend: int | None, is_exempt: bool
) -> None:
    settings = (weekday, weekend, is_exempt)
    versions = [version(0, *settings)]
    grants: list[LedgerGrant] = []
    kept: dict[int, KeptDay] = {}
    by_hour = dict(events)
    expected: dict[int, tuple[int | None, list[int | None]]] = {}
    exempt_by_hour: dict[int, bool] = {}
    counters: list[tuple[int, int | None, int]] = []  # day, minutes, and the hour at which it is revoked
    for hour in range(DAYS * 24):
        number, what = hour // 24, by_hour.get(hour)
        if what is not None and what[0] == "save":
            settings = (what[1], what[2], what[3])  # type: ignore[assignment]
            versions.append(version(hour * HOUR, *settings))
        elif what is not None and what[0] == "grant":
            minutes, revoked_hour = what[1], hour + what[2]  # type: ignore[operator]
            counters.append((number, minutes, revoked_hour))  # type: ignore[arg-type]
            grants.append(LedgerGrant(number, extra_ms_of(minutes), revoked_hour * HOUR))  # type: ignore[arg-type]
        elif what is not None:
            limit = limit_minutes(number, settings)
            limit_ms = UNLIMITED if limit is None else limit * MINUTE
            kept[number] = KeptDay(day(number), limit_ms, 0, hour * HOUR, NO_OFFLINE_USE)
        exempt_by_hour[hour] = settings[2]
        if hour % 24 == 23:  # the last hour: what stands now stands when the day ends, but for what ends with it
            stands = [
                minutes
                for of_day, minutes, until in counters
                if of_day == number and until * HOUR >= (number + 1) * DAY
            ]
            expected[number] = (limit_minutes(number, settings), stands)
    past = PastTerms(versions, settings[2], grants, kept, WEEKEND)
    for number, (limit, stands) in expected.items():
        terms = past.terms(day(number))
        assert terms.limit_ms == (UNLIMITED if limit is None else limit * MINUTE)
        if limit is None or None in stands:
            assert terms.allowance_ms == UNLIMITED
        else:
            assert terms.allowance_ms == (limit + sum(minutes for minutes in stands if minutes)) * MINUTE
    for hour, exempt in exempt_by_hour.items():
        found, until_ms = past.exempt_at(hour * HOUR)
        assert found is exempt
        lasts = [later for later in range(hour, DAYS * 24) if later * HOUR < until_ms]
        assert all(exempt_by_hour[later] is exempt for later in lasts)


def test_settings_that_do_not_know_the_exemption_take_what_followed() -> None:
    versions = [version(0, 60, 60, None), version(DAY, 60, 60, False), version(2 * DAY, 60, 60, None)]
    past = PastTerms(versions, True, [], {}, WEEKEND)
    assert [past.exempt_at(at_ms)[0] for at_ms in (0, DAY, 2 * DAY)] == [False, False, True]


def test_days_before_the_first_settings_have_theirs() -> None:
    past = PastTerms([version(2 * DAY, 60, 90, False)], True, [], {}, WEEKEND)
    assert past.terms(day(0)).allowance_ms == 60 * MINUTE
    assert past.exempt_at(0)[0] is False


def test_a_day_owes_what_the_day_directly_before_borrowed() -> None:
    kept = {
        0: KeptDay(day(0), 60 * MINUTE, 70 * MINUTE, 1, NO_OFFLINE_USE, borrowed_ms=10 * MINUTE),
        2: KeptDay(day(2), 60 * MINUTE, 0, 1, NO_OFFLINE_USE, owed_ms=5 * MINUTE),
        4: KeptDay(day(4), 60 * MINUTE, 70 * MINUTE, 1, NO_OFFLINE_USE, borrowed_ms=7 * MINUTE),
        5: KeptDay(day(5), 60 * MINUTE, 0, 1, NO_OFFLINE_USE),  # as a sync keeps it that came before the flush
    }
    past = PastTerms([], True, [], kept, WEEKEND)
    assert [past.owed_ms(day(number)) // MINUTE for number in range(7)] == [0, 10, 5, 0, 0, 7, 0]
