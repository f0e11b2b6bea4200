"""One example of every call, for the OpenAPI document: the same family, the same evening.

By method and path without prefix: what is sent, and what comes back. None stands for no body.
"""

from typing import Any

import msgspec

_ADA = "6f2c8b0e-5f0e-4c39-9d4e-6a3f2f9a1b11"
_SESSION = "019a7c1e-2f4b-8a12-9c3d-5e6f7a8b9c0d"
_GRANT = "2f1d8c34-7f0b-4d2e-8a65-0d9b5a1c7e42"
_REQUEST = "9b7e4c1a-3d52-4f68-b0a9-6e8d2c5f1a37"
_DEVICE = "c8a5f2d1-6b3e-4970-8f1c-2d7e9a4b6c53"
_ACCOUNT = "4e9b1c7d-8a2f-4b56-9d03-7c1e5f8a2b64"
_NEXT_RESET = "2026-11-24T05:00:00.000Z"
_PASSWORD, _PIN = "correct horse battery", "4711"


class Example(msgspec.Struct, frozen=True):
    """``media_type`` is that of what comes back."""

    sent: Any = None
    answered: Any = None
    media_type: str = "application/json"


_SIGNED_IN = {
    "account_id": _ACCOUNT,
    "access_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0ZTli….kJ3v",
    "refresh_token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0ZTli….pQ9x",
    "token_type": "Bearer",
    "expires_in": 3600,
}
_PIN_STATUS = {"has_pin": True, "locked_until": None}
_PROFILE = {"id": _ADA, "name": "Ada", "is_kids": True, "timezone": "Europe/Oslo", "limits_reviewed": True}
_TITLE = {"id": "moon-pirates", "name": "Moon Pirates", "is_educational": False, "duration_seconds": 5400}
_BEAT = {
    "profile_id": _ADA,
    "title_id": "moon-pirates",
    "device_id": "living-room-tv",
    "device_type": "tv",
    "session_id": _SESSION,
    "is_paused": False,
    "watched_seconds": 612.4,
}
_BEAT_ANSWER = {
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
    "next_reset_at": _NEXT_RESET,
    "config_version": 3,
}
_BALANCE = {
    "profile_id": _ADA,
    "is_child_profile": True,
    "has_limits": True,
    "used_seconds": 612.4,
    "used_minutes": 10.21,
    "educational_seconds": 0.0,
    "educational_minutes": 0.0,
    "overrun_seconds": 0.0,
    "limit_minutes": 120,
    "granted_minutes": 0,
    "remaining_seconds": 6587.6,
    "remaining_minutes": 109.79,
    "is_unlimited_override": False,
    "enforcement": "allowed",
    "day": "2026-11-23",
    "next_reset_at": _NEXT_RESET,
    "warning_threshold_minutes": None,
}
_SETTINGS = {
    "profile_id": _ADA,
    "weekday_limit_minutes": 120,
    "weekend_limit_minutes": 180,
    "reset_hour": 6,
    "timezone": "Europe/Oslo",
    "educational_exempt": True,
    "warning_minutes": [15, 5],
    "version": 3,
    "limits_reviewed": True,
    "pending_change": None,
}
_GIVEN = {
    "grant_id": _GRANT,
    "granted_minutes": 15,
    "day": "2026-11-23",
    "remaining_seconds": 7487.6,
    "remaining_minutes": 124.79,
    "is_unlimited_override": False,
}
_GRANT_ENTRY = {
    "grant_id": _GRANT,
    "minutes": 15,
    "day": "2026-11-23",
    "granted_by": f"device:{_DEVICE}",
    "is_remote": True,
    "granted_at": "2026-11-23T17:00:00Z",
    "revoked_at": None,
}
_ASKED = {
    "request_id": _REQUEST,
    "minutes": 15,
    "note": "the film is nearly over",
    "day": "2026-11-23",
    "status": "open",
    "requested_at": "2026-11-23T16:59:00Z",
    "expires_at": "2026-11-24T05:00:00Z",
    "decided_at": None,
    "grant_id": None,
}
_DECIDED = _ASKED | {"status": "approved", "decided_at": "2026-11-23T17:00:00Z", "grant_id": _GRANT}
_DAY = {
    "date": "2026-11-22",
    "counted_seconds": 5400.0,
    "educational_seconds": 1200.0,
    "overrun_seconds": 0.0,
    "total_seconds": 6600.0,
    "limit_minutes": 180,
}
_PART = {
    "session_id": _SESSION,
    "title_id": "moon-pirates",
    "title_name": "Moon Pirates",
    "device_id": "living-room-tv",
    "device_type": "tv",
    "is_educational": False,
    "started_at": "2026-11-22T15:00:00Z",
    "ended_at": "2026-11-22T16:30:00Z",
    "counted_seconds": 5400.0,
    "educational_seconds": 0.0,
    "total_seconds": 5400.0,
}
_WEEK = {
    "profile_id": _ADA,
    "profile_name": "Ada",
    "daily": [_DAY | {"date": f"2026-11-{day}"} for day in range(16, 23)],
    "average_daily_seconds": 6600.0,
    "total_seconds": 46_200.0,
    "counted_seconds": 37_800.0,
    "educational_seconds": 8400.0,
    "limit_usage_percent": 50.0,
    "top_titles": [{"title_id": "moon-pirates", "title_name": "Moon Pirates", "total_seconds": 37_800.0}],
    "grants": 1,
    "granted_minutes": 15,
    "unlimited_grants": 0,
    "change_percent": -12.5,
}
_WHY = {
    "profile_id": _ADA,
    "decided_at": "2026-11-23T17:00:00.000Z",
    "enforcement": "allowed",
    "sentences": [
        "The viewing day 2026-11-23 is a weekday; it ends at 2026-11-24T05:00:00.000Z.",
        "The limit of this day is 120.0 minutes.",
        "10.2 minutes have been used.",
        "So 109.8 minutes remain: allowed.",
    ],
    "config_version": 3,
    "limit_seconds": 7200.0,
    "granted_seconds": 0.0,
    "is_unlimited_override": False,
    "offline_seconds": 0.0,
    "used_seconds": 612.4,
    "educational_seconds": 0.0,
    "overrun_seconds": 0.0,
    "remaining_seconds": 6587.6,
    "stop_at": "2026-11-23T18:49:47.600Z",
    "day": {
        "date": "2026-11-23",
        "starts_at": "2026-11-23T05:00:00.000Z",
        "ends_at": _NEXT_RESET,
        "is_weekend": False,
        "timezone": "Europe/Oslo",
        "reset_hour": 6,
    },
    "session": None,
}
_READY = {"status": "up", "redis": "up", "postgresql": "up", "invalidations": "up", "concerns": []}

