"""Extra time: what a parent gave, and what a child asked for. Both are ledgers: entries are marked, never removed."""

from collections.abc import Collection
from datetime import date
from enum import StrEnum
from typing import Self

import msgspec

from app.domain.policy import UNLIMITED, Grant, Policy, terms_of
from app.domain.viewing_day import ViewingDay, day_number_of
from app.errors import AlreadyDecided

MINUTES_OFFERED = (15, 30, 60)


class GrantEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A grant in the ledger. ``minutes`` None lifts the limit until the day ends; ``is_remote``: not on the player."""

    grant_id: str
    minutes: int | None
    day: date
    granted_by: str
    is_remote: bool
    granted_ms: int
    revoked_ms: int | None = None


class RequestStatus(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    """Nobody answered before the day ended."""


class ExtraTimeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a child asked for. It can be answered until ``expires_ms``, the end of its day."""

    request_id: str
    minutes: int
    note: str | None
    day: date
    status: RequestStatus
    requested_ms: int
    expires_ms: int
    decided_ms: int | None = None
    grant_id: str | None = None

    def answered(self, status: RequestStatus, *, at_ms: int, grant_id: str | None = None) -> Self:
        """The request after a parent's answer. Repeating the answer it has changes nothing.

        Raises:
            AlreadyDecided: it has another answer, or its day is over.
        """
        if self.status == status:
            return self
        if self.status_at(at_ms) != RequestStatus.OPEN:
            raise AlreadyDecided
        return msgspec.structs.replace(self, status=status, decided_ms=at_ms, grant_id=grant_id)

    def status_at(self, at_ms: int) -> RequestStatus:
        is_over = self.status == RequestStatus.OPEN and at_ms >= self.expires_ms
        return RequestStatus.EXPIRED if is_over else self.status


class RunningAllowance(msgspec.Struct, frozen=True):
    """What the running day allows beats to use: -1 for unlimited. ``is_override``: by a grant, against a limit."""

    day: ViewingDay
    allowance_ms: int
    is_override: bool


def with_grant(policy: Policy, entry: GrantEntry) -> Policy:
    """The policy after a grant."""
    grants = (*policy.grants, Grant(day_number_of(entry.day), entry.minutes))
    return msgspec.structs.replace(policy, version=policy.version + 1, grants=grants)


def without_grant(policy: Policy, entry: GrantEntry) -> Policy:
    """The policy after a grant was revoked."""
    grants = list(policy.grants)
    revoked = Grant(day_number_of(entry.day), entry.minutes)
    if revoked in grants:  # those of past days are not part of it
        grants.remove(revoked)
    return msgspec.structs.replace(policy, version=policy.version + 1, grants=tuple(grants))


def running_allowance(policy: Policy, *, at_ms: int, weekend_days: Collection[int]) -> RunningAllowance:
    """What a child may watch on the viewing day that holds an instant."""
    day = running_day(policy, at_ms)
    terms = terms_of(policy, day, weekend_days=weekend_days)
    is_override = terms.allowance_ms == UNLIMITED and terms.limit_ms != UNLIMITED
    return RunningAllowance(day, terms.allowance_ms, is_override)


def running_day(policy: Policy, at_ms: int) -> ViewingDay:
    """The viewing day of a child that holds an instant."""
    if policy.calendar is None:
        raise ValueError("an adult has no viewing days")
    return policy.calendar.day_at(at_ms)
