"""Households sign up and in."""

from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import msgspec

from app.auth.hashing import Hasher
from app.auth.hashing_queue import HashingKind
from app.auth.lockout import Lockout
from app.auth.ports import Account, Accounts
from app.auth.sign_ins import EndedSignIns, Refreshing, SignInStore
from app.auth.tokens import Role, TokenKind, Tokens
from app.clock import Clock
from app.domain.sign_in import MAX_SIGN_INS, SignIn
from app.errors import WrongCredentials


class HouseholdTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Fresh household tokens of an account, and the sign-in they belong to."""

    account_id: str
    sign_in_id: str
    access_token: str
    refresh_token: str
    expires_in: int


class AccountService:
    """Registers accounts and gives out household tokens."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        hasher: Hasher,
        lockout: Lockout,
        tokens: Tokens,
        sign_ins: SignInStore,
        refreshing: Refreshing,
        ended: EndedSignIns,
        clock: Clock,
        access_seconds: int,
        refresh_seconds: int,
    ) -> None:
        self._accounts = accounts
        self._hasher = hasher
        self._lockout = lockout
        self._tokens = tokens
        self._sign_ins = sign_ins
        self._refreshing = refreshing
        self._ended = ended
        self._clock = clock
        self._access_seconds = access_seconds
        self._refresh_seconds = refresh_seconds

    async def register(
        self, *, email: str, password: str, timezone: str, device_name: str | None = None
    ) -> HouseholdTokens:
        """A new account. Raises EmailTaken, TooManyRequests."""
        password_hash = await self._hasher.hash(password, HashingKind.SIGN_IN, _id_of(email))
        account = Account(id=str(uuid4()), email=email, password_hash=password_hash, timezone=timezone)
        await self._accounts.add(account, at_ms=self._clock())
        return await self._sign_in(account, device_name)

    async def login(self, *, email: str, password: str, device_name: str | None = None) -> HouseholdTokens:
        """Household tokens for a password. An unknown address answers and is locked like a known one.

        Raises:
            WrongCredentials, Locked, TooManyRequests
        """
        account = await self._accounts.by_email(email)
        subject_id, password_hash = (_id_of(email), None) if account is None else (account.id, account.password_hash)
        is_right = await self._lockout.matches(subject_id, password, password_hash)
        if account is None or not is_right:
            raise WrongCredentials
        return await self._sign_in(account, device_name)

    async def refresh(self, refresh_token: str) -> HouseholdTokens:
        """Tokens for a refresh token, which is void from now on. A retry within seconds gets tokens as well.

        Raises:
            Unauthenticated: the token is not a refresh token of ours, or has expired, or its sign-in has ended, or it
                was used before. In the last case its sign-in has ended now.
        """
        token = self._tokens.verify_refresh(refresh_token, at_s=self._clock() // 1000)
        return self._tokens_of(await self._refreshing.use(token))

    async def _sign_in(self, account: Account, device_name: str | None) -> HouseholdTokens:
        at_ms = self._clock()
        sign_in = SignIn(
            id=str(uuid4()),
            account_id=account.id,
            device_name=device_name,
            created_at_ms=at_ms,
            refreshed_at_ms=at_ms,
            expires_at_ms=at_ms + self._refresh_seconds * 1000,
        )
        surplus = await self._sign_ins.add(sign_in, ended_at_ms=account.sign_ins_ended_at_ms, max_sign_ins=MAX_SIGN_INS)
        await self._ended.add(surplus)
        return self._tokens_of(sign_in)

    def _tokens_of(self, sign_in: SignIn) -> HouseholdTokens:
        issued: dict[str, Any] = {
            "account_id": sign_in.account_id,
            "role": Role.HOUSEHOLD,
            "sign_in_id": sign_in.id,
            "at_s": self._clock() // 1000,
        }
        return HouseholdTokens(
            account_id=sign_in.account_id,
            sign_in_id=sign_in.id,
            access_token=self._tokens.issue(**issued, life_seconds=self._access_seconds),
            refresh_token=self._tokens.issue(
                **issued, kind=TokenKind.REFRESH, serial=sign_in.serial, life_seconds=self._refresh_seconds
            ),
            expires_in=self._access_seconds,
        )


def _id_of(email: str) -> str:
    """An id for an address that is no account."""
    return str(uuid5(NAMESPACE_URL, f"mailto:{email}"))
