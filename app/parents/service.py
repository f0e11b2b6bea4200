"""FLOW 2: what a parent decides, from the commit to every cache."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta

import msgspec

from app.domain.config import Config, ConfigChange
from app.domain.markets import Market, Markets
from app.domain.policy import EarlierDay
from app.domain.preview import BlockedDay, blocked_days, left_of_week, may_be_blocked
from app.domain.report import SessionPart, last_finished_day
from app.errors import CountersUnavailable
from app.parents.announcements import Announcements
from app.parents.ports import Configs, EndedDays, PastViewing
from app.parents.preconditions import Precondition

PREVIEWED_DAYS = 28
_MAX_SESSIONS = 20_000


class Preview(msgspec.Struct, frozen=True):
    """Which of the viewing days from ``first`` to ``last`` settings would have blocked, newest first."""

    first: date
    last: date
    blocked: tuple[BlockedDay, ...]


class ChildSettings:
    """The viewing-time settings of the children of an account. ``pause_grace_ms`` is the counted part of each pause."""

    def __init__(
        self,
        *,
        configs: Configs,
        past: PastViewing,
        ended_days: EndedDays,
        announcements: Announcements,
        markets: Markets,
        pause_grace_ms: int,
    ) -> None:
        self._configs = configs
        self._ended_days = ended_days
        self._past = past
        self._announcements = announcements
        self._markets = markets
        self._pause_grace_ms = pause_grace_ms

    async def read(self, *, account_id: str, profile_id: str) -> tuple[Config, Market]:
        """The settings of a child, and the market of the account.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
            NoConfig: it is an adult's.
        """
        config, market = await self._configs.read(account_id=account_id, profile_id=profile_id)
        return config, self._markets.of(market)

    async def market_of(self, account_id: str) -> Market:
        """The market of an account."""
        return self._markets.of(await self._configs.market_of(account_id))

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
        has_week = config.limits.weekly_minutes is not None
        unflushed = await self._unflushed_days(profile_id) if has_week else ()
        await self._announcements.changed(profile_id, unflushed=unflushed)
        return config

    async def _unflushed_days(self, profile_id: str) -> Sequence[EarlierDay]:
        """Days that the counters have left behind while no weekly limit made them remember."""
        try:
            return await self._ended_days.ended_days(profile_id)
        except CountersUnavailable:
            return ()

    async def preview(self, *, account_id: str, profile_id: str, change: ConfigChange, at_ms: int) -> Preview:
        """Try a change on the last 28 viewing days that have ended, without saving it.

        Raises:
            InvalidInput, ProfileAccessDenied, NoConfig: as for ``save``.
        """
        config, market = await self.read(account_id=account_id, profile_id=profile_id)
        candidate = config.changed(change, at_ms=at_ms)
        weekend_days = market.weekend_days
        last = last_finished_day(config.calendar, at_ms)
        first = last - timedelta(days=PREVIEWED_DAYS - 1)
        found = await self._past.days(profile_id, first=first, last=last)
        week_left_ms = left_of_week(candidate, found, weekend_days=weekend_days, week_starts_on=market.week_starts_on)
        days = [
            day for day in found if may_be_blocked(candidate, day, weekend_days=weekend_days, week_left_ms=week_left_ms)
        ]
        if not days:
            return Preview(first, last, ())
        parts = await self._past.sessions(
            profile_id,
            first=days[-1].totals.day,
            last=days[0].totals.day,
            from_ms=days[-1].totals.starts_ms,
            until_ms=days[0].totals.ends_ms,
            before=None,
            most=_MAX_SESSIONS,
        )
        sessions: defaultdict[date, list[SessionPart]] = defaultdict(list)
        for part in parts:
            sessions[part.day].append(part)
        blocked = blocked_days(
            candidate,
            days,
            sessions,
            weekend_days=weekend_days,
            pause_grace_ms=self._pause_grace_ms,
            week_left_ms=week_left_ms,
        )
        return Preview(first, last, tuple(blocked))
