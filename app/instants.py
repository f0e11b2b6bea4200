"""Instants as text: RFC 3339 in UTC with milliseconds."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_MINUTE_MS = 60_000


def utc(at_ms: int) -> datetime:
    return _EPOCH + at_ms * _MS


def ms_of(at: datetime) -> int:
    return (at - _EPOCH) // _MS


def rfc3339(at_ms: int) -> str:
    """``2026-03-29T04:00:00.000Z``. Every heartbeat's answer holds two of these, so minutes are remembered."""
    minute, ms = divmod(at_ms, _MINUTE_MS)
    return f"{_minute_text(minute)}:{ms // 1000:02d}.{ms % 1000:03d}Z"


@lru_cache(maxsize=4096)
def _minute_text(minute: int) -> str:
    return utc(minute * _MINUTE_MS).strftime("%Y-%m-%dT%H:%M")