_VIEWING, _CONTROLS = "/viewing-time", "/parental-controls"
_CHILD = f"{_CONTROLS}/profiles/{{profile_id}}"

EXAMPLES: dict[tuple[str, str], Example] = {
    ("post", "/auth/register"): Example(
        {"email": "kim@example.org", "password": _PASSWORD, "timezone": "Europe/Oslo"}, _SIGNED_IN
    ),
    ("post", "/auth/login"): Example({"email": "kim@example.org", "password": _PASSWORD}, _SIGNED_IN),
    ("post", "/auth/refresh"): Example({"refresh_token": _SIGNED_IN["refresh_token"]}, _SIGNED_IN),
    ("post", "/auth/devices"): Example(
        {"name": "Kim's phone", "pin": _PIN},
        {
            "id": _DEVICE,
            "name": "Kim's phone",
            "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJkaWQiOiJjOGE1….r8Tn",
            "expires_at": "2027-05-22T17:00:00Z",
        },
    ),
    ("get", "/auth/devices"): Example(
        answered=[
            {
                "id": _DEVICE,
                "name": "Kim's phone",
                "created_at": "2026-11-23T17:00:00Z",
                "expires_at": "2027-05-22T17:00:00Z",
            }
        ]
    ),
    ("delete", "/auth/devices/{device_id}"): Example(),
    ("get", f"{_CONTROLS}/pin/status"): Example(answered=_PIN_STATUS),
    ("post", f"{_CONTROLS}/pin"): Example({"new_pin": _PIN, "password": _PASSWORD}, _PIN_STATUS),
    ("post", f"{_CONTROLS}/pin/verify"): Example(
        {"pin": _PIN},
        {"verified": True, "pin_token": "b1fYQ0mJ3n5sT8vX2zA4cE6gI9kL7oP0rU1wD3hF5yM", "expires_in": 900},
    ),
    ("post", f"{_CONTROLS}/pin/reset"): Example({"password": _PASSWORD, "new_pin": _PIN}, _PIN_STATUS),
    ("get", "/profiles"): Example(answered=[_PROFILE]),
    ("post", "/profiles"): Example({"name": "Ada", "is_kids": True}, _PROFILE | {"limits_reviewed": False}),
    ("patch", "/profiles/{profile_id}"): Example({"name": "Ada"}, _PROFILE),
    ("delete", "/profiles/{profile_id}"): Example(
        answered={"erased_at": "2026-11-23T17:00:00Z", "counts": {"sessions": 214, "profiles": 1}}
    ),
    ("delete", "/account"): Example(
        {"password": _PASSWORD}, {"erased_at": "2026-11-23T17:00:00Z", "counts": {"profiles": 3, "accounts": 1}}
    ),
    ("get", f"{_CHILD}/export"): Example(
        answered={
            "exported_at": "2026-11-23T17:00:00.000Z",
            "profile": {"id": _ADA, "name": "Ada"},
            "grants": [{"id": _GRANT, "day": "2026-11-23", "minutes": 15}],
        }
    ),
    ("put", "/catalog/titles"): Example([_TITLE], {"received": 1, "created": 1, "updated": 0, "unchanged": 0}),
    ("get", "/catalog/titles"): Example(answered={"titles": [_TITLE], "next_cursor": None}),
    ("post", f"{_VIEWING}/heartbeat"): Example(_BEAT, _BEAT_ANSWER),
    ("post", f"{_VIEWING}/heartbeats"): Example({"beats": [_BEAT]}, {"results": [_BEAT_ANSWER]}),
    ("post", f"{_VIEWING}/session/{{session_id}}/end"): Example(
        {"watched_seconds": 640.2},
        {"session_id": _SESSION, "total_seconds": 640.2, "ended_at": "2026-11-23T17:00:28.000Z"},
    ),
    ("get", f"{_VIEWING}/balance/{{profile_id}}"): Example(answered=_BALANCE),
    ("get", f"{_VIEWING}/why/{{profile_id}}"): Example(answered=_WHY),
    ("get", f"{_VIEWING}/playback-eligible/{{profile_id}}"): Example(
        answered={
            "profile_id": _ADA,
            "eligible": True,
            "reason": "within_limit",
            "remaining_seconds": 6587.6,
            "remaining_minutes": 109.79,
            "next_reset_at": _NEXT_RESET,
        }
    ),
    ("get", f"{_VIEWING}/streams/{{account_id}}"): Example(
        answered={
            "account_id": _ACCOUNT,
            "streams": [
                {
                    "session_id": _SESSION,
                    "profile_id": _ADA,
                    "is_kids": True,
                    "title_id": "moon-pirates",
                    "device_type": "tv",
                    "started_at": "2026-11-23T16:49:47.600Z",
                    "last_beat_at": "2026-11-23T17:00:00.000Z",
                }
            ],
            "adults_tracked": False,
        }
    ),
    ("post", f"{_VIEWING}/offline-sync"): Example(
        {
            "profile_id": _ADA,
            "device_id": "tablet-7",
            "batch_id": "train-to-bergen",
            "device_now": "2026-11-23T17:00:00Z",
            "last_server_time": "2026-11-23T14:00:00Z",
            "intervals": [
                {
                    "title_id": "moon-pirates",
                    "started_at": "2026-11-23T15:00:00Z",
                    "ended_at": "2026-11-23T15:30:00Z",
                    "watched_seconds": 1800,
                }
            ],
        },
        {"batch_id": "train-to-bergen", "credited_seconds": [1800.0], "tampered": False, "balance": _BALANCE},
    ),
    ("get", f"{_VIEWING}/events/{{profile_id}}"): Example(
        answered='id: 1795456800000-0\nevent: viewing_time_updated\ndata: {"remaining_seconds": 7487.6}\n\n',
        media_type="text/event-stream",
    ),
    ("get", f"{_CHILD}/viewing-time"): Example(answered=_SETTINGS),
    ("put", f"{_CHILD}/viewing-time"): Example({"weekday_limit_minutes": 120, "weekend_limit_minutes": 180}, _SETTINGS),
    ("post", f"{_CHILD}/viewing-time/preview"): Example(
        {"weekday_limit_minutes": 60, "weekend_limit_minutes": 60},
        {
            "first_date": "2026-10-26",
            "last_date": "2026-11-22",
            "blocked_days": [
                {
                    "date": "2026-11-22",
                    "blocked_at": "2026-11-22T16:00:00Z",
                    "limit_minutes": 60,
                    "counted_seconds": 5400.0,
                }
            ],
        },
    ),
    ("post", f"{_CHILD}/viewing-time/grant"): Example({"minutes": 15, "pin": _PIN}, _GIVEN),
    ("get", f"{_CHILD}/grants"): Example(answered={"grants": [_GRANT_ENTRY]}),
    ("delete", f"{_CHILD}/grants/{{grant_id}}"): Example(
        answered=_GIVEN | {"remaining_seconds": 6587.6, "remaining_minutes": 109.79}
    ),
    ("post", f"{_CHILD}/requests"): Example({"minutes": 15, "note": "the film is nearly over"}, _ASKED),
    ("get", f"{_CHILD}/requests"): Example(answered={"requests": [_ASKED]}),
    ("post", f"{_CHILD}/requests/{{request_id}}/approve"): Example(answered=_DECIDED),
    ("post", f"{_CHILD}/requests/{{request_id}}/deny"): Example(
        answered=_DECIDED | {"status": "denied", "grant_id": None}
    ),
    ("get", f"{_CHILD}/history"): Example(
        answered={"days": [_DAY | {"sessions": [_PART]}], "next_cursor": None, "as_of": "2026-11-23T16:59:58Z"}
    ),
    ("get", f"{_CONTROLS}/weekly-report"): Example(
        answered={
            "week_start": "2026-11-16",
            "week_end": "2026-11-22",
            "as_of": "2026-11-23T05:00:04Z",
            "profiles": [_WEEK],
        }
    ),
    ("get", "/health/live"): Example(answered={"status": "up"}),
    ("get", "/health/ready"): Example(answered=_READY),
    ("get", "/health/startup"): Example(answered=_READY),
    ("get", "/metrics"): Example(
        answered="# TYPE hourglass_heartbeats_total counter\nhourglass_heartbeats_total 16667.0\n",
        media_type="text/plain",
    ),
}

REFUSAL = {
    "type": "urn:hourglass:problem:invalid_input",
    "title": "The request holds values that are not accepted.",
    "status": 422,
    "detail": "The request holds values that are not accepted.",
    "code": "invalid_input",
    "errors": [{"pointer": "/timezone", "detail": "must be a time zone of the IANA list"}],
}
