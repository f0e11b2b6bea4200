"""What happens in each scenario: calls and their instants. What must be answered is left to the model.

Unless a scenario says otherwise, its child is in the zone UTC, may watch two hours on a weekday and three on a weekend
day, and it is noon on a Monday.
"""

from app.conformance.acts import Draft
from app.conformance.scenarios.days import days
from app.conformance.scenarios.limits import adults, limits, offline, parents
from app.conformance.scenarios.playback import pausing, sessions, silence, titles


def drafts() -> tuple[Draft, ...]:
    """Every scenario."""
    return (
        *sessions(),
        *silence(),
        *pausing(),
        *titles(),
        *limits(),
        *parents(),
        *days(),
        *offline(),
        *adults(),
    )
