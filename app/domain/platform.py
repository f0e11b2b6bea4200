"""What the platform sends about its accounts, and the result for each of them."""

from datetime import date
from enum import StrEnum

import msgspec


class AccountFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An account as the platform describes it, under its own id."""

    external_id: str
    timezone: str
    market: str | None = None


class PlatformAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account as we keep it. ``external_id`` is None for one that was not made by the platform."""

    account_id: str
    external_id: str | None
    timezone: str
    market: str | None


class ShadowDay(msgspec.Struct, frozen=True, kw_only=True):
    """A viewing day on which shadow mode would have blocked a child: it watched ``overrun_ms`` beyond its allowance."""

    account_id: str
    external_account_id: str | None
    profile_id: str
    external_profile_id: str | None
    market: str | None
    day: date
    overrun_ms: int


class Change(StrEnum):
    """What an idempotent call has done."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    account_id: str
    change: Change
