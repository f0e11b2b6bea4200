"""Erasure: the database first, in one transaction; then whatever else remembers.

What is committed is erased. That Redis cannot be reached then is not the parent's failure: the worker removes again
what is kept of everybody who was erased lately, which also catches a call that was under way in the meantime.
"""

import structlog

from app.clock import Clock
from app.domain.erasure import Erased, ErasureReceipt
from app.errors import CountersUnavailable
from app.privacy.ports import EndedHolders, ErasureLedger, Passwords, Traces

_AGAIN_MS = 48 * 3_600_000
"""Longer than anything that is in Redis lives there, apart from what waits to be flushed, which meets the tombstone."""

log = structlog.get_logger(__name__)


class Erasure:
    """Erases profiles and accounts."""

    def __init__(
        self,
        ledger: ErasureLedger,
        *,
        traces: Traces,
        passwords: Passwords,
        ended: EndedHolders,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._traces = traces
        self._passwords = passwords
        self._ended = ended
        self._clock = clock

    async def profile(self, account_id: str, profile_id: str, *, actor: str) -> ErasureReceipt:
        """Raises ProfileAccessDenied, DatabaseUnavailable."""
        receipt = await self._ledger.profile(account_id, profile_id, actor=actor, at_ms=self._clock())
        await self._forget(Erased(profile_ids=(profile_id,)), household=account_id)
        return receipt

    async def account(self, account_id: str, *, password: str) -> ErasureReceipt:
        """Erase an account; its tokens count no longer, here at once and everywhere within a second.

        Raises:
            WrongPassword, Locked, TooManyRequests: nothing was erased.
            Unauthenticated: the account is gone already.
        """
        await self._passwords.check_password(account_id, password)
        receipt, erased = await self._ledger.account(account_id, at_ms=self._clock())
        self._ended.add(account_id)
        await self._forget(erased, household=account_id)
        return receipt

    async def _forget(self, erased: Erased, *, household: str) -> None:
        try:
            await self._traces.announce(erased, household=household)
            await self._traces.remove(erased)
        except CountersUnavailable as error:
            log.warning("traces_left", reason=error.code)


async def remove_again(ledger: ErasureLedger, traces: Traces, *, at_ms: int) -> None:
    """Remove what is kept of everybody who was erased lately. Raises DatabaseUnavailable, CountersUnavailable."""
    await traces.remove(await ledger.erased_since(at_ms - _AGAIN_MS))
