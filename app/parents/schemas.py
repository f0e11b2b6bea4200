"""Bodies of the parental-control calls."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from msgspec import UNSET
from pydantic import AfterValidator, BaseModel, Field

from app.auth.schemas import Pin
from app.domain.config import (
    LIMIT_STEP_MINUTES,
    LONGEST_LIMIT_MINUTES,
    LONGEST_WARNING_MINUTES,
    MOST_WARNINGS,
    SHORTEST_LIMIT_MINUTES,
    Config,
    ConfigChange,
)
from app.domain.grants import ExtraTimeRequest, GrantEntry
from app.instants import minutes, utc
from app.parents.grants import ExtraTime
from app.parents.service import Preview
from app.requests import RequestModel, Timezone


def _descending(minutes: list[int]) -> tuple[int, ...]:
    if len(set(minutes)) < len(minutes):
        raise ValueError("must not repeat a number")
    return tuple(sorted(minutes, reverse=True))


LimitMinutes = Annotated[
    int, Field(ge=SHORTEST_LIMIT_MINUTES, le=LONGEST_LIMIT_MINUTES, multiple_of=LIMIT_STEP_MINUTES)
]
WarningMinutes = Annotated[
    list[Annotated[int, Field(ge=1, le=LONGEST_WARNING_MINUTES)]],
    Field(max_length=MOST_WARNINGS),
    AfterValidator(_descending),
]

_ABSENT: Any = Field(default_factory=lambda: UNSET)


class ViewingTimeChange(RequestModel):
    """Settings to change. An absent field keeps its value; a limit of null means unlimited (both or neither)."""

    weekday_limit_minutes: LimitMinutes | None = _ABSENT
    weekend_limit_minutes: LimitMinutes | None = _ABSENT
    reset_hour: Annotated[int, Field(ge=0, le=23)] = _ABSENT
    timezone: Timezone = _ABSENT
    educational_exempt: bool = _ABSENT
    warning_minutes: WarningMinutes = _ABSENT

    def change(self) -> ConfigChange:
        return ConfigChange(**dict(self))


class PendingChange(BaseModel):
    """A zone and reset hour that wait for the running day to end."""

    timezone: str
    reset_hour: int
    effective_at: datetime


class ViewingTime(BaseModel):
    """The settings of a child. ``pending_change`` says when a new zone or reset hour begins to act."""

    profile_id: str
    weekday_limit_minutes: int | None
    weekend_limit_minutes: int | None
    reset_hour: int
    timezone: str
    educational_exempt: bool
    warning_minutes: list[int]
    version: int
    limits_reviewed: bool
    pending_change: PendingChange | None

    @classmethod
    def of(cls, profile_id: str, config: Config, *, at_ms: int) -> Self:
        rule = config.calendar.pending(at_ms)
        pending = rule and PendingChange(
            timezone=rule.timezone, reset_hour=rule.reset_hour, effective_at=utc(rule.effective_ms)
        )
        return cls(
            profile_id=profile_id,
            weekday_limit_minutes=config.weekday_limit_minutes,
            weekend_limit_minutes=config.weekend_limit_minutes,
            reset_hour=config.reset_hour,
            timezone=config.timezone,
            educational_exempt=config.educational_exempt,
            warning_minutes=list(config.warning_minutes),
            version=config.version,
            limits_reviewed=config.limits_reviewed,
            pending_change=pending,
        )


class BlockedDayAnswer(BaseModel):
    """A viewing day that would have been cut short; ``blocked_at`` is null when its sessions are no longer kept."""

    date: date
    blocked_at: datetime | None
    limit_minutes: int
    counted_seconds: float


class PreviewAnswer(BaseModel):
    """Which of the viewing days from ``first_date`` to ``last_date`` the settings would have blocked, newest first."""

    first_date: date
    last_date: date
    blocked_days: list[BlockedDayAnswer]

    @classmethod
    def of(cls, preview: Preview) -> Self:
        blocked = [
            BlockedDayAnswer(
                date=day.day,
                blocked_at=None if day.at_ms is None else utc(day.at_ms),
                limit_minutes=day.limit_minutes,
                counted_seconds=day.counted_ms / 1000,
            )
            for day in preview.blocked
        ]
        return cls(first_date=preview.first, last_date=preview.last, blocked_days=blocked)


class NewGrant(RequestModel):
    """Extra time for the running day; null lifts the limit until the day ends.

    A household proves that a parent gives it with the PIN, or with what a right PIN unlocked.
    """

    minutes: Literal[15, 30, 60] | None
    pin: Pin | None = None
    pin_token: Annotated[str, Field(max_length=100)] | None = None


class GrantAnswer(BaseModel):
    """A grant and what is left of the running day now.

    ``granted_minutes`` null lifted the limit. ``remaining_*`` are null when unlimited, or (``is_unlimited_override``
    false) when the counters are out of reach.
    """

    grant_id: str
    granted_minutes: int | None
    day: date
    remaining_seconds: float | None
    remaining_minutes: float | None
    is_unlimited_override: bool

    @classmethod
    def of(cls, given: ExtraTime) -> Self:
        remaining_ms = given.remaining_ms
        return cls(
            grant_id=given.grant_id,
            granted_minutes=given.minutes,
            day=given.day,
            remaining_seconds=None if remaining_ms is None else remaining_ms / 1000,
            remaining_minutes=None if remaining_ms is None else minutes(remaining_ms),
            is_unlimited_override=given.is_unlimited_override,
        )


class GrantEntryAnswer(BaseModel):
    """An entry of the ledger. ``minutes`` null: no limit until the day ended."""

    grant_id: str
    minutes: int | None
    day: date
    granted_by: str
    is_remote: bool
    granted_at: datetime
    revoked_at: datetime | None

    @classmethod
    def of(cls, entry: GrantEntry) -> Self:
        return cls(
            grant_id=entry.grant_id,
            minutes=entry.minutes,
            day=entry.day,
            granted_by=entry.granted_by,
            is_remote=entry.is_remote,
            granted_at=utc(entry.granted_ms),
            revoked_at=None if entry.revoked_ms is None else utc(entry.revoked_ms),
        )


class GrantLedger(BaseModel):
    """Newest first."""

    grants: list[GrantEntryAnswer]


class NewRequest(RequestModel):
    """What a child asks for, with a few words to the parents."""

    minutes: Literal[15, 30, 60]
    note: Annotated[str, Field(max_length=200)] | None = None


class RequestAnswer(BaseModel):
    """A request: ``open`` until a parent answers or its day ends, then ``approved``, ``denied`` or ``expired``."""

    request_id: str
    minutes: int
    note: str | None
    day: date
    status: str
    requested_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    grant_id: str | None

    @classmethod
    def of(cls, request: ExtraTimeRequest, *, at_ms: int) -> Self:
        return cls(
            request_id=request.request_id,
            minutes=request.minutes,
            note=request.note,
            day=request.day,
            status=request.status_at(at_ms).value,
            requested_at=utc(request.requested_ms),
            expires_at=utc(request.expires_ms),
            decided_at=None if request.decided_ms is None else utc(request.decided_ms),
            grant_id=request.grant_id,
        )


class RequestList(BaseModel):
    """Newest first."""

    requests: list[RequestAnswer]
