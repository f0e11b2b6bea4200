"""What signing in takes and answers."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from app.requests import Name, RequestModel, Timezone

LONGEST_EMAIL = 320
_EMAIL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


def _address(value: str) -> str:
    address = value.lower()
    if len(address) > LONGEST_EMAIL or not _EMAIL.fullmatch(address):
        raise ValueError("must be an e-mail address")
    return address


Email = Annotated[str, AfterValidator(_address), Field(examples=["kim@example.org"])]
Password = Annotated[str, Field(max_length=200)]
NewPassword = Annotated[str, Field(min_length=10, max_length=200)]


Pin = Annotated[str, Field(pattern=r"^[0-9]{4}$", examples=["4711"])]


class Registration(RequestModel):
    email: Email
    password: NewPassword
    timezone: Timezone = Field(examples=["Europe/Oslo"])


class Login(RequestModel):
    email: Email
    password: Password


class Refresh(RequestModel):
    refresh_token: str


class SignedIn(BaseModel):
    """Household tokens. ``expires_in``: seconds until the access token ends."""

    account_id: str
    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105  a scheme, not a secret
    expires_in: int


class NewPin(RequestModel):
    """The first PIN is set with ``password``, later ones with ``current_pin``."""

    new_pin: Pin
    current_pin: Pin | None = None
    password: Password | None = None


class GivenPin(RequestModel):
    pin: Pin


class PinReset(RequestModel):
    password: Password
    new_pin: Pin


class PinStatusAnswer(BaseModel):
    """``locked_until`` is null unless too many wrong PINs were tried."""

    has_pin: bool
    locked_until: datetime | None


class Unlocked(BaseModel):
    """``pin_token`` goes into the header ``X-PIN-Token`` for ``expires_in`` seconds."""

    verified: bool = True
    pin_token: str
    expires_in: int


class NewDevice(RequestModel):
    name: Name
    pin: Pin


class DeviceAnswer(BaseModel):
    id: str
    name: str
    created_at: datetime
    expires_at: datetime


class DeviceCreated(BaseModel):
    """``token`` is shown this once."""

    id: str
    name: str
    token: str
    expires_at: datetime
