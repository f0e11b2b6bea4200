"""Tokens of the platform's identity service, signed with a key of its key set.

Whom a token names is found by the platform's own id of the account, or by ours (``app/auth/external_ids.py``).
"""

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import msgspec
from jose import jws

from app.auth.key_sets import EDDSA, KeySource, VerifyingKey, base64url
from app.auth.refusals import refused
from app.auth.tokens import Pending, Principal, Role
from app.domain.external_ids import canonical, is_acceptable, is_uuid
from app.domain.markets import MAX_MARKET_NAME
from app.domain.viewing_day import TIMEZONES

_SKEW_SECONDS = 60
_END_OF_TIME_S = 253_402_300_800  # the year 10000
_MAX_SERVICE_NAME = 200
_PARTS = 3
_ACCOUNTS = frozenset({Role.HOUSEHOLD, Role.PARENT})


class AccountIds(Protocol):
    """Our ids of accounts by the platform's."""

    def peek_account(self, given: str) -> str | None:
        """Our id, if that is known without asking anybody."""
        ...

    async def account_of_token(self, given: str, *, signed_in_s: int | None, timezone: str) -> str | None:
        """Our id; None where there is no such account. Raises DatabaseUnavailable."""
        ...

    def has_market(self, account_id: str, market: str) -> bool:
        """Whether this process knows that the account belongs to a market."""
        ...

    async def assign_market(self, account_id: str, market: str) -> None:
        """Move an account into a market. If the database is away, a later token does it."""
        ...


class OurIdsOnly:
    """Where tokens name accounts by our ids."""

    def peek_account(self, given: str) -> str | None:
        return given if is_uuid(given) else None

    async def account_of_token(self, given: str, *, signed_in_s: int | None, timezone: str) -> str | None:  # noqa: ARG002
        return None

    def has_market(self, account_id: str, market: str) -> bool:  # noqa: ARG002
        return True

    async def assign_market(self, account_id: str, market: str) -> None:
        """Do nothing: these tokens are of our own accounts."""
        del account_id, market


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    crit: object = None


class _Verified(msgspec.Struct, frozen=True):
    """The claims of a token that is valid."""

    claims: dict[str, object]
    expires_s: int

    def instant(self, claim: str) -> int | None:
        value = self.claims.get(claim)
        return None if value is None else _instant(value)


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_claims = msgspec.json.Decoder(dict[str, object]).decode


