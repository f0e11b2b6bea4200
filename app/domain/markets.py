"""Markets: the rules of a country or region. An account belongs to at most one."""

import tomllib
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from app.domain.config import (
    LIMIT_STEP_MINUTES,
    MAX_LIMIT_MINUTES,
    MAX_WARNING_MINUTES,
    MAX_WARNINGS,
    MIN_LIMIT_MINUTES,
)

DEFAULT_MARKET = "default"
"""The name of the rules for accounts without a market, and for accounts whose market is not in the file."""
MAX_MARKETS = 300
MAX_MARKET_NAME = 50
ENFORCE, SHADOW, OFF = "enforce", "shadow", "off"
Enforcement = Literal["enforce", "shadow", "off"]
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_Limit = Annotated[int, Meta(ge=MIN_LIMIT_MINUTES, le=MAX_LIMIT_MINUTES, multiple_of=LIMIT_STEP_MINUTES)]
_Hour = Annotated[int, Meta(ge=0, le=23)]
_Warnings = Annotated[
    tuple[Annotated[int, Meta(ge=1, le=MAX_WARNING_MINUTES)], ...], Meta(min_length=1, max_length=MAX_WARNINGS)
]
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_MARKET_NAME)]


class MarketsInvalid(Exception):
    """A markets file is wrong. The text says where and why."""


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a market. Weekdays: Monday = 0.

    Limits, reset hour and warnings are those of a new child. ``enforcement`` is that of profiles without their own.
    """

    name: str = DEFAULT_MARKET
    weekend_days: tuple[int, ...] = (5, 6)
    weekday_limit_minutes: int = 120
    weekend_limit_minutes: int = 180
    reset_hour: int = 6
    warning_minutes: tuple[int, ...] = (15, 5)
    week_starts_on: int = 0
    enforcement: Enforcement = "enforce"


class _MarketTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table ``[markets.NAME]`` of the file. What is absent is as in the settings."""

    weekend_days: Annotated[tuple[_Weekday, ...], Meta(max_length=7)] | None = None
    weekday_limit_minutes: _Limit | None = None
    weekend_limit_minutes: _Limit | None = None
    reset_hour: _Hour | None = None
    warning_minutes: _Warnings | None = None
    week_starts_on: _Weekday | None = None
    enforcement: Enforcement | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    markets: Annotated[dict[_Name, _MarketTable], Meta(max_length=MAX_MARKETS)]


class Markets:
    """The markets of a deployment by name. ``replace`` exchanges them while the process runs.

    Args:
        default: the rules of accounts without a market.
        named: the other markets.
    """

    def __init__(self, default: Market | None = None, named: Iterable[Market] = ()) -> None:
        self.default = default or Market()
        self._named: Mapping[str, Market] = {}
        self.replace(named)

    def of(self, name: str | None) -> Market:
        """The rules of an account whose market has this name; None: it has none."""
        return self.default if name is None else self._named.get(name, self.default)

    def weekend_days(self, name: str | None) -> Collection[int]:
        """The weekdays (Monday = 0) on which the weekend limit holds."""
        return self.of(name).weekend_days

    def has(self, name: str) -> bool:
        return name in self._named

    def all(self) -> list[Market]:
        """The default and then the others, by name."""
        return [self.default, *(self._named[name] for name in sorted(self._named))]

    def replace(self, named: Iterable[Market]) -> bool:
        """Exchange the named markets. Answers whether anything has changed."""
        before = self._named
        self._named = {market.name: market for market in named}
        return before != self._named


def parse_markets(text: str, default: Market) -> list[Market]:
    """The markets in a TOML text.

    Args:
        text: tables ``[markets.NAME]``.
        default: the source of values that a table leaves out.

    Raises:
        MarketsInvalid: the text is not TOML, or a value is wrong.
    """
    try:
        tables = msgspec.convert(tomllib.loads(text), _File).markets
    except tomllib.TOMLDecodeError as error:
        raise MarketsInvalid(f"is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise MarketsInvalid(str(error)) from None
    if DEFAULT_MARKET in tables:
        raise MarketsInvalid(f"`{DEFAULT_MARKET}` names the rules of the settings; no market may have this name")
    return [_market(name, table, default) for name, table in tables.items()]


def _market(name: str, table: _MarketTable, default: Market) -> Market:
    given = {field: value for field, value in msgspec.structs.asdict(table).items() if value is not None}
    if "weekend_days" in given:
        given["weekend_days"] = tuple(sorted({_WEEKDAYS.index(day) for day in given["weekend_days"]}))
    if "week_starts_on" in given:
        given["week_starts_on"] = _WEEKDAYS.index(given["week_starts_on"])
    if "warning_minutes" in given:
        given["warning_minutes"] = tuple(sorted(set(given["warning_minutes"]), reverse=True))
    return msgspec.structs.replace(default, **given, name=name)
