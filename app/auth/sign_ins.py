"""Sign-ins of a household: listed, refreshed, and ended on every process within a second."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import msgspec
import structlog

from app.auth.devices import Revoked
from app.auth.hashing import Hasher
from app.auth.hashing_queue import HashingKind
from app.auth.pins import Pins
from app.auth.ports import Unlocks
from app.auth.tokens import Principal, RefreshToken
from app.clock import Clock
from app.domain.sign_in import Rotation, SignIn
from app.errors import Conflict, CountersUnavailable, Forbidden, NoSignIn, Unauthenticated

_RETRY_SECONDS = 1.0
_MAX_RETRIES = 3600

log = structlog.get_logger(__name__)


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What was ended, by id."""

    sign_in_ids: tuple[str, ...] = ()
    device_ids: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sign_in_ids or self.device_ids)


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An account as its owners see it."""

    account_id: str
    email: str | None
    timezone: str
    has_pin: bool
    created_at_ms: int


class SignInStore(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def add(self, sign_in: SignIn, *, ended_at_ms: int | None, max_sign_ins: int) -> Ended:
        """Keep a new sign-in; answers those that had to end for it.

        ``ended_at_ms`` is when all sign-ins of the account ended, as it was read before its password was compared.

        Raises:
            WrongCredentials: the account is gone, or all its sign-ins have ended since, as with a new password.
        """
        ...

    async def use(self, token: RefreshToken, *, at_ms: int, expires_at_ms: int) -> tuple[SignIn, Rotation]:
        """Use a refresh token. Raises Unauthenticated when its sign-in or account is not there."""
        ...

    async def of_account(self, account_id: str, *, at_ms: int) -> list[SignIn]:
        """Those that go on, the one refreshed last first."""
        ...

    async def end(self, account_id: str, sign_in_id: str, *, actor: str, at_ms: int) -> bool:
        """Whether the account has or had this sign-in; it has ended now."""
        ...

    async def end_all(self, account_id: str, *, actor: str, at_ms: int) -> Ended:
        """End every sign-in and parent device of an account."""
        ...

    async def change_password(
        self, caller: Principal, password_hash: str, *, instead_of: str, actor: str, at_ms: int
    ) -> Ended | None:
        """Keep a password and end all others' sign-ins and devices; None when another password is in force."""
        ...

    async def change_email(self, account_id: str, email: str, *, actor: str, at_ms: int) -> None:
        """Raises EmailTaken, Unauthenticated."""
        ...

    async def summary(self, account_id: str) -> AccountSummary:
        """Raises Unauthenticated: the account is gone."""
        ...


class SignInAnnouncer(Protocol):
    async def announce_ended(self, *, sign_in_ids: Iterable[str], device_ids: Iterable[str]) -> None:
        """Tell every process. Raises CountersUnavailable."""
        ...


class EndedSignIns:
    """Refuses what has ended, in this process at once and everywhere as soon as Redis answers.

    What is committed has ended. A process that cannot be told now is told again every second; one that lost its
    connection reads the database when it is back.
    """

    def __init__(self, revoked: Revoked, announcer: SignInAnnouncer) -> None:
        self._revoked = revoked
        self._announcer = announcer
        self._retries: set[asyncio.Task[None]] = set()

    async def add(self, ended: Ended) -> None:
        if not ended:
            return
        for holder_id in (*ended.sign_in_ids, *ended.device_ids):
            self._revoked.add(holder_id)
        try:
            await self._announce(ended)
        except CountersUnavailable as error:
            log.warning("sign_ins_ended_unannounced", reason=error.code)
            retry = asyncio.create_task(self._announce_until_done(ended), name="announce ended sign-ins")
            self._retries.add(retry)
            retry.add_done_callback(self._retries.discard)

    async def close(self) -> None:
        for retry in self._retries:
            retry.cancel()
        if self._retries:
            await asyncio.wait(self._retries)

    async def _announce(self, ended: Ended) -> None:
        await self._announcer.announce_ended(sign_in_ids=ended.sign_in_ids, device_ids=ended.device_ids)

    async def _announce_until_done(self, ended: Ended) -> None:
        for _ in range(_MAX_RETRIES):
            await asyncio.sleep(_RETRY_SECONDS)
            with contextlib.suppress(CountersUnavailable):
                await self._announce(ended)
                return


