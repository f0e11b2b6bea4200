"""A child's viewing-time settings and how a parent changes them."""

from collections.abc import Callable, Mapping
from typing import Self

import msgspec
from msgspec import UNSET, UnsetType

from app.domain.limits import NO_RULES, DailyLimits, LimitRules, Window
from app.domain.viewing_day import Calendar
from app.errors import InvalidInput

MIN_LIMIT_MINUTES = 15
MAX_LIMIT_MINUTES = 480
LIMIT_STEP_MINUTES = 15
MAX_WARNING_MINUTES = 120
MAX_WARNINGS = 5


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a parent wants to be different: UNSET keeps a value, a limit of None means unlimited.

    ``daily_limits`` go from Monday to Sunday; None takes them away, and the limits of weekdays and weekends hold again.
    ``holidays`` are ranges of day numbers, the last day of each included.
    """

    weekday_limit_minutes: int | UnsetType | None = UNSET
    weekend_limit_minutes: int | UnsetType | None = UNSET
    reset_hour: int | UnsetType = UNSET
    timezone: str | UnsetType = UNSET
    educational_exempt: bool | UnsetType = UNSET
    warning_minutes: tuple[int, ...] | UnsetType = UNSET
    daily_limits: tuple[int | None, ...] | UnsetType | None = UNSET
    holidays: tuple[tuple[int, int], ...] | UnsetType = UNSET
    windows: tuple[Window, ...] | UnsetType = UNSET
    weekly_limit_minutes: int | UnsetType | None = UNSET
    break_after_minutes: int | UnsetType | None = UNSET
    break_minutes: int | UnsetType | None = UNSET
    finish_title_minutes: int | UnsetType | None = UNSET


_RULES = frozenset(LimitRules.__struct_fields__)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one child. ``version`` grows with each save.

    Limits are minutes a day, both None or neither. ``reset_hour`` and ``timezone`` are what was last asked for;
    ``calendar`` knows from when on they shape the days. ``rules`` is None for settings without any.
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
    rules: LimitRules | None = None

    @property
    def limits(self) -> DailyLimits:
        return DailyLimits(self.weekday_limit_minutes, self.weekend_limit_minutes, self.rules)

    @property
    def may_finish_titles(self) -> bool:
        return self.rules is not None and self.rules.finish_title_minutes is not None

    def moved(self, timezone: str, *, at_ms: int) -> Self:
        """The settings after a change of the profile's zone. The change does not mark the limits as reviewed."""
        if timezone == self.timezone:
            return self
        moved = self.changed(ConfigChange(timezone=timezone), at_ms=at_ms)
        return msgspec.structs.replace(moved, limits_reviewed=self.limits_reviewed)

    def changed(self, change: ConfigChange, *, at_ms: int) -> Self:
        """The settings after a parent saved a change at an instant. The running viewing day keeps its bounds.

        Raises:
            InvalidInput: one limit would be unlimited and the other not, or a break have only one of its two numbers.
        """
        values = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
        rules = {name: values.pop(name) for name in _RULES & values.keys()}
        merged = msgspec.structs.replace(
            self, **values, rules=self._rules_with(rules), version=self.version + 1, limits_reviewed=True
        )
        _check_limits(merged, change)
        shape = (merged.timezone, merged.reset_hour)
        if shape == (self.timezone, self.reset_hour):
            return merged
        calendar = self.calendar.changed(at_ms, timezone=merged.timezone, reset_hour=merged.reset_hour)
        return msgspec.structs.replace(merged, calendar=calendar)

    def _rules_with(self, changes: Mapping[str, object]) -> LimitRules | None:
        """The rules after a change; None where none is left, so that settings without rules cost nothing."""
        if not changes:
            return self.rules
        rules = msgspec.structs.replace(self.rules or NO_RULES, **changes)
        return None if rules == NO_RULES else rules


FirstConfig = Callable[[str | None, str, int], Config]
"""Makes the config of a new child from the name of the account's market, the zone and the version."""


def _check_limits(config: Config, change: ConfigChange) -> None:
    rules = config.rules or NO_RULES
    if (config.weekday_limit_minutes is None) != (config.weekend_limit_minutes is None):
        raise _one_without_other(change, "Both limits", ("weekday_limit_minutes", "weekend_limit_minutes"))
    if (rules.break_after_minutes is None) != (rules.break_minutes is None):
        raise _one_without_other(change, "Both numbers of a break", ("break_after_minutes", "break_minutes"))


def _one_without_other(change: ConfigChange, both: str, fields: tuple[str, str]) -> InvalidInput:
    named = [field for field in fields if getattr(change, field) is not UNSET]
    return InvalidInput(
        f"{both} are set or both are null.",
        errors=[{"pointer": f"/{field}", "detail": "must be null exactly if the other is"} for field in named],
    )
