"""Erase profiles and accounts: first in the database, in one transaction, then in Redis and all processes.

A commit makes the erasure final. The parent's call succeeds even when Redis is away, because the worker removes the
keys of recent erasures again. This also removes keys that an unfinished call wrote.
"""

import structlog

from app.clock import Clock
from app.domain.erasure import Erased, ErasureReceipt
from app.errors import CountersUnavailable
from app.privacy.ports import CopyEraser, ErasureStore, Passwords, RevokedHolders

_AGAIN_MS = 48 * 3_600_000
"""Longer than the lifetime of every Redis key. Only unflushed usage lives longer, and its flush finds the tombstone."""

log = structlog.get_logger(__name__)


class Erasure:
    """Erases profiles and accounts."""

    def __init__(
        self,
        ledger: ErasureStore,
        *,
        traces: CopyEraser,
        passwords: Passwords,
        ended: RevokedHolders,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._traces = traces
        self._passwords = passwords
        self._ended = ended
        self._clock = clock

    async def profile(self, account_id: str, profile_id: str, *, actor: str) -> ErasureReceipt:
        """Erase a profile. Raises ProfileAccessDenied, DatabaseUnavailable."""
        receipt = await self._ledger.profile(account_id, profile_id, actor=actor, at_ms=self._clock())
        await self._forget(Erased(profile_ids=(profile_id,)), household=account_id)
        return receipt

    async def account(
        self, account_id: str, *, password: str | None, has_just_signed_in: bool = False
    ) -> ErasureReceipt:
        """Erase an account for a parent who proves to own it, by its password or by having just signed in.

        Its tokens are refused here at once, and in all processes within a second.

        Raises:
            InvalidInput, WrongPassword, FreshSignInRequired, Locked, TooManyRequests: nothing was erased.
            Unauthenticated: the account does not exist.
        """
        await self._passwords.check_owner(account_id, password, has_just_signed_in=has_just_signed_in)
        return await self.account_for_platform(account_id)

    async def account_for_platform(self, account_id: str) -> ErasureReceipt:
        """Erase an account; its tokens count no longer, here at once and everywhere within a second.

        Raises Unauthenticated: the account is gone already.
        """
        receipt, erased = await self._ledger.account(account_id, at_ms=self._clock())
        self._ended.add(account_id)
        await self._forget(erased, household=account_id)
        return receipt

    async def _forget(self, erased: Erased, *, household: str) -> None:
        try:
            await self._traces.announce(erased, household=household)
            await self._traces.remove(erased)
        except CountersUnavailable as error:
            log.warning("redis_keys_not_removed", reason=error.code)


async def remove_again(ledger: ErasureStore, traces: CopyEraser, *, at_ms: int) -> None:
    """Remove the Redis keys of recent erasures again. Raises DatabaseUnavailable, CountersUnavailable."""
    await traces.remove(await ledger.erased_since(at_ms - _AGAIN_MS))
