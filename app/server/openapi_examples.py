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
_NOW = "2026-11-23T17:00:00.000Z"
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
_PROFILE = {
    "id": _ADA,
    "name": "Ada",
    "is_kids": True,
    "timezone": "Europe/Oslo",
    "limits_reviewed": True,
    "external_id": "profile-7",
}
_RECEIPT = {"erased_at": "2026-11-23T17:00:00.000Z", "counts": {"profiles": 3, "accounts": 1}}
_PLATFORM_ACCOUNT = {
    "external_id": "auth0|5f7c8ec7c33c6c004bbafe82",
    "account_id": _ACCOUNT,
    "timezone": "Europe/Oslo",
    "market": "no",
}
_PLATFORM_PROFILE = {
    "external_id": "profile-7",
    "profile_id": _ADA,
    "name": "Ada",
    "is_kids": True,
    "timezone": "Europe/Oslo",
    "limits_reviewed": False,
    "enforcement": None,
}
_WEBHOOK = {
    "id": "b3c1d7a9-5e2f-4a68-9b40-1f7d6c8e2a35",
    "url": "https://receiver.example/hook",
    "types": ["hourglass.request.created", "hourglass.limit.reached"],
    "is_enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "waiting": 0,
    "dead_letters": 0,
    "behind": 0,
    "created_at": _NOW,
}
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
    "server_time": _NOW,
    "config_version": 3,
    "reason": "daily_limit",
    "available_again_at": None,
}
_BEN = "1c4f7a90-2b6d-4e83-a5c1-9d0e3b7f6a24"
_BENS_SESSION = "019a7c20-6d11-8c47-b2e8-0f1a2b3c4d5e"
_SHARED_BEAT = _BEAT | {"co_viewers": [{"profile_id": _BEN, "session_id": _BENS_SESSION, "watched_seconds": 312.0}]}
_SHARED_ANSWER = _BEAT_ANSWER | {
    "enforcement": "warning_15",
    "stop_at": "2026-11-23T17:12:00.000Z",
    "decided_by": _BEN,
    "co_viewers": [
        {
            "profile_id": _BEN,
            "session_id": _BENS_SESSION,
            "enforcement": "warning_15",
            "remaining_seconds": 720.0,
            "used_seconds": 6480.0,
            "stop_at": "2026-11-23T17:12:00.000Z",
            "next_reset_at": _NEXT_RESET,
            "reason": "daily_limit",
            "available_again_at": None,
        }
    ],
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
    "penalty_seconds": 0.0,
    "limit_minutes": 120,
    "granted_minutes": 0,
    "covered_seconds": 0.0,
    "remaining_seconds": 6587.6,
    "remaining_minutes": 109.79,
    "is_unlimited_override": False,
    "enforcement": "allowed",
    "day": "2026-11-23",
    "next_reset_at": _NEXT_RESET,
    "server_time": _NOW,
    "warning_threshold_minutes": None,
    "reason": "daily_limit",
    "available_again_at": None,
    "week_remaining_seconds": 29387.6,
    "break_in_seconds": None,
    "borrowed_seconds": 0.0,
    "owed_seconds": 0.0,
    "paused_until": None,
}
_SETTINGS = {
    "profile_id": _ADA,
    "weekday_limit_minutes": 120,
    "weekend_limit_minutes": 180,
    "reset_hour": 6,
    "timezone": "Europe/Oslo",
    "educational_exempt": True,
    "warning_minutes": [15, 5],
    "daily_limits": {"mon": 90, "tue": 90, "wed": 90, "thu": 90, "fri": 150, "sat": 180, "sun": 120},
    "holidays": [{"first_date": "2026-12-21", "last_date": "2027-01-03"}],
    "windows": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "15:00", "until": "19:30"}],
    "weekly_limit_minutes": 600,
    "break_after_minutes": 60,
    "break_minutes": 15,
    "finish_title_minutes": 10,
    "version": 3,
    "limits_reviewed": True,
    "pending_change": None,
    "market": "no",
    "server_time": _NOW,
}
_GIVEN = {
    "grant_id": _GRANT,
    "granted_minutes": 15,
    "covered_seconds": 0.0,
    "day": "2026-11-23",
    "remaining_seconds": 7487.6,
    "remaining_minutes": 124.79,
    "is_unlimited_override": False,
    "server_time": _NOW,
}
_GRANT_ENTRY = {
    "grant_id": _GRANT,
    "minutes": 15,
    "day": "2026-11-23",
    "covered_seconds": 0.0,
    "granted_by": f"device:{_DEVICE}",
    "is_remote": True,
    "granted_at": "2026-11-23T17:00:00.000Z",
    "revoked_at": None,
}
_PAUSED = {"profile_id": _ADA, "paused_until": "2026-11-23T17:30:00.000Z"}
_ASKED = {
    "request_id": _REQUEST,
    "minutes": 15,
    "note": "the film is nearly over",
    "day": "2026-11-23",
    "status": "open",
    "requested_at": "2026-11-23T16:59:00.000Z",
    "expires_at": "2026-11-24T05:00:00.000Z",
    "decided_at": None,
    "grant_id": None,
}
_DECIDED = _ASKED | {"status": "approved", "decided_at": "2026-11-23T17:00:00.000Z", "grant_id": _GRANT}
_DAY = {
    "date": "2026-11-22",
    "counted_seconds": 5400.0,
    "educational_seconds": 1200.0,
    "overrun_seconds": 0.0,
    "total_seconds": 6600.0,
    "limit_minutes": 180,
    "borrowed_seconds": 0.0,
    "owed_seconds": 0.0,
}
_PART = {
    "session_id": _SESSION,
    "title_id": "moon-pirates",
    "title_name": "Moon Pirates",
    "device_id": "living-room-tv",
    "device_type": "tv",
    "source": "heartbeat",
    "is_educational": False,
    "started_at": "2026-11-22T15:00:00.000Z",
    "ended_at": "2026-11-22T16:30:00.000Z",
    "counted_seconds": 5400.0,
    "educational_seconds": 0.0,
    "overrun_seconds": 0.0,
    "total_seconds": 5400.0,
    "co_viewers": [{"profile_id": _BEN, "profile_name": "Ben"}],
    "together_seconds": 3600.0,
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
    "together_seconds": 5400.0,
}
_WHY = {
    "profile_id": _ADA,
    "decided_at": _NOW,
    "next_reset_at": _NEXT_RESET,
    "server_time": _NOW,
    "enforcement": "allowed",
    "market": "no",
    "enforcement_mode": "enforce",
    "sentences": [
        "The viewing day 2026-11-23 is a weekday; it ends at 2026-11-24T05:00:00.000Z.",
        "The limit of this day is 120.0 minutes.",
        "10.2 minutes have been used.",
        "So 109.8 minutes remain: allowed.",
    ],
    "config_version": 3,
    "limit_seconds": 7200.0,
    "granted_seconds": 0.0,
    "covered_seconds": 0.0,
    "is_unlimited_override": False,
    "offline_seconds": 0.0,
    "used_seconds": 612.4,
    "educational_seconds": 0.0,
    "overrun_seconds": 0.0,
    "penalty_seconds": 0.0,
    "abandoned_sessions": 0,
    "abandoned_sessions_charged": 0,
    "remaining_seconds": 6587.6,
    "stop_at": "2026-11-23T18:49:47.600Z",
    "day": {
        "date": "2026-11-23",
        "starts_at": "2026-11-23T05:00:00.000Z",
        "ends_at": _NEXT_RESET,
        "is_weekend": False,
        "timezone": "Europe/Oslo",
        "reset_hour": 6,
        "is_holiday": False,
    },
    "session": None,
    "reason": "daily_limit",
    "available_again_at": None,
    "week_remaining_seconds": 29387.6,
    "break_in_seconds": None,
    "borrowed_seconds": 0.0,
    "owed_seconds": 0.0,
}
_READY = {
    "status": "up",
    "is_draining": False,
    "redis": "up",
    "postgresql": "up",
    "invalidations": "up",
    "concerns": [],
}

