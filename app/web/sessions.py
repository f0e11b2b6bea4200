"""Web sessions: who is signed in at a browser, and what that browser has unlocked.

The browser holds an opaque token; Redis holds the session under its digest. A parent's session lives for twelve hours
after its last request, a caregiver's as long as its device.
"""

import contextlib
import hmac
import secrets
from collections.abc import Callable
from hashlib import blake2b, sha256
from typing import Generic, TypeVar

import msgspec
import structlog

from app.auth.devices import DEVICE_SECONDS
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

    @property
    def holders(self) -> tuple[str, ...]:
        """The ids with which the session ends."""
        return (self.account_id, self.sign_in_id)


class CaregiverSession(msgspec.Struct, frozen=True, kw_only=True, tag="caregiver"):
    """A caregiver that has opened its link. It ends with its device."""

    account_id: str
    device_id: str
    flash: Flash | None = None

    @property
    def holders(self) -> tuple[str, ...]:
        """The ids with which the session ends."""
        return (self.account_id, self.device_id)


Session = TypeVar("Session", WebSession, CaregiverSession)


class SessionKind(msgspec.Struct, Generic[Session], frozen=True, kw_only=True):
    """What differs between the sessions of parents and of caregivers. A token of one kind opens none of the other.

    Attributes:
        digest_of: the purpose that is part of the digest of a token.
        csrf_of: the purpose that is part of the key of CSRF tokens.
    """

    session: type[Session]
    life_seconds: int
    digest_of: bytes
    csrf_of: bytes


PARENTS: SessionKind[WebSession] = SessionKind(
    session=WebSession, life_seconds=SESSION_SECONDS, digest_of=b"", csrf_of=b"console csrf"
)
CAREGIVERS: SessionKind[CaregiverSession] = SessionKind(
    session=CaregiverSession, life_seconds=DEVICE_SECONDS, digest_of=b"caregiver", csrf_of=b"caregiver csrf"
)
_encode = msgspec.msgpack.Encoder().encode


class Sessions(Generic[Session]):
    """Begins, finds and ends web sessions. Every call may raise CountersUnavailable.

    Args:
        has_ended: whether a sign-in or device has ended, or an account is gone, by id; its sessions open nothing.
        secret: of the deployment; the CSRF tokens are derived from it.
    """

    def __init__(
        self,
        kind: SessionKind[Session],
        store: SessionStore,
        *,
        notifier: Notifier,
        profiles: ProfilesOf,
        has_ended: Callable[[str], bool],
        secret: bytes,
        clock: Clock,
    ) -> None:
        self._kind: SessionKind[Session] = kind
        self._decode: Callable[[bytes], Session] = msgspec.msgpack.Decoder(kind.session).decode
        self._store = store
        self._notifier = notifier
        self._profiles = profiles
        self._has_ended = has_ended
        self._key = blake2b(secret, digest_size=32, person=kind.csrf_of).digest()
        self._clock = clock

    async def begin(self, session: Session) -> str:
        """Keep a new session under a fresh token, which is answered."""
        token = secrets.token_urlsafe(32)
        await self._store.add(
            session.account_id,
            self._digest(token),
            _encode(session),
            at_ms=self._clock(),
            life_seconds=self._kind.life_seconds,
        )
        return token

    async def find(self, token: str) -> Session | None:
        """The session of a token, whose life begins anew; None when it opens nothing."""
        if not 0 < len(token) <= MAX_TOKEN:
            return None
        found = await self._store.read(self._digest(token), life_seconds=self._kind.life_seconds)
        try:
            session = None if found is None else self._decode(found)
        except msgspec.DecodeError:  # of another version
            return None
        return None if session is None or self._is_closed(session) else session

    async def is_open(self, token: str, session: Session) -> bool:
        """Whether a session has not ended; asking does not prolong it."""
        return not self._is_closed(session) and await self._store.exists(self._digest(token))

    def _is_closed(self, session: Session) -> bool:
        return any(self._has_ended(holder) for holder in session.holders)

    async def replace(self, token: str, session: Session) -> None:
        """Keep a session as it is now. One that has ended stays ended."""
        await self._store.replace(self._digest(token), _encode(session), life_seconds=self._kind.life_seconds)

    async def end(self, token: str, session: Session) -> None:
        await self._store.end(session.account_id, self._digest(token))
        await self._wake(session.account_id)

    async def end_all(self, account_id: str) -> None:
        """Sign an account out of every browser."""
        await self._store.end_all(account_id)
        await self._wake(account_id)

    async def claim(self, token: str, key: str) -> str | None:
        """Claim a form's key; None: go ahead, else where its first use led to, empty while that is not known."""
        return await self._store.claim(self._digest(token), key, life_seconds=SESSION_SECONDS)

    async def store_outcome(self, token: str, key: str, outcome: str) -> None:
        await self._store.store_outcome(self._digest(token), key, outcome, life_seconds=SESSION_SECONDS)

    async def release(self, token: str, key: str) -> None:
        await self._store.release(self._digest(token), key)

    def _digest(self, token: str) -> str:
        return blake2b(token.encode(errors="replace"), digest_size=16, person=self._kind.digest_of).hexdigest()

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
