"""Who may call a route: one FastAPI dependency per right. Each answers the Principal or refuses.

A parent may do what the household may; nobody else has another's rights.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import Depends, Header, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from app.auth.pins import FRESH_SECONDS
from app.auth.tokens import Principal, Role, TokenCache
from app.errors import Forbidden, PinRequired, Unauthenticated
from app.observability.context import note_account

if TYPE_CHECKING:
    from app.auth.pins import Pins
    from app.auth.rates import RateLimit

_CLOCKS_APART_SECONDS = 60


class _Holder(SecurityBase):
    """The caller that the bearer token names, if it has one of these roles.

    One dependency for all of it, and the security scheme of the OpenAPI document as well: FastAPI's share of a request
    grows with every dependency of a dependency. A route asks one holder only, for each counts the request.
    """

    def __init__(self, *roles: Role) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description="An access token.")
        self.scheme_name = "HTTPBearer"
        self._roles = roles

    async def __call__(self, request: Request) -> Principal:
        """Raises Unauthenticated, TooManyRequests, Forbidden."""
        tokens: TokenCache = request.app.state.services.token_cache
        rate_limit: RateLimit = request.app.state.services.rate_limit
        authorization = next((value for name, value in request.scope["headers"] if name == b"authorization"), None)
        if authorization is None:
            raise Unauthenticated
        caller = await tokens.authenticate(authorization)
        note_account(caller.account_id)
        if caller.role is not Role.SERVICE:  # it speaks for every household at once
            request.state.answer_headers = await rate_limit.admit(caller.account_id, authorization)
        if caller.role not in self._roles:
            raise Forbidden
        return caller


household = _Holder(Role.HOUSEHOLD, Role.PARENT)
family = _Holder(Role.HOUSEHOLD, Role.PARENT, Role.CAREGIVER)
caregiver = _Holder(Role.CAREGIVER)
service = _Holder(Role.SERVICE)
admin = _Holder(Role.ADMIN)
support = _Holder(Role.SERVICE, Role.ADMIN)


async def parent_rights(
    request: Request,
    caller: Annotated[Principal, Depends(household)],
    x_pin_token: Annotated[str | None, Header(description="from /parental-controls/pin/verify")] = None,
) -> Principal:
    """A parent: by token, or the household with an unlock. Raises Unauthenticated, PinRequired, CountersUnavailable."""
    return await prove_parent(request, caller, pin_token=x_pin_token)


async def giver_rights(
    request: Request,
    caller: Annotated[Principal, Depends(family)],
    x_pin_token: Annotated[str | None, Header(description="from /parental-controls/pin/verify")] = None,
) -> Principal:
    """A caregiver, or a parent as for ``parent_rights``."""
    return await prove_giver(request, caller, pin_token=x_pin_token)


async def prove_giver(
    request: Request, caller: Principal, *, pin_token: str | None = None, pin: str | None = None
) -> Principal:
    """A caregiver as it is, whose budget is checked with the grant; anybody else as a parent, by ``prove_parent``."""
    if caller.role is not Role.CAREGIVER:
        return await prove_parent(request, caller, pin_token=pin_token, pin=pin)
    if caller.device_id is None:
        raise Forbidden
    return caller


async def prove_parent(
    request: Request, caller: Principal, *, pin_token: str | None = None, pin: str | None = None
) -> Principal:
    """The caller as a parent, if its token, its unlock or the PIN itself says so; for calls with these in the body.

    Raises:
        PinRequired: nothing says so.
        NoPin, WrongPin, Locked, TooManyRequests: of a PIN that was given.
    """
    if caller.role is Role.PARENT:
        return caller
    pins: Pins = request.app.state.services.pins
    if pin_token is not None and await pins.is_unlocked(caller.account_id, pin_token):
        return msgspec.structs.replace(caller, role=Role.PARENT)
    if pin is None:
        raise PinRequired
    await pins.check(caller.account_id, pin)
    return msgspec.structs.replace(caller, role=Role.PARENT)


async def has_just_signed_in(request: Request, _: Annotated[Principal, Depends(household)]) -> bool:
    """Whether the caller's token says that its holder signed in at the identity service a moment ago."""
    tokens: TokenCache = request.app.state.services.token_cache
    signed_in_s = tokens.signed_in_s(request.headers["authorization"].encode("latin-1"))
    if signed_in_s is None:
        return False
    ago_seconds: int = request.app.state.services.clock() // 1000 - signed_in_s
    return -_CLOCKS_APART_SECONDS <= ago_seconds <= FRESH_SECONDS


Household = Annotated[Principal, Depends(household)]
JustSignedIn = Annotated[bool, Depends(has_just_signed_in)]
FamilyMember = Annotated[Principal, Depends(family)]
"""A household, a parent or a caregiver."""
Caregiver = Annotated[Principal, Depends(caregiver)]
GiverRights = Annotated[Principal, Depends(giver_rights)]
ParentRights = Annotated[Principal, Depends(parent_rights)]
Service = Annotated[Principal, Depends(service)]
Admin = Annotated[Principal, Depends(admin)]
Support = Annotated[Principal, Depends(support)]
"""A service or an admin."""
