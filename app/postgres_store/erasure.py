"""Erasure of profiles and accounts: every row in one transaction, and a tombstone against late writes.

Writers of policy lock the row of the profile or account, so they and an erasure wait for each other. The flush writes
usage without such a lock; an advisory lock separates the two. Later writers find the tombstone.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import ColumnElement, Table, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.erasure import Erased, ErasureReceipt
from app.domain.feed import FeedEvent, ProfileErased
from app.errors import ProfileAccessDenied, Unauthenticated
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.external_ids import EXTERNAL, ExternalTombstones
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.postgres_store.lock import hold_off_writers
from app.postgres_store.profile_tables import KINDS
from app.postgres_store.tables import (
    accounts,
    audit_log,
    devices,
    erasure_tombstones,
    feed_events,
    lockouts,
    profiles,
    sign_ins,
    weekly_reports,
)
from app.timestamps import ms_or_none, utc

# A prepared report names every child of the account; the others keep theirs.
_LEAVE_OUT = text("""
UPDATE weekly_reports w
   SET report = jsonb_set(w.report, '{children}', COALESCE(
       (SELECT jsonb_agg(c.child ORDER BY c.place)
          FROM jsonb_array_elements(w.report -> 'children') WITH ORDINALITY AS c(child, place)
         WHERE c.child ->> 'profile_id' <> :profile_id), '[]'))
 WHERE w.account_id = :account_id
   AND w.report -> 'children' @> jsonb_build_array(jsonb_build_object('profile_id', CAST(:profile_id AS text)))
