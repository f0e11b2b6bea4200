"""Offline playback: credited in one transaction, so that a batch counts once whatever is repeated or interrupted."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.offline import DayUse, OfflineBatch, Settlement, Stretch
from app.domain.policy import DayTerms, OfflineUse
from app.domain.viewing_day import date_of
from app.errors import ProfileAccessDenied
from app.instants import utc
from app.postgres_store.access import connection, transaction
from app.postgres_store.weekly_reports import note_changes

_LONGEST_DAY_MS = 38 * 3_600_000

_LOCK = text("SELECT 1 FROM profiles WHERE id = :profile_id FOR UPDATE")
_STORED = text(
    "SELECT credited_ms::text, is_tampered FROM offline_batches WHERE profile_id = :profile_id AND batch_id = :batch_id"
)
_COVERED = text("""
SELECT s.session_started_ms, s.last_beat_ms FROM viewing_sessions s
 WHERE s.profile_id = :profile_id AND s.started_at >= :since AND s.started_at < :until
 UNION ALL
SELECT o.starts_ms, o.ends_ms FROM offline_intervals o
 WHERE o.profile_id = :profile_id AND o.ends_ms > :from_ms AND o.starts_ms < :to_ms
""")
_USED = text("""
SELECT day - DATE '1970-01-01', COALESCE(allowance_ms, -1), used_ms, offline_used_ms FROM viewing_time_balances
 WHERE profile_id = :profile_id AND day BETWEEN :first AND :last
""")
_ADD_BATCH = text("""
INSERT INTO offline_batches (profile_id, batch_id, device_id, is_tampered, credited_ms, synced_at)
VALUES (:profile_id, :batch_id, :device_id, :is_tampered, CAST(:credited_ms AS jsonb), :synced_at)
""")
_ADD_INTERVALS = """
INSERT INTO offline_intervals (profile_id, title_id, starts_ms, ends_ms, credited_ms)
SELECT $1::uuid, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
"""
_ADD_USE = text("""
INSERT INTO viewing_time_balances AS t
       (profile_id, day, starts_ms, ends_ms, limit_ms, allowance_ms, used_ms, educational_ms, overrun_ms, version,
        offline_used_ms, offline_educational_ms, offline_overrun_ms)
VALUES (:profile_id, :day, :starts_ms, :ends_ms, NULLIF(:limit_ms, -1), NULLIF(:allowance_ms, -1), 0, 0, 0, 0,
        :used_ms, :educational_ms, :overrun_ms)
    ON CONFLICT (profile_id, day) DO UPDATE
   SET offline_used_ms = t.offline_used_ms + excluded.offline_used_ms,
       offline_educational_ms = t.offline_educational_ms + excluded.offline_educational_ms,
       offline_overrun_ms = t.offline_overrun_ms + excluded.offline_overrun_ms
""")
_BUMP = text("""
UPDATE profiles SET policy_version = policy_version + 1, policy_changed_at = :at WHERE id = :profile_id
""")


class PostgresOffline:
    """The ledger of offline playback. Syncs of one child wait for each other."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def stored(self, profile_id: str, batch_id: str) -> tuple[tuple[int, ...], bool] | None:
        """The credit of a batch that was synced before, and whether it was tampered with."""
        async with connection(self._engine) as database:
            return await _stored(database, profile_id, batch_id)

    async def apply(
        self,
        batch: OfflineBatch,
        *,
        settle: Callable[[Sequence[Stretch], dict[int, DayUse]], Settlement],
        terms_of: Callable[[OfflineUse], DayTerms],
    ) -> tuple[tuple[int, ...], bool]:
        """Credit a batch unless it was credited before; answers the credit of each interval in ms.

        Args:
            batch: what was played.
            settle: decides the credit from what is covered already and what the flushed days used.
            terms_of: the terms of a day that is credited.

        Raises:
            DatabaseUnavailable: nothing was credited.
            ProfileAccessDenied: the profile is gone.
        """
        async with transaction(self._engine) as database:
            keys = {"profile_id": batch.profile_id, "batch_id": batch.batch_id}
            if (await database.execute(_LOCK, keys)).first() is None:
                raise ProfileAccessDenied
            before = await _stored(database, batch.profile_id, batch.batch_id)
            if before is not None:
                return before
            settlement = settle(*await _known(database, batch))
            await _write(database, batch, settlement, terms_of)
        return settlement.credited_ms, batch.is_tampered


async def _stored(database: AsyncConnection, profile_id: str, batch_id: str) -> tuple[tuple[int, ...], bool] | None:
    row = (await database.execute(_STORED, {"profile_id": profile_id, "batch_id": batch_id})).first()
    return None if row is None else (msgspec.json.decode(row[0], type=tuple[int, ...]), row[1])


async def _known(database: AsyncConnection, batch: OfflineBatch) -> tuple[list[Stretch], dict[int, DayUse]]:
    """What is counted around the batch, and what its days used by beats and by earlier syncs."""
    from_ms, to_ms = batch.around
    around: dict[str, Any] = {
        "profile_id": batch.profile_id,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "since": utc(from_ms - _LONGEST_DAY_MS),
        "until": utc(to_ms),
        "first": utc(from_ms - _LONGEST_DAY_MS).date(),
        "last": utc(batch.at_ms + _LONGEST_DAY_MS).date(),
    }
    covered = [(row[0], row[1]) for row in await database.execute(_COVERED, around)]
    used = {row[0]: DayUse(row[1], row[2] + row[3]) for row in await database.execute(_USED, around)}
    return covered, used


async def _write(
    database: AsyncConnection,
    batch: OfflineBatch,
    settlement: Settlement,
    terms_of: Callable[[OfflineUse], DayTerms],
) -> None:
    batch_row = {
        "profile_id": batch.profile_id,
        "batch_id": batch.batch_id,
        "device_id": batch.device_id,
        "is_tampered": batch.is_tampered,
        "credited_ms": msgspec.json.encode(settlement.credited_ms).decode(),
        "synced_at": utc(batch.at_ms),
    }
    await database.execute(_ADD_BATCH, batch_row)
    columns = (
        batch.profile_id,
        [batch.titles[part.place] for part in settlement.parts],
        [part.starts_ms for part in settlement.parts],
        [part.ends_ms for part in settlement.parts],
        [part.credited_ms for part in settlement.parts],
    )
    await database.exec_driver_sql(_ADD_INTERVALS, columns)
    for use in sorted(settlement.by_day, key=lambda use: use.day_number):
        terms = terms_of(use)
        day_row = {
            "profile_id": batch.profile_id,
            "day": date_of(use.day_number),
            "starts_ms": terms.starts_ms,
            "ends_ms": terms.ends_ms,
            "limit_ms": terms.limit_ms,
            "allowance_ms": terms.allowance_ms,
            "used_ms": use.used_ms,
            "educational_ms": use.educational_ms,
            "overrun_ms": use.overrun_ms,
        }
        await database.execute(_ADD_USE, day_row)
    await note_changes(database, [(batch.profile_id, use.day_number) for use in settlement.by_day])
    await database.execute(_BUMP, {"profile_id": batch.profile_id, "at": utc(batch.at_ms)})
