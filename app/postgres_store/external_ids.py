"""Accounts and profiles by the platform's ids."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias
from uuid import UUID, uuid4

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.external_ids import is_uuid
from app.domain.platform import AccountFacts, Change, PlatformAccount, Provisioned
from app.postgres_store.access import Query, connection, transaction
from app.postgres_store.audit import note
from app.postgres_store.tables import erasure_tombstones
from app.timestamps import utc

EXTERNAL = "external"
"""The kind of tombstone that an erased account leaves for its external id."""
_ACCOUNTS = Query("""
SELECT external_id, id::text FROM accounts WHERE external_id = ANY(CAST(:given AS text[]))
 UNION ALL
SELECT id::text, id::text FROM accounts WHERE id = ANY(CAST(:uuids AS uuid[]))
""")
_PROFILES = Query("""
SELECT account_id::text, external_id, id::text FROM profiles
 WHERE (account_id, external_id) IN (SELECT * FROM unnest(CAST(:owners AS uuid[]), CAST(:given AS text[])))
 UNION ALL
SELECT NULL, external_id, id::text FROM profiles
 WHERE external_id = ANY(CAST(:uuids AS text[]))
   AND external_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
""")
_EXISTING = text("""
SELECT id::text, external_id, timezone, market FROM accounts WHERE external_id = ANY(CAST(:given AS text[]))
 UNION
SELECT id::text, external_id, timezone, market FROM accounts WHERE id = ANY(CAST(:uuids AS uuid[]))
""")
_LOCK = text("SELECT FROM accounts WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE")
_CREATE = text("""
INSERT INTO accounts (id, external_id, timezone, market, created_at)
SELECT n.id, n.external_id, n.timezone, n.market, :at
  FROM unnest(CAST(:ids AS uuid[]), CAST(:external_ids AS text[]), CAST(:timezones AS text[]), CAST(:markets AS text[]))
       AS n(id, external_id, timezone, market)
ON CONFLICT DO NOTHING
RETURNING external_id, id::text
""")
_CHANGE = text("""
UPDATE accounts a SET timezone = n.timezone, market = n.market
  FROM unnest(CAST(:ids AS uuid[]), CAST(:timezones AS text[]), CAST(:markets AS text[])) AS n(id, timezone, market)
 WHERE a.id = n.id
""")
# A decision depends on the market. The worker's sweep announces what is touched here.
_TOUCH = text("""
UPDATE profiles SET policy_version = policy_version + 1, policy_changed_at = :at
 WHERE account_id = ANY(CAST(:ids AS uuid[]))
RETURNING id::text
""")
_ASSIGN = text("""
UPDATE accounts SET market = :market WHERE id = :account_id AND market IS DISTINCT FROM CAST(:market AS varchar)
""")
_ENFORCE = text("""
UPDATE profiles SET enforcement = :enforcement, policy_version = policy_version + 1, policy_changed_at = :at
 WHERE id = :profile_id AND account_id = :account_id
   AND enforcement IS DISTINCT FROM CAST(:enforcement AS varchar)
""")
_NOTE = text("""
INSERT INTO audit_log (account_id, actor, action, detail, at)
SELECT n.account_id, :actor, n.action, '{}', :at
  FROM unnest(CAST(:ids AS uuid[]), CAST(:actions AS text[])) AS n(account_id, action)
