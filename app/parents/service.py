"""FLOW 2: what a parent decides, from the commit to every cache."""

from collections.abc import Collection
from datetime import date, timedelta

import msgspec

from app.domain.config import Config, ConfigChange
from app.domain.preview import BlockedDay, blocked_days
from app.domain.report import last_finished_day
from app.parents.announcements import Announcements
from app.parents.ports import Configs, PastViewing
from app.parents.preconditions import Precondition

PREVIEWED_DAYS = 28
_MOST_SESSIONS = 20_000


class Preview(msgspec.Struct, frozen=True):
    """Which of the viewing days from ``first`` to ``last`` settings would have blocked, newest first."""

    first: date
    last: date
    blocked: tuple[BlockedDay, ...]


class ChildSettings:
    """The viewing-time settings of the children of an account."""

    def __init__(
        self, *, configs: Configs, past: PastViewing, announcements: Announcements, weekend_days: Collection[int]
    ) -> None:
        self._configs = configs
        self._past = past
        self._announcements = announcements
        self._weekend_days = weekend_days

    async def read(self, *, account_id: str, profile_id: str) -> Config:
        """The settings of a child.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
            NoConfig: it is an adult's.
        """
        return await self._configs.read(account_id=account_id, profile_id=profile_id)

    async def save(
        self,
        *,
        account_id: str,
        profile_id: str,
        actor: str,
        change: ConfigChange,
        precondition: Precondition,
        at_ms: int,
    ) -> Config:
        """Change the settings of a child at an instant, and tell every process.

        Raises:
            PreconditionFailed: the parent has not seen the version that would be replaced.
            InvalidInput: one limit would be unlimited and the other not.
            ProfileAccessDenied, NoConfig: as for ``read``.
        """

        def changed(config: Config) -> Config:
            precondition.check(config.version)
            return config.changed(change, at_ms=at_ms)

        config = await self._configs.change(
            account_id=account_id, profile_id=profile_id, actor=actor, at_ms=at_ms, change=changed
        )
        await self._announcements.changed(profile_id)
        return config

    async def preview(self, *, account_id: str, profile_id: str, change: ConfigChange, at_ms: int) -> Preview:
        """Try a change on the last 28 viewing days that have ended, without saving it.

        Raises:
            InvalidInput, ProfileAccessDenied, NoConfig: as for ``save``.
        """
        config = await self._configs.read(account_id=account_id, profile_id=profile_id)
        candidate = config.changed(change, at_ms=at_ms)
        last = last_finished_day(config.calendar, at_ms)
        first = last - timedelta(days=PREVIEWED_DAYS - 1)
        days = await self._past.days(profile_id, first=first, last=last)
        hit = blocked_days(candidate, days, (), weekend_days=self._weekend_days)
        if not hit:
            return Preview(first, last, ())
        wanted = {blocked.day for blocked in hit}
        days = [day for day in days if day.day in wanted]
        sessions = await self._past.sessions(
            profile_id,
            first=days[-1].day,
            last=days[0].day,
            from_ms=days[-1].starts_ms,
            until_ms=days[0].ends_ms,
            before=None,
            most=_MOST_SESSIONS,
        )
        return Preview(first, last, tuple(blocked_days(candidate, days, sessions, weekend_days=self._weekend_days)))
