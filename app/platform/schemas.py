"""What provisioning takes and answers."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta
from pydantic import AfterValidator, BaseModel, Field

from app.domain.erasure import ErasureReceipt
from app.domain.external_ids import MAX_EXTERNAL_ID, canonical, is_acceptable
from app.domain.markets import MAX_MARKET_NAME, Enforcement
from app.domain.platform import AccountFacts, PlatformAccount, Provisioned, ShadowDay
from app.domain.profile import Profile
from app.domain.viewing_day import TIMEZONES
from app.errors import HourglassError, InvalidInput, Malformed
from app.http.requests import Instant, Name, RequestModel, Timezone, validation_problem
from app.timestamps import utc

MAX_BULK = 10_000


def printable(value: str) -> str:
    if not is_acceptable(value):
        raise ValueError("must hold printable characters only")
    return value


Market = Annotated[str, Field(min_length=1, max_length=MAX_MARKET_NAME, examples=["no"]), AfterValidator(printable)]


class AccountChange(RequestModel):
    """An account as the platform describes it. A ``market`` that is not given is none."""

    timezone: Timezone = Field(examples=["Europe/Oslo"])
    market: Market | None = None


class MarketChange(RequestModel):
    """The market of an account; null: none, then the defaults of the settings hold."""

    market: Market | None


class EnforcementChange(RequestModel):
    """The enforcement mode of a profile; null: that of its market."""

    enforcement: Enforcement | None


class ShadowDayAnswer(BaseModel):
    """A viewing day of a child in shadow mode. ``blocked_seconds`` were watched beyond the allowance.

    External ids and ``market`` are null where the platform gave none.
    """

    date: date
    account_id: str
    external_account_id: str | None
    profile_id: str
    external_profile_id: str | None
    market: str | None
    blocked_seconds: float

    @classmethod
    def of(cls, day: ShadowDay) -> Self:
        return cls(
            date=day.day,
            account_id=day.account_id,
            external_account_id=day.external_account_id,
            profile_id=day.profile_id,
            external_profile_id=day.external_profile_id,
            market=day.market,
            blocked_seconds=day.overrun_ms / 1000,
        )


class ShadowPage(BaseModel):
    days: list[ShadowDayAnswer]
    next_cursor: str | None


class PlatformAccountAnswer(BaseModel):
    """``account_id`` is ours; the platform's stands for it everywhere.

    ``external_id`` is null for accounts that the platform has not made.
    """

    external_id: str | None
    account_id: str
    timezone: str
    market: str | None

    @classmethod
    def of(cls, account: PlatformAccount) -> Self:
        return cls(**msgspec.structs.asdict(account))


class PlatformProfile(BaseModel):
    """``profile_id`` is ours; the platform's stands for it everywhere.

    ``external_id`` is null for profiles that a parent has made. ``enforcement`` is null where the market decides.
    """

    external_id: str | None
    profile_id: str
    name: str
    is_kids: bool
    timezone: str
    limits_reviewed: bool
    enforcement: Enforcement | None

    @classmethod
    def of(cls, profile: Profile) -> Self:
        return cls(
            external_id=profile.external_id,
            profile_id=profile.id,
            name=profile.name,
            is_kids=profile.is_kids,
            timezone=profile.timezone,
            limits_reviewed=profile.limits_reviewed,
            enforcement=profile.enforcement,
        )


class PlatformReceipt(BaseModel):
    """How many rows of each kind were removed. It names nobody."""

    erased_at: Instant
    counts: dict[str, int]

    @classmethod
    def of(cls, receipt: ErasureReceipt) -> Self:
        return cls(erased_at=utc(receipt.erased_at_ms), counts=dict(receipt.counts))


class AccountWithProfiles(PlatformAccountAnswer):
    profiles: list[PlatformProfile]

    @classmethod
    def with_profiles(cls, account: PlatformAccount, profiles: Sequence[Profile]) -> Self:
        return cls(**msgspec.structs.asdict(account), profiles=[PlatformProfile.of(profile) for profile in profiles])


class ProfileFacts(RequestModel):
    """A profile as the platform describes it. A ``timezone`` that is not given stays, or is the account's."""

    name: Name
    is_kids: bool
    timezone: Timezone | None = None


class AccountLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of a bulk call."""

    external_id: Annotated[str, Meta(min_length=1, max_length=MAX_EXTERNAL_ID)]
    timezone: str
    market: Annotated[str, Meta(min_length=1, max_length=MAX_MARKET_NAME)] | None = None


class LineAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a line: what was done, or the problem that stood in its way."""

    status: Literal["created", "updated", "unchanged", "refused"]
    account_id: str | None = None
    problem: dict[str, object] | None = None


_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_line = msgspec.json.Decoder(AccountLine).decode


def lines_of(body: bytes, *, is_ndjson: bool) -> Sequence[bytes | msgspec.Raw]:
    """The lines of a bulk call. Raises Malformed, InvalidInput."""
    if is_ndjson:
        lines: Sequence[bytes | msgspec.Raw] = [line for line in body.split(b"\n") if line.strip()]
    else:
        try:
            lines = _split(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Malformed from None
    if len(lines) > MAX_BULK:
        raise InvalidInput(f"A call holds at most {MAX_BULK} accounts.")
    return lines


def facts_of(lines: Sequence[bytes | msgspec.Raw]) -> list[AccountFacts | HourglassError]:
    """What each line of a bulk call says, or why it is refused."""
    seen: set[str] = set()
    found: list[AccountFacts | HourglassError] = []
    for line in lines:
        try:
            facts = _facts(line)
            if facts.external_id in seen:
                raise _wrong("external_id", "is given twice")
        except HourglassError as error:
            found.append(error)
        else:
            seen.add(facts.external_id)
            found.append(facts)
    return found


def _facts(line: bytes | msgspec.Raw) -> AccountFacts:
    try:
        told = _decode_line(line)
    except msgspec.ValidationError as error:
        raise validation_problem(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed from None
    if not is_acceptable(told.external_id):
        raise _wrong("external_id", "must hold printable characters only")
    if told.timezone not in TIMEZONES:
        raise _wrong("timezone", "must be a time zone of the IANA list")
    if told.market is not None and not is_acceptable(told.market):
        raise _wrong("market", "must hold printable characters only")
    return AccountFacts(external_id=canonical(told.external_id), timezone=told.timezone, market=told.market)


def _wrong(field: str, detail: str) -> InvalidInput:
    return InvalidInput(errors=[{"pointer": f"/{field}", "detail": detail}])


def refused(error: HourglassError) -> LineAnswer:
    return LineAnswer("refused", problem=error.problem())


def done(result: Provisioned) -> LineAnswer:
    return LineAnswer(result.change.value, result.account_id)
