"""The chaos run's comparison of the event feed sees every kind of difference."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from app.lab.chaos.feed_consumer import ENDED, ReadEvent, differences

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def ended(position: int, *, child: str = "ada", session: str = "", minute: int | None = None) -> ReadEvent:
    at = NOON + timedelta(minutes=position if minute is None else minute)
    data = {"session_id": session or f"s{position}", "ended_at": at}
    event = {"id": f"e{position}", "type": ENDED, "subject": child, "sequence": f"{position:020d}", "data": data}
    return msgspec.convert(event, ReadEvent)


GOOD = [ended(1), ended(2, child="ben"), ended(3)]
KEPT = {"e1": 1, "e2": 2, "e3": 3}
SESSIONS = {"s1": True, "s2": True, "s3": True, "running": False}


def test_all_events_once_and_in_order() -> None:
    assert differences(GOOD, kept=KEPT, sessions=SESSIONS, confirmed={"s1", "s3"}) == []


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ([*GOOD, GOOD[2]], "read twice: e3"),
        ([GOOD[2], GOOD[1], GOOD[0]], "sequence not above the one before: e1"),
        (GOOD[:2], "kept, and not read: e3"),
        (GOOD[:2], "ended session without an event: s3"),
        ([*GOOD, ended(4)], "read, and not kept: e4"),
        ([*GOOD, ended(4)], "end of an unknown session: s4"),
        ([*GOOD, ended(4, session="s1")], "session with several ends: s1"),
        ([*GOOD[:2], ended(3, minute=0)], "session that ended before the one told before: e3"),
        ([*GOOD[:2], msgspec.structs.replace(GOOD[2], sequence="9")], "moved: e3"),
    ],
)
def test_a_difference_is_told(read: list[ReadEvent], told: str) -> None:
    assert f"feed: 1 x {told}" in differences(read, kept=KEPT, sessions=SESSIONS, confirmed=set())


def test_a_confirmed_end_that_was_lost_is_told() -> None:
    found = differences(GOOD, kept=KEPT, sessions=SESSIONS, confirmed={"running"})
    assert found == ["feed: 1 x confirmed end of a session that has not ended: running"]
