"""The OpenAPI document: FastAPI's own, completed by what FastAPI cannot see.

The heartbeat routes are plain ASGI callables, the other players' routes and the reports speak msgspec types, and every
refusal is a problem (RFC 9457). The committed copy is docs/openapi.json; `scripts/documents` writes it.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from inspect import cleandoc
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from msgspec import UNSET, Meta, UnsetType

from app.auth.lease_keys import PublicKeySet
from app.feed.schemas import FeedAnswer
from app.http.requests import NDJSON
from app.reports.schemas import HistoryAnswer, WeeklyAnswer
from app.server.error_catalogue import CATALOGUE, codes_of, example, kinds
from app.server.openapi_examples import EXAMPLES, REFUSAL, Example
from app.viewing.offline import OfflineSyncAnswer, OfflineSyncRequest
from app.viewing.schemas import (
    BalanceAnswer,
    CoViewerAnswer,
    EligibilityAnswer,
    EndAnswer,
    EndedCoViewerAnswer,
    EndRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    StreamsAnswer,
    TicketAnswer,
    TicketRequest,
    WhyAnswer,
)

_REFERENCE = "#/components/schemas/{name}"
_BEARER: list[dict[str, list[str]]] = [{"HTTPBearer": []}]


class FieldProblem(msgspec.Struct, rename={"place": "in"}):
    """What is wrong with one value. An entry about the whole body has neither ``pointer`` nor ``parameter``.

    ``pointer`` is a JSON pointer into the body; ``parameter`` and ``in`` name a parameter or header.
    """

    detail: str
    pointer: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    parameter: str | UnsetType = UNSET
    place: Literal["path", "query", "header"] | UnsetType = UNSET


class Problem(msgspec.Struct):
    """Problem details (RFC 9457). Further members depend on the code; what was sent is never echoed.

    Decide by ``code``. Codes that a client does not know are treated by their status. ``request_id`` finds the request
    in the logs; problems inside a batch have that of their answer's header.
    """

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(pattern="^[a-z_]+$", extra_json_schema={"x-extensible-enum": list(CATALOGUE)})]
    errors: list[FieldProblem] = []
    request_id: str | msgspec.UnsetType = msgspec.UNSET
    trace_id: str | msgspec.UnsetType = msgspec.UNSET


_BODIES: dict[tuple[str, str], tuple[type[msgspec.Struct] | None, type[msgspec.Struct]]] = {
    ("/viewing-time/balance/{profile_id}", "get"): (None, BalanceAnswer),
    ("/viewing-time/playback-eligible/{profile_id}", "get"): (None, EligibilityAnswer),
    ("/viewing-time/why/{profile_id}", "get"): (None, WhyAnswer),
    ("/viewing-time/streams/{account_id}", "get"): (None, StreamsAnswer),
    ("/viewing-time/events-ticket", "post"): (TicketRequest, TicketAnswer),
    ("/viewing-time/offline-sync", "post"): (OfflineSyncRequest, OfflineSyncAnswer),
    ("/parental-controls/profiles/{profile_id}/history", "get"): (None, HistoryAnswer),
    ("/parental-controls/weekly-report", "get"): (None, WeeklyAnswer),
    ("/platform/events", "get"): (None, FeedAnswer),
    ("/.well-known/jwks.json", "get"): (None, PublicKeySet),
    ("/admin/accounts/{account_id}/profiles/{profile_id}/balance", "get"): (None, BalanceAnswer),
    ("/admin/accounts/{account_id}/profiles/{profile_id}/why", "get"): (None, WhyAnswer),
    ("/admin/accounts/{account_id}/profiles/{profile_id}/history", "get"): (None, HistoryAnswer),
}


_HEADERS = {
    "Date": {
        "description": "The server's time, in seconds (RFC 9110).",
        "schema": {"type": "string"},
        "example": "Mon, 23 Nov 2026 17:00:00 GMT",
    },
    "ETag": {
        "description": "The version of the settings, for `If-Match` and `If-None-Match`.",
        "schema": {"type": "string"},
        "example": '"3"',
    },
    "Location": {
        "description": "The address of what was made.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/api/v1/profiles/6f2c8b0e-5f0e-4c39-9d4e-6a3f2f9a1b11",
    },
    "RateLimit": {
        "description": "What is left of each quota (r) and in how many seconds it is whole again (t).",
        "schema": {"type": "string"},
        "example": '"account";r=1199;t=1, "token";r=599;t=1',
    },
    "RateLimit-Policy": {
        "description": "The quotas of the caller: q requests in w seconds.",
        "schema": {"type": "string"},
        "example": '"account";q=1200;w=60, "token";q=600;w=60',
    },
    "Retry-After": {
        "description": "Seconds to wait, with 423, 429 and 503.",
        "schema": {"type": "integer"},
        "example": 5,
    },
}
_TICKET = {
    "type": "apiKey",
    "in": "query",
    "name": "ticket",
    "description": "From /viewing-time/events-ticket: for one stream, within 60 seconds.",
}
_BEATS = {"sendHeartbeat", "sendHeartbeats", "endSession"}
"""Operations that no quota counts."""


_QUOTAS = ["RateLimit", "RateLimit-Policy"]
_OPERATION_IDS = {
    "account": "getAccount",
    "add": "addProfile",
    "add_device": "addDevice",
    "admin_audit": "adminListAudit",
    "admin_balance": "adminGetBalance",
    "admin_dead_letters": "adminListDeadLetters",
    "admin_flush": "adminGetFlush",
    "admin_history": "adminGetHistory",
    "admin_profiles": "adminListProfiles",
    "admin_why": "adminExplainBalance",
    "approve_request": "approveRequest",
    "ask_for_time": "requestTime",
    "audit_log": "listAudit",
    "balance": "getBalance",
    "caregiver": "getCaregiver",
    "change": "changeProfile",
    "change_email": "changeEmail",
    "change_password": "changePassword",
    "choose": "setPin",
    "deny_request": "denyRequest",
    "devices": "listDevices",
    "end_sign_in": "endSignIn",
    "erase_account": "eraseAccount",
    "erase_profile": "eraseProfile",
    "events": "streamEvents",
    "events_ticket": "createEventsTicket",
    "export": "exportProfile",
    "export_account": "exportAccount",
    "give_time": "grantTime",
    "grants": "listGrants",
    "history": "getHistory",
    "household_requests": "listHouseholdRequests",
    "lease_keys": "getLeaseKeys",
    "lift_all_pauses": "liftAllPauses",
    "lift_pause": "liftPause",
    "live": "getLiveness",
    "log_out": "logout",
    "log_out_everywhere": "logoutEverywhere",
    "offline_sync": "syncOffline",
    "pause": "pauseViewing",
    "pause_all": "pauseAllViewing",
    "playback_eligible": "checkEligibility",
    "preview_viewing_time": "previewLimits",
    "profiles": "listProfiles",
    "prometheus": "getMetrics",
    "ready": "getReadiness",
    "read_viewing_time": "getLimits",
    "remove_title": "deleteTitle",
    "requests": "listRequests",
    "reset": "resetPin",
    "revoke_device": "revokeDevice",
    "revoke_grant": "revokeGrant",
    "save_viewing_time": "saveLimits",
    "sign_ins": "listSignIns",
    "status": "getPinStatus",
    "streams": "listStreams",
    "titles": "listTitles",
    "upload": "uploadTitles",
    "verify": "verifyPin",
    "weekly_report": "getWeeklyReport",
    "why": "explainBalance",
}
"""Ids of operations by the name of their endpoint, for generators of clients. They are part of the contract."""

_TAGS = {
    "viewing": "Players: heartbeats, balances, eligibility, events and offline playback.",
    "parental controls": "Parents: limits, extra time and what children ask for.",
    "reports": "Parents: history and the weekly report.",
    "profiles": "Who watches.",
    "signing in": "Accounts are opened, sign-ins begin, go on and end, parent devices are added and revoked.",
    "account": "The household's account: its e-mail address and password.",
    "PIN": "The PIN that tells parents from children.",
    "privacy": "Export, erasure and the audit log.",
    "catalogue": "The platform's titles.",
    "event feed": "The platform's services: what happened, in order.",
    "platform": "Provisioning: accounts and profiles by the ids of the platform.",
    "admin": "Support and operations: read only, each reading in the audit log of the account.",
    "operations": "Health, metrics and the keys of playback leases, without a prefix.",
}
_EXTENSIBLE = {
    "enforcement": ("^(allowed|blocked|warning_[0-9]{1,3})$", ["allowed", "warning_15", "warning_5", "blocked"]),
    "reason": (
        "^[a-z_]+$",
        [
            *("adult", "unlimited", "educational_exempt", "within_limit", "limit_reached", "not_enforced"),
            *("daily_limit", "weekly_limit", "window", "parent_pause", "break"),
        ],
    ),
}
"""Texts with a pattern, and the values they have today: names of warnings follow the thresholds, reasons are added."""
_INSTANT = re.compile(r"_at$|^(paused_until|server_time|as_of|blocked_from|blocked_until|device_now|last_server_time)$")
_DATE = re.compile(r"^(day|date|first_date|last_date|week_start|week_end|week_ending)$")


def document(api: FastAPI, *, prefix: str) -> dict[str, Any]:
    """The whole document as JSON-ready values."""
    openapi = get_openapi(
        title=api.title,
        version=api.version,
        openapi_version="3.1.0",
        summary="Viewing time for children: measured, enforced, never lost, never doubled.",
        description=_DESCRIPTION,
        routes=api.routes,
        contact={"name": "The Hourglass developers"},
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": "/", "description": "The deployment that serves this document."}],
    )
    _complete_schemas(openapi)
    openapi["paths"] |= {
        f"{prefix}/viewing-time/heartbeat": {"post": _heartbeat()},
        f"{prefix}/viewing-time/heartbeats": {"post": _heartbeats()},
        f"{prefix}/viewing-time/session/{{session_id}}/end": {"post": _end()},
    }
    names = {
        (method.lower(), route.path_format): route.name
        for route in api.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            name = names.get((method, path))
            if name is not None:
                is_probe = path == "/health/startup"
                operation["operationId"] = "getStartup" if is_probe else operation_id(name)
            _complete(operation, path.removeprefix(prefix), method)
            _name_inline_schemas(operation, openapi["components"]["schemas"])
    openapi["components"]["responses"] = _shared_refusals(openapi)
    openapi["components"]["headers"] = _HEADERS
    openapi["components"]["examples"] = {
        code: {"summary": kind.title, "value": example(code)}
        for code, kind in kinds().items()
        if code not in _OUTSIDE_OPERATIONS
    }
    openapi["components"]["securitySchemes"]["EventsTicket"] = _TICKET
    events = openapi["paths"][f"{prefix}/viewing-time/events/{{profile_id}}"]["get"]
    events["security"] = [*_BEARER, {"EventsTicket": []}]
    used = {tag for operations in openapi["paths"].values() for call in operations.values() for tag in call["tags"]}
    openapi["tags"] = [{"name": tag, "description": _TAGS.get(tag, f"Calls about {tag}.")} for tag in sorted(used)]
    return openapi


def _shared_refusals(openapi: dict[str, Any]) -> dict[str, Any]:
    """Put refusals that many operations answer into one place; answers what lies there, by name."""
    shared: dict[str, Any] = {}
    for operations in openapi["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/problem+json")
                if content is None:
                    continue
                codes = content.get("examples", ())
                name = ".".join((f"Refusal{'' if status == 'default' else status}", *codes))
                name += ".limited" if "RateLimit" in answer["headers"] else ""
                shared[name] = answer
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(shared.items()))


def operation_id(endpoint_name: str) -> str:
    """The id of the operation that an endpoint serves."""
    head, *rest = endpoint_name.split("_")
    return _OPERATION_IDS.get(endpoint_name) or head + "".join(word.capitalize() for word in rest)


def _complete_schemas(openapi: dict[str, Any]) -> None:
    """Schemas of what msgspec decodes and encodes, and what neither library says of a text."""
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    types = {Problem, HeartbeatRequest, HeartbeatAnswer, EndRequest, EndAnswer}
    types |= {model for pair in _BODIES.values() for model in pair if model is not None}
    ordered = sorted(types, key=lambda model: model.__name__)
    schemas |= msgspec.json.schema_components(ordered, ref_template=_REFERENCE)[1]
    for co_viewer in (CoViewerAnswer, EndedCoViewerAnswer):
        schemas[co_viewer.__name__]["properties"]["problem"] = _ref(Problem)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
        for name, value in schema.get("properties", {}).items():
            _describe_default(value)
            for text in _texts_of(value):
                if name in _EXTENSIBLE:
                    text["pattern"], text["x-extensible-enum"] = _EXTENSIBLE[name]
                elif _INSTANT.search(name):
                    text["format"] = "date-time"
                elif _DATE.search(name):
                    text["format"] = "date"


def _describe_default(schema: dict[str, Any]) -> None:
    """Say the default in words: generators take a field with one for a field that must be sent."""
    value = schema.pop("default", None)
    if value is not None and value != []:
        said = f"{json.dumps(value)} unless given."
        schema["description"] = " ".join(filter(None, (schema.get("description"), said)))


def _name_inline_schemas(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give the schemas that stand in answers a name of their own: generators make a type of each place otherwise."""
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            schema = content.get("schema", {})
            if "properties" in schema and "title" in schema:
                schemas[schema["title"]] = schema | {"description": cleandoc(schema.get("description", ""))}
                content["schema"] = {"$ref": _REFERENCE.format(name=schema["title"])}