class ExternalTokens:
    """Verifies the tokens of the identity service.

    Args:
        keys: its keys.
        algorithm: the one it signs with, e.g. RS256.
        issuer: its ``iss``.
        audience: what ``aud`` must be or hold.
        account_claim: the claim that holds the account's id, or a service's name.
        market_claim: the claim that holds the account's market; None: no token tells it.
        role_claim: the claim that holds the role; where it is absent, the token is a household's.
        roles: our roles by what that claim says; where it is none of these, it must name a role of ours.
        accounts: finds our ids of accounts.
        timezone: that of an account that is made on first sight, unless the claim ``zoneinfo`` names one.
    """

    def __init__(
        self,
        keys: KeySource,
        *,
        algorithm: str,
        issuer: str,
        audience: str,
        account_claim: str = "sub",
        role_claim: str | None = None,
        market_claim: str | None = None,
        roles: Mapping[str, Role] | None = None,
        accounts: AccountIds | None = None,
        timezone: str = "UTC",
    ) -> None:
        self._keys = keys
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        self._account_claim = account_claim
        self._role_claim = role_claim
        self._market_claim = market_claim
        self._roles = dict(roles or {})
        self._accounts = accounts or OurIdsOnly()
        self._timezone = timezone

    def generation(self, at_s: int) -> int:
        """What was verified under another number must be verified again."""
        self._keys.look(at_s)
        return self._keys.generation

    def principal_of(self, token: str, *, at_s: int) -> Principal | None:
        """Whom a token speaks for; None: it is not signed with the algorithm of this service.

        Raises:
            Pending: a key or an account must be asked for first.
            Exception: it is not valid.
        """
        verified = self._verified(token, at_s)
        if verified is None:
            return None
        role, name = self._role(verified.claims), verified.claims.get(self._account_claim)
        if not isinstance(name, str) or not is_acceptable(name):
            raise refused("account")
        if role not in _ACCOUNTS:
            if len(name) > _MAX_SERVICE_NAME:
                raise refused("account")
            return Principal(name, role, verified.expires_s)
        account_id = self._accounts.peek_account(canonical(name))
        if account_id is None:
            raise Pending(partial(self._asked_for, canonical(name), role, verified))
        market = self._market(verified.claims)
        if market is not None and not self._accounts.has_market(account_id, market):
            raise Pending(partial(self._assigned, account_id, market, role, verified))
        return Principal(account_id, role, verified.expires_s)

    def signed_in_s(self, token: str, *, at_s: int) -> int | None:
        """When the holder of a token signed in (UTC seconds), if it says so. Raises anything."""
        verified = self._verified(token, at_s)
        return None if verified is None else verified.instant("auth_time")

    async def _asked_for(self, name: str, role: Role, verified: _Verified) -> Principal:
        zone = verified.claims.get("zoneinfo")
        account_id = await self._accounts.account_of_token(
            name,
            signed_in_s=verified.instant("iat"),
            timezone=zone if isinstance(zone, str) and zone in TIMEZONES else self._timezone,
        )
        if account_id is None:
            raise refused("account_unknown")
        market = self._market(verified.claims)
        if market is not None and not self._accounts.has_market(account_id, market):
            return await self._assigned(account_id, market, role, verified)
        return Principal(account_id, role, verified.expires_s)

    async def _assigned(self, account_id: str, market: str, role: Role, verified: _Verified) -> Principal:
        """The caller, after its account was moved into the market that its token names."""
        await self._accounts.assign_market(account_id, market)
        return Principal(account_id, role, verified.expires_s)

    def _market(self, claims: Mapping[str, object]) -> str | None:
        said = None if self._market_claim is None else claims.get(self._market_claim)
        is_market = isinstance(said, str) and len(said) <= MAX_MARKET_NAME and is_acceptable(said)
        return str(said) if is_market else None

    def _verified(self, token: str, at_s: int) -> _Verified | None:
        header = _decode_header(base64url(token.partition(".")[0]))
        if header.alg != self._algorithm:
            return None
        if header.kid is None or header.crit is not None:
            raise refused("header")
        key = self._keys.find(header.kid, at_s=at_s)
        if key is None:
            raise refused("key_unknown")
        claims = _decode_claims(_payload(token, key, self._algorithm))
        audience, expires_s = claims.get("aud"), _instant(claims.get("exp"))
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self._issuer:
            raise refused("issuer")
        if self._audience not in audiences:
            raise refused("audience")
        if expires_s <= at_s:
            raise refused("expired")
        begins_s = claims.get("nbf")
        if begins_s is not None and _instant(begins_s) > at_s + _SKEW_SECONDS:
            raise refused("not_yet_valid")
        return _Verified(claims, expires_s)

    def _role(self, claims: Mapping[str, object]) -> Role:
        said = None if self._role_claim is None else claims.get(self._role_claim)
        if said is None:
            return Role.HOUSEHOLD
        known = self._roles.get(said) if isinstance(said, str) else None
        try:
            role = known or Role(str(said))
        except ValueError:
            raise refused("role") from None
        if role is Role.CAREGIVER:  # its budget belongs to a device of ours
            raise refused("role")
        return role


def _payload(token: str, key: VerifyingKey, algorithm: str) -> bytes:
    """The payload of a token that the key has signed. Raises anything."""
    if algorithm != EDDSA:
        return jws.verify(token, key, [algorithm])  # type: ignore[arg-type]
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise refused("malformed")
    if not key.verify(f"{parts[0]}.{parts[1]}".encode("ascii"), base64url(parts[2])):
        raise refused("signature")
    return base64url(parts[1])


def _instant(value: object) -> int:
    """A NumericDate (RFC 7519), which may have a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _END_OF_TIME_S:
        raise refused("claims")
    return int(value)
