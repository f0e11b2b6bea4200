"""Our ids of accounts and profiles, found by the platform's external ids. Our own ids need no look-up.

The meaning of an id never changes while its account or profile exists. So cached entries stay valid until an erasure:
erased accounts are in the revocation list, and an erased profile has no policy.
"""

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.clock import Clock
from app.domain.external_ids import canonical, is_acceptable, is_uuid
from app.domain.platform import AccountFacts
from app.errors import DatabaseUnavailable, ProfileAccessDenied
from app.kit.ttl_cache import TtlCache

SLASH = "\ue000"
"""Stands for a slash inside an id while the path is taken apart. It is not printable, so that no id may hold it."""
ANY_ACCOUNT = ""
"""In place of an account, for callers that speak for all of them: then only UUIDs name a profile."""


_MARKETS_REMEMBERED = 100_000


class AccountProvisioner(Protocol):
    async def provision_on_sight(self, facts: AccountFacts, *, signed_in_ms: int | None, at_ms: int) -> str | None:
        """Our id of an account that is made if there is none; None when it was erased after ``signed_in_ms``."""
        ...


class MarketAssigner(Protocol):
    async def assign_market(self, account_id: str, market: str | None, *, actor: str, at_ms: int) -> list[str]:
        """Move an account into a market. Answers the profiles whose policy has changed with it."""
        ...


class ExternalIds:
    """Finds our ids by the platform's.

    Args:
        accounts: our ids of accounts by the platform's.
        profiles: our ids of profiles by account and the platform's.
        is_revoked: whether an account was erased.
        first_sight: makes accounts that are unknown; None where nothing is made by itself.
        markets: moves accounts into the markets that their tokens name; None where no token does.
    """

    def __init__(
        self,
        *,
        accounts: TtlCache[str, str | None],
        profiles: TtlCache[tuple[str, str], str | None],
        is_revoked: Callable[[str], bool],
        first_sight: AccountProvisioner | None,
        clock: Clock,
        markets: MarketAssigner | None = None,
    ) -> None:
        self._accounts = accounts
        self._profiles = profiles
        self._is_revoked = is_revoked
        self._first_sight = first_sight
        self._markets = markets
        self._market_of: dict[str, str] = {}
        self._clock = clock

    # --- accounts

    def peek_account(self, given: str) -> str | None:
        """Our id of an account, if that is known without asking anybody.

        A UUID that is not that of an erased account is ours, or names nobody.
        """
        if self._first_sight is None and is_uuid(given) and not self._is_revoked(given):
            return given
        found = self._accounts.last(given)
        return None if found is None or self._is_revoked(found) else found

    async def account(self, given: str) -> str | None:
        """Our id of an account, None where there is none. Raises DatabaseUnavailable."""
        if not is_acceptable(given):
            return None
        given = canonical(given)
        known = self.peek_account(given)
        if known is not None:
            return known
        found = self._accounts.last(given)
        if found is not None and self._is_revoked(found):
            self._accounts.forget(given)
        return await _present(self._accounts, given)

    async def account_of_token(self, given: str, *, signed_in_s: int | None, timezone: str) -> str | None:
        """As ``account``, for the account that a valid token names: one that is unknown may be made.

        Args:
            given: canonical.
            signed_in_s: when the token was signed (UTC seconds).
            timezone: that of an account that is made.
        """
        try:
            known = await self.account(given)
            if known is not None or self._first_sight is None:
                return known
            made = await self._first_sight.provision_on_sight(
                AccountFacts(external_id=given, timezone=timezone),
                signed_in_ms=None if signed_in_s is None else signed_in_s * 1000,
                at_ms=self._clock(),
            )
            return None if made is None else await _present(self._accounts, given)
        except DatabaseUnavailable:
            if is_uuid(given) and not self._is_revoked(given):
                return given  # known households go on watching
            raise

    def has_market(self, account_id: str, market: str) -> bool:
        """Whether this process knows that the account belongs to a market."""
        return self._markets is None or self._market_of.get(account_id) == market

    async def assign_market(self, account_id: str, market: str) -> None:
        """Move an account into the market that a valid token names.

        The worker announces the changed policies. If the database is away, a later token does it.
        """
        if self._markets is None:
            return
        try:
            await self._markets.assign_market(account_id, market, actor="token", at_ms=self._clock())
        except DatabaseUnavailable:
            return
        while len(self._market_of) >= _MARKETS_REMEMBERED:
            del self._market_of[next(iter(self._market_of))]
        self._market_of[account_id] = market

    # --- profiles

    def peek_profile(self, account_id: str, given: str) -> str | None:
        """Our id of a profile that the platform's id names in an account, if that is known without asking anybody."""
        return self._profiles.last((account_id, given))

    async def profile(self, account_id: str, given: str, *, instead_of: str | None = None) -> str | None:
        """Our id of the profile that the platform's id names in an account; None where there is none.

        Args:
            account_id: ours, or ``ANY_ACCOUNT``.
            given: the platform's id.
            instead_of: what was answered before and turned out to be erased.

        Raises:
            DatabaseUnavailable
        """
        if not is_acceptable(given):
            return None
        key = (account_id, canonical(given))
        if instead_of is not None and self._profiles.last(key) == instead_of:
            self._profiles.forget(key)
        return await _present(self._profiles, key)

    def expire(self) -> None:
        """Messages may have been missed."""
        self._accounts.expire()
        self._profiles.expire()


async def _present(cache: TtlCache[Any, str | None], key: object) -> str | None:
    """The cached or loaded value. A miss is not cached."""
    found = await cache.get(key)
    if found is None:
        cache.drop(key)
    return found


class ExternalRoute(APIRoute):
    """A route whose path may hold the platform's ids, with slashes in them (``%2F``)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        return partial(self._handled, handle) if "{" in self.path else handle

    async def _handled(self, handle: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        for name, value in request.path_params.items():
            if SLASH in value:
                request.path_params[name] = value.replace(SLASH, "/")
        return await handle(request)


class ProfileRoute(ExternalRoute):
    """A route whose ``profile_id`` may be an external id.

    A UUID is tried as our id first, without a look-up. If the caller's account has no such profile, it is looked up as
    an external id, and the route runs again. Any other text is looked up at once.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if "{profile_id}" not in self.path:
            return handle
        plain = APIRoute.get_route_handler(self)
        return partial(self._handled, partial(_handled, plain))


async def _handled(handle: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    given: str = request.path_params["profile_id"]
    authorization = request.headers.get("authorization")
    is_named_by_us = is_uuid(given)
    if authorization is None:
        return await handle(request)
    named = None if is_named_by_us else await _named(request, given, authorization)
    if named is not None:
        request.path_params["profile_id"] = named
    try:
        return await handle(request)
    except ProfileAccessDenied:
        if named is None and not is_named_by_us:
            raise
        again = await _named(request, given, authorization, instead_of=named)
        if again in {None, named, given}:
            raise
        request.path_params["profile_id"] = again
        return await handle(request)


async def _named(request: Request, given: str, authorization: str, *, instead_of: str | None = None) -> str | None:
    """Our id of the profile that the platform's id names in the caller's account."""
    services = request.app.state.services
    caller = await services.token_cache.authenticate(authorization.encode("latin-1"))
    ids: ExternalIds = services.external_ids
    return await ids.profile(caller.account_id, given, instead_of=instead_of)
