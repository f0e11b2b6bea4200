"""Answers of the event feed."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta
from pydantic import BaseModel, Field, StrictBool

from app.domain.feed import TYPE_PREFIX, FeedPage, Id, cloud_event
from app.domain.webhooks import MAX_URL, WebhookReceiver
from app.http.requests import Instant, RequestModel
from app.timestamps import utc

_MAX_TYPES = 50


class CloudEventAnswer(msgspec.Struct):
    """An event in the JSON format of CloudEvents 1.0. docs/reference/events.md describes ``data`` of each ``type``.

    ``subject`` is the profile, or the account of an event without a profile. ``sequence`` grows within a subject when
    compared as text. Consumers ignore types and members that they do not know.
    """

    specversion: Literal["1.0"]
    id: Id
    source: str
    type: Annotated[str, Meta(pattern=r"^hourglass\.[a-z_]+\.[a-z_]+$")]
    subject: Id
    time: datetime
    sequence: Annotated[str, Meta(pattern="^[0-9]{20}$")]
    datacontenttype: Literal["application/json"]
    data: dict[str, Any]


class FeedAnswer(msgspec.Struct):
    """``next`` is the ``after`` of the next call, also if there is no event yet."""

    events: list[CloudEventAnswer]
    next: str


def encoded(page: FeedPage, cursor: str) -> bytes:
    """The bytes of a ``FeedAnswer``."""
    events = b",".join(map(cloud_event, page.events))
    return b'{"events":[' + events + b'],"next":"' + cursor.encode() + b'"}'


Types = Annotated[
    list[Annotated[str, Field(pattern=r"^hourglass\.[a-z_]+\.[a-z_]+$", max_length=60)]],
    Field(min_length=1, max_length=_MAX_TYPES),
]


class NewWebhook(RequestModel):
    """``types`` names the events to deliver; without it, all of them."""

    url: Annotated[str, Field(max_length=MAX_URL)]
    types: Types | None = None


class WebhookChange(RequestModel):
    """What is given changes. ``types`` null means all of them. ``is_enabled`` true begins again after a 410."""

    url: Annotated[str, Field(max_length=MAX_URL)] | None = None
    types: Types | None = None
    is_enabled: StrictBool | None = None


class WebhookAnswer(BaseModel):
    """A receiver. ``waiting`` events were not accepted yet, ``behind`` were not tried yet."""

    id: str
    url: str
    types: list[str] | None
    is_enabled: bool
    disabled_reason: Annotated[str | None, Field(description="`gone` after a 410")]
    failing_since: Instant | None
    waiting: int
    dead_letters: int
    behind: int
    created_at: Instant

    @classmethod
    def of(cls, receiver: WebhookReceiver) -> Self:
        return cls(**_members(receiver))


class WebhookSecretAnswer(WebhookAnswer):
    """``secret`` is answered once. It begins with ``whsec_`` (Standard Webhooks)."""

    secret: str

    @classmethod
    def with_secret(cls, receiver: WebhookReceiver, secret: str) -> Self:
        return cls(**_members(receiver), secret=secret)


class WebhookList(BaseModel):
    webhooks: list[WebhookAnswer]


def kinds_of(types: list[str] | None) -> list[str] | None:
    return None if types is None else [name.removeprefix(TYPE_PREFIX) for name in types]


def _members(receiver: WebhookReceiver) -> dict[str, Any]:
    since_ms = receiver.failing_since_ms
    return {
        "id": receiver.receiver_id,
        "url": receiver.url,
        "types": None if receiver.kinds is None else [TYPE_PREFIX + kind for kind in receiver.kinds],
        "is_enabled": receiver.is_enabled,
        "disabled_reason": receiver.disabled_reason,
        "failing_since": None if since_ms is None else utc(since_ms),
        "waiting": receiver.waiting,
        "dead_letters": receiver.dead_letters,
        "behind": receiver.behind,
        "created_at": utc(receiver.created_ms),
    }
