"""Insert the viewers' rows into PostgreSQL at full speed."""

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from itertools import islice
from typing import Any

import asyncpg
import msgspec

from app.domain.limits import LimitRules, Window
from app.domain.viewing_day import Calendar, day_number_of
from app.lab.bench.viewers import EDUCATIONAL_TITLES, TITLES, account_id, profile_id, title_id
from app.reports.weekly import last_sunday
from app.timestamps import utc

CHUNK = 10_000
TABLES_A_VIEWER = 4
ZONES = ("Europe/Oslo", "Europe/London", "America/New_York", "Asia/Tokyo")
RESET_HOURS = (5, 6, 7)
WEEKDAY_LIMITS = (60, 90, 120, 180, 240)
WEEKEND_LIMITS = (120, 180, 240, 300, 480)
PASSWORD_HASH = "$2b$12$" + "." * 53
"""Has the form of a hash and matches no secret."""

_PREPARED = """
INSERT INTO weekly_reports AS w (account_id, week_ending, changes) SELECT id, $1, 0 FROM accounts
    ON CONFLICT (account_id, week_ending) DO UPDATE SET changes = 0 WHERE w.changes > 0
"""


async def load(
    database_url: str,
    viewers: int,
    *,
    at_ms: int,
    advance: Callable[[int], None],
    children_an_account: int = 1,
    rules: LimitRules | None = None,
) -> None:
    """Fill an empty, migrated database whose data begins at ``at_ms``.

    ``advance`` receives the number of new rows, `TABLES_A_VIEWER` for each viewer with an account of its own. The first
    of several children of an account gives it its number.
    """
    database = await asyncpg.connect(database_url)
    try:
        await _copy(database, "titles", _TITLES, _titles(at_ms))
        for table, columns, rows in (
            ("accounts", _ACCOUNTS, _accounts(viewers, at_ms, children=children_an_account)),
            ("profiles", _PROFILES, _profiles(viewers, at_ms, children=children_an_account)),
            ("viewing_time_configs", _CONFIGS, _configs(viewers, at_ms, rules=rules)),
            ("viewing_time_config_history", _HISTORY, _history(viewers, at_ms)),
        ):
            while chunk := list(islice(rows, CHUNK)):
                await _copy(database, table, columns, chunk)
                advance(len(chunk))
        await database.execute("ANALYZE")
    finally:
        await database.close()


async def mark_reports_prepared(database_url: str, *, at_ms: int) -> None:
    """Prevent the preparation of weekly reports due at an instant, which has figures of its own."""
    database = await asyncpg.connect(database_url)
    try:
        await database.execute(_PREPARED, last_sunday(utc(at_ms).date()))
        await database.execute("ANALYZE weekly_reports")
    finally:
        await database.close()


async def delete_usage(database_url: str) -> None:
    """Delete the counts of an earlier run."""
    database = await asyncpg.connect(database_url)
    try:
        await database.execute(
            "TRUNCATE viewing_time_balances, viewing_sessions, flush_state, parked_rows, weekly_reports"
        )
    finally:
        await database.close()


async def _copy(
    database: "asyncpg.Connection[Any]", table: str, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]
) -> None:
    await database.copy_records_to_table(table, columns=columns, records=rows)


_TITLES = ("id", "name", "is_educational", "duration_seconds", "updated_at")
_ACCOUNTS = ("id", "email", "password_hash", "timezone", "created_at")
_PROFILES = ("id", "account_id", "name", "is_kids", "timezone", "policy_version", "policy_changed_at", "created_at")
_HISTORY = ("profile_id", "version", "weekday_limit_minutes", "weekend_limit_minutes", "valid_from")
_CONFIGS = (
    "profile_id",
    "version",
    "weekday_limit_minutes",
    "weekend_limit_minutes",
    "reset_hour",
    "timezone",
    "educational_exempt",
    "warning_minutes",
    "limits_reviewed",
    "calendar",
    "rules",
    "updated_at",
)


def _titles(at_ms: int) -> Iterator[tuple[object, ...]]:
    for number in range(TITLES):
        yield title_id(number), f"Title {number}", number < EDUCATIONAL_TITLES, 3_600, utc(at_ms)


def _accounts(viewers: int, at_ms: int, *, children: int) -> Iterator[tuple[object, ...]]:
    for viewer in range(0, viewers, children):
        email = f"viewer-{viewer}@hourglass.example"
        yield account_id(viewer), email, PASSWORD_HASH, _zone(viewer), utc(at_ms)


def _profiles(viewers: int, at_ms: int, *, children: int) -> Iterator[tuple[object, ...]]:
    began = utc(at_ms)
    for viewer in range(viewers):
        yield (
            profile_id(viewer),
            account_id(viewer - viewer % children),
            f"Child {viewer}",
            True,
            _zone(viewer),
            1,
            began,
            began,
        )


ALL_RULES = LimitRules(
    daily_limits=(120, 120, 120, 120, 120, 180, 180),
    holidays=((day_number_of(date(2030, 12, 24)), day_number_of(date(2031, 1, 6))),),
    windows=(Window(days=tuple(range(7)), from_minute=0, until_minute=0),),
    weekly_limit_minutes=900,
    break_after_minutes=240,
    break_minutes=15,
    finish_title_minutes=30,
)
"""Every rule of a family, none of which ends playback during a run but the limits."""


def _configs(viewers: int, at_ms: int, *, rules: LimitRules | None) -> Iterator[tuple[object, ...]]:
    calendars = {
        (zone, hour): msgspec.json.encode(Calendar.opened(at_ms, timezone=zone, reset_hour=hour)).decode()
        for zone in ZONES
        for hour in RESET_HOURS
    }
    encoded = None if rules is None else msgspec.json.encode(rules).decode()
    for viewer in range(viewers):
        zone, hour = _zone(viewer), RESET_HOURS[viewer % len(RESET_HOURS)]
        shape = (hour, zone, True, "[15, 5]", True, calendars[zone, hour], encoded, utc(at_ms))
        yield profile_id(viewer), 1, *_limits(viewer), *shape


def _history(viewers: int, at_ms: int) -> Iterator[tuple[object, ...]]:
    for viewer in range(viewers):
        yield profile_id(viewer), 1, *_limits(viewer), utc(at_ms)


def _zone(viewer: int) -> str:
    return ZONES[viewer % len(ZONES)]


def _limits(viewer: int) -> tuple[int, int]:
    return WEEKDAY_LIMITS[viewer % len(WEEKDAY_LIMITS)], WEEKEND_LIMITS[viewer % len(WEEKEND_LIMITS)]
