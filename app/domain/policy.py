"""What a parent and the platform decided about a profile, and what it means on one viewing day."""

from collections.abc import Collection
from functools import lru_cache

import msgspec

from app.domain.viewing_day import Calendar, ViewingDay

UNLIMITED = -1
MINUTE_MS = 60_000
_MONDAY_OFFSET = 3  # 1970-01-01 was a Thursday


class Grant(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Extra time on one viewing day; ``minutes`` None lifts the limit until the day ends."""

    day_number: int
    minutes: int | None


class OfflineUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a viewing day was credited from offline playback, in ms. PostgreSQL owns it; beats never change it."""

    day_number: int
    used_ms: int = 0
    educational_ms: int = 0
    overrun_ms: int = 0

    @property
    def total_ms(self) -> int:
        return self.used_ms + self.educational_ms + self.overrun_ms

    def plus(self, other: "OfflineUse") -> "OfflineUse":
        """What the same day was credited by both."""
        return OfflineUse(
            self.day_number,
            self.used_ms + other.used_ms,
            self.educational_ms + other.educational_ms,
            self.overrun_ms + other.overrun_ms,
        )


NO_OFFLINE_USE = OfflineUse(0)


class Policy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything a decision needs about a profile apart from its usage. PostgreSQL owns it; copies carry ``version``.

    ``version`` grows with every change (settings, grants, profile); ``config_version`` only with the settings.
    ``calendar`` is None for an adult. ``synced`` are the stretches of the last days that offline syncs
    were credited for, in ms, apart from each other.
    """

    profile_id: str
    account_id: str
    version: int
    is_kids: bool
    config_version: int
    weekday_limit_minutes: int | None
    weekend_limit_minutes: int | None
    educational_exempt: bool
    warning_minutes: tuple[int, ...]
    calendar: Calendar | None
    grants: tuple[Grant, ...] = ()
    offline: tuple[OfflineUse, ...] = ()
    synced: tuple[tuple[int, int], ...] = ()

    def without_owner(self) -> "Policy":
        """What many profiles have in common: equal for all with the same settings, whose policies change alike."""
        calendar = self.calendar and self.calendar.canonical()
        return msgspec.structs.replace(self, profile_id="", account_id="", version=0, calendar=calendar)

    def granted_ms(self, day_number: int) -> int:
        """Extra time of a day, -1 when a grant lifts the limit."""
        granted_ms = 0
        for grant in self.grants:
            if grant.day_number == day_number:
                if grant.minutes is None:
                    return UNLIMITED
                granted_ms += grant.minutes * MINUTE_MS
        return granted_ms

    def offline_use(self, day_number: int) -> OfflineUse:
        return next((use for use in self.offline if use.day_number == day_number), NO_OFFLINE_USE)


class DayTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A viewing day with its numbers, -1 for unlimited.

    ``allowance_ms`` is what beats may use: limit + grants, less what was used offline.

    The order of the fields is what ``lua/record.lua`` reads.
    """

    number: int
    starts_ms: int
    ends_ms: int
    limit_ms: int
    allowance_ms: int

    @property
    def day(self) -> ViewingDay:
        return ViewingDay(self.number, self.starts_ms, self.ends_ms)


def terms_of(policy: Policy, day: ViewingDay, *, weekend_days: Collection[int]) -> DayTerms:
    """The limit and the allowance of one viewing day; the day's name decides weekday or weekend (Monday = 0)."""
    is_weekend = (day.number + _MONDAY_OFFSET) % 7 in weekend_days
    limit_minutes = policy.weekend_limit_minutes if is_weekend else policy.weekday_limit_minutes
    granted_ms, offline_ms = policy.granted_ms(day.number), policy.offline_use(day.number).used_ms
    return _terms(day, limit_minutes, granted_ms, offline_ms)


@lru_cache(maxsize=4096)
def _terms(day: ViewingDay, limit_minutes: int | None, granted_ms: int, offline_ms: int) -> DayTerms:
    """Children with the same settings share the answer, and with it the memory."""
    limit_ms = UNLIMITED if limit_minutes is None else limit_minutes * MINUTE_MS
    allowance_ms = UNLIMITED if UNLIMITED in {limit_ms, granted_ms} else max(0, limit_ms + granted_ms - offline_ms)
    return DayTerms(day.number, day.starts_ms, day.ends_ms, limit_ms, allowance_ms)