""")
_Row: TypeAlias = Row[*tuple[Any, ...]]
_NOBODY = ""
"""In place of an account, for callers that speak for all of them."""


class ExternalTombstones:
    """What stands for an external id that was erased: a digest that only this deployment can make.

    Args:
        key: the deployment's secret.
    """

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key, digest_size=32, person=b"external ids").digest()

    def of(self, external_id: str) -> str:
        return str(UUID(bytes=blake2b(external_id.encode(), key=self._key, digest_size=16).digest()))


class PostgresExternalIds:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, tombstones: ExternalTombstones) -> None:
        self._engine = engine
        self._tombstones = tombstones

    async def accounts(self, given: Sequence[str]) -> list[str | None]:
        """Our ids of accounts, in order; None where there is no such account. Ours come before the platform's."""
        rows = await _ACCOUNTS.rows(self._engine, given=list(given), uuids=[one for one in given if is_uuid(one)])
        found: dict[str, str] = {row[0]: row[1] for row in rows}
        return [found.get(one) for one in given]

    async def profiles(self, given: Sequence[tuple[str, str]]) -> list[str | None]:
        """Our ids of profiles by account and external id, in order; None where there is no such profile.

        An empty account stands for any, and then only UUIDs name a profile.
        """
        owned = [(account_id, one) for account_id, one in given if is_uuid(account_id)]
        rows = await _PROFILES.rows(
            self._engine,
            owners=[account_id for account_id, _ in owned],
            given=[one for _, one in owned],
            uuids=[one for account_id, one in given if account_id == _NOBODY and is_uuid(one)],
        )
        found: dict[tuple[str, str], str] = {(row[0] or _NOBODY, row[1]): row[2] for row in rows}
        return [found.get(key) for key in given]

    async def account(self, given: str) -> PlatformAccount | None:
        """An account by the platform's id or ours."""
        async with connection(self._engine) as database:
            found = _by_given(await _existing(database, [given]))
        return _account(found[given]) if given in found else None

    async def provision(self, facts: Sequence[AccountFacts], *, actor: str, at_ms: int) -> list[Provisioned]:
        """Make accounts or change them, in one transaction; in order. Their external ids must differ."""
        async with transaction(self._engine) as database:
            before = _by_given(await _existing(database, [one.external_id for one in facts]))
            new = [one for one in facts if one.external_id not in before]
            created = await self._create(database, new, at_ms=at_ms)
            missed = [one.external_id for one in new if one.external_id not in created]
            if missed:  # another call made them meanwhile
                before |= _by_given(await _existing(database, missed))
            done = [
                Provisioned(account_id=created[one.external_id], change=Change.CREATED)
                if one.external_id in created
                else _compared(before[one.external_id], one)
                for one in facts
            ]
            changed = [pair for pair in zip(done, facts, strict=True) if pair[0].change is Change.UPDATED]
            if changed:
                values = {
                    "ids": [result.account_id for result, _ in changed],
                    "timezones": [one.timezone for _, one in changed],
                    "markets": [one.market for _, one in changed],
                }
                await database.execute(_LOCK, {"ids": values["ids"]})  # in the order in which others take them
                await database.execute(_CHANGE, values)
                moved = [result.account_id for result, one in changed if before[one.external_id].market != one.market]
                await database.execute(_TOUCH, {"ids": moved, "at": utc(at_ms)})
            await _note(database, done, actor=actor, at_ms=at_ms)
        return done

    async def assign_market(self, account_id: str, market: str | None, *, actor: str, at_ms: int) -> list[str]:
        """Move an account into a market, None: into none. Answers the profiles whose policy has changed with it."""
        if not is_uuid(account_id):
            return []
        async with transaction(self._engine) as database:
            moved = await database.execute(_ASSIGN, {"account_id": account_id, "market": market})
            if moved.rowcount == 0:
                return []
            done = Provisioned(account_id=account_id, change=Change.UPDATED)
            await _note(database, [done], actor=actor, at_ms=at_ms)
            touched = await database.execute(_TOUCH, {"ids": [account_id], "at": utc(at_ms)})
            return list(touched.scalars())

    async def set_enforcement(
        self, account_id: str, profile_id: str, enforcement: str | None, *, actor: str, at_ms: int
    ) -> bool:
        """Give a profile an enforcement mode of its own, None: that of the market. Answers whether it is another."""
        values = {"account_id": account_id, "profile_id": profile_id, "enforcement": enforcement, "at": utc(at_ms)}
        async with transaction(self._engine) as database:
            if (await database.execute(_ENFORCE, values)).rowcount == 0:
                return False
            await note(
                database,
                account_id=account_id,
                profile_id=profile_id,
                actor=actor,
                action="enforcement_changed",
                at_ms=at_ms,
                detail={"enforcement": enforcement},
            )
            return True

    async def provision_on_sight(self, facts: AccountFacts, *, signed_in_ms: int | None, at_ms: int) -> str | None:
        """Our id of an account that is made if there is none.

        None: it was erased after ``signed_in_ms``. What was signed before an erasure brings nothing back.
        """
        grave = select(erasure_tombstones.c.erased_at).where(
            erasure_tombstones.c.subject_id == self._tombstones.of(facts.external_id)
        )
        async with transaction(self._engine) as database:
            before = _by_given(await _existing(database, [facts.external_id]))
            if facts.external_id in before:
                return str(before[facts.external_id].id)
            erased_at = (await database.execute(grave)).scalar_one_or_none()
            if erased_at is not None and (signed_in_ms is None or utc(signed_in_ms) <= erased_at):
                return None
            created = await self._create(database, [facts], at_ms=at_ms)
            if facts.external_id not in created:
                before = _by_given(await _existing(database, [facts.external_id]))
                return str(before[facts.external_id].id)
            done = Provisioned(account_id=created[facts.external_id], change=Change.CREATED)
            await _note(database, [done], actor="first_sight", at_ms=at_ms)
            return done.account_id

    async def _create(
        self, database: AsyncConnection, facts: Sequence[AccountFacts], *, at_ms: int
    ) -> Mapping[str, str]:
        """Add accounts; our ids of those that were not there, by their external ids."""
        if not facts:
            return {}
        uuids = [one.external_id for one in facts if is_uuid(one.external_id)]
        graves = select(erasure_tombstones.c.subject_id).where(erasure_tombstones.c.subject_id.in_(uuids))
        usable = set(uuids) - set((await database.execute(graves)).scalars()) if uuids else set()
        in_order = sorted(facts, key=lambda one: one.external_id)
        added = await database.execute(
            _CREATE,
            {
                "ids": [one.external_id if one.external_id in usable else str(uuid4()) for one in in_order],
                "external_ids": [one.external_id for one in in_order],
                "timezones": [one.timezone for one in in_order],
                "markets": [one.market for one in in_order],
                "at": utc(at_ms),
            },
        )
        return {row.external_id: row.id for row in added}


