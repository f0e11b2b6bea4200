"""The weekly report as CSV (RFC 4180): one row per child and viewing day."""

import csv
import io

from app.reports.schemas import WeeklyAnswer

MEDIA_TYPE = "text/csv"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS = (
    "counted_seconds",
    "educational_seconds",
    "overrun_seconds",
    "total_seconds",
    "limit_minutes",
    "borrowed_seconds",
    "owed_seconds",
)


def as_csv(report: WeeklyAnswer) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("profile_id", "profile_name", "date", *_COLUMNS))
    for child in report.profiles:
        name = _without_formula(child.profile_name)
        for day in child.daily:
            writer.writerow((child.profile_id, name, day.date, *(getattr(day, column) for column in _COLUMNS)))
    return text.getvalue()


def _without_formula(name: str) -> str:
    """Prefix formula-like text with an apostrophe, so that a spreadsheet does not execute it."""
    return f"'{name}" if name.startswith(_FORMULA_STARTS) else name
