"""Bodies of the parental-control calls."""

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import Annotated, Any, Literal, Self

from msgspec import UNSET
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from app.auth.schemas import Pin
from app.domain.caregivers import CaregiverView
from app.domain.config import (
    LIMIT_STEP_MINUTES,
    MAX_LIMIT_MINUTES,
    MAX_WARNING_MINUTES,
    MAX_WARNINGS,
    MIN_LIMIT_MINUTES,
    Config,
    ConfigChange,
)
from app.domain.grants import ExtraTimeRequest, GrantEntry, RequestStatus
from app.domain.limits import (
    MAX_BREAK_AFTER_MINUTES,
    MAX_BREAK_MINUTES,
    MAX_FINISH_TITLE_MINUTES,
    MAX_HOLIDAYS,
    MAX_WEEKLY_MINUTES,
    MAX_WINDOWS,
    NO_RULES,
    LimitRules,
    Window,
)
from app.domain.markets import Market
from app.domain.pauses import MAX_PAUSE_MINUTES, ParentPause
from app.domain.viewing_day import date_of, day_number_of
from app.http.requests import Instant, RequestModel, Timezone
from app.parents.grants import ExtraTime
from app.parents.service import Preview
from app.timestamps import minutes, utc


def _descending(minutes: list[int]) -> tuple[int, ...]:
    if len(set(minutes)) < len(minutes):
        raise ValueError("must not repeat a number")
    return tuple(sorted(minutes, reverse=True))


LimitMinutes = Annotated[int, Field(ge=MIN_LIMIT_MINUTES, le=MAX_LIMIT_MINUTES, multiple_of=LIMIT_STEP_MINUTES)]
WarningMinutes = Annotated[
    list[Annotated[int, Field(ge=1, le=MAX_WARNING_MINUTES)]],
    Field(max_length=MAX_WARNINGS),
    AfterValidator(_descending),
]

_FIRST_YEAR, _LAST_YEAR = 2000, 2199

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME_OF_DAY = "([01][0-9]|2[0-3]):[0-5][05]"


def _time_of_day(value: str) -> str:
    if re.fullmatch(_TIME_OF_DAY, value) is None:
        raise ValueError("must be a time like 19:30, in steps of 5 minutes")
    return value


TimeOfDay = Annotated[
    str,
    AfterValidator(_time_of_day),
    WithJsonSchema({"type": "string", "pattern": f"^{_TIME_OF_DAY}$", "examples": ["19:30"]}),
]


def _different_days(days: list[Weekday]) -> list[Weekday]:
    if len(set(days)) < len(days):
        raise ValueError("must not repeat a day")
    return days


WeeklyMinutes = Annotated[int, Field(ge=MIN_LIMIT_MINUTES, le=MAX_WEEKLY_MINUTES, multiple_of=LIMIT_STEP_MINUTES)]

BreakAfterMinutes = Annotated[int, Field(ge=15, le=MAX_BREAK_AFTER_MINUTES, multiple_of=5)]
BreakMinutes = Annotated[int, Field(ge=5, le=MAX_BREAK_MINUTES, multiple_of=5)]
FinishTitleMinutes = Annotated[int, Field(ge=0, le=MAX_FINISH_TITLE_MINUTES)]

_ABSENT: Any = Field(default_factory=lambda: UNSET)


