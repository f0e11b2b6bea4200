"""A year of usage of many families, generated inside PostgreSQL in a separate database.

Ten children to an account. Each has a balance for every day of a year, three sessions a day over the last 90 days, and
a grant on every tenth of these days. Rows are inserted day by day, as a flush would do, so that the rows of one child
are as scattered as in production.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from app.clock import now_ms
from app.domain.viewing_day import Calendar
from app.embedded.postgres import DATABASE, Postgres
from app.lab.bench.rows import PASSWORD_HASH, RESET_HOURS, WEEKDAY_LIMITS, WEEKEND_LIMITS, ZONES
from app.lab.bench.viewers import TITLES
from app.postgres_store.engine import create_engine
from app.postgres_store.migrate import head
from app.postgres_store.partitions import make_partitions
from app.postgres_store.retention import PostgresRetention
from app.timestamps import utc

NAME = "past"
NOTE = "past.json"
CHILDREN_AN_ACCOUNT = 10
DAYS = 365
SESSION_DAYS = 90
SESSIONS_A_DAY = 3
GRANT_EVERY_DAYS = 10
DAY_MS = 86_400_000
OLDEST_USED_AGAIN = timedelta(days=2)

_FAMILIES = """
INSERT INTO accounts (id, email, password_hash, timezone, created_at)
SELECT md5('family ' || number)::uuid, 'family-' || number || '@hourglass.example', $2, 'UTC', $3::timestamptz
  FROM generate_series(0, $1::int - 1) AS number
"""
_CHILDREN = f"""
INSERT INTO profiles (id, account_id, name, is_kids, timezone, policy_version, policy_changed_at, created_at)
SELECT md5('child ' || number)::uuid, md5('family ' || number / {CHILDREN_AN_ACCOUNT})::uuid, 'Child ' || number, true,
       ($2::text[])[1 + number % cardinality($2::text[])], 1, $3::timestamptz,
       $3::timestamptz + number * INTERVAL '1 millisecond'
  FROM generate_series(0, $1::int - 1) AS number
"""  # noqa: S608  fixed text
_CONFIGS = """
WITH added AS (
INSERT INTO viewing_time_configs
       (profile_id, version, weekday_limit_minutes, weekend_limit_minutes, reset_hour, timezone, educational_exempt,
        warning_minutes, limits_reviewed, calendar, updated_at)
SELECT md5('child ' || n)::uuid, 1, ($2::int[])[1 + n % cardinality($2::int[])],
       ($3::int[])[1 + n % cardinality($3::int[])], s.hour, s.zone, true, '[15, 5]', true, s.calendar::jsonb,
       $8::timestamptz
  FROM generate_series(0, $1::int - 1) AS n
  JOIN unnest($4::int[], $5::text[], $6::int[], $7::text[]) AS s(number, zone, hour, calendar)
    ON s.number = n % cardinality($4::int[])
RETURNING profile_id, timezone, reset_hour, weekday_limit_minutes, weekend_limit_minutes, updated_at
), known AS (
INSERT INTO viewing_time_config_history (profile_id, version, weekday_limit_minutes, weekend_limit_minutes, valid_from)
SELECT profile_id, 1, weekday_limit_minutes, weekend_limit_minutes, updated_at FROM added)
INSERT INTO past_children (profile_id, timezone, reset_hour, limit_ms)
SELECT profile_id, timezone, reset_hour, weekday_limit_minutes * 60000 FROM added
"""
_OURS = """
CREATE UNLOGGED TABLE past_children (
    profile_id uuid NOT NULL, timezone text NOT NULL, reset_hour int NOT NULL, limit_ms bigint NOT NULL)
"""
_STARTS = """
(extract(epoch FROM ($1::date + {days} + reset_hour * INTERVAL '1 hour') AT TIME ZONE timezone) * 1000)::bigint
"""
_BALANCES = f"""
INSERT INTO viewing_time_balances
       (profile_id, day, starts_ms, ends_ms, limit_ms, allowance_ms, used_ms, educational_ms, overrun_ms, version)
SELECT profile_id, $1, starts_ms, ends_ms, limit_ms, limit_ms, used_ms, used_ms / 10, 0, starts_ms + 43200000
  FROM (SELECT profile_id, {_STARTS.format(days=0)} AS starts_ms, {_STARTS.format(days=1)} AS ends_ms,
               limit_ms,
               abs(hashtextextended(profile_id::text, $1::date - DATE '1970-01-01')) % 7200000 AS used_ms
          FROM past_children) days
"""  # noqa: S608  fixed text
# Ids begin with an instant, like real ids.
_SESSIONS = f"""
INSERT INTO viewing_sessions
       (id, day, started_at, profile_id, title_id, is_educational, device_id, device_type, session_started_ms,
        last_beat_ms, has_ended, paused_since_ms, watched_ms, used_ms, educational_ms, overrun_ms, earlier_ms, version)