def _texts_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The plain texts among the alternatives of a schema."""
    for alternative in schema.get("anyOf", [schema]):
        if alternative.get("type") == "string" and "enum" not in alternative and "const" not in alternative:
            yield alternative


def _complete(operation: dict[str, Any], path: str, method: str) -> None:
    """Everything of an operation that FastAPI does not know."""
    if (path, method) in _BODIES:
        sent, answered = _BODIES[path, method]
        success = operation["responses"]["200"]
        success["content"] = success["content"] | _success(_ref(answered))["content"]
        if sent is not None:
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(sent)}}}
    operation.setdefault("description", operation["summary"])
    operation.setdefault("security", [])
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "header":
            parameter["name"] = _HEADER_NAMES.get(parameter["name"].lower(), parameter["name"])
        _PARAMETERS.get(parameter["name"], _as_it_is)(parameter)
    operation["responses"].pop("422", None)
    _show(operation, EXAMPLES.get((method, path), Example()))
    if operation["tags"] == ["operations"]:
        operation["responses"]["405"] = _refused(["method_not_allowed"])
    else:
        _add_refusals(operation, path)
    operation["responses"]["default"] = _refusal("Another refusal, or a defect.", {"example": REFUSAL})
    is_limited = bool(operation["security"]) and operation["operationId"] not in _BEATS
    for status, answer in operation["responses"].items():
        is_versioned = operation["operationId"] in {"getLimits", "saveLimits"} and status in {"200", "304"}
        named = ["Date", *(["Location"] if status == "201" else []), *(["ETag"] if is_versioned else [])]
        named += _QUOTAS if is_limited else []
        answer["headers"] = answer.get("headers", {}) | _named(*named)


def _add_refusals(operation: dict[str, Any], path: str) -> None:
    """Each status of a refusal with its codes."""
    parameters = operation.get("parameters", [])
    found = codes_of(
        operation["operationId"],
        needs_token=bool(operation["security"]),
        needs_parent=any(parameter["name"].lower() == "x-pin-token" for parameter in parameters),
        has_body="requestBody" in operation,
        has_input=bool(parameters),
        names_profile="{profile_id}" in path or "{session_id}" in path or operation["operationId"] in _OF_A_PROFILE,
    )
    for status, codes in found.items():
        operation["responses"][str(status)] = _refused(codes)


def _refused(codes: Sequence[str]) -> dict[str, Any]:
    said = ", ".join(f"`{code}`" for code in codes)
    shown = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    return _refusal(f"Refused: {said}.", {"examples": shown})


_OUTSIDE_OPERATIONS = {"bad_request", "head_too_large", "unexpected"}
"""Codes of what is no request to an operation, or of a defect."""
_OF_A_PROFILE = {"sendHeartbeat", "createEventsTicket", "syncOffline"}


def _refusal(description: str, shown: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _named("Retry-After"),
        "content": {"application/problem+json": {"schema": _ref(Problem)} | shown},
    }


def _as_it_is(parameter: dict[str, Any]) -> None:
    pass


def _if_match(parameter: dict[str, Any]) -> None:
    """FastAPI splits it into a list; for a client it is one text."""
    parameter |= {
        "required": True,
        "schema": {"type": "string"},
        "description": "The `ETag` of the settings that were read, or `*`.",
        "example": '"3"',
    }


def _if_none_match(parameter: dict[str, Any]) -> None:
    parameter |= {
        "required": False,
        "schema": {"type": "string"},
        "description": "The `ETag` of the last answer; 304 while it is the newest.",
    }


_PARAMETERS: dict[str, Callable[[dict[str, Any]], None]] = {"If-Match": _if_match, "If-None-Match": _if_none_match}
_HEADER_NAMES = {
    name.lower(): name for name in ("Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "X-PIN-Token")
}
"""Headers in one spelling, whichever a route uses."""
_DESCRIPTION = """\
Players send heartbeats, and each answer says whether playback may go on and when it must stop. Parents set limits, give
extra time and read history.

