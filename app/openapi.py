"""The OpenAPI document: FastAPI's own, completed by what FastAPI cannot see.

The heartbeat routes are plain ASGI callables, the other players' routes speak msgspec types, and every refusal is a
problem (RFC 9457). The committed copy is docs/openapi.json; `scripts/documents` writes it.
"""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.viewing.offline import OfflineSyncAnswer, OfflineSyncRequest
from app.viewing.schemas import (
    BalanceAnswer,
    EligibilityAnswer,
    EndAnswer,
    EndRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
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


_PROFILE = "6f2c8b0e-5f0e-4c39-9d4e-6a3f2f9a1b11"
_SESSION = "019a7c1e-2f4b-8a12-9c3d-5e6f7a8b9c0d"
_BEAT_EXAMPLE = {
    "profile_id": _PROFILE,
    "title_id": "moon-pirates",
    "device_id": "living-room-tv",
    "device_type": "tv",
    "session_id": _SESSION,
    "is_paused": False,
    "watched_seconds": 612.4,
}
_ANSWER_EXAMPLE = {
    "session_id": _SESSION,
    "enforcement": "allowed",
    "remaining_seconds": 6587.6,
    "used_seconds": 612.4,
    "remaining_minutes": 109.79,
    "used_minutes": 10.21,
    "is_educational": False,
    "stop_at": "2026-11-23T18:49:47.600Z",
    "next_beat_in": 29.4,
    "lease_seconds": 300.0,
    "next_reset_at": "2026-11-24T05:00:00.000Z",
    "config_version": 3,
}

_BODIES: dict[tuple[str, str], tuple[type[msgspec.Struct] | None, type[msgspec.Struct]]] = {
    ("/viewing-time/session/{session_id}/end", "post"): (EndRequest, EndAnswer),
    ("/viewing-time/balance/{profile_id}", "get"): (None, BalanceAnswer),
    ("/viewing-time/playback-eligible/{profile_id}", "get"): (None, EligibilityAnswer),
    ("/viewing-time/why/{profile_id}", "get"): (None, WhyAnswer),
    ("/viewing-time/offline-sync", "post"): (OfflineSyncRequest, OfflineSyncAnswer),
}


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
    types = {Problem, HeartbeatRequest, HeartbeatAnswer}
    types |= {model for pair in _BODIES.values() for model in pair if model is not None}
    ordered = sorted(types, key=lambda model: model.__name__)
    schemas |= msgspec.json.schema_components(ordered, ref_template=_REFERENCE)[1]
    for (path, method), (sent, answered) in _BODIES.items():
        operation = openapi["paths"][prefix + path][method]
        operation["responses"]["200"] = _success(_ref(answered))
        if sent is not None:
            operation["requestBody"] = {"content": {"application/json": {"schema": _ref(sent)}}}
    openapi["paths"] |= {
        f"{prefix}/viewing-time/heartbeat": {"post": _heartbeat()},
        f"{prefix}/viewing-time/heartbeats": {"post": _heartbeats()},
    }
    for operations in openapi["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {
                "description": "A refusal.",
                "content": {"application/problem+json": {"schema": _ref(Problem)}},
            }
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
            "content": {"application/json": {"schema": _ref(HeartbeatRequest), "example": _BEAT_EXAMPLE}},
        },
        "responses": {"200": _success(_ref(HeartbeatAnswer), example=_ANSWER_EXAMPLE)},
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
                "application/json": {"schema": batch, "example": {"beats": [_BEAT_EXAMPLE]}},
                "application/x-ndjson": {"schema": {"type": "string"}},
            },
        },
        "responses": {"200": _success(results, example={"results": [_ANSWER_EXAMPLE]})},
    }


def _ref(model: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=model.__name__)}


def _success(schema: dict[str, Any], *, example: object = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    return {"description": "Successful Response", "content": {"application/json": content}}
