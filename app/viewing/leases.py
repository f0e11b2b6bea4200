"""Signed playback leases: what a CDN or a DRM proxy verifies without asking the service.

A lease is a JWS for one profile and session. It ends with the lease of the heartbeat's answer, and never after the
instant at which playback must stop. A heartbeat that asks gets the lease of an earlier one until half its life is over.
Signing happens in a thread, for all heartbeats that wait at once.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from app.auth.lease_keys import LeaseKeys, PublicKeySet
from app.domain.enforcement import Decision, lease_end_s
from app.kit.batching import Batcher, Overloaded
from app.observability import metrics

MAX_KEPT = 100_000
"""Most leases that a process keeps to give again. Each takes about 700 bytes, and goes when it has ended."""
_MAX_BATCH = 32
"""Signatures in one turn of the thread: it holds Python's lock for about a millisecond at most."""

_encode = msgspec.json.Encoder().encode


class _Kept(msgspec.Struct, frozen=True, gc=False):
    text: str
    signed_s: int
    ends_s: int


class PlaybackLeases:
    """Gives leases to heartbeats that ask.

    Args:
        keys: the deployment's; None where it has none, and no heartbeat gets a lease.
        issuer: ``iss`` of the leases.
        audience: ``aud`` of the leases.
        size: most leases that are kept.
    """

    def __init__(self, keys: LeaseKeys | None, *, issuer: str, audience: str, size: int = MAX_KEPT) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._size = size
        self._kept: dict[str, _Kept] = {}  # by session, those signed first in front
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leases")  # it starts with the first lease
        self._signatures: Batcher[bytes, str] = Batcher(self._sign, max_batch=_MAX_BATCH, max_in_flight=1)

    @property
    def published(self) -> PublicKeySet:
        """The public keys by which leases are verified."""
        return PublicKeySet([]) if self._keys is None else self._keys.published

    async def lease(self, profile_id: str, session_id: str, decision: Decision, *, at_ms: int) -> str | None:
        """The lease for a heartbeat that was decided at an instant; None if playback must not go on."""
        ends_s = lease_end_s(decision, at_ms=at_ms)
        if self._keys is None or ends_s is None:
            metrics.PLAYBACK_LEASES.labels("none").inc()
            return None
        at_s = at_ms // 1000
        kept = self._kept.get(session_id)
        if kept is not None and _is_good_until(kept, ends_s, at_s=at_s):
            metrics.PLAYBACK_LEASES.labels("reused").inc()
            return kept.text
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": profile_id,
            "sid": session_id,
            "iat": at_s,
            "exp": ends_s,
        }
        try:
            text = await self._signatures.submit(_encode(claims))
        except Overloaded:
            metrics.PLAYBACK_LEASES.labels("none").inc()
            return None
        self._keep(session_id, _Kept(text, at_s, ends_s), at_s=at_s)
        metrics.PLAYBACK_LEASES.labels("signed").inc()
        return text

    def close(self) -> None:
        self._thread.shutdown()

    def _keep(self, session_id: str, lease: _Kept, *, at_s: int) -> None:
        self._kept.pop(session_id, None)
        self._kept[session_id] = lease
        oldest = next(iter(self._kept))
        while len(self._kept) > self._size or self._kept[oldest].ends_s <= at_s:
            del self._kept[oldest]
            oldest = next(iter(self._kept))

    async def _sign(self, payloads: Sequence[bytes]) -> list[str]:
        assert self._keys is not None  # noqa: S101  without keys nothing is queued
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._keys.sign, payloads)


def _is_good_until(kept: _Kept, ends_s: int, *, at_s: int) -> bool:
    """Whether a lease may be given again where a new one would end at ``ends_s``."""
    if kept.ends_s > ends_s:
        return False  # playback must stop earlier than was known
    return kept.ends_s == ends_s or (kept.ends_s - at_s) * 2 > kept.ends_s - kept.signed_s
