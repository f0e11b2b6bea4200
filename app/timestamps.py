"""Instants and lengths of time as answers hold them: RFC 3339 in UTC with milliseconds, and minutes."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_MINUTE_MS = 60_000
_HUNDREDTH_MS = _MINUTE_MS // 100
_SECONDS = [f":{second:02d}" for second in range(60)]
_MILLISECONDS = [f".{ms:03d}Z" for ms in range(1000)]


def utc(at_ms: int) -> datetime:
    return _EPOCH + at_ms * _MS


def ms_of(at: datetime) -> int:
    return (at - _EPOCH) // _MS


def ms_or_none(at: datetime | None) -> int | None:
    return None if at is None else ms_of(at)


def rfc3339(at_ms: int) -> str:
    """``2026-03-29T04:00:00.000Z``. Every heartbeat's answer holds two of these, so the parts are remembered."""
    return _minute_text(at_ms // _MINUTE_MS) + _SECONDS[at_ms // 1000 % 60] + _MILLISECONDS[at_ms % 1000]


def minutes(length_ms: int) -> float:
    """Rounded to 2 places, halves up; by integers, which costs a fraction of rounding a float."""
    return (length_ms + _HUNDREDTH_MS // 2) // _HUNDREDTH_MS / 100


@lru_cache(maxsize=4096)
def _minute_text(minute: int) -> str:
    return utc(minute * _MINUTE_MS).strftime("%Y-%m-%dT%H:%M")
