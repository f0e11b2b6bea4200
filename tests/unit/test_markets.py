"""Markets as the file describes them, and the file read while a process runs."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from app.domain.markets import Market, Markets, MarketsInvalid, parse_markets
from app.observability.metrics import MARKETS_FILE_USABLE
from app.settings.settings import Settings, SettingsError
from app.wiring.markets import MarketsFile, markets_file

GULF = """
[markets.ae]
weekend_days = ["sun", "sat"]
weekday_limit_minutes = 60
reset_hour = 4
warning_minutes = [5, 10]
week_starts_on = "sun"
enforcement = "shadow"
[markets.no]
"""


def test_a_table_replaces_what_it_names_and_leaves_the_rest_to_the_settings() -> None:
    default = Market(weekend_limit_minutes=240, reset_hour=7)
    emirates, norway = parse_markets(GULF, default)
    assert emirates.weekend_days == (5, 6)
    assert (emirates.weekday_limit_minutes, emirates.weekend_limit_minutes, emirates.reset_hour) == (60, 240, 4)
    assert emirates.warning_minutes == (10, 5)
    assert (emirates.week_starts_on, emirates.enforcement) == (6, "shadow")
    assert (norway.name, norway.reset_hour, norway.enforcement) == ("no", 7, "enforce")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[markets", "TOML"),
        ("[markets.no]\nweekend_days = ['sabbath']", "markets"),
        ("[markets.no]\nweekday_limit_minutes = 20", "multiple"),
        ("[markets.no]\nweekday_limit_minutes = 500", "480"),
        ("[markets.no]\nreset_hour = 24", "23"),
        ("[markets.no]\nenforcement = 'maybe'", "maybe"),
        ("[markets.no]\nweekdays = []", "weekdays"),
        ("[market.no]", "market"),
        ("[markets.default]", "default"),
        (f"[markets.{'x' * 51}]", "50"),
    ],
)
def test_a_wrong_text_is_refused_with_what_is_wrong(text: str, named: str) -> None:
    with pytest.raises(MarketsInvalid, match=named):
        parse_markets(text, Market())


def test_an_account_of_an_unknown_market_has_the_rules_of_the_settings() -> None:
    markets = Markets(Market(reset_hour=9), parse_markets(GULF, Market()))
    assert markets.of("ae").reset_hour == 4
    assert markets.of("atlantis") == markets.of(None) == markets.default


async def test_a_change_of_the_file_is_taken_over_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    path, heard = tmp_path / "markets.toml", []
    path.write_text("[markets.no]\nreset_hour = 5", encoding="utf-8")
    file = MarketsFile(path, Market())

    async def hear() -> None:
        heard.append(file.markets.of("no").reset_hour)

    file.listen(hear)
    await file.look()
    assert heard == []
    path.write_text("[markets.no]\nreset_hour = 4", encoding="utf-8")
    await file.look()
    assert heard == [4]
    for wrong in ("[markets.no]\nreset_hour = 99", "\xff[", "#" * 1024 * 1024 + "#"):
        path.write_text(wrong, encoding="latin-1")
        await file.look()
        assert (heard, file.markets.of("no").reset_hour) == ([4], 4)
        assert REGISTRY.get_sample_value("hourglass_markets_file_usable") == 0
    path.unlink()
    await file.look()
    assert file.markets.of("no").reset_hour == 4
    replacement = tmp_path / "next.toml"
    replacement.write_text("[markets.no]\nreset_hour = 3", encoding="utf-8")
    replacement.replace(path)
    await file.look()
    assert heard == [4, 3]
    assert REGISTRY.get_sample_value("hourglass_markets_file_usable") == 1


def test_without_a_file_there_is_nothing_to_complain_of() -> None:
    MARKETS_FILE_USABLE.set(0)
    MarketsFile(None, Market())
    assert REGISTRY.get_sample_value("hourglass_markets_file_usable") == 1


def test_a_process_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "markets.toml"
    path.write_text("[markets.no]\nreset_hour = 99", encoding="utf-8")
    secret = "x" * 32
    settings = Settings(
        database_url="postgresql://x/y",
        redis_url="redis://x",
        jwt_secret=secret,
        session_secret=secret,
        pin_pepper=secret,
        markets_file=path,
    )
    with pytest.raises(SettingsError, match="HOURGLASS_MARKETS_FILE"):
        markets_file(settings)
