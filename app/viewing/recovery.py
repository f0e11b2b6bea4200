"""Counters that Redis has lost, put back from what was flushed."""

from collections.abc import Sequence

import msgspec

from app.domain.policy import Policy
from app.viewing.ports import Counters, FlushedUsage


class Recovery:
    """Puts counters back for many children at once, before their beats ask for it one by one."""

    def __init__(self, *, usage: FlushedUsage, counters: Counters) -> None:
        self._usage = usage
        self._counters = counters

    async def restore(self, policies: Sequence[Policy]) -> set[str]:
        """Seed the counters of those children of whom any were flushed; counters that are there stay as they are.

        Answers the profiles of which nothing was flushed: theirs begin with a beat, which tells since when.

        Raises:
            CountersUnavailable, DatabaseUnavailable: not all of them were put back.
        """
        children = [policy for policy in policies if policy.is_kids]
        if not children:
            return set()
        recovered = await self._usage.recover([policy.profile_id for policy in children])
        seeds = [
            (policy.profile_id, msgspec.structs.replace(live, policy_version=policy.version))
            for policy, live in zip(children, recovered, strict=True)
            if live is not None
        ]
        if seeds:
            await self._counters.seed(seeds)
        return {policy.profile_id for policy, live in zip(children, recovered, strict=True) if live is None}
