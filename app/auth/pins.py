"""The PIN of an account, and what it unlocks."""

import secrets
from hashlib import blake2b

import msgspec

from app.auth.hashing import Hasher
from app.auth.hashing_queue import HashingKind
from app.auth.lockout import Lockout
from app.auth.ports import AccountSecrets, Secrets, Unlocks
from app.clock import Clock
from app.errors import (
    Conflict,
    FreshSignInRequired,
    InvalidInput,
    NoPin,
    Unauthenticated,
    WrongPassword,
    WrongPin,
)

FRESH_SECONDS = 300
"""A sign-in at the platform's identity service stands for the password for so long."""
UNLOCK_SECONDS = 15 * 60
MAX_PIN_TOKEN = 100


class PinStatus(msgspec.Struct, frozen=True, kw_only=True):
    has_pin: bool
    locked_until_ms: int | None


class Pins:
    """Sets, checks and resets PINs. Every call may also raise Locked, TooManyRequests and what the ports raise."""

    def __init__(
        self,
        accounts: AccountSecrets,
        *,
        hasher: Hasher,
        pin_lockout: Lockout,
        password_lockout: Lockout,
        unlocks: Unlocks,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._hasher = hasher
        self._pin_lockout = pin_lockout
        self._password_lockout = password_lockout
        self._unlocks = unlocks
        self._clock = clock

    async def status(self, account_id: str) -> PinStatus:
        known = await self._secrets(account_id)
        until_ms = await self._pin_lockout.locked_until_ms(account_id)
        return PinStatus(has_pin=known.pin_hash is not None, locked_until_ms=until_ms)

    async def choose(
        self,
        account_id: str,
        *,
        new_pin: str,
        current_pin: str | None,
        password: str | None,
        actor: str,
        has_just_signed_in: bool = False,
    ) -> None:
        """Set the first PIN with the password, or change it with the current one; a change ends all unlocks.

        ``has_just_signed_in``, at the platform's identity service, stands for the password.

        Raises:
            InvalidInput: what proves the right to do so is missing.
            WrongPassword, WrongPin, FreshSignInRequired
            Conflict: another caller has just set a PIN.
        """
        known = await self._secrets(account_id)
        if known.pin_hash is None:
            await self._prove_owner(account_id, password, known, has_just_signed_in=has_just_signed_in)
        elif current_pin is None:
            raise _needed("current_pin")
        elif not await self._pin_lockout.matches(account_id, current_pin, known.pin_hash, renews=False):
            raise WrongPin
        await self._set(account_id, new_pin, known, actor=actor, action="pin_set")

    async def reset(
        self, account_id: str, *, password: str | None, new_pin: str, actor: str, has_just_signed_in: bool = False
    ) -> None:
        """Set a PIN with the password, whatever it was; ends all unlocks and the lock.

        ``has_just_signed_in`` as for ``choose``.

        Raises:
            InvalidInput, WrongPassword, FreshSignInRequired
            Conflict: another caller has just set a PIN.
        """
        known = await self._secrets(account_id)
        await self._prove_owner(account_id, password, known, has_just_signed_in=has_just_signed_in)
        await self._set(account_id, new_pin, known, actor=actor, action="pin_reset")
        await self._pin_lockout.reset(account_id)

    async def check(self, account_id: str, pin: str) -> None:
        """Raises NoPin, WrongPin."""
        known = await self._secrets(account_id)
        if known.pin_hash is None:
            raise NoPin
        if not await self._pin_lockout.matches(account_id, pin, known.pin_hash):
            raise WrongPin

    async def prove_password(self, account_id: str, password: str) -> str:
        """The hash that a right password was compared with. Raises WrongPassword."""
        known = await self._secrets(account_id)
        is_right = await self._password_lockout.matches(account_id, password, known.password_hash)
        if not is_right or known.password_hash is None:
            raise WrongPassword
        return known.password_hash

    async def check_owner(self, account_id: str, password: str | None, *, has_just_signed_in: bool = False) -> None:
        """Whether the password, or a sign-in just now, proves that the account is the caller's.

        Raises: as for ``reset``, but for Conflict.
        """
        known = await self._secrets(account_id)
        await self._prove_owner(account_id, password, known, has_just_signed_in=has_just_signed_in)

    async def unlock(self, account_id: str, pin: str) -> str:
        """A token that stands for the PIN for ``UNLOCK_SECONDS``. Raises NoPin, WrongPin."""
        await self.check(account_id, pin)
        token, at_ms = secrets.token_urlsafe(32), self._clock()
        await self._unlocks.add(account_id, _digest(token), at_ms=at_ms, until_ms=at_ms + UNLOCK_SECONDS * 1000)
        return token

    async def is_unlocked(self, account_id: str, pin_token: str) -> bool:
        if len(pin_token) > MAX_PIN_TOKEN:
            return False
        return await self._unlocks.holds(account_id, _digest(pin_token), at_ms=self._clock())

    async def _secrets(self, account_id: str) -> Secrets:
        known = await self._accounts.secrets(account_id)
        if known is None:
            raise Unauthenticated
        return known

    async def _prove_owner(
        self, account_id: str, password: str | None, known: Secrets, *, has_just_signed_in: bool
    ) -> None:
        if password is None and has_just_signed_in:
            return
        if password is None and known.password_hash is None:
            raise FreshSignInRequired(seconds=FRESH_SECONDS)
        if password is None:
            raise _needed("password")
        if not await self._password_lockout.matches(account_id, password, known.password_hash):
            raise WrongPassword

    async def _set(self, account_id: str, pin: str, known: Secrets, *, actor: str, action: str) -> None:
        """Unlocks end before the change, which fails if they cannot, and after it, should one have been made since."""
        pin_hash = await self._hasher.hash(pin, HashingKind.PIN, account_id)
        await self._unlocks.end_all(account_id)
        is_set = await self._accounts.set_pin(
            account_id, pin_hash, instead_of=known.pin_hash, actor=actor, action=action, at_ms=self._clock()
        )
        if not is_set:
            raise Conflict("Another PIN has just been set.")
        await self._unlocks.end_all(account_id)


def _needed(field: str) -> InvalidInput:
    return InvalidInput(errors=[{"pointer": f"/{field}", "detail": "is needed"}])


def _digest(pin_token: str) -> str:
    return blake2b(pin_token.encode(errors="replace"), digest_size=16).hexdigest()
