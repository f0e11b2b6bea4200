"""Viewing days end while children watch.

The tests write calendars for unused children so that a day ends within seconds.
"""

import time
from collections.abc import Callable, Sequence

import httpx
import msgspec
import pytest

from app.auth.tokens import Role
from app.clock import now_ms
from app.domain.viewing_day import Calendar, DayRule, ViewingDay
from app.lab.chaos.deployment import ChaosDeployment
from app.wiring.external_identity import tokens_of
from tests.faults.record import Trial, ids

Begin = Callable[..., Trial]
HOUR_MS = 3_600_000
LEAD_MS = 5_000
"""From the beginning of a trial to the reset: by then all players have beaten a few times."""
LATE_FLUSH = {"flush_age_seconds": 20}
"""What is finished is written at once all the same, half a second later at most."""


@pytest.mark.faults
def test_a_day_ends_while_children_watch(deployment: ChaosDeployment, trial: Begin) -> None:
    watching = trial(33, "the viewing day ends")
    ends_ms = _end_days(deployment, watching.clients.profile_ids)
    with watching:
        _pass(ends_ms)
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers("200")
    _assert_split(deployment, watching.clients.profile_ids, ends_ms)


@pytest.mark.faults
def test_redis_is_emptied_when_the_ended_day_is_flushed_and_the_new_one_is_not(
    deployment: ChaosDeployment, trial: Begin
) -> None:
    deployment.stop_deployment()
    deployment.start_deployment(settings=LATE_FLUSH)
    watching = trial(33, "the viewing day ends, FLUSHALL once it is flushed")
    ends_ms = _end_days(deployment, watching.clients.profile_ids)
    with watching:
        _pass(ends_ms)
        watching.until_heard()
        assert deployment.eventually(lambda: deployment.finished_waiting() == 0, seconds=30)
        with deployment.redis() as redis:
            redis.flushall()
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers("200")
    _assert_split(deployment, watching.clients.profile_ids, ends_ms)
    deployment.stop_deployment()
    deployment.start_deployment()


@pytest.mark.faults
def test_reset_hour_and_zone_change_back_and_forth(deployment: ChaosDeployment, trial: Begin) -> None:
    """The running day is left alone, and the next begins where it ends."""
    watching = trial(34, "reset hour and zone changed, back and forth")
    children = watching.clients.profile_ids
    ends_ms = _end_days(deployment, children)
    with watching:
        for timezone, reset_hour in (("Pacific/Apia", 3), ("America/New_York", 20), ("Asia/Tokyo", 6)):
            for child in children[:4]:
                _change(deployment, child, timezone=timezone, reset_hour=reset_hour)
        assert now_ms() < ends_ms, "changed too late"
        _pass(ends_ms)
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers("200")
    _assert_split(deployment, children, ends_ms)


def _end_days(deployment: ChaosDeployment, children: Sequence[str]) -> int:
    """Have the running days of children end soon; the instant."""
    at_ms = now_ms()
    ends_ms = at_ms + LEAD_MS
    day = ViewingDay(at_ms // (24 * HOUR_MS), at_ms - 20 * HOUR_MS, ends_ms)
    rule = DayRule(effective_ms=at_ms - 100 * HOUR_MS, timezone="Europe/Oslo", reset_hour=6)
    calendar = msgspec.json.encode(Calendar(anchor=day, rules=(rule,))).decode()
    deployment.sql(
        f"UPDATE viewing_time_configs SET calendar = '{calendar}', timezone = 'Europe/Oslo', reset_hour = 6"  # noqa: S608  our own ids
        f" WHERE profile_id IN ({ids(children)})"
    )
    return ends_ms


def _pass(at_ms: int) -> None:
    """Wait until an instant is over."""
    time.sleep(max(0, at_ms + 1 - now_ms()) / 1000)


def _change(deployment: ChaosDeployment, child: str, *, timezone: str, reset_hour: int) -> None:
    account = deployment.sql(f"SELECT account_id FROM profiles WHERE id = '{child}'").strip()  # noqa: S608  our own id
    token = tokens_of(deployment.settings).issue(
        account_id=account, role=Role.PARENT, at_s=now_ms() // 1000, life_seconds=3600
    )
    url = f"{deployment.url}/api/v1/parental-controls/profiles/{child}/viewing-time"
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=20) as parent:
        etag = parent.get(url).headers["ETag"]
        change = {"timezone": timezone, "reset_hour": reset_hour}
        parent.put(url, headers={"If-Match": etag}, json=change).raise_for_status()


def _assert_split(deployment: ChaosDeployment, children: Sequence[str], ends_ms: int) -> None:
    """Two days each: the one that was pinned, and the one that begins where it ended, under a later name."""
    rows = deployment.sql(
        "SELECT count(*) FROM viewing_time_balances a JOIN viewing_time_balances b USING (profile_id)"  # noqa: S608  our own ids
        f" WHERE profile_id IN ({ids(children)}) AND b.day > a.day"
        f" AND a.ends_ms = {ends_ms} AND b.starts_ms = {ends_ms} AND b.ends_ms >= {ends_ms + 12 * HOUR_MS}"
    )
    days = deployment.sql(f"SELECT count(*) FROM viewing_time_balances WHERE profile_id IN ({ids(children)})")  # noqa: S608  as above
    assert (int(rows), int(days)) == (len(children), 2 * len(children))
