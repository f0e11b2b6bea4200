"""The PIN calls under ``/parental-controls``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.auth.dependencies import Household, JustSignedIn
from app.auth.pins import UNLOCK_SECONDS, Pins
from app.auth.schemas import GivenPin, NewPin, PinReset, PinStatusAnswer, Unlocked
from app.http.requests import API_PREFIX
from app.timestamps import utc

router = APIRouter(prefix=f"{API_PREFIX}/parental-controls/pin", tags=["PIN"])


async def _pins(request: Request) -> Pins:
    pins: Pins = request.app.state.services.pins
    return pins


PinService = Annotated[Pins, Depends(_pins)]


@router.get("/status")
async def status(caller: Household, pins: PinService) -> PinStatusAnswer:
    """Whether there is a PIN, and until when it is locked."""
    return await _status(caller.account_id, pins)


@router.post("")
async def choose(
    body: NewPin, caller: Household, pins: PinService, has_just_signed_in: JustSignedIn
) -> PinStatusAnswer:
    """Set the first PIN with the account's password, or change it with the current one. A change ends all unlocks.

    A token of the platform's identity service with an `auth_time` of the last 5 minutes stands for the password.
    """
    await pins.choose(
        caller.account_id,
        new_pin=body.new_pin,
        current_pin=body.current_pin,
        password=body.password,
        actor=caller.actor,
        has_just_signed_in=has_just_signed_in,
    )
    return await _status(caller.account_id, pins)


@router.post("/verify")
async def verify(body: GivenPin, caller: Household, pins: PinService) -> Unlocked:
    """Parents' rights for 15 minutes, for a right PIN."""
    token = await pins.unlock(caller.account_id, body.pin)
    return Unlocked(pin_token=token, expires_in=UNLOCK_SECONDS)


@router.post("/reset")
async def reset(
    body: PinReset, caller: Household, pins: PinService, has_just_signed_in: JustSignedIn
) -> PinStatusAnswer:
    """A new PIN in place of a forgotten one, with the account's password, or with a sign-in as for the first."""
    await pins.reset(
        caller.account_id,
        password=body.password,
        new_pin=body.new_pin,
        actor=caller.actor,
        has_just_signed_in=has_just_signed_in,
    )
    return await _status(caller.account_id, pins)


async def _status(account_id: str, pins: Pins) -> PinStatusAnswer:
    status = await pins.status(account_id)
    until_ms = status.locked_until_ms
    return PinStatusAnswer(has_pin=status.has_pin, locked_until=None if until_ms is None else utc(until_ms))
