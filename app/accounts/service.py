"""The profiles of a household."""

from collections.abc import Callable
from uuid import uuid4

import msgspec

from app.accounts.ports import Announcements, Profiles
from app.clock import Clock
from app.domain.config import Config
from app.domain.profile import Profile
from app.domain.viewing_day import Calendar


class FirstSettings(msgspec.Struct, frozen=True, kw_only=True):
    """With what a child begins until a parent decides otherwise."""

    weekday_limit_minutes: int
    weekend_limit_minutes: int
    reset_hour: int
    warning_minutes: tuple[int, ...]

    def config(self, timezone: str, *, at_ms: int, version: int = 1) -> Config:
        """In force from ``at_ms`` on, not yet reviewed."""
        return Config(
            version=version,
            weekday_limit_minutes=self.weekday_limit_minutes,
            weekend_limit_minutes=self.weekend_limit_minutes,
            reset_hour=self.reset_hour,
            timezone=timezone,
            educational_exempt=True,
            warning_minutes=self.warning_minutes,
            limits_reviewed=False,
            calendar=Calendar.opened(at_ms, timezone=timezone, reset_hour=self.reset_hour),
        )


class Members:
    """Creates and changes profiles, and tells the caches after each commit."""

    def __init__(
        self,
        profiles: Profiles,
        *,
        announcements: Announcements,
        first_settings: FirstSettings,
        most: int,
        clock: Clock,
    ) -> None:
        self._profiles = profiles
        self._announcements = announcements
        self._first_settings = first_settings
        self._most = most
        self._clock = clock

    async def of_account(self, account_id: str) -> list[Profile]:
        return await self._profiles.of_account(account_id)

    async def add(self, account_id: str, *, name: str, is_kids: bool, timezone: str | None, actor: str) -> Profile:
        """Raises TooManyProfiles."""
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
        """Change what is not None. Raises ProfileAccessDenied."""
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
        if is_kids is not None:
            await self._announcements.changed(profile_id)
        return profile

    def _first_config(self, at_ms: int) -> Callable[[str, int], Config]:
        return lambda timezone, version: self._first_settings.config(timezone, at_ms=at_ms, version=version)