class AccountLife:
    """What a household does with its account and its sign-ins."""

    def __init__(
        self,
        store: SignInStore,
        *,
        pins: Pins,
        hasher: Hasher,
        unlocks: Unlocks,
        ended: EndedSignIns,
        revoke_device: Callable[..., Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._pins = pins
        self._hasher = hasher
        self._unlocks = unlocks
        self._ended = ended
        self._revoke_device = revoke_device
        self._clock = clock

    async def summary(self, account_id: str) -> AccountSummary:
        """Raises Unauthenticated: the account is gone."""
        return await self._store.summary(account_id)

    async def change_password(self, caller: Principal, *, current_password: str, new_password: str) -> None:
        """Change the password. Every other sign-in, parent device and unlock of the account ends.

        Raises:
            WrongPassword, Locked, TooManyRequests, HashingInterrupted: nothing was changed.
            Conflict: another password has just been set.
        """
        known_hash = await self._pins.prove_password(caller.account_id, current_password)
        password_hash = await self._hasher.hash(new_password, HashingKind.PASSWORD, caller.account_id)
        ended = await self._store.change_password(
            caller, password_hash, instead_of=known_hash, actor=caller.actor, at_ms=self._clock()
        )
        if ended is None:
            raise Conflict("Another password has just been set.")
        await self._close(caller.account_id, ended)

    async def change_email(self, caller: Principal, *, password: str, email: str) -> None:
        """Change the address. Sign-ins go on.

        Raises:
            WrongPassword, Locked, TooManyRequests, HashingInterrupted, EmailTaken: nothing was changed.
        """
        await self._pins.prove_password(caller.account_id, password)
        await self._store.change_email(caller.account_id, email, actor=caller.actor, at_ms=self._clock())

    async def sign_ins(self, account_id: str) -> list[SignIn]:
        return await self._store.of_account(account_id, at_ms=self._clock())

    async def end(self, account_id: str, sign_in_id: str, *, actor: str) -> None:
        """End a sign-in, here at once and everywhere within a second. Repeating it does no harm.

        Raises:
            Forbidden: the account has no such sign-in.
        """
        if not await self._store.end(account_id, sign_in_id, actor=actor, at_ms=self._clock()):
            raise Forbidden("There is no such sign-in on this account.")
        await self._ended.add(Ended(sign_in_ids=(sign_in_id,)))

    async def log_out(self, caller: Principal) -> None:
        """End the sign-in or the parent device that the caller's token belongs to.

        Raises:
            NoSignIn: the token was not issued to a sign-in of ours.
        """
        if caller.sign_in_id is not None:
            await self.end(caller.account_id, caller.sign_in_id, actor=caller.actor)
        elif caller.device_id is not None:
            await self._revoke_device(caller.account_id, caller.device_id, actor=caller.actor)
        else:
            raise NoSignIn

    async def log_out_everywhere(self, caller: Principal) -> None:
        """End every sign-in, parent device and unlock of the account, the caller's own included."""
        ended = await self._store.end_all(caller.account_id, actor=caller.actor, at_ms=self._clock())
        await self._close(caller.account_id, ended)

    async def _close(self, account_id: str, ended: Ended) -> None:
        await self._ended.add(ended)
        try:
            await self._unlocks.end_all(account_id)
        except CountersUnavailable as error:  # an unlock opens nothing without a token, and ends after 15 minutes
            log.warning("unlocks_left", reason=error.code)


class Refreshing:
    """Exchanges refresh tokens."""

    def __init__(self, store: SignInStore, *, ended: EndedSignIns, clock: Clock, refresh_seconds: int) -> None:
        self._store = store
        self._ended = ended
        self._clock = clock
        self._refresh_ms = refresh_seconds * 1000

    async def use(self, token: RefreshToken) -> SignIn:
        """The sign-in with the number of the next refresh token.

        Raises:
            Unauthenticated: the token was used before, or its sign-in has ended.
        """
        at_ms = self._clock()
        sign_in, rotation = await self._store.use(token, at_ms=at_ms, expires_at_ms=at_ms + self._refresh_ms)
        if rotation is Rotation.REUSED:
            log.warning("refresh_token_reused", account_id=token.account_id, sign_in_id=sign_in.id)
            await self._ended.add(Ended(sign_in_ids=(sign_in.id,)))
        if rotation in {Rotation.REUSED, Rotation.REFUSED}:
            raise Unauthenticated
        return sign_in
