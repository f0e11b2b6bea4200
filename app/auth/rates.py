"""How many requests an account, and each token of it, may make. Heartbeats have a limit of their own, for each child.

These limits guard capacity, not secrets. So they fail open: while Redis is away requests are let through uncounted,
and guesses at a PIN or password are still refused, by the lockout, which fails closed.
"""

import asyncio
from hashlib import blake2b

from app.auth.ports import Quota, QuotaAdmission, Rates
from app.errors import CountersUnavailable, TooManyRequests

MINUTE_MS = 60_000
_UNASKED_SECONDS = 1.0
"""After a failure Redis is not asked for so long: requests that do not need it are not to wait for it one by one."""


class RateLimit:
    """Admits requests by account and by token.

    Args:
        account_most: requests of an account a minute; 0 for no limit.
        token_most: requests of one token a minute, so that a player gone mad leaves its parents their share.
        rates: the count that all processes share.
    """

    def __init__(self, *, account_most: int, token_most: int, rates: Rates) -> None:
        quotas = (
            Quota(name="account", most=account_most, window_ms=MINUTE_MS),
            Quota(name="token", most=token_most, window_ms=MINUTE_MS),
        )
        self._quotas = tuple(quota for quota in quotas if quota.most)
        self._rates = rates
        self._ask_from = 0.0
        self._policy = ", ".join(f'"{quota.name}";q={quota.most};w={quota.window_ms // 1000}' for quota in self._quotas)

    async def admit(self, account_id: str, authorization: bytes) -> dict[str, str]:
        """Count a request; the headers that tell the caller how it stands.

        Raises:
            TooManyRequests: with the same headers.
        """
        now = asyncio.get_running_loop().time()
        if not self._quotas or now < self._ask_from:
            return {}
        token = blake2b(authorization, digest_size=8).hexdigest()
        holders = ["" if quota.name == "account" else token for quota in self._quotas]
        try:
            admission = await self._rates.admit(account_id, self._quotas, holders)
        except CountersUnavailable:
            self._ask_from = max(self._ask_from, now + _UNASKED_SECONDS)
            return {}
        headers = self._headers(admission)
        if admission.wait_ms:
            refusal = TooManyRequests(retry_after_seconds=_whole_seconds(admission.wait_ms))
            refusal.headers |= headers
            raise refusal
        return headers

    def _headers(self, admission: QuotaAdmission) -> dict[str, str]:
        """As in the IETF's draft "RateLimit header fields for HTTP"."""
        standings = zip(self._quotas, admission.standings, strict=True)
        stands = (f'"{quota.name}";r={now.left};t={_whole_seconds(now.whole_in_ms)}' for quota, now in standings)
        return {"RateLimit-Policy": self._policy, "RateLimit": ", ".join(stands)}


def _whole_seconds(ms: int) -> int:
    return -(-ms // 1000)
