"""The event feed: what happened, for the platform's own notifications and data.

Each kind of event is one class here. Its docstring, its fields and its example make the reference page. No field may
hold a name that a person chose, nor the name of a title.
"""

from datetime import date, datetime
from typing import Annotated, ClassVar
from uuid import UUID, uuid5

import msgspec
from msgspec import Meta

from app.domain.config import Config
from app.domain.limits import NO_RULES

TYPE_PREFIX = "hourglass."
SOURCE = "hourglass"
_NAMESPACE = UUID("5f2b7f7e-6c1e-5d3a-9a53-2b6d0c9e4f18")
_UNSEEN = ("version", "calendar", "rules")
"""Fields of a config that are no setting of a parent."""

Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Minutes = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says beyond its account and profile."""

    kind: ClassVar[str]


class RequestCreated(Facts, frozen=True, kw_only=True):
    """A child asked for extra time. The note of the child is not part of the event."""

    kind: ClassVar[str] = "request.created"
    request_id: Id
    day: date
    minutes: Minutes
    expires_at: datetime


class RequestAnswered(Facts, frozen=True, kw_only=True):
    """A parent approved or denied a request. An approval also sends `grant.given`."""

    kind: ClassVar[str] = "request.answered"
    request_id: Id
    status: Annotated[str, Meta(pattern="^(approved|denied)$")]
    grant_id: Id | None


class GrantGiven(Facts, frozen=True, kw_only=True):
    """A parent gave extra time. `minutes` is null if the rest of the day has no limit."""

    kind: ClassVar[str] = "grant.given"
    grant_id: Id
    day: date
    minutes: Minutes | None
    is_remote: bool
    """False if the grant was given on the player."""


class GrantRevoked(Facts, frozen=True, kw_only=True):
    """A parent took a grant back."""

    kind: ClassVar[str] = "grant.revoked"
    grant_id: Id
    day: date


class PauseBegun(Facts, frozen=True, kw_only=True):
    """A parent paused a child, or moved the end of a pause that goes on."""

    kind: ClassVar[str] = "pause.begun"
    paused_until: datetime


class PauseLifted(Facts, frozen=True, kw_only=True):
    """A parent ended a pause before its time. A pause that ends by itself sends no event."""

    kind: ClassVar[str] = "pause.lifted"


class ConfigChanged(Facts, frozen=True, kw_only=True):
    """The settings of a child changed. Read them with their own call."""

    kind: ClassVar[str] = "config.changed"
    version: int
    changed: tuple[str, ...]
    """The settings whose value is another one now."""


class LimitReached(Facts, frozen=True, kw_only=True):
    """A child has used its allowance of a day: the limit and the grants. It can happen again after a grant.

    The event is written with the flush, about a minute after it happened. It does not tell whether the child is
    blocked: that depends on the enforcement mode.
    """

    kind: ClassVar[str] = "limit.reached"
    day: date
    allowance_seconds: Seconds


class EndedSession(Facts, frozen=True, kw_only=True):
    """A session of a child ended. One that a player revives later ends again, with the same id and a larger total.

    The event is written with the flush, about a minute after the end. If the player fell silent, the session has ended
    at its last heartbeat, and the event follows about eight minutes later.
    """

    kind: ClassVar[str] = "session.ended"
    session_id: Id
    day: date
    """The viewing day in which it ended."""
    title_id: str
    device_type: str
    is_educational: bool
    started_at: datetime
    ended_at: datetime
    total_seconds: Seconds
    """All time that was credited to it, educational and overrun time included."""
    fell_silent: bool


class DayClosed(Facts, frozen=True, kw_only=True):
    """A viewing day is over on which something was watched. The event follows about ten minutes after the reset.

    Time that is reported later, for example offline playback, changes the balance and not this event. A day on which
    nothing was watched is told only if it owes time, after the next playback.
    """

    kind: ClassVar[str] = "day.closed"
    day: date
    used_seconds: Seconds
    educational_seconds: Seconds
    overrun_seconds: Seconds
    limit_seconds: Seconds | None
    """Without grants; null if the day had no limit."""
    borrowed_seconds: Seconds
    """Of the counted time, what finished a title beyond the allowance. The next day has so much less."""
    owed_seconds: Seconds
    """What the day before borrowed: this one had so much less."""


class ReportReady(Facts, frozen=True, kw_only=True):
    """The weekly report of an account was prepared for the first time. The event belongs to the account."""

    kind: ClassVar[str] = "report.ready"
    week_ending: date


class ProfileErased(Facts, frozen=True, kw_only=True):
    """A profile was erased. All its earlier events were removed; delete what you hold of it."""

    kind: ClassVar[str] = "profile.erased"


class TamperingSuspected(Facts, frozen=True, kw_only=True):
    """A sign of uncounted viewing. `clock_moved`: an offline batch, or a count of watched time, of a moved clock.

    `paused_while_moving` and `beats_without_playback` are hints from the positions in heartbeats.
    """

    kind: ClassVar[str] = "tampering.suspected"
    reason: Annotated[str, Meta(pattern="^[a-z_]+$")]
    penalty_seconds: Seconds = 0.0
    """Time taken from the running day for it."""


KINDS: dict[str, type[Facts]] = {facts.kind: facts for facts in Facts.__subclasses__()}
"""The kinds of events, in the order of this module."""


class FeedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be written with its cause.

    Attributes:
        cause: identifies the cause among all of this kind. Equal causes are one event, written once.
        profile_id: None if the event belongs to an account.
        account_id: None if it follows from the profile.
    """

    facts: Facts
    cause: tuple[object, ...]
    at_ms: int
    profile_id: str | None = None
    account_id: str | None = None

    @property
    def event_id(self) -> str:
        """The same id whenever the same cause is written again."""
        return str(uuid5(_NAMESPACE, "|".join((self.facts.kind, *map(str, self.cause)))))

    @property
    def facts_json(self) -> str:
        return msgspec.json.encode(self.facts).decode()


class KeptEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event of the feed. ``position`` only grows, and tells the order of the events of a profile."""

    position: int
    event_id: str
    kind: str
    at: str
    account_id: str
    profile_id: str | None
    account_external_id: str | None
    profile_external_id: str | None
    facts: str
    written_ms: int

    @property
    def subject(self) -> str:
        return self.profile_id or self.account_id


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    sequence: str
    datacontenttype: str
    data: msgspec.Raw


class _Owner(msgspec.Struct, frozen=True, gc=False):
    account_id: str
    profile_id: str | None
    external_account_id: str | None
    external_profile_id: str | None


_encode = msgspec.json.Encoder().encode


def cloud_event(event: KeptEvent) -> bytes:
    """The event in the JSON format of CloudEvents 1.0."""
    owner = _encode(_Owner(event.account_id, event.profile_id, event.account_external_id, event.profile_external_id))
    facts = event.facts.encode()
    data = owner if facts == b"{}" else owner[:-1] + b"," + facts[1:]
    return _encode(
        _Envelope(
            "1.0",
            event.event_id,
            SOURCE,
            TYPE_PREFIX + event.kind,
            event.subject,
            event.at,
            f"{event.position:020d}",
            "application/json",
            msgspec.Raw(data),
        )
    )


def changed_settings(before: Config, after: Config) -> tuple[str, ...]:
    """The names of the settings in which two configs differ."""
    old, new = (
        msgspec.structs.asdict(each) | msgspec.structs.asdict(each.rules or NO_RULES) for each in (before, after)
    )
    return tuple(name for name in new if name not in _UNSEEN and new[name] != old[name])


class FeedPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events in order, and the state of the feed as of the same instant.

    Attributes:
        last_position: of the newest event that has a position.
        removed_until: events up to this position were removed by age.
        has_unnumbered: whether written events wait for their position.
    """

    events: tuple[KeptEvent, ...]
    last_position: int
    removed_until: int
    has_unnumbered: bool
