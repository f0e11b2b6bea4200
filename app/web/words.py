"""Durations and instants as a person reads them."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime, format_time
from babel.support import NullTranslations

from app.timestamps import utc

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_A_MONDAY = date(2026, 3, 2)


class Words:
    """Words of one language."""

    def __init__(self, translations: NullTranslations, locale: Locale) -> None:
        self._t = translations.gettext
        self._locale = locale

    def duration(self, seconds: float) -> str:
        """``1 h 20 min``; whole minutes, the begun one not counted; seconds below one minute."""
        whole = max(0, int(seconds))
        if 0 < whole < MINUTE_SECONDS:
            return self._t("%(seconds)d s") % {"seconds": whole}
        hours, minutes = divmod(whole // MINUTE_SECONDS, 60)
        if not hours:
            return self._t("%(minutes)d min") % {"minutes": minutes}
        if not minutes:
            return self._t("%(hours)d h") % {"hours": hours}
        return self._t("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}

    def minutes(self, minutes: float) -> str:
        return self.duration(minutes * MINUTE_SECONDS)

    def time(self, at: datetime | str | int, zone: str) -> str:
        """``18:05`` in a zone."""
        return format_time(_local(at, zone), "HH:mm", locale=self._locale)

    def moment(self, at: datetime | str | int, zone: str, *, now: datetime) -> str:
        """``18:05`` for today, else with its day: ``tomorrow 06:00``, ``Wed 06:00``, ``3 Mar 06:00``."""
        local, today = _local(at, zone), _local(now, zone).date()
        clock = format_time(local, "HH:mm", locale=self._locale)
        away = (local.date() - today).days
        if away == 0:
            return clock
        if away == 1:
            return self._t("tomorrow %(time)s") % {"time": clock}
        if away == -1:
            return self._t("yesterday %(time)s") % {"time": clock}
        pattern = "EEE HH:mm" if 0 < away < 7 else "d MMM HH:mm"  # noqa: PLR2004  within a week its name is enough
        return format_datetime(local, pattern, locale=self._locale)

    def day(self, day: date | str) -> str:
        """``Monday 2 March``."""
        return format_date(_date(day), "EEEE d MMMM", locale=self._locale)

    def short_day(self, day: date | str) -> str:
        """``Mon 2 Mar``."""
        return format_date(_date(day), "EEE d MMM", locale=self._locale)

    def weekday(self, day: date | str) -> str:
        """``Mon``."""
        return format_date(_date(day), "EEE", locale=self._locale)

    def weekdays(self, days: Sequence[str]) -> str:
        """``Mon, Tue``, or the first and the last of three days or more in a row, of names like ``mon``."""
        numbers = [WEEKDAYS.index(day) for day in days]
        names = [self.weekday(_A_MONDAY + timedelta(days=number)) for number in numbers]
        is_row = len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1  # noqa: PLR2004
        return f"{names[0]}\N{EN DASH}{names[-1]}" if is_row else ", ".join(names)

    def weekday_of(self, day: str, *, is_short: bool = False) -> str:
        """``Monday``, or ``Mon``, of a name like ``mon``."""
        at = _A_MONDAY + timedelta(days=WEEKDAYS.index(day))
        return self.weekday(at) if is_short else format_date(at, "EEEE", locale=self._locale)

    def span(self, first: date, last: date) -> str:
        return f"{self.short_day(first)} \N{EN DASH} {self.short_day(last)}"

    def date(self, at: datetime | str | int, zone: str) -> str:
        """``2 March 2026`` in a zone."""
        return format_date(_local(at, zone).date(), "d MMMM y", locale=self._locale)

    def percent(self, share: float) -> str:
        return f"{share:.0f} %"

    def change(self, percent: float) -> str:
        """``+12 %``, with a sign unless it rounds to nothing."""
        whole = round(percent)
        sign = "+" if whole > 0 else "\N{MINUS SIGN}" if whole < 0 else ""
        return f"{sign}{self.percent(abs(whole))}"


def iso(at: datetime | str | int) -> str:
    """For the ``datetime`` attribute, UTC."""
    return _instant(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _date(day: date | str) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day


def _instant(at: datetime | str | int) -> datetime:
    if isinstance(at, int):
        return utc(at)
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def _local(at: datetime | str | int, zone: str) -> datetime:
    return _instant(at).astimezone(ZoneInfo(zone))
