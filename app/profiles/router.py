"""Routes under ``/profiles``."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response, status

from app.auth.dependencies import Household, ParentRights
from app.auth.external_ids import ProfileRoute
from app.domain.profile import Profile
from app.http.requests import API_PREFIX
from app.profiles.schemas import NewProfile, ProfileAnswer, ProfileChange
from app.profiles.service import ProfileService

router = APIRouter(prefix=f"{API_PREFIX}/profiles", tags=["profiles"], route_class=ProfileRoute)


async def _members(request: Request) -> ProfileService:
    members: ProfileService = request.app.state.services.members
    return members


Service = Annotated[ProfileService, Depends(_members)]


@router.get("", response_model=list[ProfileAnswer])
async def profiles(caller: Household, members: Service) -> list[Profile]:
    """All profiles of the household in order of creation."""
    return await members.of_account(caller.account_id)


@router.post("", response_model=ProfileAnswer, status_code=status.HTTP_201_CREATED)
async def add(body: NewProfile, caller: ParentRights, members: Service, response: Response) -> Profile:
    """Create a profile. A child has default limits until a parent reviews them."""
    profile = await members.add(
        caller.account_id, name=body.name, is_kids=body.is_kids, timezone=body.timezone, actor=caller.actor
    )
    response.headers["Location"] = f"{router.prefix}/{profile.id}"
    return profile


@router.patch("/{profile_id}", response_model=ProfileAnswer)
async def change(profile_id: str, body: ProfileChange, caller: ParentRights, members: Service) -> Profile:
    """Rename a profile, change its zone, or change it between child and adult.

    The zone of a child is the zone of its config. A change of either takes effect when the running day ends. A child
    that becomes an adult and a child again keeps its config and its running day.
    """
    return await members.change(
        caller.account_id,
        profile_id,
        name=body.name,
        is_kids=body.is_kids,
        timezone=body.timezone,
        actor=caller.actor,
    )
