"""The week of the settings form: fields become a change, and settings become the same fields."""

from app.domain.config import ConfigChange
from app.parents.schemas import ViewingTimeChange
from app.web.week_form import bars_of, change_in, holidays_of, shown, windows_of

WINDOW = {"window-0-mon": "1", "window-0-fri": "1", "window-0-from": "15:00", "window-0-until": "19:30"}


def _change(fields: dict[str, str]) -> ConfigChange:
    return ViewingTimeChange(**change_in(fields | {"week": "1"})).change()


def test_a_form_without_a_week_changes_none_of_it() -> None:
    assert change_in({"weekday_limit_minutes": "60"}) == {}


def test_an_empty_week_takes_every_rule_away() -> None:
    assert change_in({"week": "1", "window-3-from": "", "holiday-7-first": ""}) == {
        "daily_limits": None,
        "windows": [],
        "holidays": [],
    }


def test_limits_by_day_count_only_where_they_are_asked_for() -> None:
    fields = {"limit-mon": "60", "limit-sun": "120"}
    assert _change(fields).daily_limits is None
    assert _change(fields | {"daily": "1"}).daily_limits == (60, None, None, None, None, None, 120)


def test_windows_and_holidays_are_read_from_rows_with_gaps() -> None:
    fields = WINDOW | {"window-20-sun": "1", "window-20-from": "22:00", "window-20-until": "01:00"}
    fields |= {"holiday-4-first": "2026-12-24", "holiday-4-last": "2027-01-02", "holiday-9-first": "2026-05-17"}
    change = _change(fields)
    assert [(window.days, window.from_minute, window.until_minute) for window in change.windows] == [  # type: ignore[union-attr]
        ((0, 4), 900, 1170),
        ((6,), 1320, 60),
    ]
    assert len(change.holidays) == 2, "a holiday without a last day is one day"  # type: ignore[arg-type]


def test_no_row_is_dropped_however_many_there_are() -> None:
    fields = {f"window-{number}-mon": "1" for number in (0, 7, 21, 400)} | {"window-x-mon": "1", "window-": "1"}
    assert len(windows_of(fields)) == 4
    assert len(holidays_of({f"holiday-{number}-first": "2026-12-24" for number in range(51)})) == 51


def test_a_half_filled_row_is_kept_for_its_error() -> None:
    assert [row.opens for row in windows_of({"window-1-from": "15:00"})] == ["15:00"]
    assert [row.last for row in holidays_of({"holiday-1-last": "2026-01-01"})] == ["2026-01-01"]


def test_a_window_over_midnight_is_drawn_on_both_days() -> None:
    week = shown({"window-0-sun": "1", "window-0-from": "22:00", "window-0-until": "01:00"})
    assert [(bar.day, bar.starts, bar.ends) for bar in week.bars] == [(6, 1320, 1440), (0, 0, 60)]
    until_midnight = windows_of({"window-0-mon": "1", "window-0-from": "22:00", "window-0-until": "00:00"})
    assert [(bar.day, bar.starts, bar.ends) for bar in bars_of(until_midnight)] == [(0, 1320, 1440)]


def test_what_is_no_time_is_not_drawn() -> None:
    for text in ("", "xx:yy", "1:00", "12345", "²²:00"):
        assert bars_of(windows_of({"window-0-mon": "1", "window-0-from": text, "window-0-until": "10:00"})) == []
