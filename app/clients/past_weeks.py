"""Past weeks of the demo household, written with the store of the flush.

The rows look as if players had sent heartbeats for four weeks. Everything but session ids follows from the seed.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec

from app.clock import now_ms
from app.domain.counters import Counters
from app.domain.policy import MINUTE_MS
from app.domain.viewing_day import Calendar, ViewingDay
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import make_partitions
from app.postgres_store.usage import PostgresUsage

DAYS = 35
_HOUR_MS = 3_600_000
_FRIDAY = 4
_PAUSE_MS = (5 * MINUTE_MS, 70 * MINUTE_MS)
_SESSION_MINUTES = (12, 55)
_BEFORE_MS = 10 * MINUTE_MS
_EVENING_MS = 14 * _HOUR_MS
"""Latest start of a session after the beginning of the day."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """Habits of a child. Minutes of a usual weekday and weekend day; ``share`` of educational titles, 0 to 1."""

    plain: Sequence[str]
    educational: Sequence[str]
    device: tuple[str, str]
    weekday_limit: int
    weekend_limit: int
    weekday_minutes: tuple[int, int]
    weekend_minutes: tuple[int, int]
    share: float
    left_today_minutes: int
    """Remaining time of the running day; the rest is used."""


async def write_past(
    database_url: str, habits: Mapping[str, Habits], *, timezone: str, reset_hour: int, seed: int
) -> None:
    """Write the past weeks and the usage of today.

    Args:
        database_url: address of the deployment's PostgreSQL.
        habits: habits by profile id.
        timezone: zone of all children.
        reset_hour: reset hour of all children.
        seed: seed of all random choices.

    Raises:
        DatabaseUnavailable
    """
    at_ms = now_ms()
    engine = create_engine(database_url, pool_size=1, timeout_seconds=30)
    try:
        await make_partitions(engine, at_ms=at_ms, days_back=DAYS + 2)
        usage = PostgresUsage(engine, now_ms)
        calendar = Calendar.opened(at_ms - (DAYS + 1) * 24 * _HOUR_MS, timezone=timezone, reset_hour=reset_hour)
        *past, today = [calendar.anchor, *calendar.days_after(calendar.anchor, until_ms=at_ms)]
        for place, (profile_id, child) in enumerate(habits.items()):
            chance = random.Random(seed + place)  # noqa: S311  a demo, not a secret
            rows = [live for day in past for live in _day(child, day, chance)]
            rows.append(_today(child, today, at_ms, chance))
            await usage.upsert([(profile_id, live) for live in rows])
    finally:
        await engine.dispose()


def _day(child: Habits, day: ViewingDay, chance: random.Random) -> Iterator[Counters]:
    """The sessions of a past day in order, each with the sums of the day so far."""
    is_weekend = day.date.weekday() > _FRIDAY
    limit_ms = _limit_ms(child, day)
    wanted_ms = chance.randint(*(child.weekend_minutes if is_weekend else child.weekday_minutes)) * MINUTE_MS
    started_ms = day.starts_ms + chance.randint(2 * 60, 9 * 60) * MINUTE_MS
    used_ms = educational_ms = overrun_ms = 0
    while wanted_ms > 0 and started_ms < day.starts_ms + _EVENING_MS:
        is_educational = chance.random() < child.share
        length_ms = min(wanted_ms, chance.randint(*_SESSION_MINUTES) * MINUTE_MS + chance.randint(0, MINUTE_MS))
        counted_ms = 0 if is_educational else min(length_ms, limit_ms - used_ms)
        beyond_ms = 0 if is_educational else min(length_ms - counted_ms, 4 * MINUTE_MS)
        learned_ms = length_ms if is_educational else 0
        if not (counted_ms or beyond_ms or learned_ms):
            return
        used_ms, educational_ms, overrun_ms = (
            used_ms + counted_ms,
            educational_ms + learned_ms,
            overrun_ms + beyond_ms,
        )
        session = (counted_ms, learned_ms, beyond_ms)
        sums = (used_ms, educational_ms, overrun_ms)
        yield _live(child, day, chance, started_ms=started_ms, session=session, sums=sums)
        wanted_ms -= length_ms
        started_ms += sum(session) + chance.randint(*_PAUSE_MS)


def _today(child: Habits, day: ViewingDay, at_ms: int, chance: random.Random) -> Counters:
    """One session that ended in the past."""
    limit_ms = _limit_ms(child, day)
    used_ms = limit_ms - child.left_today_minutes * MINUTE_MS
    started_ms = max(day.starts_ms, at_ms - used_ms - _BEFORE_MS)
    session = (used_ms, 0, 0)
    return _live(child, day, chance, started_ms=started_ms, session=session, sums=session)


def _limit_ms(child: Habits, day: ViewingDay) -> int:
    is_weekend = day.date.weekday() > _FRIDAY
    return (child.weekend_limit if is_weekend else child.weekday_limit) * MINUTE_MS


def _live(
    child: Habits,
    day: ViewingDay,
    chance: random.Random,
    *,
    started_ms: int,
    session: tuple[int, int, int],
    sums: tuple[int, int, int],
) -> Counters:
    """The counters at the end of a session, with counted, educational and overrun sums."""
    ended_ms = started_ms + sum(session)
    limit_ms, is_educational = _limit_ms(child, day), session[1] > 0
    device_id, device_type = child.device
    live = Counters(
        version=ended_ms,
        generation=0,
        policy_version=0,
        dirty_since_ms=0,
        day_number=day.number,
        day_starts_ms=day.starts_ms,
        day_ends_ms=day.ends_ms,
        limit_ms=limit_ms,
        allowance_ms=limit_ms,
        used_ms=sums[0],
        educational_ms=sums[1],
        overrun_ms=sums[2],
    )
    return msgspec.structs.replace(
        live,
        session_id=str(uuid4()),
        title_id=chance.choice(child.educational if is_educational else child.plain),
        is_educational=int(is_educational),
        device_id=device_id,
        device_type=device_type,
        session_started_ms=started_ms,
        last_beat_ms=ended_ms,
        watched_ms=-1,
        session_used_ms=session[0],
        session_educational_ms=session[1],
        session_overrun_ms=session[2],
        has_ended=1,
    )