async def _existing(database: AsyncConnection, given: Sequence[str]) -> Sequence[_Row]:
    values = {"given": list(given), "uuids": [one for one in given if is_uuid(one)]}
    return (await database.execute(_EXISTING, values)).all()


def _by_given(rows: Sequence[_Row]) -> dict[str, _Row]:
    """Rows by every id that names them; ours win."""
    return {row.external_id: row for row in rows if row.external_id} | {row.id: row for row in rows}


def _account(row: _Row) -> PlatformAccount:
    return PlatformAccount(account_id=row.id, external_id=row.external_id, timezone=row.timezone, market=row.market)


def _compared(row: _Row, facts: AccountFacts) -> Provisioned:
    is_equal = (row.timezone, row.market) == (facts.timezone, facts.market)
    return Provisioned(account_id=row.id, change=Change.UNCHANGED if is_equal else Change.UPDATED)


async def _note(database: AsyncConnection, done: Sequence[Provisioned], *, actor: str, at_ms: int) -> None:
    """Enter what was done into the audit log, all at once."""
    changed = [one for one in done if one.change is not Change.UNCHANGED]
    if changed:
        actions = ["account_created" if one.change is Change.CREATED else "account_changed" for one in changed]
        ids = [one.account_id for one in changed]
        await database.execute(_NOTE, {"ids": ids, "actions": actions, "actor": actor, "at": utc(at_ms)})
