"""Tries of PINs and passwords, counted for all processes together."""

from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis

from app.auth.lockout import Reservation, Rule
from app.redis_store.client import unavailability_named
from app.redis_store.keys import tries
from app.redis_store.scripts import Script


class RedisTries:
    """Every call may raise CountersUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._reserve = Script("reserve_try")

    async def reserve(
        self, subject_id: str, rule: Rule, *, at_ms: int, known_ms: Sequence[int] | None
    ) -> Reservation | None:
        """Count a try before it is made; None when nothing is known here and ``known_ms`` is None."""
        numbers = (at_ms, rule.most, rule.window_ms, rule.lock_ms)
        known = (0,) if known_ms is None else (1, *known_ms)
        with unavailability_named():
            answer = await self._reserve(self._redis, (tries(subject_id, rule.kind),), (*numbers, *known))
        if answer is None:
            return None
        may_compare, *tried_ms = cast("list[int]", answer)
        return Reservation(may_compare=bool(may_compare), tried_ms=tuple(tried_ms))

    async def clear(self, subject_id: str, rule: Rule) -> None:
        with unavailability_named():
            await self._redis.delete(tries(subject_id, rule.kind))
