"""The calls under ``/profiles``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, status

from app.accounts.schemas import NewProfile, ProfileAnswer, ProfileChange
from app.accounts.service import Members
from app.auth.dependencies import Household, ParentRights
from app.domain.profile import Profile
from app.requests import API_PREFIX

router = APIRouter(prefix=f"{API_PREFIX}/profiles", tags=["profiles"])


async def _members(request: Request) -> Members:
    members: Members = request.app.state.services.members
    return members


Service = Annotated[Members, Depends(_members)]


@router.get("", response_model=list[ProfileAnswer])
async def profiles(caller: Household, members: Service) -> list[Profile]:
    """Everybody of the household, in the order of creation."""
    return await members.of_account(caller.account_id)


@router.post("", response_model=ProfileAnswer, status_code=status.HTTP_201_CREATED)
async def add(body: NewProfile, caller: ParentRights, members: Service) -> Profile:
    """A new profile. A child has limits from the first moment, until a parent reviews them."""
    return await members.add(
        caller.account_id, name=body.name, is_kids=body.is_kids, timezone=body.timezone, actor=caller.actor
    )


@router.patch("/{profile_id}", response_model=ProfileAnswer)
async def change(profile_id: str, body: ProfileChange, caller: ParentRights, members: Service) -> Profile:
    """Rename a profile, or make a child an adult or an adult a child."""
    return await members.change(
        caller.account_id,
        profile_id,
        name=body.name,
        is_kids=body.is_kids,
        timezone=body.timezone,
        actor=caller.actor,
    )
