"""Caregivers grant a little extra time, within a budget of minutes a day."""

import msgspec

from app.domain.viewing_day import Calendar, ViewingDay
from app.errors import BudgetExhausted

MIN_BUDGET_MINUTES = 15
MAX_BUDGET_MINUTES = 480
BUDGET_STEP_MINUTES = 15


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a caregiver may grant on one day of the account, to all children together, and what it has granted.

    Grants that a parent revoked count too: the child may have used them.
    """

    daily_minutes: int
    granted_minutes: int
    renews_ms: int

    @property
    def left_minutes(self) -> int:
        return max(0, self.daily_minutes - self.granted_minutes)

    def require(self, minutes: int | None) -> None:
        """See that a grant fits. None, no limit until the day ends, never does.

        Raises:
            BudgetExhausted: it does not fit.
        """
        if minutes is None or minutes > self.left_minutes:
            raise BudgetExhausted(left_minutes=self.left_minutes)


class ChildName(msgspec.Struct, frozen=True, kw_only=True):
    profile_id: str
    name: str


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that waits for an answer, without the child's note: that is for its parents."""

    request_id: str
    profile_id: str
    minutes: int
    requested_ms: int
    expires_ms: int


class CaregiverView(msgspec.Struct, frozen=True, kw_only=True):
    """What a caregiver may see beside balances. The requests are the oldest first."""

    device_id: str
    name: str
    budget: Budget
    children: tuple[ChildName, ...]
    requests: tuple[OpenRequest, ...]


def budget_day(timezone: str, at_ms: int) -> ViewingDay:
    """The day of the account that holds an instant: from midnight to midnight in its zone."""
    return Calendar.opened(at_ms, timezone=timezone, reset_hour=0).anchor
