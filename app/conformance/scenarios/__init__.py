"""The scenarios: calls with their instants. The model supplies the answers.

Unless a scenario says otherwise, its child is in the zone UTC and may watch two hours on a weekday and three on a
weekend day. It starts at noon on a Monday.
"""

from app.conformance.acts import Draft
from app.conformance.scenarios.days import days
from app.conformance.scenarios.limits import adults, limits, offline, parents
from app.conformance.scenarios.playback import pausing, sessions, silence, titles
from app.conformance.scenarios.together import together


def drafts() -> tuple[Draft, ...]:
    """All scenarios."""
    return (
        *sessions(),
        *silence(),
        *pausing(),
        *titles(),
        *together(),
        *limits(),
        *parents(),
        *days(),
        *offline(),
        *adults(),
    )