SELECT (lpad(to_hex(started_ms), 12, '0') || substr(md5(profile_id::text || started_ms), 13))::uuid, $1,
       TIMESTAMPTZ 'epoch' + started_ms * INTERVAL '1 millisecond', profile_id,
       'title-' || lpad((chance % {TITLES})::text, 5, '0'), false, 'living room', 'tv', started_ms,
       started_ms + 1200000 + chance % 1200000, true, 0, -1, 1200000 + chance % 1200000, 0, 0, 0, started_ms
  FROM (SELECT profile_id, chance, starts_ms + (6 + 3 * place) * 3600000 + chance % 3600000 AS started_ms
          FROM (SELECT profile_id, place, {_STARTS.format(days=0)} AS starts_ms,
                       abs(hashtextextended(profile_id::text, 10 * ($1::date - DATE '1970-01-01') + place)) AS chance
                  FROM past_children, generate_series(0, {SESSIONS_A_DAY - 1}) AS place) parts) sessions
"""  # noqa: S608  fixed text
_GRANTS = f"""
INSERT INTO time_grants (id, profile_id, day, minutes, granted_by, is_remote, granted_at)
SELECT gen_random_uuid(), profile_id, $1, 15, 'parent', true, ($1::date + INTERVAL '18 hours') AT TIME ZONE 'UTC'
  FROM past_children
 WHERE (hashtext(profile_id::text) & 1023) % {GRANT_EVERY_DAYS} = ($1::date - DATE '1970-01-01') % {GRANT_EVERY_DAYS}
"""  # noqa: S608  fixed text


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The location and the number of the families."""

    url: str
    children: int
    balances: int
    sessions: int

    @property
    def accounts(self) -> int:
        return self.children // CHILDREN_AN_ACCOUNT


def rows_of(children: int) -> int:
    """The number of balances and sessions of this many children."""
    return children * (DAYS + SESSION_DAYS * SESSIONS_A_DAY)


def prepare(
    folder: Path, postgres: Postgres, children: int, *, viewers: int, advance: Callable[[float], None]
) -> Dataset:
    """A copy of the viewers' database with the families, or the database of an earlier run if it is recent.

    The viewers' database must have no connection. ``advance`` receives the number of new rows, `rows_of` in all.
    """
    children -= children % CHILDREN_AN_ACCOUNT
    past = Dataset(
        url=postgres.url_of(NAME),
        children=children,
        balances=children * DAYS,
        sessions=children * SESSION_DAYS * SESSIONS_A_DAY,
    )
    today = datetime.fromtimestamp(now_ms() / 1000, UTC).date()
    wanted = {"children": children, "viewers": viewers, "schema": head()}
    note = folder / NOTE
    found = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {"day": "2000-01-01"}
    if found == wanted | {"day": found["day"]} and today - date.fromisoformat(found["day"]) <= OLDEST_USED_AGAIN:
        return past
    note.unlink(missing_ok=True)
    postgres.execute(f"DROP DATABASE IF EXISTS {NAME}")
    postgres.execute(f"CREATE DATABASE {NAME} TEMPLATE {DATABASE}")
    asyncio.run(_load(past.url, children, today=today, advance=advance))
    note.write_text(json.dumps(wanted | {"day": today.isoformat()}), encoding="utf-8")
    return past


async def _load(url: str, children: int, *, today: date, advance: Callable[[float], None]) -> None:
    engine = create_engine(url, pool_size=1, timeout_seconds=60)
    await make_partitions(engine, at_ms=now_ms(), days_back=DAYS + 1)
    await PostgresRetention(engine).drop_partitions("sessions", before=today - timedelta(days=SESSION_DAYS))
    await engine.dispose()
    days = [today - timedelta(days=age) for age in reversed(range(DAYS))]
    await _families(url, children, began=utc(now_ms() - (DAYS + 7) * DAY_MS))
    recent = days[-SESSION_DAYS:]
    await asyncio.gather(
        _day_by_day(url, {_BALANCES: days, _GRANTS: recent}, advance), _day_by_day(url, {_SESSIONS: recent}, advance)
    )
    database = await asyncpg.connect(url)
    await database.execute("VACUUM ANALYZE")
    await database.close()


async def _families(url: str, children: int, *, began: datetime) -> None:
    shapes = [(zone, hour) for zone in ZONES for hour in RESET_HOURS]
    began_ms = round(began.timestamp() * 1000)
    calendars = [
        msgspec.json.encode(Calendar.opened(began_ms, timezone=zone, reset_hour=hour)).decode() for zone, hour in shapes
    ]
    zones, hours = [zone for zone, _ in shapes], [hour for _, hour in shapes]
    database = await asyncpg.connect(url)
    try:
        await database.execute(_OURS)
        await database.execute(_FAMILIES, children // CHILDREN_AN_ACCOUNT, PASSWORD_HASH, began)
        await database.execute(_CHILDREN, children, zones, began)
        limits = [WEEKDAY_LIMITS, WEEKEND_LIMITS]
        await database.execute(_CONFIGS, children, *limits, range(len(shapes)), zones, hours, calendars, began)
    finally:
        await database.close()


async def _day_by_day(url: str, statements: "dict[str, Sequence[date]]", advance: Callable[[float], None]) -> None:
    database: asyncpg.Connection[Any] = await asyncpg.connect(url)
    try:
        await database.execute("SET synchronous_commit = off")
        for statement, days in statements.items():
            for day in days:
                status = await database.execute(statement, day)
                advance(int(status.rpartition(" ")[2]))
    finally:
        await database.close()
