"""Policies, read from their owner: what the caches are filled from."""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.clock import Clock
from app.domain.accounting import Live
from app.domain.offline import Stretch, union
from app.domain.policy import Grant, OfflineUse, Policy
from app.domain.viewing_day import Calendar
from app.instants import utc
from app.postgres_store.access import Query, connection, is_uuid
from app.postgres_store.usage import LATEST, LATEST_COLUMNS, latest_at, recovered

_GRANT_DAYS_KEPT = 3
"""A day that began 37 hours ago, twelve zones west of UTC, bears a name three days old; no older grant can matter."""

_COLUMNS = """
p.id::text, p.account_id::text, p.policy_version, p.is_kids,
       c.version, c.weekday_limit_minutes, c.weekend_limit_minutes, c.educational_exempt, c.warning_minutes::text,
       c.calendar::text, g.days, g.minutes, o.uses::text,
       CASE WHEN o.uses IS NOT NULL
            THEN (SELECT jsonb_agg(jsonb_build_array(i.starts_ms, i.ends_ms))::text
                    FROM offline_intervals i
                   WHERE i.profile_id = p.id AND i.credited_ms > 0
                     AND i.ends_ms >= (CAST(:oldest AS date) - DATE '1970-01-01') * 86400000::bigint) END"""
_PROFILES = """
  FROM profiles p
  LEFT JOIN viewing_time_configs c ON c.profile_id = p.id
  LEFT JOIN LATERAL (
       SELECT array_agg(t.day - DATE '1970-01-01' ORDER BY t.granted_at, t.id) AS days,
              array_agg(t.minutes ORDER BY t.granted_at, t.id) AS minutes
         FROM time_grants t
        WHERE t.profile_id = p.id AND t.day >= :oldest AND t.revoked_at IS NULL) g ON true
  LEFT JOIN LATERAL (
       SELECT jsonb_agg(jsonb_build_array(b.day - DATE '1970-01-01', b.offline_used_ms, b.offline_educational_ms,
                                          b.offline_overrun_ms)) AS uses
         FROM viewing_time_balances b
        WHERE b.profile_id = p.id AND b.day >= :oldest
          AND (b.offline_used_ms > 0 OR b.offline_educational_ms > 0 OR b.offline_overrun_ms > 0)) o ON true
"""
_NOT_ERASED = " WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id IN (p.id, p.account_id))"
_SELECT = f"SELECT {_COLUMNS} {_PROFILES} {_NOT_ERASED}"
_ASKED = " AND p.id = ANY(CAST(:ids AS uuid[]))"
_LOAD, _LOAD_IN_TRANSACTION = Query(_SELECT + _ASKED), text(_SELECT + _ASKED)
_MEET = Query(f"SELECT {_COLUMNS}, {LATEST_COLUMNS} {_PROFILES} {LATEST} {_NOT_ERASED} {_ASKED}")
_CHANGED = text(_SELECT + " AND p.policy_changed_at >= :since")
_WIDTH = 14
"""Columns of a policy; those of the counters follow."""


class PostgresPolicies:
    """Reads the policies of profiles; one statement whatever their number."""

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
        rows = await _LOAD.rows(self._engine, ids=ids, oldest=_oldest_grant(self._clock()))
        return _in_order(profile_ids, rows)

    async def meet(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Live | None] | None]:
        """As ``load``, with the newest flushed counters of each profile, None where nothing was flushed.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        ids = _ids(profile_ids)
        if not ids:
            return [None] * len(profile_ids)
        at_ms = self._clock()
        rows = await _MEET.rows(self._engine, ids=ids, oldest=_oldest_grant(at_ms), **latest_at(at_ms))
        found = {row[0]: (_policy(row[:_WIDTH]), recovered(row[_WIDTH:])) for row in rows}
        return [found.get(profile_id) for profile_id in profile_ids]

    async def changed_since(self, at_ms: int) -> list[Policy]:
        """Every policy that changed at or after an instant.

        A change is dated before its commit: ask from a little earlier than the last time.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        async with connection(self._engine) as database:
            rows = await database.execute(_CHANGED, {"since": utc(at_ms), "oldest": _oldest_grant(self._clock())})
            return [_policy(row) for row in rows]


async def policies_of(database: AsyncConnection, profile_ids: Sequence[str], *, at_ms: int) -> list[Policy | None]:
    """The policies as they stand in this transaction, with the grants that can matter at an instant."""
    values = {"ids": _ids(profile_ids), "oldest": _oldest_grant(at_ms)}
    return _in_order(profile_ids, await database.execute(_LOAD_IN_TRANSACTION, values))


def _ids(profile_ids: Sequence[str]) -> list[str]:
    return sorted({profile_id for profile_id in profile_ids if is_uuid(profile_id)})


def _in_order(profile_ids: Sequence[str], rows: Iterable[Any]) -> list[Policy | None]:
    found = {policy.profile_id: policy for policy in map(_policy, rows)}
    return [found.get(profile_id) for profile_id in profile_ids]


def _oldest_grant(at_ms: int) -> date:
    return utc(at_ms).date() - timedelta(days=_GRANT_DAYS_KEPT)


def _policy(row: Sequence[Any]) -> Policy:
    (profile_id, account_id, version, is_kids, config_version, weekday, weekend, exempt, warnings, calendar,
     days, minutes, offline, synced) = row  # fmt: skip
    if not is_kids:
        return Policy(profile_id, account_id, version, False, 0, None, None, True, (), None)
    return Policy(
        profile_id,
        account_id,
        version,
        True,
        config_version,
        weekday,
        weekend,
        exempt,
        _thresholds_of(warnings),
        _calendar_of(calendar),
        tuple(Grant(*grant) for grant in zip(days, minutes, strict=True)) if days else (),
        msgspec.json.decode(offline, type=tuple[OfflineUse, ...]) if offline else (),
        union(msgspec.json.decode(synced, type=list[Stretch])) if synced else (),
    )


@lru_cache(maxsize=1024)
def _thresholds_of(text: str) -> tuple[int, ...]:
    """Most children of a platform have the same; so have many the same calendar."""
    return msgspec.json.decode(text, type=tuple[int, ...])


@lru_cache(maxsize=4096)
def _calendar_of(text: str) -> Calendar:
    return msgspec.json.decode(text, type=Calendar)