""")


class PostgresErasure:
    """Every call may raise DatabaseUnavailable; then nothing was erased.

    ``tombstones`` are needed where accounts are erased that the platform has made.
    """

    def __init__(
        self, engine: AsyncEngine, tombstones: ExternalTombstones | None = None, *, feed: FeedWriter = NO_FEED
    ) -> None:
        self._engine = engine
        self._tombstones = tombstones
        self._feed = feed

    async def profile(self, account_id: str, profile_id: str, *, actor: str, at_ms: int) -> ErasureReceipt:
        """Erase a profile of an account. Raises ProfileAccessDenied."""
        if not (is_uuid(account_id) and is_uuid(profile_id)):
            raise ProfileAccessDenied
        mine = (profiles.c.id == profile_id) & (profiles.c.account_id == account_id)
        async with transaction(self._engine) as database:
            if not await _held(database, profiles, mine):
                raise ProfileAccessDenied
            await hold_off_writers(database)
            counts = await _remove_profiles(database, account_id, [profile_id], feed=self._feed, at_ms=at_ms)
            reports = await database.execute(_LEAVE_OUT, {"account_id": account_id, "profile_id": profile_id})
            counts["weekly_reports"] = reports.rowcount
            await note(
                database,
                account_id=account_id,
                profile_id=None,
                actor=actor,
                action="profile_erased",
                at_ms=at_ms,
                detail={},
            )
        return ErasureReceipt(erased_at_ms=at_ms, counts=counts)

    async def account(self, account_id: str, *, at_ms: int) -> tuple[ErasureReceipt, Erased]:
        """Erase an account with all its profiles; answers whom that concerned. Raises Unauthenticated."""
        if not is_uuid(account_id):
            raise Unauthenticated
        mine = profiles.c.account_id == account_id
        async with transaction(self._engine) as database:
            # In the order in which others take them: whoever holds a profile may still need its account.
            await _held(database, profiles, mine)
            if not await _held(database, accounts, accounts.c.id == account_id):
                raise Unauthenticated
            profile_ids = await _held(database, profiles, mine)
            await hold_off_writers(database)
            counts = await _remove_profiles(database, account_id, profile_ids, feed=self._feed, at_ms=at_ms)
            removed = await database.execute(delete(feed_events).where(_of_the_account(account_id)))
            counts["feed_events"] += removed.rowcount
            await _bury(database, "account", [account_id], at_ms=at_ms)
            await self._bury_external_id(database, account_id, at_ms=at_ms)
            # The log last: who wrote into it held one of the rows that are gone by then.
            for table in (weekly_reports, devices, sign_ins, lockouts, accounts, audit_log):
                owner = table.c.id if table is accounts else table.c.account_id
                removed = await database.execute(delete(table).where(owner == account_id))
                counts[table.name] += removed.rowcount
        return ErasureReceipt(erased_at_ms=at_ms, counts=counts), Erased(tuple(profile_ids), (account_id,))

    async def _bury_external_id(self, database: AsyncConnection, account_id: str, *, at_ms: int) -> None:
        """Keep a token that was signed before the erasure from making the account again on first sight."""
        known = await database.execute(select(accounts.c.external_id).where(accounts.c.id == account_id))
        external_id = known.scalar_one()
        if external_id is None or self._tombstones is None:
            return
        grave = {"subject_id": self._tombstones.of(external_id), "kind": EXTERNAL, "erased_at": utc(at_ms)}
        statement = upsert(erasure_tombstones).values(grave)
        await database.execute(
            statement.on_conflict_do_update(index_elements=["subject_id"], set_={"erased_at": utc(at_ms)})
        )

    async def erased_since(self, at_ms: int) -> Erased:
        """Who was erased at or after an instant."""
        graves = select(erasure_tombstones.c.kind, erasure_tombstones.c.subject_id)
        async with connection(self._engine) as database:
            found = (await database.execute(graves.where(erasure_tombstones.c.erased_at >= utc(at_ms)))).all()
        return Erased(
            tuple(subject_id for kind, subject_id in found if kind == "profile"),
            tuple(subject_id for kind, subject_id in found if kind == "account"),
        )

    async def oldest_since(self, at_ms: int) -> int | None:
        """The instant (ms) of the first erasure at or after an instant."""
        erased_at = erasure_tombstones.c.erased_at
        async with connection(self._engine) as database:
            found = await database.execute(select(func.min(erased_at)).where(erased_at >= utc(at_ms)))
            oldest = found.scalar_one()
        return ms_or_none(oldest)


async def _held(database: AsyncConnection, table: Table, mine: ColumnElement[bool]) -> list[str]:
    """The ids of rows, locked until this transaction ends."""
    rows = select(table.c.id).where(mine).order_by(table.c.id).with_for_update()
    return list((await database.execute(rows)).scalars())


async def _remove_profiles(
    database: AsyncConnection, account_id: str, profile_ids: Sequence[str], *, feed: FeedWriter, at_ms: int
) -> Counter[str]:
    """Remove profiles of an account with all that belongs to them; answers how many rows of each kind that were."""
    await _bury(database, "profile", profile_ids, at_ms=at_ms)
    counts: Counter[str] = Counter()
    for name, kind in KINDS.items():
        owned: ColumnElement[bool] = kind.table.c.profile_id.in_(profile_ids)
        if "account_id" in kind.table.c:  # which is what their index begins with
            owned &= kind.table.c.account_id == account_id
        counts[name] = (await database.execute(delete(kind.table).where(owned))).rowcount
    erased = [
        FeedEvent(facts=ProfileErased(), cause=(profile_id,), at_ms=at_ms, profile_id=profile_id)
        for profile_id in profile_ids
    ]
    await feed.write(database, *erased, at_ms=at_ms)  # while the profiles can tell the ids of the platform
    counts["profiles"] = (await database.execute(delete(profiles).where(profiles.c.id.in_(profile_ids)))).rowcount
    return counts


def _of_the_account(account_id: str) -> ColumnElement[bool]:
    """Events of the account itself. What tells of the erasure of its profiles stays."""
    return (feed_events.c.account_id == account_id) & feed_events.c.profile_id.is_(None)


async def _bury(
    database: AsyncConnection, kind: Literal["profile", "account"], subject_ids: Sequence[str], *, at_ms: int
) -> None:
    graves = [{"subject_id": subject_id, "kind": kind, "erased_at": utc(at_ms)} for subject_id in subject_ids]
    if graves:
        await database.execute(insert(erasure_tombstones), graves)
