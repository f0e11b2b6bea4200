"""Reads policies from PostgreSQL, their owner."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import TypeAlias

import msgspec
from asyncpg import Record
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.clock import Clock
from app.domain.counters import Counters
from app.domain.limits import LimitRules
from app.domain.offline import TimeRange, union
from app.domain.policy import EarlierDay, Grant, OfflineUse, Policy
from app.domain.report import WEEK
from app.domain.viewing_day import Calendar
from app.postgres_store.access import Query, connection, is_uuid
from app.postgres_store.limit_rules import rules_of
from app.postgres_store.usage import LATEST, LATEST_COLUMNS, latest_at, recovered
from app.timestamps import ms_or_none, utc

_GRANT_DAYS_KEPT = 3
"""A day that began 37 hours ago, twelve zones west of UTC, bears a name three days old; no older grant can matter."""

_COLUMNS = """
p.id::text AS profile_id, p.account_id::text AS account_id, p.policy_version, p.is_kids, p.enforcement, a.market,
       CASE WHEN p.paused_until > :at THEN p.paused_until END AS paused_until,
       c.version AS config_version, c.weekday_limit_minutes, c.weekend_limit_minutes, c.educational_exempt,
       c.warning_minutes::text AS warning_minutes, c.calendar::text AS calendar, c.rules::text AS rules,
       g.days AS grant_days, g.minutes AS grant_minutes, g.covered_ms AS grant_covered_ms, g.at_ms AS grant_at_ms,
       o.uses::text AS offline_uses, w.days::text AS week_days,
       CASE WHEN o.uses IS NOT NULL
            THEN (SELECT jsonb_agg(jsonb_build_array(i.starts_ms, i.ends_ms))::text
                    FROM offline_intervals i
                   WHERE i.profile_id = p.id AND (i.credited_ms > 0 OR i.is_settled)
                     AND i.ends_ms >= (CAST(:oldest AS date) - DATE '1970-01-01') * 86400000::bigint) END AS synced"""
_PROFILES = """
  FROM profiles p
  JOIN accounts a ON a.id = p.account_id
  LEFT JOIN viewing_time_configs c ON c.profile_id = p.id
  LEFT JOIN LATERAL (
       SELECT array_agg(t.day - DATE '1970-01-01' ORDER BY t.granted_at, t.id) AS days,
              array_agg(t.minutes ORDER BY t.granted_at, t.id) AS minutes,
              array_agg(t.covered_ms ORDER BY t.granted_at, t.id) AS covered_ms,
              array_agg((EXTRACT(EPOCH FROM t.granted_at) * 1000)::bigint ORDER BY t.granted_at, t.id) AS at_ms
         FROM time_grants t
        WHERE t.profile_id = p.id AND t.day >= :oldest AND t.revoked_at IS NULL) g ON true
  LEFT JOIN LATERAL (
       SELECT jsonb_agg(jsonb_build_array(b.day - DATE '1970-01-01', b.offline_used_ms, b.offline_educational_ms,
                                          b.offline_overrun_ms, b.penalty_ms)) AS uses
         FROM viewing_time_balances b
        WHERE b.profile_id = p.id AND b.day >= :oldest
          AND (b.offline_used_ms > 0 OR b.offline_educational_ms > 0 OR b.offline_overrun_ms > 0
               OR b.penalty_ms > 0)) o ON true
  LEFT JOIN LATERAL (
       SELECT jsonb_agg(jsonb_build_array(b.day - DATE '1970-01-01', b.used_ms + b.owed_ms, COALESCE(b.limit_ms, -1),
                                          b.offline_used_ms) ORDER BY b.day) AS days
         FROM viewing_time_balances b
        WHERE c.rules -> 'weekly_limit_minutes' IS NOT NULL
          AND b.profile_id = p.id AND b.day >= :oldest_of_week) w ON true
