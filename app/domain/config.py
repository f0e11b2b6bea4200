"""A child's viewing-time settings and how a parent changes them."""

from typing import Self

import msgspec
from msgspec import UNSET, UnsetType

from app.domain.viewing_day import Calendar
from app.errors import InvalidInput

SHORTEST_LIMIT_MINUTES = 15
LONGEST_LIMIT_MINUTES = 480
LIMIT_STEP_MINUTES = 15
LONGEST_WARNING_MINUTES = 120
MOST_WARNINGS = 5


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a parent wants to be different: UNSET keeps a value, a limit of None means unlimited."""

    weekday_limit_minutes: int | UnsetType | None = UNSET
    weekend_limit_minutes: int | UnsetType | None = UNSET
    reset_hour: int | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    educational_exempt: bool | UnsetType = UNSET
    warning_minutes: tuple[int, ...] | UnsetType = UNSET


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one child. ``version`` grows with each save.

    Limits are minutes a day, both None or neither. ``reset_hour`` and ``timezone`` are what was last asked for;
    ``calendar`` knows from when on they shape the days.
    """

    version: int
    weekday_limit_minutes: int | None
    weekend_limit_minutes: int | None
    reset_hour: int
    timezone: str
    educational_exempt: bool
    warning_minutes: tuple[int, ...]
    limits_reviewed: bool
    calendar: Calendar

    def changed(self, change: ConfigChange, *, at_ms: int) -> Self:
        """The settings after a parent saved a change at an instant. The running viewing day keeps its bounds.

        Raises:
            InvalidInput: one limit would be unlimited and the other not.
        """
        values = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
        merged = msgspec.structs.replace(self, **values, version=self.version + 1, limits_reviewed=True)
        _check_limits(merged, change)
        shape = (merged.timezone, merged.reset_hour)
        if shape == (self.timezone, self.reset_hour):
            return merged
        calendar = self.calendar.changed(at_ms, timezone=merged.timezone, reset_hour=merged.reset_hour)
        return msgspec.structs.replace(merged, calendar=calendar)


def _check_limits(config: Config, change: ConfigChange) -> None:
    if (config.weekday_limit_minutes is None) == (config.weekend_limit_minutes is None):
        return
    named = [f for f in ("weekday_limit_minutes", "weekend_limit_minutes") if getattr(change, f) is not UNSET]
    raise InvalidInput(
        "Both limits are set or both are null.",
        errors=[{"pointer": f"/{field}", "detail": "must be null exactly if the other is"} for field in named],
    )
