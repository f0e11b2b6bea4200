"""PostgreSQL's ledger of offline playback in memory, and an independent oracle of the credit of a batch."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from app.domain.counters import Counters
from app.domain.offline import OfflineBatch, Part, Settlement, Synced, counted_ranges, credited
from app.domain.offline import TimeRange as Span
from app.domain.past_terms import ConfigVersion, KeptDay, LedgerGrant, PastTerms, extra_ms_of
from app.domain.policy import UNLIMITED, EarlierDay, OfflineUse, Policy
from tests.model.ledger import MemoryLedger
from tests.model.watching import TimeRange

MAX_WEEK_DAYS = 10
"""PostgreSQL reads no more of a week."""


class Policies:
    """The policies of PostgreSQL, which has but one."""

    def __init__(self, policy: Policy, ledger: MemoryLedger, *, at_ms: int) -> None:
        self.policy = policy
        self.versions = [_version(policy, at_ms)]
        self.offline_limits_ms: dict[int, int] = {}
        """Of days that something was synced to."""
        self._ledger = ledger

    def change(self, policy: Policy, *, at_ms: int) -> None:
        """Save what a parent changed."""
        self.policy = policy
        self.versions.append(_version(policy, at_ms))

    @property
    def current(self) -> Policy:
        """The policy as it is read now, with the days of the week as far as they are flushed."""
        if self.policy.limits.weekly_minutes is None:
            return self.policy
        kept = {day: counters for (_, day), counters in sorted(self._ledger.balances.items())}
        days = sorted({*kept, *(use.day_number for use in self.policy.offline)})
        week = tuple(
            EarlierDay(
                day,
                kept[day].used_ms + kept[day].owed_ms if day in kept else 0,
                kept[day].limit_ms if day in kept else self.offline_limits_ms.get(day, UNLIMITED),
                self.policy.offline_use(day).used_ms,
            )
            for day in days[-MAX_WEEK_DAYS:]
        )
        return msgspec.structs.replace(self.policy, week=week)

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        return [self.current if profile_id == self.policy.profile_id else None for profile_id in profile_ids]

    async def load_with_counters(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Counters | None] | None]:
        policies, counters_of = await self.load(profile_ids), await self._ledger.recover(profile_ids)
        return [(policy, counters) if policy else None for policy, counters in zip(policies, counters_of, strict=True)]


def _version(policy: Policy, at_ms: int) -> ConfigVersion:
    return ConfigVersion(at_ms, policy.limits, policy.educational_exempt)


async def _nothing() -> None:
    """Nothing happens between the reservation and the commit."""


class MemoryOffline:
    """Credits a batch in one step, and makes the credit policy."""

    def __init__(self, usage: MemoryLedger, policies: Policies) -> None:
        self._usage = usage
        self._policies = policies
        self._batches: dict[str, Synced] = {}
        self.parts: list[Part] = []
        self.before_commit: Callable[[], Awaitable[None]] = _nothing

    async def stored(self, _: str, batch_id: str) -> Synced | None:
        return self._batches.get(batch_id)

    async def apply(
        self,
        batch: OfflineBatch,
        *,
        settle: Callable[[Sequence[Span], PastTerms], Settlement],
        reserve: Callable[[Settlement], Awaitable[bool]],
    ) -> Synced | None:
        sessions = [
            time_range
            for _, part in self._usage.sessions.values()
            for time_range in counted_ranges(part, until_ms=part.last_beat_ms)
        ]
        earlier = [part.time_range for part in self.parts]
        policy = self._policies.policy
        past = PastTerms(
            versions=self._policies.versions,
            exempt_now=policy.educational_exempt,
            grants=[
                LedgerGrant(grant.day_number, extra_ms_of(grant.minutes, grant.covered_ms), None)
                for grant in policy.grants
            ],
            kept={
                day: KeptDay(
                    counters.day,
                    counters.limit_ms,
                    counters.used_ms,
                    counters.version,
                    policy.offline_use(day),
                    counters.borrowed_ms,
                    counters.owed_ms,
                )
                for (_, day), counters in self._usage.balances.items()
            },
            weekend_days=(),
        )
        settlement = settle([*sessions, *earlier], past)
        if not await reserve(settlement):
            return None
        await self.before_commit()
        self.parts += settlement.parts
        self._batches[batch.batch_id] = Synced(settlement.credited_ms, settlement.penalty_ms, batch.is_tampered)
        assert [terms.number for terms in settlement.terms] == [use.day_number for use in settlement.by_day]
        self._credit(settlement)
        return self._batches[batch.batch_id]

    def sums_ms(self) -> dict[int, tuple[int, int]]:
        """Deducted and exempt time of each day."""
        return {
            use.day_number: (use.used_ms + use.overrun_ms, use.educational_ms) for use in self._policies.policy.offline
        }

    def _credit(self, settlement: Settlement) -> None:
        policy = self._policies.policy
        uses = {use.day_number: use for use in policy.offline}
        for use, terms in zip(settlement.by_day, settlement.terms, strict=True):
            self._policies.offline_limits_ms.setdefault(use.day_number, terms.limit_ms)
            known = uses.get(use.day_number, OfflineUse(use.day_number))
            uses[use.day_number] = known.plus(use)
        self._policies.policy = msgspec.structs.replace(
            policy,
            version=policy.version + 1,
            offline=tuple(uses.values()),
            synced=credited(self.parts),
        )


@dataclass(frozen=True)
class Played:
    """A time range that a device played by itself, of which ``watched_ms`` were watched."""

    title: str
    starts_ms: int
    ends_ms: int
    watched_ms: int


def credits_of(
    batch: Sequence[Played],
    *,
    covered: Iterable[Span],
    is_exempt: Callable[[str, int], bool],
    changes_ms: Iterable[int] = (),
) -> tuple[list[int], list[TimeRange]]:
    """What each time range is credited, and where that lies: in its first moments that nothing else has taken.

    ``is_exempt`` says so of a title at an instant; it changes at ``changes_ms`` only.
    """
    taken, credited_ms, found = list(covered), [], []
    changes_ms = list(changes_ms)
    for played in batch:
        left_ms = played.watched_ms
        bounds = {bound for span in taken for bound in span}
        inside = {bound for bound in [*bounds, *changes_ms] if played.starts_ms < bound < played.ends_ms}
        cuts = sorted({played.starts_ms, played.ends_ms} | inside)
        for begins_ms, stops_ms in pairwise(cuts):
            if left_ms and not any(starts_ms <= begins_ms < ends_ms for starts_ms, ends_ms in taken):
                part_ms = min(left_ms, stops_ms - begins_ms)
                found.append(TimeRange(begins_ms, begins_ms + part_ms, is_exempt(played.title, begins_ms)))
                left_ms -= part_ms
        credited_ms.append(played.watched_ms - left_ms)
        taken.append((played.starts_ms, played.ends_ms))
    return credited_ms, found
