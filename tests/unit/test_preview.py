"""The preview gives the exact instant of a block, or an interval that contains it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from app.domain.config import Config
from app.domain.limits import LimitRules
from app.domain.preview import BlockedDay, blocked_days, left_of_week
from app.domain.report import DayTotals, Granted, ReportedDay, SessionPart, Source
from app.domain.viewing_day import Calendar

SECOND = 1000
MINUTE_MS = 60 * SECOND
GRACE_MS = 5 * MINUTE_MS
DAY = date(2026, 2, 27)
STARTS_MS = 1_772_172_000_000  # 06:00 UTC
ENDS_MS = STARTS_MS + 86_400_000
CALENDAR = Calendar.opened(STARTS_MS, timezone="Etc/UTC", reset_hour=6)

# What a child does one after the other, and for how many minutes.
MINUTES = st.integers(1, 40)
Moves = list[tuple[str, int]]
moves = st.lists(st.tuples(st.sampled_from(["film", "course", "pause", "nothing"]), MINUTES), min_size=1, max_size=10)


@dataclass
class Minute:
    """One minute of the day: which title counts in it, and whether it was exempt then."""

    title: str
    was_exempt: bool


def lived(todo: Moves, exempt_minutes: int) -> tuple[list[Minute | None], list[SessionPart]]:
    """The minutes of a day and their stored rows. Educational titles were exempt during the first minutes."""
    minutes: list[Minute | None] = []
    parts: list[SessionPart] = []
    title = ""
    for what, length in todo:
        if what == "nothing" or (what == "pause" and not title):
            title = ""
            minutes += [None] * length
            continue
        now_ms = STARTS_MS + len(minutes) * 60 * SECOND
        if what == "pause":
            counted = [Minute(title, len(minutes) + place < exempt_minutes) for place in range(min(5, length))]
            paused = [None] * (length - len(counted))
            uncounted = ((now_ms + len(counted) * 60 * SECOND, now_ms + length * 60 * SECOND),) if paused else ()
        else:
            if what != title:
                parts.append(_opened(what, now_ms, place=len(parts)))
            title = what
            counted = [Minute(title, len(minutes) + place < exempt_minutes) for place in range(length)]
            paused, uncounted = [], ()
        minutes += [*counted, *paused]
        parts[-1] = _went_on(parts[-1], counted, uncounted, until_ms=now_ms + length * 60 * SECOND)
    return minutes, parts


def _opened(title: str, at_ms: int, *, place: int) -> SessionPart:
    return SessionPart(
        session_id=str(place), day=DAY, title_id=title, title_name=None, device_id="tv", device_type="tv",
        is_educational=title == "course", started_ms=at_ms, last_beat_ms=at_ms, has_ended=True,
        counted_ms=0, educational_ms=0, overrun_ms=0,
    )  # fmt: skip


def _went_on(
    part: SessionPart, counted: Sequence[Minute], uncounted: tuple[tuple[int, int], ...], *, until_ms: int
) -> SessionPart:
    exempt_ms = sum(60 * SECOND for minute in counted if minute.was_exempt and minute.title == "course")
    return msgspec.structs.replace(
        part,
        last_beat_ms=until_ms,
        educational_ms=part.educational_ms + exempt_ms,
        counted_ms=part.counted_ms + len(counted) * 60 * SECOND - exempt_ms,
        uncounted=(*part.uncounted, *uncounted),
    )


def blocked_minute(minutes: Sequence[Minute | None], allowed: int, *, is_exempt: bool) -> int | None:
    """The minute at whose end the child would have been blocked, by counting minutes."""
    used = 0
    for place, minute in enumerate(minutes):
        if minute is not None and not (is_exempt and minute.title == "course"):
            used += 1
        if used >= allowed:
            return place + 1
    return None


def _config(limit: int, rules: LimitRules | None = None, *, is_exempt: bool = False) -> Config:
    return Config(
        version=1, weekday_limit_minutes=limit, weekend_limit_minutes=limit, reset_hour=6, timezone="Etc/UTC",
        educational_exempt=is_exempt, warning_minutes=(), limits_reviewed=True, calendar=CALENDAR, rules=rules,
    )  # fmt: skip


def previewed(
    parts: Sequence[SessionPart],
    limit: int,
    granted: int = 0,
    *,
    is_exempt: bool = False,
    gone: Sequence[SessionPart] = (),
    rules: LimitRules | None = None,
) -> BlockedDay | None:
    """A day with removed sessions whose sums still include them."""
    all_parts = [*parts, *gone]
    config = _config(limit, rules, is_exempt=is_exempt)
    totals = DayTotals(
        day=DAY, starts_ms=STARTS_MS, ends_ms=ENDS_MS,
        counted_ms=sum(part.counted_ms for part in all_parts),
        educational_ms=sum(part.educational_ms for part in all_parts),
    )  # fmt: skip
    days = [ReportedDay(totals, Granted(1, granted))]
    found = blocked_days(config, days, {DAY: parts}, weekend_days=(5, 6), pause_grace_ms=GRACE_MS)
    return found[0] if found else None


LIMITS = st.sampled_from([15, 30, 45, 60, 90])


@given(moves, st.integers(0, 120), LIMITS, st.sampled_from([0, 15]), st.booleans())
def test_tells_the_minute(todo: Moves, exempt_minutes: int, limit: int, granted: int, is_exempt: bool) -> None:
    minutes, parts = lived(todo, exempt_minutes)
    expected = blocked_minute(minutes, limit + granted, is_exempt=is_exempt)
    found = previewed(parts, limit, granted, is_exempt=is_exempt)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.at_ms == STARTS_MS + expected * 60 * SECOND
        assert (found.limit_minutes, found.granted_minutes) == (limit, granted)


@given(moves, LIMITS, st.data())
def test_the_interval_holds_the_truth_where_less_is_kept(todo: Moves, limit: int, data: st.DataObject) -> None:
    """Sessions whose pauses are not kept, and sessions that are gone."""
    minutes, parts = lived(todo, 0)
    expected = blocked_minute(minutes, limit, is_exempt=False)
    known = [
        msgspec.structs.replace(part, uncounted=part.uncounted if data.draw(st.booleans()) else ()) for part in parts
    ]
    gone = [part for part in known if data.draw(st.booleans())]
    kept = [part for part in known if part not in gone]
    for found in (previewed(known, limit), previewed(kept, limit, gone=gone)):
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert found.from_ms <= STARTS_MS + expected * 60 * SECOND <= found.until_ms


def break_minute(minutes: Sequence[Minute | None], after: int, length: int) -> int | None:
    """The minute at whose end a break would have been due, by looking at what is played."""
    unbroken = gap = 0
    for place, minute in enumerate(minutes):
        gap = gap + 1 if minute is None else 0
        unbroken = 0 if gap >= length else unbroken + (minute is not None)
        if unbroken == after:
            return place + 1
    return None


@given(moves, st.sampled_from([15, 30, 60]), st.sampled_from([5, 10, 20]), LIMITS)
def test_tells_when_a_break_would_have_been_due(todo: Moves, after: int, length: int, limit: int) -> None:
    """Every pause here is longer than its counted part, which is no playback."""
    todo = [(what, max(6, minutes) if what == "pause" else minutes) for what, minutes in todo]
    minutes, parts = lived(todo, 0)
    played: list[Minute | None] = []
    for what, lasts in todo:
        played += [None if what == "pause" else minute for minute in minutes[len(played) :][:lasts]]
    due, used_up = break_minute(played, after, length), blocked_minute(minutes, limit, is_exempt=False)
    rules = LimitRules(break_after_minutes=after, break_minutes=length)
    found = previewed(parts, limit, rules=rules)
    ends = [minute for minute in (due, used_up) if minute is not None]
    if not ends:
        assert found is None
    else:
        assert found is not None
        assert found.at_ms == STARTS_MS + min(ends) * 60 * SECOND
        assert found.reason == ("break" if used_up is None or (due is not None and due < used_up) else "daily_limit")


def test_breaks_go_on_over_the_reset_and_are_taken_when_they_are_due() -> None:
    """Played from 70 minutes before the reset to 70 minutes after it, with a break of ten after each hour."""
    before = msgspec.structs.replace(
        _opened("film", ENDS_MS - 70 * MINUTE_MS, place=0), counted_ms=70 * MINUTE_MS, last_beat_ms=ENDS_MS
    )
    after = msgspec.structs.replace(
        before, day=DAY + timedelta(days=1), started_ms=ENDS_MS, last_beat_ms=ENDS_MS + 70 * MINUTE_MS
    )
    totals = DayTotals(day=DAY, starts_ms=STARTS_MS, ends_ms=ENDS_MS, counted_ms=70 * MINUTE_MS)
    next_totals = msgspec.structs.replace(
        totals, day=after.day, starts_ms=ENDS_MS, ends_ms=ENDS_MS + (ENDS_MS - STARTS_MS)
    )
    days = [ReportedDay(each, Granted()) for each in (next_totals, totals)]

    def due(**changes: Any) -> list[int]:
        parts = {each.day: [msgspec.structs.replace(each, **changes)] for each in (before, after)}
        found = blocked_days(
            _config(480, LimitRules(break_after_minutes=60, break_minutes=10)), days, parts, weekend_days=(5, 6),
            pause_grace_ms=GRACE_MS,
        )  # fmt: skip
        assert {each.reason for each in found} <= {"break"}
        return [(each.from_ms - ENDS_MS) // MINUTE_MS for each in found]

    assert due() == [60, -10]
    assert due(source=Source.OFFLINE) == []


def test_finished_titles_are_tried_only_by_settings_that_allow_them() -> None:
    """60 minutes were watched on a day that owed 10 and borrowed 5."""
    part = msgspec.structs.replace(_opened("film", STARTS_MS, place=0), counted_ms=3600 * SECOND)
    part = msgspec.structs.replace(part, last_beat_ms=STARTS_MS + 3600 * SECOND)
    totals = DayTotals(
        day=DAY, starts_ms=STARTS_MS, ends_ms=ENDS_MS, counted_ms=3600 * SECOND, borrowed_ms=300 * SECOND,
        owed_ms=600 * SECOND,
    )  # fmt: skip
    blocked = []
    for finish_minutes, weekly in ((None, None), (15, None), (15, 45)):
        rules = LimitRules(finish_title_minutes=finish_minutes, weekly_limit_minutes=weekly)
        config = _config(45, rules, is_exempt=True)
        days = [ReportedDay(totals, Granted())]
        [found] = blocked_days(config, days, {DAY: [part]}, weekend_days=(5, 6), pause_grace_ms=GRACE_MS)
        left = left_of_week(config, [*days, _next_day(totals)], weekend_days=(5, 6), week_starts_on=4)
        blocked.append(
            (((found.at_ms or 0) - STARTS_MS) // (60 * SECOND), found.limit_minutes, list(left.values())[1:])
        )
    assert blocked == [(45, 45, []), (40, 45, []), (40, 45, [0])]


def _next_day(totals: DayTotals) -> ReportedDay:
    return ReportedDay(msgspec.structs.replace(totals, day=totals.day + timedelta(days=1)), Granted())
