"""Forms as browsers send them, checked by the same models as the API's bodies."""

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from app.errors import (
    AlreadyDecided,
    EmailTaken,
    HourglassError,
    InvalidInput,
    Locked,
    Malformed,
    NoPin,
    PreconditionFailed,
    TooManyDevices,
    TooManyProfiles,
    TooManyRequests,
    UnsupportedMediaType,
    WrongCredentials,
    WrongPassword,
    WrongPin,
)
from app.http.requests import read_body
from app.web.i18n import N_

MEDIA_TYPE = "application/x-www-form-urlencoded"
_MAX_FIELDS = 400
_MAX_DIGITS = 9
_UNACCEPTABLE = frozenset("\x00")
Model = TypeVar("Model", bound=BaseModel)

FIELD_ERRORS = {
    "email": N_("Enter an e-mail address, like kim@example.org."),
    "password": N_("Use at least 10 characters."),
    "timezone": N_("Choose a time zone from the list."),
    "name": N_("Enter a name of at most 100 characters."),
    "pin": N_("Enter the four digits of your PIN."),
    "new_pin": N_("Choose exactly four digits."),
    "current_pin": N_("Enter the four digits of your present PIN."),
    "weekday_limit_minutes": N_("Choose 15 minutes to 8 hours in steps of 15 minutes."),
    "weekend_limit_minutes": N_("Choose 15 minutes to 8 hours in steps of 15 minutes."),
    "reset_hour": N_("Choose an hour from 0 to 23."),
    "warning_minutes": N_("Enter up to five different numbers from 1 to 120, like 15, 5."),
    "daily_grant_minutes": N_("Choose one of the times offered."),
    "daily_limits": N_("Choose 15 minutes to 8 hours in steps of 15 minutes."),
    "windows": N_("Each time needs at least one day, a beginning and an end, in steps of 5 minutes."),
    "holidays": N_("Each holiday needs a first day, and its last day cannot be before the first one."),
    "minutes": N_("Choose one of the times offered."),
    "weekly_limit_minutes": N_("Choose one of the times offered."),
    "break_after_minutes": N_("Choose one of the times offered."),
    "break_minutes": N_("Choose one of the times offered."),
    "finish_title_minutes": N_("Choose one of the times offered."),
}
_TOO_MANY = {
    "windows": N_("At most 21 times are possible."),
    "holidays": N_("At most 50 holidays are possible."),
}
_OTHER = N_("This value is not accepted.")
_REFUSALS: Mapping[type[HourglassError], tuple[str, str]] = {
    WrongPin: ("pin", N_("That PIN is not right.")),
    NoPin: ("", N_("There is no PIN yet. Set one first.")),
    WrongPassword: ("password", N_("That password is not right.")),
    WrongCredentials: ("", N_("The e-mail address or the password is not right.")),
    EmailTaken: ("email", N_("There is an account with this address. Sign in instead.")),
    TooManyProfiles: ("name", N_("This household has as many profiles as it may have.")),
    TooManyDevices: ("name", N_("This household has as many parent devices as it may have. Revoke one first.")),
    PreconditionFailed: ("", N_("Somebody else has changed these settings meanwhile. Look at them again, then save.")),
    AlreadyDecided: ("", N_("This request was answered before, or its day is over.")),
    TooManyRequests: ("", N_("There is a lot going on at the moment. Try again in a second.")),
}
"""Which field a refusal stands beside, and in which words."""


class FormRefused(Exception):
    """Values that are not accepted: messages by field, to be translated."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(", ".join(errors))
        self.errors = dict(errors)


async def read_form(request: Request, *, limit_bytes: int, timeout_seconds: float) -> dict[str, str]:
    """The fields of a form; of those with the same name the last.

    Raises:
        UnsupportedMediaType, Malformed, TooLarge, BodyTimeout
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise UnsupportedMediaType
    body = await read_body(request.receive, limit_bytes=limit_bytes, timeout_seconds=timeout_seconds)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Malformed from None
    if any(_UNACCEPTABLE & set(value) for _, value in pairs):
        raise Malformed
    return dict(pairs)


def number_in(text: str) -> int | None:
    """The number that a field holds; None if it holds anything else, or an endless one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def checked(model: type[Model], values: Mapping[str, Any]) -> Model:
    """The values as the API would take them. Raises FormRefused."""
    try:
        return model(**values)
    except ValidationError as error:
        raise FormRefused(dict(map(_message, error.errors(include_input=False)))) from None


def _message(problem: ErrorDetails) -> tuple[str, str]:
    """The field of a problem, and what stands beside it."""
    field, *within = problem["loc"] or ("",)
    if problem["type"] == "too_long" and not within and field in _TOO_MANY:
        return str(field), _TOO_MANY[str(field)]
    return str(field), FIELD_ERRORS.get(str(field), _OTHER)


def refusal(error: HourglassError, *, pin_field: str = "pin") -> Mapping[str, str] | None:
    """What a form says to a refusal, by field; None for one that is no form's matter."""
    if isinstance(error, InvalidInput) and error.errors:
        fields = [str(problem.get("pointer", "")).strip("/").partition("/")[0] for problem in error.errors]
        both = N_("Set both limits, or leave both without a limit.")
        is_limit = {"weekday_limit_minutes", "weekend_limit_minutes"}
        return {field: both if field in is_limit else FIELD_ERRORS.get(field, _OTHER) for field in fields}
    if isinstance(error, Locked):
        return {pin_field: ""}  # with the instant, which the page knows how to say
    found = next((said for kind, said in _REFUSALS.items() if type(error) is kind), None)
    if found is None:
        return None
    field, text = found
    return {pin_field if field == "pin" else field: text}
