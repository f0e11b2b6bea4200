"""Rows 33 and 34, and 5 at a reset: viewing days end while children watch.

The days of children whom nobody has used before are written into their calendars, so that one ends in a few seconds.
"""

import time
from collections.abc import Callable, Sequence

import httpx
import msgspec
import pytest

from app.auth.tokens import Role
from app.chaos.stand import Stand
from app.clock import now_ms
from app.domain.viewing_day import Calendar, DayRule, ViewingDay
from app.wiring import tokens_of
from tests.faults.record import Trial, ids

Begin = Callable[..., Trial]
HOUR_MS = 3_600_000
LEAD_MS = 5_000
"""From the beginning of a trial to the reset: by then all players have beaten a few times."""
LATE_FLUSH = {"flush_age_seconds": 20}
"""What is finished is written at once all the same, half a second later at most."""


@pytest.mark.faults
def test_a_day_ends_while_children_watch(stand: Stand, trial: Begin) -> None:
    watching = trial(33, "the viewing day ends")
    ends_ms = _end_days(stand, watching.crowd.profile_ids)
    with watching:
        _pass(ends_ms, seconds=1.5)
    watching.expect_exact()
    watching.expect_answers("200")
    _assert_split(stand, watching.crowd.profile_ids, ends_ms)


@pytest.mark.faults
def test_redis_is_emptied_when_the_ended_day_is_flushed_and_the_new_one_is_not(stand: Stand, trial: Begin) -> None:
    stand.end_up()
    stand.start_up(settings=LATE_FLUSH)
    watching = trial(33, "the viewing day ends, FLUSHALL 1.5 s later")
    ends_ms = _end_days(stand, watching.crowd.profile_ids)
    with watching:
        _pass(ends_ms, seconds=1.5)
        assert stand.finished_waiting() == 0
        with stand.redis() as redis:
            redis.flushall()
        time.sleep(1)
    watching.expect_exact()
    watching.expect_answers("200")
    _assert_split(stand, watching.crowd.profile_ids, ends_ms)
    stand.end_up()
    stand.start_up()


@pytest.mark.faults
def test_reset_hour_and_zone_change_back_and_forth(stand: Stand, trial: Begin) -> None:
    """The running day is left alone, and the next begins where it ends."""
    watching = trial(34, "reset hour and zone changed, back and forth")
    children = watching.crowd.profile_ids
    ends_ms = _end_days(stand, children)
    with watching:
        for timezone, reset_hour in (("Pacific/Apia", 3), ("America/New_York", 20), ("Asia/Tokyo", 6)):
            for child in children[:4]:
                _change(stand, child, timezone=timezone, reset_hour=reset_hour)
        assert now_ms() < ends_ms, "changed too late"
        _pass(ends_ms, seconds=1.5)
    watching.expect_exact()
    watching.expect_answers("200")
    _assert_split(stand, children, ends_ms)


def _end_days(stand: Stand, children: Sequence[str]) -> int:
    """Have the running days of children end soon; the instant."""
    at_ms = now_ms()
    ends_ms = at_ms + LEAD_MS
    day = ViewingDay(at_ms // (24 * HOUR_MS), at_ms - 20 * HOUR_MS, ends_ms)
    rule = DayRule(effective_ms=at_ms - 100 * HOUR_MS, timezone="Europe/Oslo", reset_hour=6)
    calendar = msgspec.json.encode(Calendar(anchor=day, rules=(rule,))).decode()
    stand.sql(
        f"UPDATE viewing_time_configs SET calendar = '{calendar}', timezone = 'Europe/Oslo', reset_hour = 6"  # noqa: S608  our own ids
        f" WHERE profile_id IN ({ids(children)})"
    )
    return ends_ms


def _pass(ends_ms: int, *, seconds: float) -> None:
    """Wait until so many seconds after an instant."""
    time.sleep(max(0, ends_ms - now_ms()) / 1000 + seconds)


def _change(stand: Stand, child: str, *, timezone: str, reset_hour: int) -> None:
    account = stand.sql(f"SELECT account_id FROM profiles WHERE id = '{child}'").strip()  # noqa: S608  our own id
    token = tokens_of(stand.settings).issue(
        account_id=account, role=Role.PARENT, at_s=now_ms() // 1000, life_seconds=3600
    )
    url = f"{stand.url}/api/v1/parental-controls/profiles/{child}/viewing-time"
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=20) as parent:
        etag = parent.get(url).headers["ETag"]
        change = {"timezone": timezone, "reset_hour": reset_hour}
        parent.put(url, headers={"If-Match": etag}, json=change).raise_for_status()


def _assert_split(stand: Stand, children: Sequence[str], ends_ms: int) -> None:
    """Two days each: the one that was pinned, and the one that begins where it ended, under a later name."""
    rows = stand.sql(
        "SELECT count(*) FROM viewing_time_balances a JOIN viewing_time_balances b USING (profile_id)"  # noqa: S608  our own ids
        f" WHERE profile_id IN ({ids(children)}) AND b.day > a.day"
        f" AND a.ends_ms = {ends_ms} AND b.starts_ms = {ends_ms} AND b.ends_ms >= {ends_ms + 12 * HOUR_MS}"
    )
    days = stand.sql(f"SELECT count(*) FROM viewing_time_balances WHERE profile_id IN ({ids(children)})")  # noqa: S608  as above
    assert (int(rows), int(days)) == (len(children), 2 * len(children))