"""
_NOT_ERASED = " WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id IN (p.id, p.account_id))"
_SELECT = f"SELECT {_COLUMNS} {_PROFILES} {_NOT_ERASED}"
_ASKED = " AND p.id = ANY(CAST(:ids AS uuid[]))"
_LOAD, _LOAD_IN_TRANSACTION = Query(_SELECT + _ASKED), text(_SELECT + _ASKED)
_LOAD_WITH_COUNTERS = Query(f"SELECT {_COLUMNS}, {LATEST_COLUMNS} {_PROFILES} {LATEST} {_NOT_ERASED} {_ASKED}")
_CHANGED = text(_SELECT + " AND p.policy_changed_at >= :since")

_Row: TypeAlias = Record | RowMapping


class PostgresPolicies:
    """Reads policies. Each method is one statement for any number of profiles."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        """The policies in the order asked; None for a profile that does not exist or was erased.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        ids = _ids(profile_ids)
        if not ids:
            return [None] * len(profile_ids)
        rows = await _LOAD.rows(self._engine, ids=ids, **_as_of(self._clock()))
        return _in_order(profile_ids, rows)

    async def load_with_counters(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Counters | None] | None]:
        """As ``load``, with the newest flushed counters of each profile, None where nothing was flushed.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        ids = _ids(profile_ids)
        if not ids:
            return [None] * len(profile_ids)
        at_ms = self._clock()
        rows = await _LOAD_WITH_COUNTERS.rows(self._engine, ids=ids, **_as_of(at_ms), **latest_at(at_ms))
        found = {row["profile_id"]: (_policy(row), recovered(row)) for row in rows}
        return [found.get(profile_id) for profile_id in profile_ids]

    async def changed_since(self, at_ms: int) -> list[Policy]:
        """Every policy that changed at or after an instant.

        A change is dated before its commit: ask from a little earlier than the last time.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        async with connection(self._engine) as database:
            rows = await database.execute(_CHANGED, {"since": utc(at_ms), **_as_of(self._clock())})
            return [_policy(row) for row in rows.mappings()]


async def policies_of(database: AsyncConnection, profile_ids: Sequence[str], *, at_ms: int) -> list[Policy | None]:
    """The policies as of this transaction, with the grants that can matter at an instant."""
    values = {"ids": _ids(profile_ids), **_as_of(at_ms)}
    rows = await database.execute(_LOAD_IN_TRANSACTION, values)
    return _in_order(profile_ids, rows.mappings())


def _ids(profile_ids: Sequence[str]) -> list[str]:
    return sorted({profile_id for profile_id in profile_ids if is_uuid(profile_id)})


def _in_order(profile_ids: Sequence[str], rows: Iterable[_Row]) -> list[Policy | None]:
    found = {policy.profile_id: policy for policy in map(_policy, rows)}
    return [found.get(profile_id) for profile_id in profile_ids]


def _as_of(at_ms: int) -> dict[str, date]:
    """What matters at an instant: younger grants, pauses that go on, and the days of a week."""
    now = utc(at_ms)
    oldest = now.date() - timedelta(days=_GRANT_DAYS_KEPT)
    return {"at": now, "oldest": oldest, "oldest_of_week": oldest - timedelta(days=WEEK)}


def _policy(row: _Row) -> Policy:
    """The policy in a row with ``_COLUMNS``."""
    if not row["is_kids"]:
        return Policy(
            profile_id=row["profile_id"],
            account_id=row["account_id"],
            version=row["policy_version"],
            is_kids=False,
            config_version=0,
            weekday_limit_minutes=None,
            weekend_limit_minutes=None,
            educational_exempt=True,
            warning_minutes=(),
            calendar=None,
        )
    rules = rules_of(row["rules"])
    return Policy(
        profile_id=row["profile_id"],
        account_id=row["account_id"],
        version=row["policy_version"],
        is_kids=True,
        config_version=row["config_version"],
        weekday_limit_minutes=row["weekday_limit_minutes"],
        weekend_limit_minutes=row["weekend_limit_minutes"],
        educational_exempt=row["educational_exempt"],
        warning_minutes=_thresholds_of(row["warning_minutes"]),
        calendar=_calendar_of(row["calendar"]),
        grants=_grants(row, rules) if row["grant_days"] else (),
        offline=msgspec.json.decode(row["offline_uses"], type=tuple[OfflineUse, ...]) if row["offline_uses"] else (),
        synced=union(msgspec.json.decode(row["synced"], type=list[TimeRange])) if row["synced"] else (),
        market=row["market"],
        enforcement=row["enforcement"],
        paused_until_ms=ms_or_none(row["paused_until"]),
        rules=rules,
        week=msgspec.json.decode(row["week_days"], type=tuple[EarlierDay, ...]) if row["week_days"] else (),
    )


def _grants(row: _Row, rules: LimitRules | None) -> tuple[Grant, ...]:
    """The grants. Children without windows share them, whenever they were given."""
    columns = zip(row["grant_days"], row["grant_minutes"], row["grant_covered_ms"], row["grant_at_ms"], strict=True)
    has_windows = rules is not None and bool(rules.windows)
    return tuple(
        Grant(day_number, minutes, covered_ms, at_ms if has_windows else 0)
        for day_number, minutes, covered_ms, at_ms in columns
    )


@lru_cache(maxsize=1024)
def _thresholds_of(text: str) -> tuple[int, ...]:
    """Decoded once for all children with equal thresholds."""
    return msgspec.json.decode(text, type=tuple[int, ...])


@lru_cache(maxsize=4096)
def _calendar_of(text: str) -> Calendar:
    return msgspec.json.decode(text, type=Calendar)