Every refusal is a problem (RFC 9457) whose `code` is stable. Instants are RFC 3339 in UTC. Fields may be added to
answers, and codes, reasons and warnings to their lists, without a new version; clients ignore what they do not know.
"""


def _heartbeat() -> dict[str, Any]:
    return {
        "tags": ["viewing"],
        "operationId": "sendHeartbeat",
        "summary": "Count a heartbeat and decide whether playback may go on.",
        "security": _BEARER,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(HeartbeatRequest)}},
        },
        "responses": {"200": _success(_ref(HeartbeatAnswer))},
    }


def _end() -> dict[str, Any]:
    session_id = {"type": "string", "minLength": 36, "maxLength": 36, "pattern": "^[0-9a-f-]+$"}
    return {
        "tags": ["viewing"],
        "operationId": "endSession",
        "summary": "End a session; repeating it answers the same.",
        "security": _BEARER,
        "parameters": [{"name": "session_id", "in": "path", "required": True, "schema": session_id}],
        "requestBody": {"content": {"application/json": {"schema": _ref(EndRequest)}}},
        "responses": {"200": _success(_ref(EndAnswer))},
    }


def _heartbeats() -> dict[str, Any]:
    batch = {
        "type": "object",
        "required": ["beats"],
        "properties": {"beats": {"type": "array", "maxItems": 1000, "items": _ref(HeartbeatRequest)}},
    }
    results = {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": {"anyOf": [_ref(HeartbeatAnswer), _ref(Problem)]}}},
    }
    return {
        "tags": ["viewing"],
        "operationId": "sendHeartbeats",
        "summary": "Heartbeats of many players, from a gateway: one answer or problem each, in order.",
        "security": _BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": batch},
                NDJSON: {"schema": {"type": "string"}},
            },
        },
        "responses": {"200": _success(results)},
    }


def _named(*headers: str) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in headers}


def _ref(model: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=model.__name__)}


def _success(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Successful Response", "content": {"application/json": {"schema": schema}}}


def _show(operation: dict[str, Any], example: Example) -> None:
    """Put an example into an operation; what comes back may be of a type that FastAPI does not know of."""
    if example.sent is not None:
        operation["requestBody"]["content"]["application/json"]["example"] = example.sent
    if example.answered is not None:
        for success in (answer for status, answer in operation["responses"].items() if status.startswith("2")):
            if example.media_type not in success.get("content", {}):
                success["content"] = {example.media_type: {"schema": {"type": "string"}}}
            success["content"][example.media_type]["example"] = example.answered
