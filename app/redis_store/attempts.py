"""Attempts at PINs and passwords, counted for all processes together."""

from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis

from app.auth.lockout_rules import RESERVATION_MS, Admission, Reservation, Rule
from app.redis_store.client import translate_errors
from app.redis_store.keys import attempts
from app.redis_store.scripts import Script

_LOCKED, _BUSY = 1, 2
_NONE = Reservation(id="", at_ms=0)


class RedisAttempts:
    """Every call may raise CountersUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._reserve = Script("reserve_attempt")
        self._conclude = Script("conclude_attempt")

    async def reserve(self, subject_id: str, rule: Rule, reservation: Reservation) -> Admission:
        numbers = (reservation.at_ms, rule.most, rule.window_ms, rule.lock_ms, RESERVATION_MS)
        with translate_errors():
            answer = await self._reserve(self._redis, (attempts(subject_id, rule.kind),), (*numbers, reservation.id))
        verdict, until_ms = cast("tuple[int, int]", answer)
        return Admission(locked_until_ms=until_ms if verdict == _LOCKED else None, is_busy=verdict == _BUSY)

    async def conclude(self, subject_id: str, rule: Rule, reservation: Reservation, *, is_right: bool | None) -> None:
        what = {True: "right", False: "wrong", None: "void"}[is_right]
        await self._end(subject_id, rule, reservation, what, reservation.at_ms, rule.window_ms)

    async def know(self, subject_id: str, rule: Rule, reservation: Reservation, tried_ms: Sequence[int]) -> None:
        """Return a reservation. Answers the wrong attempts that count."""
        await self._end(subject_id, rule, reservation, "known", *tried_ms)

    async def clear(self, subject_id: str, rule: Rule) -> None:
        """Forget wrong attempts. Comparisons under way still end normally."""
        await self._end(subject_id, rule, _NONE, "known")

    async def _end(self, subject_id: str, rule: Rule, reservation: Reservation, what: str, *instants_ms: int) -> None:
        args: tuple[str | int, ...] = (reservation.id, max(rule.window_ms, rule.lock_ms), what, *instants_ms)
        with translate_errors():
            await self._conclude(self._redis, (attempts(subject_id, rule.kind),), args)
