"""Rows of the flush take each field of the counters to the column of its name."""

from typing import Any

from app.domain.counters import Counters
from app.postgres_store.usage import _balance_rows, _BalanceRow, _session_rows, _SessionRow

_TEXTS = {"session_id", "title_id", "device_id", "device_type", "previous_session_id"}
_VALUES: dict[str, Any] = {
    name: f"value {place}" if name in _TEXTS else 100 + place for place, name in enumerate(Counters.__struct_fields__)
}
DISTINCT = Counters(**_VALUES | {"uncounted": (1, 2)})
"""Every field differs."""
RENAMED = {
    "starts_ms": "day_starts_ms",
    "ends_ms": "day_ends_ms",
    "earlier_ms": "session_earlier_ms",
    "uncounted_ms": "uncounted",
}


def test_a_balance_is_the_running_day() -> None:
    [row] = _balance_rows([("a profile", DISTINCT)])
    assert row._asdict() == {
        "profile_id": "a profile",
        **{name: getattr(DISTINCT, RENAMED.get(name, name)) for name in _BalanceRow._fields[1:]},
    }


def test_a_session_is_its_part_of_the_day() -> None:
    [row] = _session_rows([("a profile", DISTINCT)])
    parts = {name: f"session_{name}" for name in ("used_ms", "educational_ms", "overrun_ms")}
    expected = {
        name: getattr(DISTINCT, (RENAMED | parts).get(name, name))
        for name in _SessionRow._fields
        if name not in {"profile_id", "started_ms", "is_educational", "has_ended"}
    }
    assert row._asdict() == expected | {
        "profile_id": "a profile",
        "started_ms": max(DISTINCT.session_started_ms, DISTINCT.day_starts_ms),
        "is_educational": True,
        "has_ended": True,
    }
