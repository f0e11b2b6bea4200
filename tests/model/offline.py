"""PostgreSQL's ledger of offline playback, in memory, and what a batch must be credited by an oracle of its own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from app.domain.accounting import Live
from app.domain.offline import DayUse, OfflineBatch, Part, Settlement, credited
from app.domain.offline import Stretch as Span
from app.domain.policy import DayTerms, OfflineUse, Policy
from tests.model.ledger import MemoryLedger
from tests.model.watching import Stretch


class Policies:
    """The policies of PostgreSQL, which has but one."""

    def __init__(self, policy: Policy, ledger: MemoryLedger) -> None:
        self.policy = policy
        self._ledger = ledger

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        return [self.policy if profile_id == self.policy.profile_id else None for profile_id in profile_ids]

    async def meet(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Live | None] | None]:
        policies, lives = await self.load(profile_ids), await self._ledger.recover(profile_ids)
        return [(policy, live) if policy else None for policy, live in zip(policies, lives, strict=True)]


class MemoryOffline:
    """Credits a batch in one step, and makes the credit policy."""

    def __init__(self, usage: MemoryLedger, policies: Policies) -> None:
        self._usage = usage
        self._policies = policies
        self._batches: dict[str, tuple[tuple[int, ...], bool]] = {}
        self.parts: list[Part] = []

    async def stored(self, _: str, batch_id: str) -> tuple[tuple[int, ...], bool] | None:
        return self._batches.get(batch_id)

    async def apply(
        self,
        batch: OfflineBatch,
        *,
        settle: Callable[[Sequence[Span], dict[int, DayUse]], Settlement],
        terms_of: Callable[[OfflineUse], DayTerms],
    ) -> tuple[tuple[int, ...], bool]:
        sessions = [(part.session_started_ms, part.last_beat_ms) for _, part in self._usage.sessions.values()]
        earlier = [part.stretch for part in self.parts]
        used = {
            day: DayUse(live.allowance_ms, live.used_ms + self._policies.policy.offline_use(day).used_ms)
            for (_, day), live in self._usage.balances.items()
        }
        settlement = settle([*sessions, *earlier], used)
        self.parts += settlement.parts
        self._batches[batch.batch_id] = settlement.credited_ms, batch.is_tampered
        assert all(terms_of(use).number == use.day_number for use in settlement.by_day)
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
        for use in settlement.by_day:
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
    """A stretch that a device played by itself, of which ``watched_ms`` were watched."""

    title: str
    starts_ms: int
    ends_ms: int
    watched_ms: int


def credits_of(
    batch: Sequence[Played], *, covered: Iterable[Span], is_exempt: Callable[[str], bool]
) -> tuple[list[int], list[Stretch]]:
    """What each stretch is credited, and where that lies: in its first moments that nothing else has taken."""
    taken, credited_ms, found = list(covered), [], []
    for played in batch:
        left_ms = played.watched_ms
        bounds = {bound for span in taken for bound in span if played.starts_ms < bound < played.ends_ms}
        cuts = sorted({played.starts_ms, played.ends_ms} | bounds)
        for begins_ms, stops_ms in pairwise(cuts):
            if left_ms and not any(starts_ms <= begins_ms < ends_ms for starts_ms, ends_ms in taken):
                part_ms = min(left_ms, stops_ms - begins_ms)
                found.append(Stretch(begins_ms, begins_ms + part_ms, is_exempt(played.title)))
                left_ms -= part_ms
        credited_ms.append(played.watched_ms - left_ms)
        taken.append((played.starts_ms, played.ends_ms))
    return credited_ms, found
