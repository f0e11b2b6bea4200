"""Policies, and the limit and allowance that a policy gives one viewing day."""

from collections.abc import Collection
from functools import lru_cache

import msgspec

from app.domain.limits import DailyLimits, LimitRules
from app.domain.viewing_day import Calendar, ViewingDay

UNLIMITED = -1
MINUTE_MS = 60_000


class Grant(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Extra time on one viewing day; ``minutes`` None lifts the limit until the day ends.

    ``covered_ms`` is by how much the child was over its allowance when the grant was made. It comes on top, so that a
    grant always gives its minutes from then on. ``at_ms`` is its instant, 0 where it decides nothing: without windows.
    """

    day_number: int
    minutes: int | None
    covered_ms: int = 0
    at_ms: int = 0


class OfflineUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The offline playback credited to a viewing day, in ms. PostgreSQL owns it; beats never change it.

    ``penalty_ms`` is charged for batches with a wrong clock. It lowers the remaining time, but is no watched time.
    """

    day_number: int
    used_ms: int = 0
    educational_ms: int = 0
    overrun_ms: int = 0
    penalty_ms: int = 0

    @property
    def total_ms(self) -> int:
        """The watched time."""
        return self.used_ms + self.educational_ms + self.overrun_ms

    @property
    def deducted_ms(self) -> int:
        """The time deducted from the allowance of the day."""
        return self.used_ms + self.penalty_ms

    def plus(self, other: "OfflineUse") -> "OfflineUse":
        """The sum of two uses of the same day."""
        return OfflineUse(
            self.day_number,
            self.used_ms + other.used_ms,
            self.educational_ms + other.educational_ms,
            self.overrun_ms + other.overrun_ms,
            self.penalty_ms + other.penalty_ms,
        )


NO_OFFLINE_USE = OfflineUse(0)


class EarlierDay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A day of the running week, in ms: what beats used, its limit (-1 for unlimited), what was used offline.

    ``used_ms`` is more by what the day owes to the one before: that was watched then, and is used of this one.
    The order of the fields is what the scripts read.
    """

    number: int
    used_ms: int
    limit_ms: int
    offline_ms: int = 0

    @property
    def of_week_ms(self) -> int:
        """What the weekly limit counts of it: extra time is on top."""
        used_ms = self.used_ms + self.offline_ms
        return used_ms if self.limit_ms == UNLIMITED else min(used_ms, self.limit_ms)


class Policy(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything a decision needs about a profile apart from its usage. PostgreSQL owns it; copies carry ``version``.

    ``version`` grows with every change (settings, grants, profile); ``config_version`` only with the settings.
    ``calendar`` is None for an adult. ``synced`` are the time ranges of the last days that offline syncs
    were credited for, in ms, apart from each other. ``market`` is the account's. ``enforcement`` is the profile's own
    mode, None for that of the market. ``paused_until_ms`` is the instant until which a parent has paused playback.
    ``rules`` is None for settings without any. ``week`` are the last days of a child with a weekly limit.
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
    market: str | None = None
    enforcement: str | None = None
    paused_until_ms: int | None = None
    rules: LimitRules | None = None
    week: tuple[EarlierDay, ...] = ()

    @property
    def has_windows(self) -> bool:
        return self.rules is not None and bool(self.rules.windows)

    @property
    def limits(self) -> DailyLimits:
        return DailyLimits(self.weekday_limit_minutes, self.weekend_limit_minutes, self.rules)

    def without_owner(self) -> "Policy":
        """The policy without profile, account and version: equal for all profiles with the same settings."""
        calendar = self.calendar and self.calendar.canonical()
        return msgspec.structs.replace(self, profile_id="", account_id="", version=0, calendar=calendar)

    def granted_ms(self, day_number: int) -> int:
        """The time that grants add to the allowance of a day; -1 if a grant lifts the limit."""
        granted_ms = 0
        for grant in self.grants:
            if grant.day_number == day_number:
                if grant.minutes is None:
                    return UNLIMITED
                granted_ms += grant.minutes * MINUTE_MS + grant.covered_ms
        return granted_ms

    def granted_minutes(self, day_number: int) -> int:
        """The minutes granted on a day, including those beside a grant that lifts the limit."""
        return sum(grant.minutes or 0 for grant in self.grants if grant.day_number == day_number)

    def covered_ms(self, day_number: int) -> int:
        """The covered time of the grants of a day."""
        return sum(grant.covered_ms for grant in self.grants if grant.day_number == day_number)

    def offline_use(self, day_number: int) -> OfflineUse:
        return next((use for use in self.offline if use.day_number == day_number), NO_OFFLINE_USE)


class DayTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A viewing day with its numbers, -1 for unlimited.

    ``allowance_ms`` is what beats may use: limit + grants, less what was used offline and penalties.

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
    return day_terms(day, *_parts_of(policy, day, weekend_days))


def exceeded_ms(
    policy: Policy,
    day: ViewingDay,
    *,
    used_ms: int,
    weekend_days: Collection[int],
    week_left_ms: int | None = None,
    owed_ms: int = 0,
) -> int:
    """By how much a child is over the allowance of a day that beats counted ``used_ms`` on, 0 if it is not.

    ``week_left_ms`` is what the earlier days leave of a weekly limit, None without one. ``owed_ms`` is owed to the day
    before.
    """
    limit_ms, granted_ms, deducted_ms = _parts_of(policy, day, weekend_days)
    if UNLIMITED in {limit_ms, granted_ms}:
        return 0
    limit_ms = limit_ms if week_left_ms is None else min(limit_ms, week_left_ms)
    return max(0, used_ms + deducted_ms + owed_ms - limit_ms - granted_ms)


def _parts_of(policy: Policy, day: ViewingDay, weekend_days: Collection[int]) -> tuple[int, int, int]:
    """Limit, extra time, and what offline use and penalties deduct, in ms: what an allowance is made of."""
    limit_ms = limit_on(day, policy.limits, weekend_days=weekend_days)
    return limit_ms, policy.granted_ms(day.number), policy.offline_use(day.number).deducted_ms


def limit_on(day: ViewingDay, limits: DailyLimits, *, weekend_days: Collection[int]) -> int:
    """The limit of a viewing day in ms, -1 for unlimited."""
    minutes = limits.minutes_on(day.number, weekend_days=weekend_days)
    return UNLIMITED if minutes is None else minutes * MINUTE_MS


@lru_cache(maxsize=4096)
def day_terms(day: ViewingDay, limit_ms: int, granted_ms: int, deducted_ms: int) -> DayTerms:
    """The terms of a day. Children with the same settings share the answer, and with it the memory."""
    allowance_ms = UNLIMITED if UNLIMITED in {limit_ms, granted_ms} else max(0, limit_ms + granted_ms - deducted_ms)
    return DayTerms(day.number, day.starts_ms, day.ends_ms, limit_ms, allowance_ms)
