"""The OpenAPI document: FastAPI's own, completed by what FastAPI cannot see.

The heartbeat routes are plain ASGI callables, the other players' routes and the reports speak msgspec types, and every
refusal is a problem (RFC 9457). The committed copy is docs/openapi.json; `scripts/documents` writes it.
"""

import re
from base64 import b64encode
from hashlib import sha256
from inspect import cleandoc
from typing import Any

import msgspec
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi

from app.examples import EXAMPLES, REFUSAL, Example
from app.reports.schemas import HistoryAnswer, WeeklyAnswer
from app.viewing.offline import OfflineSyncAnswer, OfflineSyncRequest
from app.viewing.schemas import (
    BalanceAnswer,
    EligibilityAnswer,
    EndAnswer,
    EndRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    StreamsAnswer,
    WhyAnswer,
)

_REFERENCE = "#/components/schemas/{name}"
_BEARER: list[dict[str, list[str]]] = [{"HTTPBearer": []}]


class Problem(msgspec.Struct):
    """Problem details (RFC 9457). Further members depend on the code; what was sent is never echoed."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[dict[str, str]] = []


_BODIES: dict[tuple[str, str], tuple[type[msgspec.Struct] | None, type[msgspec.Struct]]] = {
    ("/viewing-time/balance/{profile_id}", "get"): (None, BalanceAnswer),
    ("/viewing-time/playback-eligible/{profile_id}", "get"): (None, EligibilityAnswer),
    ("/viewing-time/why/{profile_id}", "get"): (None, WhyAnswer),
    ("/viewing-time/streams/{account_id}", "get"): (None, StreamsAnswer),
    ("/viewing-time/offline-sync", "post"): (OfflineSyncRequest, OfflineSyncAnswer),
    ("/parental-controls/profiles/{profile_id}/history", "get"): (None, HistoryAnswer),
    ("/parental-controls/weekly-report", "get"): (None, WeeklyAnswer),
}


_HEADERS = {
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
_BEATS = {"heartbeat", "heartbeats", "end_session"}
"""Operations that no quota counts."""

_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_LIBRARY = "https://cdn.jsdelivr.net"


def page(openapi_url: str) -> Response:
    """The document to try out. Its policy lets the page's own script and FastAPI's library run, and nothing else."""
    made = get_swagger_ui_html(openapi_url=openapi_url, title="Hourglass", swagger_favicon_url="data:,")
    digests = (b64encode(sha256(script).digest()).decode() for script in _INLINE_SCRIPT.findall(bytes(made.body)))
    scripts = " ".join(f"'sha256-{digest}'" for digest in digests)
    made.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src {_LIBRARY} {scripts}; style-src {_LIBRARY} 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return made


def document(api: FastAPI, *, prefix: str) -> dict[str, Any]:
    """The whole document as JSON-ready values."""
    openapi = get_openapi(
        title=api.title,
        version=api.version,
        openapi_version="3.1.0",
        description="Viewing time for children: measured, enforced, never lost, never doubled.",
        routes=api.routes,
    )
    schemas = openapi.setdefault("components", {}).setdefault("schemas", {})
    types = {Problem, HeartbeatRequest, HeartbeatAnswer, EndRequest, EndAnswer}
    types |= {model for pair in _BODIES.values() for model in pair if model is not None}
    ordered = sorted(types, key=lambda model: model.__name__)
    schemas |= msgspec.json.schema_components(ordered, ref_template=_REFERENCE)[1]
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    for (path, method), (sent, answered) in _BODIES.items():
        operation = openapi["paths"][prefix + path][method]
        success = operation["responses"]["200"]
        success["content"] = success["content"] | _success(_ref(answered))["content"]
        if sent is not None:
            operation["requestBody"] = {"content": {"application/json": {"schema": _ref(sent)}}}
    openapi["paths"] |= {
        f"{prefix}/viewing-time/heartbeat": {"post": _heartbeat()},
        f"{prefix}/viewing-time/heartbeats": {"post": _heartbeats()},
        f"{prefix}/viewing-time/session/{{session_id}}/end": {"post": _end()},
    }
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            _show(operation, EXAMPLES.get((method, path.removeprefix(prefix)), Example()))
            operation["responses"]["default"] = {
                "description": "A refusal.",
                "headers": _named("Retry-After"),
                "content": {"application/problem+json": {"schema": _ref(Problem), "example": REFUSAL}},
            }
            if "security" in operation and operation["operationId"] not in _BEATS:
                for answer in operation["responses"].values():
                    answer["headers"] = answer.get("headers", {}) | _named("RateLimit", "RateLimit-Policy")
    openapi["components"]["headers"] = _HEADERS
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return openapi


def _heartbeat() -> dict[str, Any]:
    return {
        "tags": ["viewing"],
        "operationId": "heartbeat",
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
        "operationId": "end_session",
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
        "operationId": "heartbeats",
        "summary": "Heartbeats of many players, from a gateway: one answer or problem each, in order.",
        "security": _BEARER,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": batch},
                "application/x-ndjson": {"schema": {"type": "string"}},
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
        success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        if example.media_type not in success.get("content", {}):
            success["content"] = {example.media_type: {"schema": {"type": "string"}}}
        success["content"][example.media_type]["example"] = example.answered
