"""Who may call a route: one FastAPI dependency per right. Each answers the Principal or refuses.

A parent may do what the household may; nobody else has another's rights.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import Depends, Header, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from app.auth.tokens import Principal, Role, TokenCache
from app.errors import Forbidden, PinRequired, Unauthenticated

if TYPE_CHECKING:
    from app.auth.pins import Pins
    from app.auth.rates import RateLimit


class _Holder(SecurityBase):
    """Whoever the bearer token speaks for, if it has one of these roles.

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
        caller = tokens.principal_of(authorization)
        request.state.answer_headers = await rate_limit.admit(caller.account_id, authorization)
        if caller.role not in self._roles:
            raise Forbidden
        return caller


household = _Holder(Role.HOUSEHOLD, Role.PARENT)
service = _Holder(Role.SERVICE)


async def parent_rights(
    request: Request,
    caller: Annotated[Principal, Depends(household)],
    x_pin_token: Annotated[str | None, Header(description="from /parental-controls/pin/verify")] = None,
) -> Principal:
    """A parent: by token, or the household with an unlock. Raises Unauthenticated, PinRequired, CountersUnavailable."""
    return await prove_parent(request, caller, pin_token=x_pin_token)


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


Household = Annotated[Principal, Depends(household)]
ParentRights = Annotated[Principal, Depends(parent_rights)]
Service = Annotated[Principal, Depends(service)]