_VIEWING, _CONTROLS, _ADMIN = "/viewing-time", "/parental-controls", "/admin/accounts/{account_id}"
_CHILD = f"{_CONTROLS}/profiles/{{profile_id}}"

EXAMPLES: dict[tuple[str, str], Example] = {
    ("post", "/auth/register"): Example(
        {"email": "kim@example.org", "password": _PASSWORD, "timezone": "Europe/Oslo"}, _SIGNED_IN
    ),
    ("post", "/auth/login"): Example({"email": "kim@example.org", "password": _PASSWORD}, _SIGNED_IN),
    ("post", "/auth/refresh"): Example({"refresh_token": _SIGNED_IN["refresh_token"]}, _SIGNED_IN),
    ("post", "/auth/devices"): Example(
        {"name": "Grandma's phone", "pin": _PIN, "role": "caregiver", "daily_grant_minutes": 30},
        {
            "id": _DEVICE,
            "name": "Grandma's phone",
            "role": "caregiver",
            "daily_grant_minutes": 30,
            "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJkaWQiOiJjOGE1….r8Tn",
            "expires_at": "2027-05-22T17:00:00.000Z",
        },
    ),
    ("get", "/auth/devices"): Example(
        answered=[
            {
                "id": _DEVICE,
                "name": "Grandma's phone",
                "role": "caregiver",
                "daily_grant_minutes": 30,
                "granted_today_minutes": 15,
                "created_at": "2026-11-23T17:00:00.000Z",
                "expires_at": "2027-05-22T17:00:00.000Z",
            }
        ]
    ),
    ("delete", "/auth/devices/{device_id}"): Example(),
    ("get", "/auth/sign-ins"): Example(
        answered=[
            {
                "id": _DEVICE,
                "device_name": "Living room TV",
                "created_at": "2026-11-20T17:00:00.000Z",
                "refreshed_at": _NOW,
                "expires_at": "2026-12-23T17:00:00.000Z",
                "is_current": False,
            }
        ]
    ),
    ("get", "/account"): Example(
        answered={
            "account_id": _ACCOUNT,
            "email": "kim@example.org",
            "timezone": "Europe/Oslo",
            "has_pin": True,
            "created_at": "2026-11-01T17:00:00.000Z",
        }
    ),
    ("put", "/account/password"): Example({"current_password": _PASSWORD, "new_password": "a new battery staple"}),
    ("put", "/account/email"): Example({"email": "kim@example.net", "password": _PASSWORD}),
    ("get", f"{_ADMIN}/profiles"): Example(answered=[{"profile_id": _ADA, "is_kids": True}]),
    ("get", f"{_ADMIN}/profiles/{{profile_id}}/balance"): Example(answered=_BALANCE),
    ("get", f"{_ADMIN}/profiles/{{profile_id}}/why"): Example(answered=_WHY),
    ("get", f"{_ADMIN}/profiles/{{profile_id}}/history"): Example(
        answered={
            "days": [_DAY | {"penalty_seconds": 0.0, "sessions": [_PART]}],
            "next_cursor": None,
            "as_of": "2026-11-23T16:59:58.000Z",
        }
    ),
    ("get", f"{_ADMIN}/audit"): Example(
        answered={
            "entries": [
                {
                    "at": _NOW,
                    "actor": "admin:robin",
                    "action": "admin_read",
                    "profile_id": None,
                    "detail": {"what": "audit"},
                }
            ],
            "next_cursor": None,
        }
    ),
    ("get", f"{_ADMIN}/dead-letters"): Example(
        answered={
            "dead_letters": [
                {
                    "id": 17,
                    "profile_id": _ADA,
                    "source": f"{_ADA}|{_SESSION}|2026-11-23",
                    "counters": {"used_ms": 612400},
                    "error": "CheckViolationError",
                    "parked_at": _NOW,
                }
            ],
            "next_cursor": None,
        }
    ),
    ("get", "/admin/flush"): Example(
        answered={
            "lag_seconds": 12.4,
            "backlog_children": 812,
            "backlog_finished": 31,
            "dead_letters": 0,
            "buckets": [
                {
                    "bucket": 17,
                    "watermark": 1795453192000,
                    "generation": 0,
                    "flushed_at": "2026-11-23T16:59:52.000Z",
                    "age_seconds": 8.0,
                }
            ],
            "server_time": _NOW,
        }
    ),
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
        answered={"erased_at": "2026-11-23T17:00:00.000Z", "counts": {"sessions": 214, "profiles": 1}}
    ),
    ("delete", "/account"): Example({"password": _PASSWORD}, _RECEIPT),
    ("get", f"{_CHILD}/export"): Example(
        answered={
            "exported_at": "2026-11-23T17:00:00.000Z",
            "profile": {"id": _ADA, "name": "Ada"},
            "grants": [{"id": _GRANT, "day": "2026-11-23", "minutes": 15}],
        }
    ),
    ("get", "/account/export"): Example(
        answered={
            "exported_at": "2026-11-23T17:00:00.000Z",
            "account": {"id": _ACCOUNT, "email": "kim@example.org"},
            "devices": [],
            "profiles": [{"profile": {"id": _ADA, "name": "Ada"}}],
        }
    ),
    ("get", "/account/audit"): Example(
        answered={
            "entries": [
                {
                    "at": "2026-11-23T17:00:00Z",
                    "actor": "parent",
                    "action": "time_granted",
                    "profile_id": _ADA,
                    "detail": {"grant_id": _GRANT, "minutes": 15},
                }
            ],
            "next_cursor": None,
        }
    ),
    ("put", "/catalog/titles"): Example([_TITLE], {"received": 1, "created": 1, "updated": 0, "unchanged": 0}),
    ("get", "/catalog/titles"): Example(answered={"titles": [_TITLE], "next_cursor": None}),
    ("post", f"{_VIEWING}/heartbeat"): Example(_BEAT, _BEAT_ANSWER),
    ("post", f"{_VIEWING}/heartbeats"): Example(
        {"beats": [_BEAT, _SHARED_BEAT]}, {"results": [_BEAT_ANSWER, _SHARED_ANSWER]}
    ),
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
            "server_time": _NOW,
            "available_again_at": None,
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
            "device_now": "2026-11-23T17:00:00.000Z",
            "last_server_time": "2026-11-23T14:00:00.000Z",
            "intervals": [
                {
                    "title_id": "moon-pirates",
                    "started_at": "2026-11-23T15:00:00.000Z",
                    "ended_at": "2026-11-23T15:30:00.000Z",
                    "watched_seconds": 1800,
                }
            ],
        },
        {
            "batch_id": "train-to-bergen",
            "credited_seconds": [1800.0],
            "tampered": False,
            "penalty_seconds": 0.0,
            "server_time": _NOW,
            "balance": _BALANCE,
        },
    ),
    ("post", f"{_VIEWING}/events-ticket"): Example(
        {"profile_id": _ADA}, {"ticket": "b3BhcXVlLCB1c2VkIG9uY2UsIHdvcnRobGVzcyBhZnRlcg", "expires_in": 60}
    ),
    ("get", f"{_VIEWING}/events/{{profile_id}}"): Example(
        answered='id: 1795456800000-0\nevent: viewing_time_updated\ndata: {"remaining_seconds": 7487.6}\n\n'
        "id: 1795456800001-0\nevent: request_answered\n"
        'data: {"request_id": "8a1c6c1e-6a0e-4a53-9d3e-0f6f7a4be0a1", "status": "approved", "minutes": 15,'
        ' "grant_id": "f3b7d0c2-59a1-4c5e-8f0a-2f1f0c9f6d11"}\n\n',
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
                    "blocked_at": "2026-11-22T16:00:00.000Z",
                    "blocked_from": "2026-11-22T16:00:00.000Z",
                    "blocked_until": "2026-11-22T16:00:00.000Z",
                    "limit_minutes": 60,
                    "granted_minutes": 0,
                    "counted_seconds": 5400.0,
                    "reason": "daily_limit",
                }
            ],
        },
    ),
    ("post", f"{_CHILD}/viewing-time/grant"): Example({"minutes": 15, "pin": _PIN}, _GIVEN),
    ("post", f"{_CHILD}/viewing-time/pause"): Example({"minutes": 30, "pin": _PIN}, _PAUSED | {"server_time": _NOW}),
    ("delete", f"{_CHILD}/viewing-time/pause"): Example(answered=_PAUSED | {"paused_until": None, "server_time": _NOW}),
    ("post", f"{_CONTROLS}/viewing-time/pause"): Example(
        {"minutes": 30, "pin": _PIN}, {"profiles": [_PAUSED], "server_time": _NOW}
    ),
    ("delete", f"{_CONTROLS}/viewing-time/pause"): Example(
        answered={"profiles": [_PAUSED | {"paused_until": None}], "server_time": _NOW}
    ),
    ("get", f"{_CHILD}/grants"): Example(answered={"grants": [_GRANT_ENTRY], "next_cursor": None, "server_time": _NOW}),
    ("delete", f"{_CHILD}/grants/{{grant_id}}"): Example(
        answered=_GIVEN | {"remaining_seconds": 6587.6, "remaining_minutes": 109.79}
    ),
    ("get", f"{_CONTROLS}/caregiver"): Example(
        answered={
            "id": _DEVICE,
            "name": "Grandma's phone",
            "daily_grant_minutes": 30,
            "granted_today_minutes": 15,
            "left_minutes": 15,
            "renews_at": "2026-11-23T23:00:00.000Z",
            "children": [{"profile_id": _ADA, "name": "Ada"}],
            "requests": [
                {
                    "request_id": _REQUEST,
                    "profile_id": _ADA,
                    "minutes": 15,
                    "requested_at": "2026-11-23T16:59:00.000Z",
                    "expires_at": "2026-11-24T05:00:00.000Z",
                }
            ],
            "server_time": _NOW,
        }
    ),
    ("post", f"{_CHILD}/requests"): Example({"minutes": 15, "note": "the film is nearly over"}, _ASKED),
    ("get", f"{_CHILD}/requests"): Example(answered={"requests": [_ASKED], "next_cursor": None, "server_time": _NOW}),
    ("get", f"{_CONTROLS}/requests"): Example(
        answered={"requests": [_ASKED | {"profile_id": _ADA}], "next_cursor": None, "server_time": _NOW}
    ),
    ("post", f"{_CHILD}/requests/{{request_id}}/approve"): Example(answered=_DECIDED),
    ("post", f"{_CHILD}/requests/{{request_id}}/deny"): Example(
        answered=_DECIDED | {"status": "denied", "grant_id": None}
    ),
    ("get", f"{_CHILD}/history"): Example(
        answered={
            "days": [_DAY | {"penalty_seconds": 0.0, "sessions": [_PART]}],
            "next_cursor": None,
            "as_of": "2026-11-23T16:59:58.000Z",
        }
    ),
    ("get", f"{_CONTROLS}/weekly-report"): Example(
        answered={
            "week_start": "2026-11-16",
            "week_end": "2026-11-22",
            "as_of": "2026-11-23T05:00:04.000Z",
            "profiles": [_WEEK],
        }
    ),
    ("put", "/platform/accounts"): Example(
        sent=[{"external_id": "auth0|5f7c8ec7c33c6c004bbafe82", "timezone": "Europe/Oslo", "market": "no"}],
        answered=[{"status": "created", "account_id": _ACCOUNT}],
    ),
    ("put", "/platform/accounts/{external_id}"): Example(
        sent={"timezone": "Europe/Oslo", "market": "no"}, answered=_PLATFORM_ACCOUNT
    ),
    ("get", "/platform/accounts/{external_id}"): Example(
        answered=_PLATFORM_ACCOUNT | {"profiles": [_PLATFORM_PROFILE]}
    ),
    ("delete", "/platform/accounts/{external_id}"): Example(answered=_RECEIPT),
    ("put", "/platform/accounts/{external_id}/profiles/{external_profile_id}"): Example(
        sent={"name": "Ada", "is_kids": True}, answered=_PLATFORM_PROFILE
    ),
    ("get", "/platform/accounts/{external_id}/profiles/{external_profile_id}"): Example(answered=_PLATFORM_PROFILE),
    ("delete", "/platform/accounts/{external_id}/profiles/{external_profile_id}"): Example(answered=_RECEIPT),
    ("patch", "/accounts/{external_id}"): Example(sent={"market": "no"}, answered=_PLATFORM_ACCOUNT),
    ("patch", "/accounts/{external_id}/profiles/{external_profile_id}"): Example(
        sent={"enforcement": "shadow"}, answered=_PLATFORM_PROFILE | {"enforcement": "shadow"}
    ),
    ("get", "/platform/shadow-report"): Example(
        answered={
            "days": [
                {
                    "date": "2026-11-23",
                    "account_id": _ACCOUNT,
                    "external_account_id": "auth0|5f7c8ec7c33c6c004bbafe82",
                    "profile_id": _ADA,
                    "external_profile_id": "profile-7",
                    "market": "no",
                    "blocked_seconds": 1260.5,
                }
            ],
            "next_cursor": None,
        }
    ),
    ("get", "/platform/events"): Example(
        answered={
            "events": [
                {
                    "specversion": "1.0",
                    "id": "0d6d1a52-6c5f-5b0e-9a0c-4b7a8f9e2d13",
                    "source": "hourglass",
                    "type": "hourglass.request.created",
                    "subject": _ADA,
                    "time": _NOW,
                    "sequence": "00000000000000004711",
                    "datacontenttype": "application/json",
                    "data": {
                        "account_id": _ACCOUNT,
                        "profile_id": _ADA,
                        "external_account_id": "auth0|5f7c8ec7c33c6c004bbafe82",
                        "external_profile_id": "profile-7",
                        "request_id": _REQUEST,
                        "day": "2026-11-23",
                        "minutes": 30,
                        "expires_at": _NEXT_RESET,
                    },
                }
            ],
            "next": "4711",
        }
    ),
    ("get", "/.well-known/jwks.json"): Example(
        answered={
            "keys": [
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": "WKn-ZIGevcwGIyyrzFoZNBdaq9_TsqzGl96oc0CWuis",
                    "y": "y77t-RvAHRKTsSGdIYUfweuOvwrvDD-Q3Hv5J0fSKbE",
                    "kid": "tuKX3CBF9hHJ8GDHxh9EKhOMAUEFWBIhQ6yrIvkpLV8",
                    "use": "sig",
                    "alg": "ES256",
                }
            ]
        }
    ),
    ("post", "/platform/webhooks"): Example(
        sent={"url": "https://receiver.example/hook", "types": _WEBHOOK["types"]},
        answered=_WEBHOOK | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="},
    ),
    ("get", "/platform/webhooks"): Example(answered={"webhooks": [_WEBHOOK]}),
    ("patch", "/platform/webhooks/{webhook_id}"): Example(
        sent={"is_enabled": False}, answered=_WEBHOOK | {"is_enabled": False}
    ),
    ("delete", "/platform/webhooks/{webhook_id}"): Example(),
    ("post", "/platform/webhooks/{webhook_id}/secret"): Example(
        answered=_WEBHOOK | {"secret": "whsec_pXKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}
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
