"""What players send and what they get, on the fast path and beside it. Decoded and encoded by msgspec."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.domain.external_ids import MAX_EXTERNAL_ID
from app.http.hints import HintAnswer

MAX_WATCHED_SECONDS = 31 * 86_400
MAX_POSITION_SECONDS = 10_000_000_000
"""Live streams may count from the year 1970."""
MAX_TITLE_SECONDS = 86_400
MAX_BATCH = 1000
MAX_CO_VIEWERS = 4

Text64 = Annotated[str, Meta(min_length=1, max_length=64)]
Text100 = Annotated[str, Meta(min_length=1, max_length=100)]
Id = Annotated[str, Meta(min_length=36, max_length=36)]
ProfileId = Annotated[str, Meta(min_length=1, max_length=MAX_EXTERNAL_ID, description="ours, or the platform's")]
Position = Annotated[float, Meta(ge=0, le=MAX_POSITION_SECONDS)]
TitleRemaining = Annotated[float, Meta(ge=0, le=MAX_TITLE_SECONDS)]
WatchedSeconds = Annotated[float, Meta(ge=0, le=MAX_WATCHED_SECONDS)]
DeviceType = Literal["tv", "mobile", "tablet", "web"]


class CoViewer(msgspec.Struct, frozen=True, gc=False):
    """A profile that watches the same playback. Without ``session_id`` the heartbeat opens a session of its own for it.

    ``has_left`` ends its session. ``watched_seconds`` is the player's own count of that session.
    """

    profile_id: ProfileId
    session_id: Id | None = None
    watched_seconds: WatchedSeconds | None = None
    has_left: bool = False


class HeartbeatRequest(msgspec.Struct, frozen=True, gc=False):
    """A heartbeat. Without ``session_id`` it opens a session; unknown fields are ignored.

    ``account_id`` is for gateways, whose token is of no account: whose profile the platform's ``profile_id`` names.
    ``lease`` asks for a signed playback lease. ``co_viewers`` are other profiles of the same account that watch this
    playback. Each is counted once. ``position_seconds`` is where in the title the player is; it is only for hints of
    tampering and decides nothing. ``title_remaining_seconds`` is what is left of the title in real time, at the speed
    at which it plays: a child that may finish titles may finish one that ends soon after the limit.
    """

    profile_id: ProfileId
    title_id: Text64
    device_id: Text100
    device_type: DeviceType = "web"
    session_id: Id | None = None
    is_paused: bool = False
    watched_seconds: WatchedSeconds | None = None
    account_id: ProfileId | None = None
    lease: bool = False
    co_viewers: Annotated[list[CoViewer], Meta(max_length=MAX_CO_VIEWERS)] | None = None
    position_seconds: Position | None = None
    title_remaining_seconds: TitleRemaining | None = None


class CoViewerAnswer(msgspec.Struct, frozen=True, gc=False):
    """What a heartbeat means for one co-viewer: its own session, remaining time and decision, or its own ``problem``.

    ``profile_id`` is the id that was sent. Playback goes on without a co-viewer that has a problem.
    """

    profile_id: str
    session_id: str | UnsetType = UNSET
    enforcement: str | UnsetType = UNSET
    remaining_seconds: float | UnsetType | None = UNSET
    used_seconds: float | UnsetType = UNSET
    stop_at: str | UnsetType | None = UNSET
    next_reset_at: str | UnsetType | None = UNSET
    would_be: str | UnsetType = UNSET
    reason: str | UnsetType | None = UNSET
    available_again_at: str | UnsetType | None = UNSET
    problem: dict[str, Any] | UnsetType = UNSET
    borrowed_seconds: float | UnsetType = UNSET


class HeartbeatAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a heartbeat. ``*_seconds`` are exact, ``*_minutes`` rounded to 2 places, instants RFC 3339 UTC.

    ``server_time`` is the instant of the decision; offline sync asks for the last one a device was told.
    ``would_be`` is present in shadow mode only: the enforcement that was decided and is not enforced. ``reason`` names
    the rule that has ended playback, or will at ``stop_at``: `daily_limit`, `weekly_limit`, `window`, `parent_pause` or
    `break`, null where nothing will. ``available_again_at`` is the first instant at which a blocked child may play, if
    nothing plays until then and nothing else changes; null where that is not known.
    ``closes_at`` is the next instant at which a window or extra time ends and nothing plays any more, whatever is left.
    It is left out where that is not known. A player without a connection stops then at the latest.
    ``playback_lease`` is present if the heartbeat asked for one: a JWS for a CDN or DRM proxy, null if playback must
    not go on, or if the deployment has no key for leases. ``borrowed_seconds`` is what finishing a title has taken from
    the next day; it is left out if nothing was.

    With co-viewers, ``enforcement``, ``reason``, ``stop_at``, ``available_again_at``, ``closes_at``, ``next_beat_in``
    and the leases are the strictest of all who watch. Everything else is that of ``profile_id``. ``decided_by`` is the
    profile whose rules end the playback first; it is left out if none does.
    """

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
    server_time: str
    config_version: int | None
    would_be: str | UnsetType = UNSET
    reason: str | None = None
    available_again_at: str | None = None
    playback_lease: str | UnsetType | None = UNSET
    co_viewers: list[CoViewerAnswer] | UnsetType = UNSET
    decided_by: str | UnsetType = UNSET
    closes_at: str | UnsetType = UNSET
    borrowed_seconds: float | UnsetType = UNSET


