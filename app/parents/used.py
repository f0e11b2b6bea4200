"""What a child has used of its running day, seen from beside the hot path."""

from collections.abc import Sequence

import msgspec

from app.domain.counters import Counters, carried_into
from app.domain.grants import RunningAllowance
from app.domain.markets import Market
from app.domain.policy import UNLIMITED, EarlierDay, Policy, terms_of
from app.domain.viewing_day import ViewingDay
from app.domain.weekly import week_of
from app.errors import CountersUnavailable
from app.parents.ports import CounterReader, FlushedUsage


class Used(msgspec.Struct, frozen=True):
    """The counters of a child, None when there are none yet. Without ``is_known`` they are as last flushed.

    ``finished_ms`` is what has been borrowed since the last beat to finish a title, unless that is exempt.
    """

    counters: Counters | None
    is_known: bool = True
    finished_ms: int = 0

    @property
    def pinned(self) -> ViewingDay | None:
        """The day that the counters have pinned."""
        return None if self.counters is None else self.counters.day

    def used_ms(self, policy: Policy, day: ViewingDay) -> int:
        """What beats have used of the running day."""
        if self.counters is None or self.counters.day_number != day.number:
            return 0
        is_exempt = self.counters.is_educational and policy.educational_exempt
        return self.counters.used_ms + (0 if is_exempt else self.finished_ms)

    def owed_ms(self, day: ViewingDay) -> int:
        """What the running day owes to the one before."""
        return 0 if self.counters is None else self.counters.owed_on(day)

    def week_left_ms(self, policy: Policy, day: ViewingDay, market: Market) -> int | None:
        """What the earlier days of the week leave of a weekly limit; None without one."""
        week = week_of(policy, starts_on=market.week_starts_on)
        if week is None:
            return None
        ended: Sequence[EarlierDay] = ()
        if self.counters is not None and policy.calendar is not None:
            passed = policy.calendar.days_after(self.counters.day, until_ms=day.starts_ms)
            terms = [terms_of(policy, each, weekend_days=market.weekend_days) for each in passed]
            ended = carried_into(self.counters, terms, week).week
        return week.left_ms(week.earlier_days(ended, day.number))

    def remaining_ms(self, policy: Policy, allowance: RunningAllowance) -> int | None:
        """What is left of the running day's allowance; None when unlimited or not known."""
        if allowance.allowance_ms == UNLIMITED or not self.is_known:
            return None
        return max(0, allowance.allowance_ms - self.used_ms(policy, allowance.day))


class UsedTime:
    """Reads what children have used. ``max_gap_ms`` is the longest gap between two heartbeats that counts whole."""

    def __init__(self, *, counters: CounterReader, flushed: FlushedUsage, max_gap_ms: int) -> None:
        self._counters = counters
        self._flushed = flushed
        self._max_gap_ms = max_gap_ms

    async def of(self, profile_id: str) -> Used:
        """The counters of a child, those that were flushed when Redis has none or is away.

        Raises:
            DatabaseUnavailable
        """
        return (await self.of_all([profile_id]))[profile_id]

    async def of_all(self, profile_ids: Sequence[str]) -> dict[str, Used]:
        """As ``of``, for any number of children."""
        if not profile_ids:
            return {}
        try:
            found = [self._used(counters, at_ms) for at_ms, counters in await self._counters.read(profile_ids)]
        except CountersUnavailable:
            found = [Used(None, is_known=False)] * len(profile_ids)
        used = dict(zip(profile_ids, found, strict=True))
        missing = [profile_id for profile_id in profile_ids if used[profile_id].counters is None]
        if missing:
            for profile_id, counters in zip(missing, await self._flushed.recover(missing), strict=True):
                used[profile_id] = Used(counters, is_known=used[profile_id].is_known)
        return used

    async def again(self, profile_id: str, before: Used) -> Used:
        """The counters as they stand now, from Redis alone; what was read before where it has none or is away."""
        try:
            [(at_ms, counters)] = await self._counters.read([profile_id])
        except CountersUnavailable:
            return msgspec.structs.replace(before, is_known=False)
        return self._used(before.counters if counters is None else counters, at_ms)

    def _used(self, counters: Counters | None, at_ms: int) -> Used:
        if counters is None:
            return Used(None)
        return Used(counters, finished_ms=counters.finished_since_ms(at_ms, self._max_gap_ms))
