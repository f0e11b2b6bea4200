"""What a child has used of its running day, seen from beside the hot path."""

import msgspec

from app.domain.accounting import Live
from app.domain.grants import RunningAllowance
from app.domain.policy import UNLIMITED
from app.errors import CountersUnavailable
from app.parents.ports import Counters, FlushedUsage


class Used(msgspec.Struct, frozen=True):
    """The counters of a child, None when there are none yet. Without ``is_known`` they are out of reach."""

    live: Live | None
    is_known: bool = True

    def remaining_ms(self, allowance: RunningAllowance) -> int | None:
        """What is left of the running day's allowance; None when unlimited or not known."""
        if allowance.allowance_ms == UNLIMITED or not self.is_known:
            return None
        is_today = self.live is not None and self.live.day_number == allowance.day.number
        used_ms = self.live.used_ms if self.live is not None and is_today else 0
        return max(0, allowance.allowance_ms - used_ms)


class UsedTime:
    def __init__(self, *, counters: Counters, flushed: FlushedUsage) -> None:
        self._counters = counters
        self._flushed = flushed

    async def of(self, profile_id: str) -> Used:
        """The counters of a child; unknown when Redis is away. Raises DatabaseUnavailable."""
        try:
            [(_, live)] = await self._counters.read([profile_id])
        except CountersUnavailable:
            return Used(None, is_known=False)
        if live is None:
            [live] = await self._flushed.recover([profile_id])
        return Used(live)
