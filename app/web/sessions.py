"""Web sessions: who is signed in at a browser, and what that browser has unlocked.

The browser holds an opaque token; Redis holds the session under its digest. A session lives for twelve hours after its
last request.
"""

import contextlib
import hmac
import secrets
from collections.abc import Callable
from hashlib import blake2b, sha256

import msgspec
import structlog

from app.clock import Clock
from app.domain.erasure import ErasureReceipt
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.web.ports import Notifier, ProfilesOf, SessionStore

SESSION_SECONDS = 12 * 3600
MAX_TOKEN = 100

log = structlog.get_logger(__name__)


class Flash(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence for the next page. ``undo`` is the path to post to in order to take it back."""

    text: str
    kind: str = "done"
    undo: str = ""


class WebSession(msgspec.Struct, frozen=True, kw_only=True):
    """Who is signed in. ``pin_token`` gives parents' rights, at most until ``unlocked_until_ms``.

    It ends with the sign-in ``sign_in_id``, which may also be ended from another device.

    ``receipt`` is that of the last erasure, to be shown on a page of its own.
    """

    account_id: str
    email: str
    signed_in_ms: int
    sign_in_id: str = ""
    pin_token: str = ""
    unlocked_until_ms: int = 0
    flash: Flash | None = None
    receipt: ErasureReceipt | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WebSession).decode


class Sessions:
    """Begins, finds and ends web sessions. Every call may raise CountersUnavailable.

    Args:
        has_ended: whether a sign-in has ended, or an account is gone, by id; its sessions open nothing.
        secret: of the deployment; the CSRF tokens are derived from it.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        notifier: Notifier,
        profiles: ProfilesOf,
        has_ended: Callable[[str], bool],
        secret: bytes,
        clock: Clock,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._profiles = profiles
        self._has_ended = has_ended
        self._key = blake2b(secret, digest_size=32, person=b"console csrf").digest()
        self._clock = clock

    async def begin(self, account_id: str, sign_in_id: str, *, email: str) -> str:
        """A new session under a fresh token, which is answered."""
        token, at_ms = secrets.token_urlsafe(32), self._clock()
        session = WebSession(account_id=account_id, email=email, signed_in_ms=at_ms, sign_in_id=sign_in_id)
        await self._store.add(account_id, _digest(token), _encode(session), at_ms=at_ms, life_seconds=SESSION_SECONDS)
        return token

    async def find(self, token: str) -> WebSession | None:
        """The session of a token, which lives on for ``SESSION_SECONDS``; None when it opens nothing."""
        if not 0 < len(token) <= MAX_TOKEN:
            return None
        found = await self._store.read(_digest(token), life_seconds=SESSION_SECONDS)
        try:
            session = None if found is None else _decode(found)
        except msgspec.DecodeError:  # of another version
            return None
        return None if session is None or self._is_closed(session) else session

    async def is_open(self, token: str, session: WebSession) -> bool:
        """Whether a session has not ended; asking does not prolong it."""
        return not self._is_closed(session) and await self._store.exists(_digest(token))

    def _is_closed(self, session: WebSession) -> bool:
        return self._has_ended(session.account_id) or self._has_ended(session.sign_in_id)

    async def replace(self, token: str, session: WebSession) -> None:
        """Keep a session as it is now. One that has ended stays ended."""
        await self._store.replace(_digest(token), _encode(session), life_seconds=SESSION_SECONDS)

    async def end(self, token: str, session: WebSession) -> None:
        await self._store.end(session.account_id, _digest(token))
        await self._wake(session.account_id)

    async def end_all(self, account_id: str) -> None:
        """Sign an account out of every browser."""
        await self._store.end_all(account_id)
        await self._wake(account_id)

    async def claim(self, token: str, key: str) -> str | None:
        """Claim a form's key; None: go ahead, else where its first use led to, empty while that is not known."""
        return await self._store.claim(_digest(token), key, life_seconds=SESSION_SECONDS)

    async def store_outcome(self, token: str, key: str, outcome: str) -> None:
        await self._store.store_outcome(_digest(token), key, outcome, life_seconds=SESSION_SECONDS)

    async def release(self, token: str, key: str) -> None:
        await self._store.release(_digest(token), key)

    def csrf_token(self, cookie: str) -> str:
        """The token that a form carries, masked anew each time: compressed pages give nothing of it away."""
        mask = secrets.token_bytes(32)
        return (mask + _xor(mask, self._csrf(cookie))).hex()

    def is_csrf_token(self, cookie: str, token: str) -> bool:
        """Whether a form's token was made for this browser's cookie."""
        try:
            raw = bytes.fromhex(token)
        except ValueError:
            return False
        mask, masked = raw[:32], raw[32:]
        return len(masked) == len(mask) and hmac.compare_digest(_xor(mask, masked), self._csrf(cookie))

    def _csrf(self, cookie: str) -> bytes:
        return hmac.digest(self._key, cookie.encode(errors="replace"), sha256)

    async def _wake(self, account_id: str) -> None:
        """Make the live streams of an account look whether they may go on. They look by themselves, too, but later."""
        with contextlib.suppress(CountersUnavailable, DatabaseUnavailable):
            await self._notifier.wake(await self._profiles.get(account_id))


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _digest(token: str) -> str:
    return blake2b(token.encode(errors="replace"), digest_size=16).hexdigest()
