"""Requests and responses of the profile calls."""

from pydantic import BaseModel

from app.http.requests import Name, RequestModel, Timezone


class NewProfile(RequestModel):
    """A new profile. ``timezone`` defaults to the account's."""

    name: Name
    is_kids: bool
    timezone: Timezone | None = None


class ProfileChange(RequestModel):
    """A change of a profile. Absent fields keep their value."""

    name: Name | None = None
    is_kids: bool | None = None
    timezone: Timezone | None = None


class ProfileAnswer(BaseModel):
    """``external_id`` is the platform's own id, where it has given one."""

    id: str
    name: str
    is_kids: bool
    timezone: str
    limits_reviewed: bool
    external_id: str | None
