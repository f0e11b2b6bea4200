"""The week in the form of settings: limits by weekday, windows, holidays, breaks and the rest, as fields and back."""

from collections.abc import Mapping
from typing import Any

import msgspec

from app.parents.schemas import WEEKDAYS, ViewingTime

WEEKLY_LIMITS = (*range(60, 21 * 60, 60), *range(21 * 60, 71 * 60, 420))
BREAKS_AFTER = (15, 20, 30, 45, 60, 75, 90, 120, 180, 240)
BREAKS = (5, 10, 15, 20, 30, 45, 60, 90, 120)
FINISHES = (5, 10, 15, 20, 25, 30)
"""The minutes that the form offers. A value that was set elsewhere is offered beside them."""

_CHOICES = {
    "weekly_limit_minutes": WEEKLY_LIMITS,
    "break_after_minutes": BREAKS_AFTER,
    "break_minutes": BREAKS,
    "finish_title_minutes": FINISHES,
}
_USUAL_BREAK = "15"
_DAY_MINUTES = 1440
_CLOCK_LENGTH = 5
_MAX_DIGITS = 5


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """A window as the form shows it; times are texts like ``19:30``."""

    days: tuple[str, ...] = ()
    opens: str = ""
    closes: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.days or self.opens or self.closes)


class HolidayRow(msgspec.Struct, frozen=True, kw_only=True):
    """Holidays as the form shows them; dates are texts like ``2026-12-24``."""

    first: str = ""
    last: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.first or self.last)


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A window on one day of the drawing, in minutes after midnight."""

    day: int
    starts: int
    ends: int


def fields_of(found: ViewingTime) -> dict[str, str]:
    """The fields of settings that are in force."""
    fields = {"daily": "1" if found.daily_limits else ""}
    for day in WEEKDAYS:
        minutes = getattr(found.daily_limits, day) if found.daily_limits else _usual(found, day)
        fields[f"limit-{day}"] = "" if minutes is None else str(minutes)
    for number, window in enumerate(found.windows):
        fields |= {f"window-{number}-{day}": "1" for day in window.days}
        fields |= {f"window-{number}-from": window.from_, f"window-{number}-until": window.until}
    for number, holiday in enumerate(found.holidays):
        fields[f"holiday-{number}-first"] = holiday.first_date.isoformat()
        fields[f"holiday-{number}-last"] = holiday.last_date.isoformat()
    for name in _CHOICES:
        minutes = getattr(found, name)
        fields[name] = "" if minutes is None else str(minutes)
    fields["break_minutes"] = fields["break_minutes"] or _USUAL_BREAK
    return fields


def windows_of(form: Mapping[str, str]) -> list[WindowRow]:
    """The windows in a form, without empty rows; too many of them are refused when they are checked."""
    rows = [
        WindowRow(
            days=tuple(day for day in WEEKDAYS if form.get(f"window-{number}-{day}") == "1"),
            opens=form.get(f"window-{number}-from", ""),
            closes=form.get(f"window-{number}-until", ""),
        )
        for number in _rows(form, "window")
    ]
    return [row for row in rows if not row.is_empty]


def holidays_of(form: Mapping[str, str]) -> list[HolidayRow]:
    """The holidays in a form, without empty rows."""
    rows = [
        HolidayRow(first=form.get(f"holiday-{number}-first", ""), last=form.get(f"holiday-{number}-last", ""))
        for number in _rows(form, "holiday")
    ]
    return [row for row in rows if not row.is_empty]


def _rows(form: Mapping[str, str], kind: str) -> list[int]:
    """The numbers of the rows of a kind, ascending."""
    named = (name.split("-") for name in form if name.startswith(f"{kind}-"))
    return sorted({number for _, text, *_ in named for number in _number_in(text)})


def change_in(form: Mapping[str, str]) -> dict[str, Any]:
    """The members of a change that the form asks for. What a form of an older version does not have stays as it is."""
    rules = {name: _minutes(form[name]) for name in _CHOICES if name in form}
    if rules.get("break_after_minutes", 0) is None:
        rules["break_minutes"] = None  # how long a break is says nothing where there is none
    if "week" not in form:
        return rules
    limits = {day: _minutes(form.get(f"limit-{day}", "")) for day in WEEKDAYS}
    return rules | {
        "daily_limits": limits if form.get("daily") == "1" else None,
        "windows": [{"days": list(row.days), "from": row.opens, "until": row.closes} for row in windows_of(form)],
        "holidays": [{"first_date": row.first, "last_date": row.last or row.first} for row in holidays_of(form)],
    }


class Week(msgspec.Struct, frozen=True, kw_only=True):
    """What the form shows: rows that are filled in, an empty one of each kind, and the drawing."""

    windows: list[WindowRow]
    holidays: list[HolidayRow]
    bars: list[Bar]
    choices: dict[str, list[int]]
    empty: WindowRow = WindowRow()
    no_holiday: HolidayRow = HolidayRow()


def shown(form: Mapping[str, str]) -> Week:
    """The week as the form shows it."""
    windows = windows_of(form)
    choices = {name: sorted({*offered, *_number_in(form.get(name, ""))}) for name, offered in _CHOICES.items()}
    return Week(windows=windows, holidays=holidays_of(form), bars=bars_of(windows), choices=choices)


def bars_of(rows: list[WindowRow]) -> list[Bar]:
    """The drawing of windows. What lies after midnight is drawn on the next day."""
    bars = []
    for row in rows:
        opens, closes = _minute(row.opens), _minute(row.closes)
        if opens is None or closes is None:
            continue
        for day in (WEEKDAYS.index(name) for name in row.days):
            if closes > opens:
                bars.append(Bar(day=day, starts=opens, ends=closes))
                continue
            bars.append(Bar(day=day, starts=opens, ends=_DAY_MINUTES))
            bars.append(Bar(day=(day + 1) % 7, starts=0, ends=closes))
    return [bar for bar in bars if bar.ends > bar.starts]


def _usual(found: ViewingTime, day: str) -> int | None:
    """What the form begins with where no day has a limit of its own."""
    return found.weekend_limit_minutes if day in {"sat", "sun"} else found.weekday_limit_minutes


def _minutes(text: str) -> int | str | None:
    if text == "":
        return None
    return next(iter(_number_in(text)), text)


def _number_in(text: str) -> tuple[int, ...]:
    """The number that a field holds, if it holds one."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return (int(text),) if is_number else ()


def _minute(text: str) -> int | None:
    """Minutes after midnight of a text like ``19:30``; None for any other text."""
    hours, colon, minutes = text.partition(":")
    is_clock = len(text) == _CLOCK_LENGTH and colon and hours.isdecimal() and minutes.isdecimal() and text.isascii()
    if not is_clock:
        return None
    return min(_DAY_MINUTES, int(hours) * 60 + int(minutes))