class BatchRequest(msgspec.Struct, frozen=True):
    """Beats of many players."""

    beats: Annotated[list[HeartbeatRequest], Meta(max_length=MAX_BATCH)]


class RawBatch(msgspec.Struct, frozen=True):
    """As ``BatchRequest``, where each beat is decoded on its own: one that does not fit spoils nothing."""

    beats: Annotated[list[msgspec.Raw], Meta(max_length=MAX_BATCH)]


class EndedCoViewer(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The session of a co-viewer, which ends too."""

    session_id: Annotated[str, Meta(min_length=36, max_length=36, pattern="^[0-9a-f-]+$")]
    watched_seconds: WatchedSeconds | None = None


class EndRequest(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    watched_seconds: WatchedSeconds | None = None
    co_viewers: Annotated[list[EndedCoViewer], Meta(max_length=MAX_CO_VIEWERS)] | None = None


class EndedCoViewerAnswer(msgspec.Struct, frozen=True):
    """The result of a co-viewer's session, or its own ``problem``."""

    session_id: str
    total_seconds: float | UnsetType = UNSET
    ended_at: str | UnsetType = UNSET
    problem: dict[str, Any] | UnsetType = UNSET


class EndAnswer(msgspec.Struct, frozen=True):
    """The result of a session: the same whenever the call is repeated. The header ``Date`` tells the server's time."""

    session_id: str
    total_seconds: float
    ended_at: str
    co_viewers: list[EndedCoViewerAnswer] | UnsetType = UNSET


class BalanceAnswer(msgspec.Struct, frozen=True):
    """A child's running day. Fields that only limits give meaning to are None without them.

    ``penalty_seconds`` were charged for offline batches of a wrong clock: they lower what remains, and are no part of
    what was used. ``paused_until`` is when a parent's pause ends, None without one. ``reason`` and
    ``available_again_at`` are as in answers to heartbeats, and ``closes_at`` too, null where it is not known.
    ``week_remaining_seconds`` is what is left of a weekly limit, null without one. ``break_in_seconds`` is what may be
    played until a break is due: 0 while it is, null without breaks. ``borrowed_seconds`` of what was used finished a
    title after the limit: the next day has so much less, as this one has less by ``owed_seconds``.
    """

    profile_id: str
    is_child_profile: bool
    has_limits: bool
    used_seconds: float
    used_minutes: float
    educational_seconds: float
    educational_minutes: float
    overrun_seconds: float
    penalty_seconds: float
    limit_minutes: int | None
    granted_minutes: int
    covered_seconds: float
    remaining_seconds: float | None
    remaining_minutes: float | None
    is_unlimited_override: bool
    enforcement: str
    day: str | None
    next_reset_at: str | None
    server_time: str
    warning_threshold_minutes: int | None
    paused_until: str | None = None
    would_be: str | UnsetType = UNSET
    reason: str | None = None
    available_again_at: str | None = None
    week_remaining_seconds: float | None = None
    break_in_seconds: float | None = None
    closes_at: str | None = None
    borrowed_seconds: float = 0.0
    owed_seconds: float = 0.0


class EligibilityAnswer(msgspec.Struct, frozen=True):
    """Whether playback may begin. ``reason`` says why it may, or names the rule that forbids it.

    ``available_again_at`` is when it may again, if that is known.
    """

    profile_id: str
    eligible: bool
    reason: str
    remaining_seconds: float | None
    remaining_minutes: float | None
    next_reset_at: str | None
    server_time: str
    would_be: str | UnsetType = UNSET
    available_again_at: str | None = None


class TicketRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose events are to be heard."""

    profile_id: ProfileId


class TicketAnswer(msgspec.Struct, frozen=True):
    """A ticket opens one event stream within ``expires_in`` seconds."""

    ticket: str
    expires_in: int


class WhyDay(msgspec.Struct, frozen=True):
    """The running day and what decided its shape."""

    date: str
    starts_at: str
    ends_at: str
    is_weekend: bool
    timezone: str
    reset_hour: int
    is_holiday: bool = False


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
    """The decision spelled out. ``sentences`` say the same in words, in the order in which the rules apply.

    ``abandoned_sessions`` were opened on this day, sent no second beat and no end, and fell silent.
    ``abandoned_sessions_charged`` of them were charged their lease. ``market`` is the market whose rules hold.
    ``borrowed_seconds`` and ``owed_seconds`` are as in the balance.
    """

    profile_id: str
    decided_at: str
    next_reset_at: str
    server_time: str
    enforcement: str
    market: str
    enforcement_mode: str
    sentences: list[str]
    config_version: int
    limit_seconds: float | None
    granted_seconds: float
    covered_seconds: float
    is_unlimited_override: bool
    offline_seconds: float
    used_seconds: float
    educational_seconds: float
    overrun_seconds: float
    penalty_seconds: float
    abandoned_sessions: int
    abandoned_sessions_charged: int
    remaining_seconds: float | None
    stop_at: str | None
    day: WhyDay
    session: WhySession | None
    paused_until: str | None = None
    would_be: str | UnsetType = UNSET
    reason: str | None = None
    available_again_at: str | None = None
    tamper_hints: list[HintAnswer] = []
    week_remaining_seconds: float | None = None
    break_in_seconds: float | None = None
    borrowed_seconds: float = 0.0
    owed_seconds: float = 0.0


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
