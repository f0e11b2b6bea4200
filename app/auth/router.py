"""The calls under ``/auth``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status

from app.auth.dependencies import Household, ParentRights
from app.auth.devices import Devices
from app.auth.ports import Device
from app.auth.schemas import (
    AccountAnswer,
    DeviceAnswer,
    DeviceCreated,
    EmailChange,
    Login,
    NewDevice,
    PasswordChange,
    Refresh,
    Registration,
    SignedIn,
    SignInAnswer,
)
from app.auth.service import AccountService, HouseholdTokens
from app.auth.sign_ins import AccountLife
from app.http.requests import API_PREFIX
from app.timestamps import utc

router = APIRouter(prefix=f"{API_PREFIX}/auth", tags=["signing in"])
account_router = APIRouter(prefix=f"{API_PREFIX}/account", tags=["account"])


async def _households(request: Request) -> AccountService:
    households: AccountService = request.app.state.services.households
    return households


async def _devices(request: Request) -> Devices:
    devices: Devices = request.app.state.services.devices
    return devices


async def _account_life(request: Request) -> AccountLife:
    account_life: AccountLife = request.app.state.services.account_life
    return account_life


SigningIn = Annotated[AccountService, Depends(_households)]
ParentDevices = Annotated[Devices, Depends(_devices)]
OwnAccount = Annotated[AccountLife, Depends(_account_life)]


@router.post("/register", response_model=SignedIn, status_code=status.HTTP_201_CREATED)
async def register(body: Registration, households: SigningIn, response: Response) -> HouseholdTokens:
    """Open an account; answers household tokens."""
    response.headers["Location"] = f"{API_PREFIX}/account"
    return await households.register(
        email=body.email, password=body.password, timezone=body.timezone, device_name=body.device_name
    )


@router.post("/login", response_model=SignedIn)
async def login(body: Login, households: SigningIn) -> HouseholdTokens:
    """Household tokens for an e-mail address and its password."""
    return await households.login(email=body.email, password=body.password, device_name=body.device_name)


@router.post("/refresh", response_model=SignedIn)
async def refresh(body: Refresh, households: SigningIn) -> HouseholdTokens:
    """Fresh household tokens for a refresh token, which is void from now on.

    A token that was used before ends its sign-in, for it was copied. One exception: a retry within 10 seconds, because
    the answer may have been lost.
    """
    return await households.refresh(body.refresh_token)


@router.post("/logout", status_code=status.HTTP_204_NO_CONTENT)
async def log_out(caller: Household, account_life: OwnAccount) -> None:
    """End this sign-in, or this parent device, on every process within a second."""
    await account_life.log_out(caller)


@router.post("/logout-everywhere", status_code=status.HTTP_204_NO_CONTENT)
async def log_out_everywhere(caller: Household, account_life: OwnAccount) -> None:
    """End every sign-in, parent device and unlock of the account, this one included."""
    await account_life.log_out_everywhere(caller)


@router.get("/sign-ins")
async def sign_ins(caller: ParentRights, account_life: OwnAccount) -> list[SignInAnswer]:
    """The sign-ins that go on, the one refreshed last first."""
    return [
        SignInAnswer(
            id=sign_in.id,
            device_name=sign_in.device_name,
            created_at=utc(sign_in.created_at_ms),
            refreshed_at=utc(sign_in.refreshed_at_ms),
            expires_at=utc(sign_in.expires_at_ms),
            is_current=sign_in.id == caller.sign_in_id,
        )
        for sign_in in await account_life.sign_ins(caller.account_id)
    ]


@router.delete("/sign-ins/{sign_in_id}", status_code=status.HTTP_204_NO_CONTENT)
async def end_sign_in(sign_in_id: str, caller: ParentRights, account_life: OwnAccount) -> None:
    """End what a sign-in may do, on every process within a second: a TV that was lost or sold."""
    await account_life.end(caller.account_id, sign_in_id, actor=caller.actor)


@router.post("/devices", status_code=status.HTTP_201_CREATED)
async def add_device(body: NewDevice, caller: Household, devices: ParentDevices, response: Response) -> DeviceCreated:
    """A token with which this device acts as a parent for 180 days, for a right PIN.

    A device of the role `caregiver` may grant `daily_grant_minutes` a day, by itself or by approving requests, and read
    balances; nothing else. Its day begins at midnight in the zone of the account.
    """
    device, token = await devices.add(
        caller.account_id,
        name=body.name,
        pin=body.pin,
        actor=caller.actor,
        daily_grant_minutes=body.daily_grant_minutes,
    )
    response.headers["Location"] = f"{router.prefix}/devices/{device.id}"
    return DeviceCreated(
        id=device.id,
        name=device.name,
        role=body.role,
        daily_grant_minutes=device.daily_grant_minutes,
        token=token,
        expires_at=utc(device.expires_at_ms),
    )


@router.get("/devices")
async def devices(caller: ParentRights, devices: ParentDevices) -> list[DeviceAnswer]:
    """The devices that act as a parent, and those of caregivers."""
    return [_device(device) for device in await devices.of_account(caller.account_id)]


@router.delete("/devices/{device_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_device(device_id: str, caller: ParentRights, devices: ParentDevices) -> None:
    """End what a device may do, on every process within a second."""
    await devices.revoke(caller.account_id, device_id, actor=caller.actor)


def _device(device: Device) -> DeviceAnswer:
    return DeviceAnswer(
        id=device.id,
        name=device.name,
        role="caregiver" if device.is_caregiver else "parent",
        daily_grant_minutes=device.daily_grant_minutes,
        granted_today_minutes=device.granted_minutes if device.is_caregiver else None,
        created_at=utc(device.created_at_ms),
        expires_at=utc(device.expires_at_ms),
    )


@account_router.get("")
async def account(caller: Household, account_life: OwnAccount) -> AccountAnswer:
    """The account that the caller belongs to."""
    summary = await account_life.summary(caller.account_id)
    return AccountAnswer(
        account_id=summary.account_id,
        email=summary.email,
        timezone=summary.timezone,
        has_pin=summary.has_pin,
        created_at=utc(summary.created_at_ms),
    )


@account_router.put("/password", status_code=status.HTTP_204_NO_CONTENT)
async def change_password(body: PasswordChange, caller: Household, account_life: OwnAccount) -> None:
    """Change the password. Every other sign-in and parent device of the account ends."""
    await account_life.change_password(caller, current_password=body.current_password, new_password=body.new_password)


@account_router.put("/email", status_code=status.HTTP_204_NO_CONTENT)
async def change_email(body: EmailChange, caller: Household, account_life: OwnAccount) -> None:
    """Change the e-mail address, with the password. Sign-ins go on."""
    await account_life.change_email(caller, password=body.password, email=body.email)
