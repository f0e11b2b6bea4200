"""A sampled check, once a minute: do Redis, PostgreSQL and the players' claims agree on what was watched?

The sample is a bucket, which is a hash of the profile's id: the children of one bucket that watch, up to a bound. The
bucket changes every ten minutes, so that each child and each server gets its turn. ``domain.accuracy`` has the rules.
"""

from collections.abc import Callable

from app.clock import Clock
from app.domain.accuracy import AccuracyError, CounterSample, is_period, judged, sampled
from app.domain.day_usage import DayUsage
from app.reconciling.ports import SampledCounters, StoredUsageSource

LOOKS_AT_A_BUCKET = 10
MAX_PERIOD_MS = 150_000
"""Too much may happen in a longer period that no look has seen."""

Observe = Callable[[AccuracyError | None], None]
"""Takes the result of each period."""


class AccuracyCheck:
    """Looks at a sample, and compares it with the look before. It changes nothing.

    Args:
        counters: what Redis has.
        kept: what PostgreSQL has.
        buckets: number of buckets.
        size: most children of a sample; 0 looks at none.
        observe: gets each period's error, or None.
        monotonic: milliseconds that never fall.
    """

    def __init__(
        self,
        *,
        counters: SampledCounters,
        kept: StoredUsageSource,
        buckets: int,
        size: int,
        observe: Observe,
        monotonic: Clock,
    ) -> None:
        self._counters = counters
        self._kept = kept
        self._buckets = buckets
        self._size = size
        self._observe = observe
        self._monotonic = monotonic
        self._bucket = 0
        self._looks = 0
        self._known: dict[str, CounterSample] = {}
        self._looked_ms = 0
        self._redis_ms = 0

    async def look(self) -> None:
        """Judge the periods since the last look. Raises CountersUnavailable, DatabaseUnavailable."""
        if not self._size:
            return
        if self._looks == LOOKS_AT_A_BUCKET:
            self._bucket, self._looks, self._known = (self._bucket + 1) % self._buckets, 0, {}
        known = self._known if self._monotonic() - self._looked_ms <= MAX_PERIOD_MS else {}
        active = await self._counters.active(self._bucket, most=self._size)
        profile_ids = list(dict.fromkeys([*known, *active]))
        days = await self._days(list(known))
        at_ms, found = await self._counters.sample(self._bucket, profile_ids)
        now_ms = self._monotonic()
        step_ms = (at_ms - self._redis_ms) - (now_ms - self._looked_ms)
        samples = {
            profile_id: CounterSample(counters, at_ms)
            for profile_id, counters in zip(profile_ids, found, strict=True)
            if counters is not None
        }
        for profile_id, before in known.items():
            after = samples.get(profile_id)
            if is_period(before, after):
                day = days.get((profile_id, before.counters.day_number))
                self._observe(judged(before, after, day, profile_id=profile_id, clock_step_ms=step_ms))
        self._known = dict(sampled([(each, samples[each]) for each in active if each in samples]))
        self._looked_ms, self._redis_ms, self._looks = now_ms, at_ms, self._looks + 1

    async def _days(self, profile_ids: list[str]) -> dict[tuple[str, int], DayUsage]:
        """The flushed days of children. They are read before Redis is, which must then have as much."""
        if not profile_ids:
            return {}
        since_day = min(sample.counters.day_number for sample in self._known.values())
        return {day.key: day for day in await self._kept.kept(profile_ids, since_day=since_day)}
