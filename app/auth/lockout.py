"""How often a PIN or password may be tried.

Every comparison is reserved before it is made, for all processes and all paths together: at most as many are under way
as wrong answers are still allowed. A comparison under way is no wrong try: right answers never lock, however many come
at once. A right answer forgives the wrong ones before it; one that was interrupted counts as none, for nobody learned
anything from it.

Redis turns away what is too much, so that a flood does not reach the database. The database decides, and outlives
Redis.
"""

import contextlib
from uuid import uuid4

import structlog

from app.auth.hashing import Hasher
from app.auth.hashing_queue import HashingKind
from app.auth.lockout_rules import Admission, Reservation, Rule
from app.auth.ports import Attempts, AttemptStore, HashStore
from app.clock import Clock
from app.errors import CountersUnavailable, DatabaseUnavailable, HashingInterrupted, Locked, TooManyRequests
from app.observability import metrics

log = structlog.get_logger(__name__)


class Lockout:
    """Compares secrets of one kind, as often as the rule allows.

    Args:
        kind: whose turn in the queue of hashes a comparison takes.
        store: where a hash that was made with an earlier pepper is renewed when its secret comes by.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        kind: HashingKind,
        hasher: Hasher,
        tries: Attempts,
        ledger: AttemptStore,
        clock: Clock,
        store: HashStore | None = None,
    ) -> None:
        self._store = store
        self._rule = rule
        self._kind = kind
        self._hasher = hasher
        self._tries = tries
        self._ledger = ledger
        self._clock = clock

    async def matches(self, subject_id: str, secret: str, hashed: str | None, *, renews: bool = True) -> bool:
        """Whether a secret is the hashed one; None is never right and takes as long.

        The tries of ``subject_id``, a UUID, are counted. The answer is given only after it is written down. ``renews``
        is off where the caller replaces this very hash.

        Raises:
            Locked: there were too many wrong tries; nothing was compared.
            TooManyRequests: too many comparisons wait, or as many are under way as wrong tries are left.
            HashingInterrupted: nobody knows the answer; it does not count as a try.
        """
        with self._hasher.queue_slot(self._kind, subject_id) as slot:
            reservation = Reservation(id=uuid4().hex, at_ms=self._clock())
            await self._reserve(subject_id, reservation)
            try:
                pepper = await slot.match(secret, hashed)
            except HashingInterrupted:
                await self._conclude(subject_id, reservation, is_right=None)
                raise
            is_right = pepper is not None
            await self._conclude(subject_id, reservation, is_right=is_right)
        # Who is no account has an id that is made of an e-mail address: not for the log.
        log.info("secret_compared", kind=self._rule.kind, account_id=hashed and subject_id, is_right=is_right)
        if pepper and hashed is not None and renews:
            await self._renew(subject_id, secret, hashed)
        return is_right

    async def _renew(self, account_id: str, secret: str, hashed: str) -> None:
        """Hash a secret with today's pepper. When that is not possible now, it is the next time."""
        if self._store is None:
            return
        with contextlib.suppress(TooManyRequests, HashingInterrupted, DatabaseUnavailable):
            renewed = await self._hasher.hash(secret, self._kind, account_id)
            await self._store.renew_hash(account_id, self._rule.kind, old=hashed, new=renewed)

    async def reset(self, subject_id: str) -> None:
        await self._tries.clear(subject_id, self._rule)
        await self._ledger.clear(subject_id, self._rule.kind)

    async def locked_until_ms(self, subject_id: str) -> int | None:
        tried_ms = await self._ledger.read(subject_id, self._rule.kind)
        return self._rule.locked_until_ms(tried_ms, at_ms=self._clock())

    async def _reserve(self, subject_id: str, reservation: Reservation) -> None:
        shared = await self._tries.reserve(subject_id, self._rule, reservation)
        if shared.locked_until_ms == reservation.at_ms + self._rule.lock_ms:
            # The clock fell: wrong attempts that lay ahead now count from here, in the database as well.
            await self._ledger.reserve(subject_id, self._rule, reservation)
        self._refuse_unless_reserved(shared, reservation)
        is_decided = False
        try:
            admission, tried_ms = await self._ledger.reserve(subject_id, self._rule, reservation)
            is_decided = True
        finally:
            if not is_decided:
                await self._release(subject_id, reservation)
        if not admission.is_reserved:  # Redis has forgotten something
            await self._tries.know(subject_id, self._rule, reservation, tried_ms)
        self._refuse_unless_reserved(admission, reservation)

    async def _release(self, subject_id: str, reservation: Reservation) -> None:
        try:
            await self._tries.conclude(subject_id, self._rule, reservation, is_right=None)
        except CountersUnavailable as error:  # it ends by its age
            log.debug("reservation_left", reason=error.code)

    async def _conclude(self, subject_id: str, reservation: Reservation, *, is_right: bool | None) -> None:
        """Write the answer down where it is safe; Redis may miss it, since it does not decide."""
        await self._ledger.conclude(subject_id, self._rule, reservation, is_right=is_right)
        try:
            await self._tries.conclude(subject_id, self._rule, reservation, is_right=is_right)
        except CountersUnavailable as error:
            log.warning("failed_attempt_not_shared", kind=self._rule.kind, reason=error.code)

    def _refuse_unless_reserved(self, admission: Admission, reservation: Reservation) -> None:
        if admission.locked_until_ms is not None:
            for_ms = admission.locked_until_ms - reservation.at_ms
            metrics.LOCKOUTS.labels(self._rule.kind).inc()
            log.warning("attempts_locked", kind=self._rule.kind, for_ms=for_ms)
            raise Locked(retry_after_seconds=-(-for_ms // 1000))
        if admission.is_busy:
            raise TooManyRequests(retry_after_seconds=1)
