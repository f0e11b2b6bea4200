"""An outage is logged at once, then at most every ten seconds; its end is logged once."""

import structlog
from hypothesis import given
from hypothesis import strategies as st

from app.observability.outages import REPEAT_SECONDS, Outages

GAPS = st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60)


@given(GAPS)
def test_however_often_it_is_seen(looks: list[tuple[float, bool]]) -> None:
    at = 0.0
    outages = Outages(seconds=lambda: at)
    was_away, said_at = False, -1e9
    for gap_seconds, is_away in looks:
        at += gap_seconds
        with structlog.testing.capture_logs() as lines:
            if is_away:
                outages.away("Redis", "refused")
            else:
                outages.back("Redis")
        events = [line["event"] for line in lines]
        if is_away and not was_away:
            assert events == ["server_away"]
        elif is_away:
            assert events in ([], ["server_still_away"])
            assert bool(events) is (at - said_at >= REPEAT_SECONDS)
        else:
            assert events == (["server_back"] if was_away else [])
        if events and is_away:
            said_at = at
        was_away = is_away
        assert outages.is_away("Redis") is is_away
