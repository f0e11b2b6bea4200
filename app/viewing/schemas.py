"""What players send and what they get, on the fast path and beside it. Decoded and encoded by msgspec."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_WATCHED_SECONDS = 31 * 86_400
MAX_BATCH = 1000

Text64 = Annotated[str, Meta(min_length=1, max_length=64)]
Text100 = Annotated[str, Meta(min_length=1, max_length=100)]
Id = Annotated[str, Meta(min_length=36, max_length=36)]
Watched = Annotated[float, Meta(ge=0, le=MAX_WATCHED_SECONDS)]
DeviceType = Literal["tv", "mobile", "tablet", "web"]


class HeartbeatRequest(msgspec.Struct, frozen=True, gc=False):
    """A heartbeat. Without ``session_id`` it opens a session; unknown fields are ignored."""

    profile_id: Id
    title_id: Text64
    device_id: Text100
    device_type: DeviceType = "web"
    session_id: Id | None = None
    is_paused: bool = False
    watched_seconds: Watched | None = None


class HeartbeatAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a heartbeat. ``*_seconds`` are exact, ``*_minutes`` rounded to 2 places, instants RFC 3339 UTC."""

    session_id: str
    enforcement: str
    remaining_seconds: float | None
    used_seconds: float
    remaining_minutes: float | None
    used_minutes: float
    is_educational: bool
    stop_at: str | None
    next_beat_in: float
    lease_seconds: float
    next_reset_at: str | None
    config_version: int | None


class BatchRequest(msgspec.Struct, frozen=True):
    """Beats of many players."""

    beats: Annotated[list[HeartbeatRequest], Meta(max_length=MAX_BATCH)]


class RawBatch(msgspec.Struct, frozen=True):
    """As ``BatchRequest``, where each beat is decoded on its own: one that does not fit spoils nothing."""

    beats: Annotated[list[msgspec.Raw], Meta(max_length=MAX_BATCH)]


class EndRequest(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    watched_seconds: Watched | None = None


class EndAnswer(msgspec.Struct, frozen=True):
    session_id: str
    total_seconds: float
    ended_at: str


class BalanceAnswer(msgspec.Struct, frozen=True):
    """A child's running day. Fields that only limits give meaning to are None without them."""

    profile_id: str
    is_child_profile: bool
    has_limits: bool
    used_seconds: float
    used_minutes: float
    educational_seconds: float
    educational_minutes: float
    overrun_seconds: float
    limit_minutes: int | None
    granted_minutes: int
    remaining_seconds: float | None
    remaining_minutes: float | None
    is_unlimited_override: bool
    enforcement: str
    day: str | None
    next_reset_at: str | None
    warning_threshold_minutes: int | None


class EligibilityAnswer(msgspec.Struct, frozen=True):
    profile_id: str
    eligible: bool
    reason: str
    remaining_seconds: float | None = None
    remaining_minutes: float | None = None
    next_reset_at: str | None = None


class WhyDay(msgspec.Struct, frozen=True):
    """The running day and what decided its shape."""

    date: str
    starts_at: str
    ends_at: str
    is_weekend: bool
    timezone: str
    reset_hour: int


class WhySession(msgspec.Struct, frozen=True):
    """The running or last session."""

    session_id: str
    title_id: str
    is_educational: bool
    device_id: str
    device_type: str
    started_at: str
    last_beat_at: str
    paused_since: str | None
    has_ended: bool
    credited_seconds: float


class WhyAnswer(msgspec.Struct, frozen=True):
    """The decision spelled out. ``sentences`` say the same in words, in the order in which the rules apply."""

    profile_id: str
    decided_at: str
    enforcement: str
    sentences: list[str]
    config_version: int
    limit_seconds: float | None
    granted_seconds: float
    is_unlimited_override: bool
    offline_seconds: float
    used_seconds: float
    educational_seconds: float
    overrun_seconds: float
    remaining_seconds: float | None
    stop_at: str | None
    day: WhyDay
    session: WhySession | None


class Stream(msgspec.Struct, frozen=True):
    """A running session. ``title_id`` and ``device_type`` are those of its last beat."""

    session_id: str
    profile_id: str
    is_kids: bool
    title_id: str
    device_type: str
    started_at: str
    last_beat_at: str


class StreamsAnswer(msgspec.Struct, frozen=True):
    """What an account plays, by when it began. Adults' sessions are part of it where ``adults_tracked`` says so."""

    account_id: str
    streams: list[Stream]
    adults_tracked: bool


def seconds(ms: int) -> float:
    return ms / 1000
