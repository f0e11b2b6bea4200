"""Households sign up and in."""

from uuid import NAMESPACE_URL, uuid4, uuid5

import msgspec

from app.auth.hashing import Hasher
from app.auth.lockout import Lockout
from app.auth.ports import Account, Accounts
from app.auth.tokens import Kind, Role, Tokens
from app.clock import Clock
from app.errors import Unauthenticated, WrongCredentials


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """Fresh household tokens of an account."""

    account_id: str
    access_token: str
    refresh_token: str
    expires_in: int


class Households:
    """Registers accounts and gives out household tokens."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        hasher: Hasher,
        lockout: Lockout,
        tokens: Tokens,
        clock: Clock,
        access_seconds: int,
        refresh_seconds: int,
    ) -> None:
        self._accounts = accounts
        self._hasher = hasher
        self._lockout = lockout
        self._tokens = tokens
        self._clock = clock
        self._access_seconds = access_seconds
        self._refresh_seconds = refresh_seconds

    async def register(self, *, email: str, password: str, timezone: str) -> SignIn:
        """A new account. Raises EmailTaken, TooManyRequests."""
        password_hash = await self._hasher.hash(password)
        account = Account(id=str(uuid4()), email=email, password_hash=password_hash, timezone=timezone)
        await self._accounts.add(account, at_ms=self._clock())
        return self._sign_in(account.id)

    async def login(self, *, email: str, password: str) -> SignIn:
        """Household tokens for a password. An unknown address answers and is locked like a known one.

        Raises:
            WrongCredentials, Locked, TooManyRequests
        """
        account = await self._accounts.by_email(email)
        subject_id, password_hash = (
            (str(uuid5(NAMESPACE_URL, f"mailto:{email}")), None)
            if account is None
            else (account.id, account.password_hash)
        )
        is_right = await self._lockout.matches(subject_id, password, password_hash)
        if account is None or not is_right:
            raise WrongCredentials
        return self._sign_in(account.id)

    async def refresh(self, refresh_token: str) -> SignIn:
        """Raises Unauthenticated: the token is not a refresh token of ours, or expired, or the account is gone."""
        holder = self._tokens.verify(refresh_token, kind=Kind.REFRESH, at_s=self._clock() // 1000)
        if holder.role is not Role.HOUSEHOLD or not await self._accounts.exists(holder.account_id):
            raise Unauthenticated
        return self._sign_in(holder.account_id)

    def _sign_in(self, account_id: str) -> SignIn:
        return SignIn(
            account_id=account_id,
            access_token=self._token(account_id, Kind.ACCESS, self._access_seconds),
            refresh_token=self._token(account_id, Kind.REFRESH, self._refresh_seconds),
            expires_in=self._access_seconds,
        )

    def _token(self, account_id: str, kind: Kind, life_seconds: int) -> str:
        at_s = self._clock() // 1000
        return self._tokens.issue(
            account_id=account_id, role=Role.HOUSEHOLD, kind=kind, at_s=at_s, life_seconds=life_seconds
        )
