"""The calls under ``/auth``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, status

from app.auth.dependencies import Household, ParentRights
from app.auth.devices import Device, Devices
from app.auth.schemas import DeviceAnswer, DeviceCreated, Login, NewDevice, Refresh, Registration, SignedIn
from app.auth.service import Households, SignIn
from app.instants import utc
from app.requests import API_PREFIX

router = APIRouter(prefix=f"{API_PREFIX}/auth", tags=["signing in"])


async def _households(request: Request) -> Households:
    households: Households = request.app.state.services.households
    return households


async def _devices(request: Request) -> Devices:
    devices: Devices = request.app.state.services.devices
    return devices


SigningIn = Annotated[Households, Depends(_households)]
ParentDevices = Annotated[Devices, Depends(_devices)]


@router.post("/register", response_model=SignedIn, status_code=status.HTTP_201_CREATED)
async def register(body: Registration, households: SigningIn) -> SignIn:
    """Open an account; answers household tokens."""
    return await households.register(email=body.email, password=body.password, timezone=body.timezone)


@router.post("/login", response_model=SignedIn)
async def login(body: Login, households: SigningIn) -> SignIn:
    """Household tokens for an e-mail address and its password."""
    return await households.login(email=body.email, password=body.password)


@router.post("/refresh", response_model=SignedIn)
async def refresh(body: Refresh, households: SigningIn) -> SignIn:
    """Fresh household tokens for a refresh token."""
    return await households.refresh(body.refresh_token)


@router.post("/devices", status_code=status.HTTP_201_CREATED)
async def add_device(body: NewDevice, caller: Household, devices: ParentDevices) -> DeviceCreated:
    """A token with which this device acts as a parent for 180 days, for a right PIN."""
    device, token = await devices.add(caller.account_id, name=body.name, pin=body.pin, actor=caller.actor)
    return DeviceCreated(id=device.id, name=device.name, token=token, expires_at=utc(device.expires_at_ms))


@router.get("/devices")
async def devices(caller: ParentRights, devices: ParentDevices) -> list[DeviceAnswer]:
    """The devices that act as a parent."""
    return [_device(device) for device in await devices.of_account(caller.account_id)]


@router.delete("/devices/{device_id}", status_code=status.HTTP_204_NO_CONTENT)
async def revoke_device(device_id: str, caller: ParentRights, devices: ParentDevices) -> None:
    """End what a device may do, on every process within a second."""
    await devices.revoke(caller.account_id, device_id, actor=caller.actor)


def _device(device: Device) -> DeviceAnswer:
    return DeviceAnswer(
        id=device.id, name=device.name, created_at=utc(device.created_at_ms), expires_at=utc(device.expires_at_ms)
    )
