"""The PIN of an account, and what it unlocks."""

import secrets
from hashlib import blake2b
from typing import Protocol

import msgspec

from app.auth.hashing import Hasher
from app.auth.lockout import Lockout
from app.clock import Clock
from app.errors import Conflict, InvalidInput, NoPin, Unauthenticated, WrongPassword, WrongPin

UNLOCK_SECONDS = 15 * 60
LONGEST_PIN_TOKEN = 100


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    """The hashes of an account."""

    password_hash: str
    pin_hash: str | None


class PinStatus(msgspec.Struct, frozen=True, kw_only=True):
    has_pin: bool
    locked_until_ms: int | None


class AccountSecrets(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def secrets(self, account_id: str) -> Secrets | None: ...

    async def set_pin(
        self, account_id: str, pin_hash: str, *, instead_of: str | None, actor: str, action: str, at_ms: int
    ) -> bool:
        """Keep a PIN unless another has taken the place of ``instead_of`` meanwhile."""
        ...


class Unlocks(Protocol):
    """Every call may raise CountersUnavailable."""

    async def add(self, account_id: str, digest: str, *, at_ms: int, until_ms: int) -> None: ...

    async def holds(self, account_id: str, digest: str, *, at_ms: int) -> bool: ...

    async def end_all(self, account_id: str) -> None: ...


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
        self, account_id: str, *, new_pin: str, current_pin: str | None, password: str | None, actor: str
    ) -> None:
        """Set the first PIN with the password, or change it with the current one; a change ends all unlocks.

        Raises:
            InvalidInput: what proves the right to do so is missing.
            WrongPassword, WrongPin
            Conflict: somebody else has just set a PIN.
        """
        known = await self._secrets(account_id)
        if known.pin_hash is None:
            await self._prove_password(account_id, password, known.password_hash)
        elif current_pin is None:
            raise _needed("current_pin")
        elif not await self._pin_lockout.matches(account_id, current_pin, known.pin_hash):
            raise WrongPin
        await self._set(account_id, new_pin, known, actor=actor, action="pin_set")

    async def reset(self, account_id: str, *, password: str, new_pin: str, actor: str) -> None:
        """Set a PIN with the password, whatever it was; ends all unlocks and the lock.

        Raises:
            WrongPassword
            Conflict: somebody else has just set a PIN.
        """
        known = await self._secrets(account_id)
        await self._prove_password(account_id, password, known.password_hash)
        await self._set(account_id, new_pin, known, actor=actor, action="pin_reset")
        await self._pin_lockout.forgive(account_id)

    async def check(self, account_id: str, pin: str) -> None:
        """Raises NoPin, WrongPin."""
        known = await self._secrets(account_id)
        if known.pin_hash is None:
            raise NoPin
        if not await self._pin_lockout.matches(account_id, pin, known.pin_hash):
            raise WrongPin

    async def check_password(self, account_id: str, password: str) -> None:
        """Raises WrongPassword."""
        known = await self._secrets(account_id)
        await self._prove_password(account_id, password, known.password_hash)

    async def unlock(self, account_id: str, pin: str) -> str:
        """A token that stands for the PIN for ``UNLOCK_SECONDS``. Raises NoPin, WrongPin."""
        await self.check(account_id, pin)
        token, at_ms = secrets.token_urlsafe(32), self._clock()
        await self._unlocks.add(account_id, _digest(token), at_ms=at_ms, until_ms=at_ms + UNLOCK_SECONDS * 1000)
        return token

    async def is_unlocked(self, account_id: str, pin_token: str) -> bool:
        if len(pin_token) > LONGEST_PIN_TOKEN:
            return False
        return await self._unlocks.holds(account_id, _digest(pin_token), at_ms=self._clock())

    async def _secrets(self, account_id: str) -> Secrets:
        known = await self._accounts.secrets(account_id)
        if known is None:
            raise Unauthenticated
        return known

    async def _prove_password(self, account_id: str, password: str | None, password_hash: str) -> None:
        if password is None:
            raise _needed("password")
        if not await self._password_lockout.matches(account_id, password, password_hash):
            raise WrongPassword

    async def _set(self, account_id: str, pin: str, known: Secrets, *, actor: str, action: str) -> None:
        """Unlocks end before the change, which fails if they cannot, and after it, should one have been made since."""
        pin_hash = await self._hasher.hash(pin)
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