def _date_of(value: object) -> object:
    """A date as JSON has it: only text of the form 2026-12-24. The message repeats nothing that was sent."""
    if isinstance(value, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    elif isinstance(value, date):
        return value
    raise ValueError("must be a date like 2026-12-24")


def _of_these_times(value: date) -> date:
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise ValueError(f"must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return value


CalendarDate = Annotated[date, BeforeValidator(_date_of), AfterValidator(_of_these_times)]


class DailyLimitMinutes(RequestModel):
    """A limit for each day of the week; null means unlimited."""

    mon: LimitMinutes | None
    tue: LimitMinutes | None
    wed: LimitMinutes | None
    thu: LimitMinutes | None
    fri: LimitMinutes | None
    sat: LimitMinutes | None
    sun: LimitMinutes | None


class Holidays(RequestModel):
    """Days that count as weekend, from the first to the last one. A viewing day is known by its name."""

    first_date: CalendarDate
    last_date: CalendarDate

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_date < self.first_date:
            raise ValueError("last_date must not be before first_date")
        return self

    @property
    def range(self) -> tuple[int, int]:
        """The first and the last day number."""
        return day_number_of(self.first_date), day_number_of(self.last_date)


class OpenWindow(RequestModel):
    """A time of day at which playback is open, by the clock of the child's zone, in steps of five minutes.

    ``days`` are those on which it begins. Where ``until`` is not after ``from``, it ends on the next day.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    days: Annotated[list[Weekday], Field(min_length=1, max_length=7), AfterValidator(_different_days)]
    from_: TimeOfDay = Field(alias="from")
    until: TimeOfDay

    @property
    def window(self) -> Window:
        days = tuple(sorted(WEEKDAYS.index(day) for day in self.days))
        return Window(days=days, from_minute=_minute_of(self.from_), until_minute=_minute_of(self.until))

    @classmethod
    def of(cls, window: Window) -> Self:
        days = [WEEKDAYS[day] for day in window.days]
        times = {"from": _clock_text(window.from_minute), "until": _clock_text(window.until_minute)}
        return cls.model_validate({"days": days, **times})


def _minute_of(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _clock_text(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


class ViewingTimeChange(RequestModel):
    """Settings to change. An absent field keeps its value; a limit of null means unlimited (both or neither).

    ``daily_limits`` take the place of the limits of weekdays and weekends, until they are null. ``holidays`` count as
    weekend: with ``daily_limits`` they have the limit of the first weekend day. Outside of ``windows`` nothing plays.
    ``weekly_limit_minutes`` is for the seven viewing days of a week together. After ``break_after_minutes`` of playback
    without a pause of ``break_minutes``, such a pause is due (both or neither). A title that ends within
    ``finish_title_minutes`` after the limit may be finished, once a day; the next day has so much less.
    """

    weekday_limit_minutes: LimitMinutes | None = _ABSENT
    weekend_limit_minutes: LimitMinutes | None = _ABSENT
    reset_hour: Annotated[int, Field(ge=0, le=23)] = _ABSENT
    timezone: Timezone = _ABSENT
    educational_exempt: bool = _ABSENT
    warning_minutes: WarningMinutes = _ABSENT
    daily_limits: DailyLimitMinutes | None = _ABSENT
    holidays: Annotated[list[Holidays], Field(max_length=MAX_HOLIDAYS)] | None = _ABSENT
    windows: Annotated[list[OpenWindow], Field(max_length=MAX_WINDOWS)] | None = _ABSENT
    weekly_limit_minutes: WeeklyMinutes | None = _ABSENT
    break_after_minutes: BreakAfterMinutes | None = _ABSENT
    break_minutes: BreakMinutes | None = _ABSENT
    finish_title_minutes: FinishTitleMinutes | None = _ABSENT

    def change(self) -> ConfigChange:
        values = dict(self)
        if isinstance(self.daily_limits, DailyLimitMinutes):
            values["daily_limits"] = tuple(dict(self.daily_limits).values())
        if values["holidays"] is not UNSET:
            values["holidays"] = tuple(sorted(holiday.range for holiday in values["holidays"] or ()))
        if values["windows"] is not UNSET:
            values["windows"] = tuple(window.window for window in values["windows"] or ())
        if values["finish_title_minutes"] == 0:
            values["finish_title_minutes"] = None
        return ConfigChange(**values)


class PendingChange(BaseModel):
    """A zone and reset hour that wait for the running day to end."""

    timezone: str
    reset_hour: int
    effective_at: Instant


class ViewingTime(BaseModel):
    """The settings of a child. ``pending_change`` says when a new zone or reset hour begins to act.

    While ``daily_limits`` is not null, it holds instead of ``weekday_limit_minutes`` and ``weekend_limit_minutes``.

    ``market`` is the market whose rules hold, `default` for the rules of the settings.
    """

    profile_id: str
    weekday_limit_minutes: int | None
    weekend_limit_minutes: int | None
    reset_hour: int
    timezone: str
    educational_exempt: bool
    warning_minutes: list[int]
    daily_limits: DailyLimitMinutes | None
    holidays: list[Holidays]
    windows: list[OpenWindow]
    weekly_limit_minutes: int | None
    break_after_minutes: int | None
    break_minutes: int | None
    finish_title_minutes: int | None
    version: int
    limits_reviewed: bool
    pending_change: PendingChange | None
    market: str
    server_time: Instant

    @classmethod
    def of(cls, profile_id: str, config: Config, *, market: Market, at_ms: int) -> Self:
        rule, rules = config.calendar.pending(at_ms), config.rules or NO_RULES
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
            daily_limits=_by_day(rules),
            holidays=[Holidays(first_date=date_of(first), last_date=date_of(last)) for first, last in rules.holidays],
            windows=[OpenWindow.of(window) for window in rules.windows],
            weekly_limit_minutes=rules.weekly_limit_minutes,
            break_after_minutes=rules.break_after_minutes,
            break_minutes=rules.break_minutes,
            finish_title_minutes=rules.finish_title_minutes,
            version=config.version,
            limits_reviewed=config.limits_reviewed,
            pending_change=pending,
            market=market.name,
            server_time=utc(at_ms),
        )


def _by_day(rules: LimitRules) -> DailyLimitMinutes | None:
    if rules.daily_limits is None:
        return None
    return DailyLimitMinutes(**dict(zip(DailyLimitMinutes.model_fields, rules.daily_limits, strict=True)))


class BlockedDayAnswer(BaseModel):
    """A viewing day that would have been cut short by the rule in ``reason``.

    `daily_limit`, `weekly_limit`: ``counted_seconds`` would have reached limit and grants. `window`: something was
    watched outside of all windows. `break`: a break would have been due; pauses of less than five minutes, which are
    not kept, are taken for playback.

    ``blocked_at`` is null where what is kept does not tell it exactly; it lies between ``blocked_from`` and
    ``blocked_until``, which are the same where it does.
    """

    date: date
    blocked_at: Instant | None
    blocked_from: Instant
    blocked_until: Instant
    limit_minutes: int | None
    granted_minutes: int
    counted_seconds: float
    reason: Literal["daily_limit", "weekly_limit", "window", "break"]


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
                blocked_from=utc(day.from_ms),
                blocked_until=utc(day.until_ms),
                limit_minutes=day.limit_minutes,
                granted_minutes=day.granted_minutes,
                counted_seconds=day.counted_ms / 1000,
                reason=day.reason,
            )
            for day in preview.blocked
        ]
        return cls(first_date=preview.first, last_date=preview.last, blocked_days=blocked)


class ProvenByPin(RequestModel):
    """A household proves that a parent asks with the PIN, or with what a right PIN unlocked."""

    pin: Pin | None = None
    pin_token: Annotated[str, Field(max_length=100)] | None = None


class NewGrant(ProvenByPin):
    """Extra time for the running day; null lifts the limit until the day ends.

    A household proves that a parent gives it with the PIN, or with what a right PIN unlocked.
    """

    minutes: Literal[15, 30, 60] | None


class GrantAnswer(BaseModel):
    """A grant and what is left of the running day now.

    A repeat with the same Idempotency-Key gets all of the first answer, its ``server_time`` included.
    ``granted_minutes`` null lifted the limit. ``covered_seconds`` is what the child was over its allowance; it comes on
    top. ``remaining_*`` are null when unlimited, or (``is_unlimited_override``
    false) when the counters are out of reach.
    """

    grant_id: str
    granted_minutes: int | None
    covered_seconds: float
    day: date
    remaining_seconds: float | None
    remaining_minutes: float | None
    is_unlimited_override: bool
    server_time: Instant

    @classmethod
    def of(cls, given: ExtraTime, *, at_ms: int) -> Self:
        remaining_ms = given.remaining_ms
        return cls(
            grant_id=given.grant_id,
            granted_minutes=given.minutes,
            covered_seconds=given.covered_ms / 1000,
            day=given.day,
            remaining_seconds=None if remaining_ms is None else remaining_ms / 1000,
            remaining_minutes=None if remaining_ms is None else minutes(remaining_ms),
            is_unlimited_override=given.is_unlimited_override,
            server_time=utc(given.at_ms or at_ms),
        )


class GrantEntryAnswer(BaseModel):
    """An entry of the ledger. ``minutes`` null: no limit until the day ended.

    ``covered_seconds`` is what the child was over its allowance then; the grant gave it beside its minutes.
    """

    grant_id: str
    minutes: int | None
    covered_seconds: float
    day: date
    granted_by: str
    is_remote: bool
    granted_at: Instant
    revoked_at: Instant | None

    @classmethod
    def of(cls, entry: GrantEntry) -> Self:
        return cls(
            grant_id=entry.grant_id,
            minutes=entry.minutes,
            covered_seconds=entry.covered_ms / 1000,
            day=entry.day,
            granted_by=entry.granted_by,
            is_remote=entry.is_remote,
            granted_at=utc(entry.granted_ms),
            revoked_at=None if entry.revoked_ms is None else utc(entry.revoked_ms),
        )


class GrantLedger(BaseModel):
    """Newest first. ``next_cursor`` is null on the last page."""

    grants: list[GrantEntryAnswer]
    next_cursor: str | None
    server_time: Instant


class NewPause(ProvenByPin):
    """A pause from now on; null lasts until the running day ends.

    A household proves that a parent asks for it with the PIN, or with what a right PIN unlocked.
    """

    minutes: Annotated[int, Field(ge=1, le=MAX_PAUSE_MINUTES)] | None


class ChildPauseAnswer(BaseModel):
    """``paused_until`` is null where there is no pause."""

    profile_id: str
    paused_until: Instant | None

    @classmethod
    def by(cls, pause: ParentPause) -> Self:
        until = None if pause.until_ms is None else utc(pause.until_ms)
        return cls(profile_id=pause.profile_id, paused_until=until)


class PauseAnswer(ChildPauseAnswer):
    """A child's pause now."""

    server_time: Instant

    @classmethod
    def of(cls, pause: ParentPause, *, at_ms: int) -> Self:
        return cls(**dict(ChildPauseAnswer.by(pause)), server_time=utc(at_ms))


class HouseholdPauseAnswer(BaseModel):
    """The pauses of all children of the account now."""

    profiles: list[ChildPauseAnswer]
    server_time: Instant

    @classmethod
    def of(cls, pauses: Sequence[ParentPause], *, at_ms: int) -> Self:
        return cls(profiles=[ChildPauseAnswer.by(pause) for pause in pauses], server_time=utc(at_ms))


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
    status: RequestStatus
    requested_at: Instant
    expires_at: Instant
    decided_at: Instant | None
    grant_id: str | None

    @classmethod
    def of(cls, request: ExtraTimeRequest, *, at_ms: int) -> Self:
        return cls(
            request_id=request.request_id,
            minutes=request.minutes,
            note=request.note,
            day=request.day,
            status=request.status_at(at_ms),
            requested_at=utc(request.requested_ms),
            expires_at=utc(request.expires_ms),
            decided_at=None if request.decided_ms is None else utc(request.decided_ms),
            grant_id=request.grant_id,
        )


class RequestList(BaseModel):
    """Newest first. ``next_cursor`` is null on the last page."""

    requests: list[RequestAnswer]
    next_cursor: str | None
    server_time: Instant


class CaregiverChild(BaseModel):
    profile_id: str
    name: str


class CaregiverRequest(BaseModel):
    """An open request; its note is for the parents."""

    request_id: str
    profile_id: str
    minutes: int
    requested_at: Instant
    expires_at: Instant


class CaregiverAnswer(BaseModel):
    """A caregiver's budget of the running day of the account, the children, and their open requests, oldest first."""

    id: str
    name: str
    daily_grant_minutes: int
    granted_today_minutes: int
    left_minutes: int
    renews_at: Instant
    children: list[CaregiverChild]
    requests: list[CaregiverRequest]
    server_time: Instant

    @classmethod
    def of(cls, view: CaregiverView, *, at_ms: int) -> Self:
        requests = [
            CaregiverRequest(
                request_id=request.request_id,
                profile_id=request.profile_id,
                minutes=request.minutes,
                requested_at=utc(request.requested_ms),
                expires_at=utc(request.expires_ms),
            )
            for request in view.requests
        ]
        return cls(
            id=view.device_id,
            name=view.name,
            daily_grant_minutes=view.budget.daily_minutes,
            granted_today_minutes=view.budget.granted_minutes,
            left_minutes=view.budget.left_minutes,
            renews_at=utc(view.budget.renews_ms),
            children=[CaregiverChild(profile_id=child.profile_id, name=child.name) for child in view.children],
            requests=requests,
            server_time=utc(at_ms),
        )


class HouseholdRequest(RequestAnswer):
    """A request with the child that made it."""

    profile_id: str

    @classmethod
    def by(cls, profile_id: str, request: ExtraTimeRequest, *, at_ms: int) -> Self:
        return cls(profile_id=profile_id, **dict(RequestAnswer.of(request, at_ms=at_ms)))


class HouseholdRequestList(BaseModel):
    """Newest first, of all children. ``next_cursor`` is null on the last page."""

    requests: list[HouseholdRequest]
    next_cursor: str | None
    server_time: Instant
