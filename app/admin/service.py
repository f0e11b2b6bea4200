"""Readings of any account, by the services that answer the account's own parents."""

import asyncio
from datetime import date

import msgspec

from app.admin.ports import AdminRecords, Decisions, FlushBacklog
from app.auth.tokens import Principal, Role
from app.clock import Clock
from app.domain.audit import AuditEntry
from app.domain.support import BucketState, DeadLetter, ProfileKind
from app.domain.unflushed import Backlog
from app.errors import CountersUnavailable
from app.privacy.ports import AuditLog
from app.reports.history import History, HistoryPage
from app.viewing.schemas import BalanceAnswer, WhyAnswer


class FlushState(msgspec.Struct, frozen=True, kw_only=True):
    """How far the flush is. ``backlog`` is None while Redis cannot be reached."""

    backlog: Backlog | None
    dead_letters: int
    buckets: list[BucketState]
    at_ms: int


class AdminReadings:
    """Reads for a named admin. Every call notes the reading first, and may raise NotFound and DatabaseUnavailable."""

    def __init__(
        self,
        records: AdminRecords,
        *,
        decisions: Decisions,
        history: History,
        audit: AuditLog,
        flush: FlushBacklog,
        clock: Clock,
    ) -> None:
        self._records = records
        self._decisions = decisions
        self._history = history
        self._audit = audit
        self._flush = flush
        self._clock = clock

    async def profiles(self, admin: Principal, account_id: str) -> list[ProfileKind]:
        await self._note(admin, "profiles", account_id)
        return await self._records.profiles(account_id)

    async def balance(self, admin: Principal, account_id: str, profile_id: str) -> BalanceAnswer:
        """Raises ProfileAccessDenied, CountersUnavailable."""
        await self._note(admin, "balance", account_id, profile_id)
        return await self._decisions.balance(_as_parent(admin, account_id), profile_id)

    async def why(self, admin: Principal, account_id: str, profile_id: str) -> WhyAnswer:
        """Raises ProfileAccessDenied, NoConfig, CountersUnavailable."""
        await self._note(admin, "why", account_id, profile_id)
        return await self._decisions.why(_as_parent(admin, account_id), profile_id)

    async def history(
        self,
        admin: Principal,
        account_id: str,
        profile_id: str,
        *,
        first: date | None,
        last: date | None,
        cursor: str | None,
        limit: int,
    ) -> HistoryPage:
        """Raises ProfileAccessDenied, InvalidInput."""
        await self._note(admin, "history", account_id, profile_id)
        return await self._history.page(
            account_id=account_id,
            profile_id=profile_id,
            first=first,
            last=last,
            cursor=cursor,
            limit=limit,
            empty_days=False,
            at_ms=self._clock(),
        )

    async def audit(self, admin: Principal, account_id: str, *, before: int | None, limit: int) -> list[AuditEntry]:
        await self._note(admin, "audit", account_id)
        return await self._audit.entries(account_id, before=before, limit=limit)

    async def dead_letters(
        self, admin: Principal, account_id: str, *, before: int | None, limit: int
    ) -> list[DeadLetter]:
        await self._note(admin, "dead_letters", account_id)
        return await self._records.dead_letters(account_id, before=before, limit=limit)

    async def flush_state(self, admin: Principal) -> FlushState:
        """The state of the whole deployment's flush."""
        await self._note(admin, "flush", None)
        backlog, dead_letters, buckets = await asyncio.gather(
            self._backlog(), self._records.count_dead_letters(), self._records.bucket_states()
        )
        return FlushState(backlog=backlog, dead_letters=dead_letters, buckets=buckets, at_ms=self._clock())

    async def _backlog(self) -> Backlog | None:
        try:
            return await self._flush.backlog()
        except CountersUnavailable:  # then the rest is needed most
            return None

    async def _note(self, admin: Principal, what: str, account_id: str | None, profile_id: str | None = None) -> None:
        await self._records.note_reading(
            admin=admin.account_id, what=what, account_id=account_id, profile_id=profile_id, at_ms=self._clock()
        )


def _as_parent(admin: Principal, account_id: str) -> Principal:
    """The rights by which an account's own parent reads, for as long as the admin's token lasts."""
    return Principal(account_id, Role.PARENT, admin.expires_s)
