"""What signing in takes and answers."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from app.domain.caregivers import BUDGET_STEP_MINUTES, MAX_BUDGET_MINUTES, MIN_BUDGET_MINUTES
from app.http.requests import Instant, Name, RequestModel, Timezone

MAX_EMAIL = 320
_EMAIL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


def _address(value: str) -> str:
    address = value.lower()
    if len(address) > MAX_EMAIL or not _EMAIL.fullmatch(address):
        raise ValueError("must be an e-mail address")
    return address


Email = Annotated[str, AfterValidator(_address), Field(examples=["kim@example.org"])]
Password = Annotated[str, Field(max_length=200)]
NewPassword = Annotated[str, Field(min_length=10, max_length=200)]


Pin = Annotated[str, Field(pattern=r"^[0-9]{4}$", examples=["4711"])]


class Registration(RequestModel):
    """``device_name`` tells this sign-in from others in the list of sign-ins."""

    email: Email
    password: NewPassword
    timezone: Timezone = Field(examples=["Europe/Oslo"])
    device_name: Name | None = None


class Login(RequestModel):
    """``device_name`` tells this sign-in from others in the list of sign-ins."""

    email: Email
    password: Password
    device_name: Name | None = None


class Refresh(RequestModel):
    refresh_token: str


class SignedIn(BaseModel):
    """Household tokens. ``expires_in``: seconds until the access token ends."""

    account_id: str
    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105  a scheme, not a secret
    expires_in: int


class SignInAnswer(BaseModel):
    """A sign-in that goes on. ``is_current``: the caller's own."""

    id: str
    device_name: str | None
    created_at: Instant
    refreshed_at: Instant
    expires_at: Instant
    is_current: bool


class AccountAnswer(BaseModel):
    """``email`` is null where the platform's identity service signs the household in."""

    account_id: str
    email: str | None
    timezone: str
    has_pin: bool
    created_at: Instant


class PasswordChange(RequestModel):
    current_password: Password
    new_password: NewPassword


class EmailChange(RequestModel):
    email: Email
    password: Password


class NewPin(RequestModel):
    """The first PIN is set with ``password``, later ones with ``current_pin``.

    Who signs in at the platform's identity service sends a token of a sign-in of the last 5 minutes, and no password.
    """

    new_pin: Pin
    current_pin: Pin | None = None
    password: Password | None = None


class GivenPin(RequestModel):
    pin: Pin


class PinReset(RequestModel):
    """``password`` as for the first PIN."""

    password: Password | None = None
    new_pin: Pin


class PinStatusAnswer(BaseModel):
    """``locked_until`` is null unless too many wrong PINs were tried."""

    has_pin: bool
    locked_until: Instant | None


class Unlocked(BaseModel):
    """``pin_token`` goes into the header ``X-PIN-Token`` for ``expires_in`` seconds."""

    verified: bool = True
    pin_token: str
    expires_in: int


BudgetMinutes = Annotated[int, Field(ge=MIN_BUDGET_MINUTES, le=MAX_BUDGET_MINUTES, multiple_of=BUDGET_STEP_MINUTES)]


class NewDevice(RequestModel):
    """A device of a parent, or with ``daily_grant_minutes`` one of a caregiver."""

    name: Name
    pin: Pin
    role: Literal["parent", "caregiver"] = "parent"
    daily_grant_minutes: BudgetMinutes | None = None

    @model_validator(mode="after")
    def _budget_fits_the_role(self) -> Self:
        if (self.role == "caregiver") != (self.daily_grant_minutes is not None):
            raise ValueError("a caregiver, and nobody else, has daily_grant_minutes")
        return self


class DeviceAnswer(BaseModel):
    """``daily_grant_minutes`` and what counts against it are a caregiver's, null for a parent."""

    id: str
    name: str
    role: Literal["parent", "caregiver"]
    daily_grant_minutes: int | None
    granted_today_minutes: int | None
    created_at: Instant
    expires_at: Instant


class DeviceCreated(BaseModel):
    """``token`` is shown this once."""

    id: str
    name: str
    role: Literal["parent", "caregiver"]
    daily_grant_minutes: int | None
    token: str
    expires_at: Instant
