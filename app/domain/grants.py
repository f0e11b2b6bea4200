"""Extra time: what a parent gave, and what a child asked for. Both are ledgers: entries are marked, never removed."""

from collections.abc import Collection
from datetime import date
from enum import StrEnum
from typing import Self

import msgspec

from app.domain.finishing import less_owed
from app.domain.policy import UNLIMITED, Grant, Policy, terms_of
from app.domain.viewing_day import ViewingDay, day_number_of
from app.domain.weekly import cut
from app.errors import AlreadyDecided

MINUTES_OFFERED = (15, 30, 60)


class GrantEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A grant in the ledger. ``minutes`` None lifts the limit until the day ends; ``is_remote``: not on the player.

    ``covered_ms`` is by how much the child was over its allowance at ``granted_ms``.
    """

    grant_id: str
    minutes: int | None
    day: date
    granted_by: str
    is_remote: bool
    granted_ms: int
    covered_ms: int = 0
    revoked_ms: int | None = None

    def grant_in(self, policy: Policy) -> Grant:
        """The entry as a part of a policy. Its instant decides something only where there are windows."""
        at_ms = self.granted_ms if policy.has_windows else 0
        return Grant(day_number_of(self.day), self.minutes, self.covered_ms, at_ms)


class RequestStatus(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    """No parent answered before the day ended."""


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


class AnsweredRequest(msgspec.Struct, frozen=True):
    """A request after a parent's answer, and the policy that is now in force, None when nothing was granted.

    ``is_first``: it was open before.
    """

    request: ExtraTimeRequest
    policy: Policy | None
    is_first: bool


class RunningAllowance(msgspec.Struct, frozen=True):
    """What the running day allows beats to use: -1 for unlimited. ``is_override``: by a grant, against a limit."""

    day: ViewingDay
    allowance_ms: int
    is_override: bool


def with_grant(policy: Policy, entry: GrantEntry) -> Policy:
    """The policy after a grant."""
    return msgspec.structs.replace(policy, version=policy.version + 1, grants=(*policy.grants, entry.grant_in(policy)))


def without_grant(policy: Policy, entry: GrantEntry) -> Policy:
    """The policy after a grant was revoked."""
    grants, grant = list(policy.grants), entry.grant_in(policy)
    if grant in grants:  # those of past days are not part of it
        grants.remove(grant)
    return msgspec.structs.replace(policy, version=policy.version + 1, grants=tuple(grants))


def running_allowance(
    policy: Policy,
    *,
    at_ms: int,
    weekend_days: Collection[int],
    pinned: ViewingDay | None = None,
    week_left_ms: int | None = None,
    owed_ms: int = 0,
) -> RunningAllowance:
    """What a child may watch on its running day.

    ``week_left_ms`` is what a weekly limit leaves, None without one. ``owed_ms`` is owed to the day before.
    """
    day = running_day(policy, at_ms, pinned=pinned)
    terms = terms_of(policy, day, weekend_days=weekend_days)
    if week_left_ms is not None:
        terms = cut(terms, week_left_ms)
    is_override = terms.allowance_ms == UNLIMITED and terms.limit_ms != UNLIMITED
    return RunningAllowance(day, less_owed(terms.allowance_ms, owed_ms), is_override)


def running_day(policy: Policy, at_ms: int, *, pinned: ViewingDay | None = None) -> ViewingDay:
    """The running day of a child, whose counters have pinned a day, or none."""
    if policy.calendar is None:
        raise ValueError("an adult has no viewing days")
    return policy.calendar.days_from(pinned, at_ms)[-1]
