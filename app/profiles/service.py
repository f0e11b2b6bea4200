"""Create and change the profiles of a household."""

from uuid import uuid4

from app.clock import Clock
from app.domain.config import Config, FirstConfig
from app.domain.markets import Market, Markets
from app.domain.profile import Profile
from app.domain.viewing_day import Calendar
from app.profiles.ports import Announcements, Profiles


def first_config(market: Market, timezone: str, *, at_ms: int, version: int = 1) -> Config:
    """The config of a child until a parent changes it, in force from ``at_ms`` on and not reviewed."""
    return Config(
        version=version,
        weekday_limit_minutes=market.weekday_limit_minutes,
        weekend_limit_minutes=market.weekend_limit_minutes,
        reset_hour=market.reset_hour,
        timezone=timezone,
        educational_exempt=True,
        warning_minutes=market.warning_minutes,
        limits_reviewed=False,
        calendar=Calendar.opened(at_ms, timezone=timezone, reset_hour=market.reset_hour),
    )


class ProfileService:
    """Creates and changes profiles, and announces each committed change."""

    def __init__(
        self,
        profiles: Profiles,
        *,
        announcements: Announcements,
        markets: Markets,
        most: int,
        clock: Clock,
    ) -> None:
        self._profiles = profiles
        self._announcements = announcements
        self._markets = markets
        self._most = most
        self._clock = clock

    async def of_account(self, account_id: str) -> list[Profile]:
        return await self._profiles.of_account(account_id)

    async def add(
        self,
        account_id: str,
        *,
        name: str,
        is_kids: bool,
        timezone: str | None,
        actor: str,
        external_id: str | None = None,
    ) -> Profile:
        """Create a profile. Raises TooManyProfiles, and ExternalIdTaken where the external id is in use."""
        at_ms = self._clock()
        profile = await self._profiles.add(
            account_id,
            profile_id=str(uuid4()),
            name=name,
            is_kids=is_kids,
            timezone=timezone,
            most=self._most,
            first_config=self._first_config(at_ms),
            actor=actor,
            at_ms=at_ms,
            external_id=external_id,
        )
        await self._announcements.changed(profile.id)
        await self._announcements.household_changed(account_id)
        return profile

    async def change(
        self,
        account_id: str,
        profile_id: str,
        *,
        name: str | None,
        is_kids: bool | None,
        timezone: str | None,
        actor: str,
    ) -> Profile:
        """Change the given fields. A new zone also changes the child's config. Raises ProfileAccessDenied."""
        at_ms = self._clock()
        profile = await self._profiles.change(
            account_id,
            profile_id,
            name=name,
            is_kids=is_kids,
            timezone=timezone,
            first_config=self._first_config(at_ms),
            actor=actor,
            at_ms=at_ms,
        )
        if is_kids is not None or timezone is not None:
            await self._announcements.changed(profile_id)
        return profile

    def _first_config(self, at_ms: int) -> FirstConfig:
        def made(market: str | None, timezone: str, version: int) -> Config:
            return first_config(self._markets.of(market), timezone, at_ms=at_ms, version=version)

        return made
