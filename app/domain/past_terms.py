"""The terms of a viewing day, past or running: its limit, its grants, and whether educational titles were exempt.

Policy has versions in time. A day is judged by what was in force on it, whenever its playback becomes known:

- The limit is that of the last settings saved before the day ended. A kept balance knows the limit of its last beat,
  which holds unless settings were saved later on that day.
- Grants count as they stood when the day ended: one revoked after that still counts.
- The exemption is that of the instant of playback, as for beats.
- A day owes what the day directly before it borrowed.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from app.domain.limits import DailyLimits
from app.domain.policy import (
    MINUTE_MS,
    NO_OFFLINE_USE,
    UNLIMITED,
    DayTerms,
    EarlierDay,
    OfflineUse,
    day_terms,
    limit_on,
)
from app.domain.viewing_day import ViewingDay
from app.domain.weekly import WeekTerms

FOREVER_MS = 2**62


class ConfigVersion(msgspec.Struct, frozen=True):
    """Settings as they were saved at an instant. ``educational_exempt`` None: not known."""

    valid_from_ms: int
    limits: DailyLimits
    educational_exempt: bool | None


class LedgerGrant(msgspec.Struct, frozen=True):
    """An entry of the grant ledger: ``extra_ms`` of a viewing day, -1 to lift its limit."""

    day_number: int
    extra_ms: int
    revoked_ms: int | None

    def counts_at(self, at_ms: int) -> bool:
        return self.revoked_ms is None or self.revoked_ms >= at_ms


class KeptDay(msgspec.Struct, frozen=True):
    """A balance as it is kept. ``used_ms`` is what beats used; ``version`` is the instant of the last of them.

    ``borrowed_ms`` of that is taken from the next day, as ``owed_ms`` is from this one.
    """

    day: ViewingDay
    limit_ms: int
    used_ms: int
    version: int
    offline: OfflineUse
    borrowed_ms: int = 0
    owed_ms: int = 0

    @property
    def of_week(self) -> EarlierDay:
        """The day as its week counts it."""
        return EarlierDay(self.day.number, self.used_ms + self.owed_ms, self.limit_ms, self.offline.used_ms)


class PastTerms(msgspec.Struct, frozen=True):
    """What decides for the days of a child around some instants.

    Attributes:
        versions: settings in the order in which they were saved, those before the first day included.
        exempt_now: whether educational titles are exempt today, for versions that do not know.
        grants: of these days, revoked ones included.
        kept: balances by day number.
        weekend_days: Monday = 0.
        week_starts_on: the weekday on which a week begins.
    """

    versions: Sequence[ConfigVersion]
    exempt_now: bool
    grants: Sequence[LedgerGrant]
    kept: Mapping[int, KeptDay]
    weekend_days: Collection[int]
    week_starts_on: int = 0

    def kept_day_at(self, at_ms: int) -> ViewingDay | None:
        """The viewing day of an instant as it was pinned, None where nothing is kept of it."""
        return next((kept.day for kept in self.kept.values() if kept.day.holds(at_ms)), None)

    def terms(self, day: ViewingDay, *, ended: Sequence[EarlierDay] = (), is_running: bool = False) -> DayTerms:
        """The limit of a day, and all that it allows: limit + grants, with nothing deducted.

        Args:
            day: a viewing day.
            ended: days that counters have seen to end, which may not be flushed.
            is_running: whether the day goes on. The limit of one that is over is kept as it ended.
        """
        saved, kept_limit_ms = self._saved_before(day.ends_ms), self._kept_limit_ms(day)
        terms = day_terms(day, self._limit_ms(day), self._granted_ms(day), 0)
        weekly_minutes = None if saved is None else saved.limits.weekly_minutes
        if weekly_minutes is None or (kept_limit_ms is not None and not is_running):
            return terms
        days = tuple(kept.of_week for _, kept in sorted(self.kept.items()))
        week = WeekTerms(weekly_minutes * MINUTE_MS, self.week_starts_on, days)
        return week.within(terms, week.earlier_days(ended, day.number))

    def offline_use(self, day: ViewingDay) -> OfflineUse:
        """What earlier syncs left on a day."""
        kept = self.kept.get(day.number)
        return NO_OFFLINE_USE if kept is None else kept.offline

    def beats_used_ms(self, day: ViewingDay) -> int:
        """What beats used of a day, as far as it is flushed."""
        kept = self.kept.get(day.number)
        return 0 if kept is None else kept.used_ms

    def owed_ms(self, day: ViewingDay) -> int:
        """What a day owes to the one before, as far as that is flushed. It may be kept without a beat of its own."""
        kept = self.kept.get(day.number)
        borrowed = (before.borrowed_ms for before in self.kept.values() if before.day.ends_ms == day.starts_ms)
        return max(0 if kept is None else kept.owed_ms, *borrowed, 0)

    def exempt_at(self, at_ms: int) -> tuple[bool, int]:
        """Whether educational titles were exempt at an instant, and up to when that may be taken to last."""
        exempt = self.exempt_now
        for version in reversed(self.versions):
            # A version that does not know takes what followed it.
            exempt = exempt if version.educational_exempt is None else version.educational_exempt
            if version.valid_from_ms <= at_ms:
                break
        later = [version.valid_from_ms for version in self.versions if version.valid_from_ms > at_ms]
        return exempt, min(later, default=FOREVER_MS)

    def _limit_ms(self, day: ViewingDay) -> int:
        saved, kept_limit_ms = self._saved_before(day.ends_ms), self._kept_limit_ms(day)
        if kept_limit_ms is not None:
            return kept_limit_ms
        if saved is None:
            return UNLIMITED
        return limit_on(day, saved.limits, weekend_days=self.weekend_days)

    def _kept_limit_ms(self, day: ViewingDay) -> int | None:
        """The limit that is kept of a day, -1 for unlimited; None if settings were saved after its last beat."""
        saved, kept = self._saved_before(day.ends_ms), self.kept.get(day.number)
        is_last = kept is not None and (saved is None or saved.valid_from_ms <= kept.version)
        return kept.limit_ms if kept is not None and is_last else None

    def _saved_before(self, at_ms: int) -> ConfigVersion | None:
        """The last settings saved before an instant; before there were any, the first ones."""
        before = [version for version in self.versions if version.valid_from_ms < at_ms]
        known = before or self.versions[:1]
        return known[-1] if known else None

    def _granted_ms(self, day: ViewingDay) -> int:
        extra = [
            grant.extra_ms for grant in self.grants if grant.day_number == day.number and grant.counts_at(day.ends_ms)
        ]
        return UNLIMITED if UNLIMITED in extra else sum(extra)


def extra_ms_of(minutes: int | None, covered_ms: int = 0) -> int:
    """What a grant of so many minutes adds with what it covers, -1 when it lifts the limit."""
    return UNLIMITED if minutes is None else minutes * MINUTE_MS + covered_ms
