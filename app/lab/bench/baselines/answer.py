"""The answer of the baselines that do no work: the bytes of a real one."""

import msgspec

from app.viewing.schemas import HeartbeatAnswer

BODY = msgspec.json.encode(
    HeartbeatAnswer(
        session_id="019a0f6e-5c4b-8d3a-9f2e-1b0c9d8e7f6a",
        enforcement="allowed",
        remaining_seconds=4321.123,
        used_seconds=2878.877,
        remaining_minutes=72.02,
        used_minutes=47.98,
        is_educational=False,
        stop_at="2026-01-01T12:34:56.789Z",
        next_beat_in=29.123,
        lease_seconds=300.0,
        next_reset_at="2026-01-02T05:00:00.000Z",
        server_time="2026-01-01T17:00:00.000Z",
        config_version=1,
        reason="daily_limit",
    )
)
HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-length", b"%d" % len(BODY)),
]
