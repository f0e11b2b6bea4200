"""The reference of events, made from their classes: docs/reference/events.md and the AsyncAPI document."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from inspect import cleandoc
from typing import Any

import msgspec

from app.domain import feed
from app.domain.feed import KINDS, TYPE_PREFIX, Facts, KeptEvent, cloud_event
from app.feed.schemas import CloudEventAnswer

_ADA = "6f2c8b0e-5f0e-4c39-9d4e-6a3f2f9a1b11"
_ACCOUNT = "4e9b1c7d-8a2f-4b56-9d03-7c1e5f8a2b64"
_GRANT = "2f1d8c34-7f0b-4d2e-8a65-0d9b5a1c7e42"
_REQUEST = "9b7e4c1a-3d52-4f68-b0a9-6e8d2c5f1a37"
_DAY = date(2026, 11, 23)
_TEMPLATE = "#/components/schemas/{name}"
_OF_THE_ACCOUNT = {feed.ReportReady}


def _at(hour: int, minute: int = 0, *, day: int = 23) -> datetime:
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC)


EXAMPLES: dict[str, Facts] = {
    facts.kind: facts
    for facts in (
        feed.RequestCreated(request_id=_REQUEST, day=_DAY, minutes=30, expires_at=_at(5, day=24)),
        feed.RequestAnswered(request_id=_REQUEST, status="approved", grant_id=_GRANT),
        feed.GrantGiven(grant_id=_GRANT, day=_DAY, minutes=30, is_remote=True),
        feed.GrantRevoked(grant_id=_GRANT, day=_DAY),
        feed.PauseBegun(paused_until=_at(18, 30)),
        feed.PauseLifted(),
        feed.ConfigChanged(version=3, changed=("weekday_limit_minutes", "warning_minutes")),
        feed.LimitReached(day=_DAY, allowance_seconds=7200.0),
        feed.EndedSession(
            session_id="019a7c1e-2f4b-8a12-9c3d-5e6f7a8b9c0d",
            day=_DAY,
            title_id="moon-pirates",
            device_type="tv",
            is_educational=False,
            started_at=_at(16, 45),
            ended_at=_at(17, 15),
            total_seconds=1800.0,
            fell_silent=False,
        ),
        feed.DayClosed(
            day=_DAY,
            used_seconds=7620.5,
            educational_seconds=900.0,
            overrun_seconds=0.0,
            limit_seconds=7200.0,
            borrowed_seconds=420.5,
            owed_seconds=0.0,
        ),
        feed.ReportReady(week_ending=date(2026, 11, 22)),
        feed.ProfileErased(),
        feed.TamperingSuspected(reason="clock_moved", penalty_seconds=1800.0),
    )
}
"""An example of each kind, of the same family and evening."""


def example(kind: str, position: int = 4711) -> dict[str, Any]:
    """A whole event of a kind."""
    facts = EXAMPLES[kind]
    event = feed.FeedEvent(facts=facts, cause=("example", kind), at_ms=0)
    is_of_account = type(facts) in _OF_THE_ACCOUNT
    kept = KeptEvent(
        position=position,
        event_id=event.event_id,
        kind=kind,
        at="2026-11-23T17:15:00.000Z",
        account_id=_ACCOUNT,
        profile_id=None if is_of_account else _ADA,
        account_external_id="auth0|5f7c8ec7c33c6c004bbafe82",
        profile_external_id=None if is_of_account else "profile-7",
        facts=event.facts_json,
        written_ms=0,
    )
    found: dict[str, Any] = json.loads(cloud_event(kept))
    return found


def data_schema(facts: type[Facts]) -> dict[str, Any]:
    """The JSON schema of ``data``: the facts, and whom they concern."""
    (_, components) = msgspec.json.schema_components([facts], ref_template=_TEMPLATE)
    own = components[facts.__name__]
    uuid: dict[str, Any] = {"type": "string", "format": "uuid"}
    is_of_account = facts in _OF_THE_ACCOUNT
    external = {"type": ["string", "null"], "maxLength": 255, "description": "The platform's own id; null without one."}
    owner = {
        "account_id": uuid,
        "profile_id": {"type": "null"} if is_of_account else uuid,
        "external_account_id": external,
        "external_profile_id": {"type": "null"} if is_of_account else external,
    }
    return {
        "type": "object",
        "properties": owner | own["properties"],
        "required": [*owner, *own.get("required", [])],
    }


def event_schema(facts: type[Facts]) -> dict[str, Any]:
    """The JSON schema of a whole event of one kind."""
    (_, components) = msgspec.json.schema_components([CloudEventAnswer], ref_template=_TEMPLATE)
    envelope = components[CloudEventAnswer.__name__]
    properties = envelope["properties"] | {"type": {"const": TYPE_PREFIX + facts.kind}, "data": data_schema(facts)}
    return {"type": "object", "properties": properties, "required": envelope["required"]}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document of the webhooks."""
    names = {kind: kind.title().replace(".", "") for kind in KINDS}
    messages = {
        names[kind]: {
            "name": TYPE_PREFIX + kind,
            "title": names[kind],
            "summary": _summary(facts),
            "description": _text(facts),
            "contentType": "application/cloudevents+json",
            "headers": {"$ref": "#/components/schemas/WebhookHeaders"},
            "payload": event_schema(facts),
            "examples": [{"payload": example(kind)}],
        }
        for kind, facts in KINDS.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Hourglass event feed",
            "version": "1.0.0",
            "description": "What happened, as CloudEvents 1.0. Webhooks are signed after Standard Webhooks.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            "webhook": {
                "address": None,
                "description": "The address that was given to POST /api/v1/platform/webhooks.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "deliver": {
                "action": "send",
                "channel": {"$ref": "#/channels/webhook"},
                "summary": "Deliver an event at least once, in the order of its subject.",
                "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            }
        },
        "components": {"messages": messages, "schemas": {"WebhookHeaders": _HEADERS}},
    }


_HEADERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "webhook-id": {
            "type": "string",
            "format": "uuid",
            "description": "The id of the event, the same when repeated.",
        },
        "webhook-timestamp": {"type": "string", "pattern": "^[0-9]+$", "description": "Seconds since 1970."},
        "webhook-signature": {
            "type": "string",
            "pattern": "^v1,[A-Za-z0-9+/=]+( v1,[A-Za-z0-9+/=]+)*$",
            "description": "One signature, or two for a day after the secret was rotated.",
        },
    },
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
}


def asyncapi_text() -> str:
    return json.dumps(asyncapi(), indent=1, ensure_ascii=False) + "\n"


def event_sections() -> str:
    """A section for each kind of event: when it is sent, its fields, and an example."""
    parts: list[str] = []
    for kind, facts in KINDS.items():
        parts += [f"## {TYPE_PREFIX}{kind}", "", _text(facts), ""]
        rows = list(_rows(facts))
        if rows:
            parts += ["| field of `data` | type | meaning |", "|---|---|---|", *rows, ""]
        parts += ["```json", json.dumps(example(kind), indent=2, ensure_ascii=False), "```", ""]
    return "\n".join(parts).rstrip()


def _rows(facts: type[Facts]) -> Iterator[str]:
    (_, components) = msgspec.json.schema_components([facts], ref_template=_TEMPLATE)
    meanings = _field_docstrings(facts)
    for name, schema in components[facts.__name__]["properties"].items():
        yield f"| `{name}` | {_type_of(schema)} | {meanings.get(name, _MEANINGS.get(name, ''))} |"


_MEANINGS = {
    "request_id": "the request",
    "grant_id": "the grant",
    "session_id": "the session",
    "day": "the viewing day",
    "minutes": "minutes",
    "expires_at": "the end of that day; the request can be answered until then",
    "status": "`approved` or `denied`",
    "paused_until": "when the pause ends by itself",
    "version": "the version of the settings",
    "allowance_seconds": "the allowance that is used up",
    "title_id": "the title's id in the catalogue",
    "device_type": "`tv`, `mobile`, `tablet` or `web`",
    "is_educational": "whether the title is educational",
    "started_at": "its first heartbeat",
    "ended_at": "its last heartbeat",
    "fell_silent": "whether the player sent no end",
    "used_seconds": "counted time",
    "educational_seconds": "educational time",
    "overrun_seconds": "time beyond the allowance",
    "week_ending": "the last viewing day of the week",
    "reason": "what was noticed",
}


def _field_docstrings(facts: type[Facts]) -> dict[str, str]:
    """Docstrings below fields, by the name of the field."""
    import ast  # noqa: PLC0415  for the generator alone
    import inspect  # noqa: PLC0415

    body = ast.parse(inspect.getsource(facts)).body[0]
    found: dict[str, str] = {}
    if isinstance(body, ast.ClassDef):
        for field, after in zip(body.body, body.body[1:], strict=False):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                found[field.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]
    return found


def _type_of(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type_of(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type_of(schema['items'])}"
    return str(schema.get("format", schema.get("type", "any"))).replace("date-time", "instant")


def _text(facts: type[Facts]) -> str:
    return cleandoc(facts.__doc__ or "")


def _summary(facts: type[Facts]) -> str:
    return _text(facts).splitlines()[0]
