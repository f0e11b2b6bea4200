"""What the profile calls take and answer."""

from pydantic import BaseModel

from app.requests import Name, RequestModel, Timezone


class NewProfile(RequestModel):
    """``timezone`` is the account's unless given."""

    name: Name
    is_kids: bool
    timezone: Timezone | None = None


class ProfileChange(RequestModel):
    """Absent fields keep their value."""

    name: Name | None = None
    is_kids: bool | None = None
    timezone: Timezone | None = None


class ProfileAnswer(BaseModel):
    id: str
    name: str
    is_kids: bool
    timezone: str
    limits_reviewed: bool
