"""How often a PIN or password may be tried.

Every comparison is reserved before it is made, in one count for all processes and all paths; the count is written to
the database before the comparison, so a lock outlives Redis. A right answer forgives everything before it.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec
import structlog

from app.auth.hashing import Hasher
from app.clock import Clock
from app.errors import Locked

_MINUTE_MS = 60_000

log = structlog.get_logger(__name__)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """``most`` wrong tries within ``window_ms`` lock for ``lock_ms`` after the last of them."""

    kind: str
    most: int
    window_ms: int
    lock_ms: int

    def locked_until_ms(self, tried_ms: Sequence[int], *, at_ms: int) -> int | None:
        """When the lock ends that these tries mean at an instant, if they mean one."""
        if len(tried_ms) < self.most or at_ms >= tried_ms[-1] + self.lock_ms:
            return None
        return tried_ms[-1] + self.lock_ms


PIN = Rule(kind="pin", most=5, window_ms=30 * _MINUTE_MS, lock_ms=30 * _MINUTE_MS)
PASSWORD = Rule(kind="password", most=10, window_ms=15 * _MINUTE_MS, lock_ms=15 * _MINUTE_MS)


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a try may be made, and the instants of all that count, this one included."""

    may_compare: bool
    tried_ms: tuple[int, ...]


class Tries(Protocol):
    """The count that all processes share. Every call may raise CountersUnavailable."""

    async def reserve(
        self, subject_id: str, rule: Rule, *, at_ms: int, known_ms: Sequence[int] | None
    ) -> Reservation | None:
        """Count a try before it is made; None when nothing is known here and ``known_ms`` is None."""
        ...

    async def clear(self, subject_id: str, rule: Rule) -> None: ...


class TryLedger(Protocol):
    """The same count where it is safe. Every call may raise DatabaseUnavailable."""

    async def keep(self, subject_id: str, kind: str, tried_ms: Sequence[int]) -> None:
        """Keep the instants of tries unless later ones are there; nothing for who is no account."""
        ...

    async def read(self, subject_id: str, kind: str) -> list[int]: ...

    async def clear(self, subject_id: str, kind: str) -> None: ...


class Lockout:
    """Compares secrets of one kind, as often as the rule allows."""

    def __init__(self, rule: Rule, *, hasher: Hasher, tries: Tries, ledger: TryLedger, clock: Clock) -> None:
        self._rule = rule
        self._hasher = hasher
        self._tries = tries
        self._ledger = ledger
        self._clock = clock

    async def matches(self, subject_id: str, secret: str, hashed: str | None) -> bool:
        """Whether a secret is the hashed one; None is never right and takes as long.

        The tries of ``subject_id``, a UUID, are counted.

        Raises:
            Locked: there were too many wrong tries; nothing was compared.
            TooManyRequests: too many comparisons wait; this one was not counted.
        """
        with self._hasher.place() as place:
            await self._count(subject_id)
            is_right = await place.matches(secret, hashed)
        # Who is no account has an id that is made of an e-mail address: not for the log.
        log.info("secret_tried", kind=self._rule.kind, account_id=hashed and subject_id, is_right=is_right)
        if is_right:
            await self.forgive(subject_id)
        return is_right

    async def forgive(self, subject_id: str) -> None:
        await self._tries.clear(subject_id, self._rule)
        await self._ledger.clear(subject_id, self._rule.kind)

    async def locked_until_ms(self, subject_id: str) -> int | None:
        tried_ms = await self._ledger.read(subject_id, self._rule.kind)
        return self._rule.locked_until_ms(tried_ms, at_ms=self._clock())

    async def _count(self, subject_id: str) -> None:
        at_ms = self._clock()
        reservation = await self._tries.reserve(subject_id, self._rule, at_ms=at_ms, known_ms=None)
        if reservation is None:
            known_ms = await self._ledger.read(subject_id, self._rule.kind)
            reservation = await self._tries.reserve(subject_id, self._rule, at_ms=at_ms, known_ms=known_ms)
        if reservation is None:
            raise AssertionError("a count that was given is known")
        if not reservation.may_compare:
            until_ms = reservation.tried_ms[-1] + self._rule.lock_ms
            log.warning("tries_locked", kind=self._rule.kind, for_ms=until_ms - at_ms)
            raise Locked(retry_after_seconds=-(-(until_ms - at_ms) // 1000))
        await self._ledger.keep(subject_id, self._rule.kind, reservation.tried_ms)
