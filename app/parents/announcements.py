"""After a commit: tell the caches."""

from collections.abc import Sequence

import structlog

from app.domain.grants import ExtraTimeRequest
from app.domain.policy import EarlierDay, Policy
from app.domain.weekly import with_days
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.observability import metrics
from app.parents.ports import EventLog, Policies, PolicyAnnouncer

REQUEST_ANSWERED = "request_answered"

_log = structlog.get_logger(__name__)


class Announcements:
    """Brings a committed policy to everybody who holds a copy."""

    def __init__(self, *, policies: Policies, announcer: PolicyAnnouncer, events: EventLog) -> None:
        self._policies = policies
        self._announcer = announcer
        self._events = events

    async def changed(self, profile_id: str, *, unflushed: Sequence[EarlierDay] = ()) -> None:
        """Announce the policy as it stands now.

        The change is committed, so a failure here is not the parent's: the worker's sweep announces it again.

        Args:
            profile_id: the child.
            unflushed: days of its week that PostgreSQL may not have yet.
        """
        try:
            found = await self._policies.load([profile_id])
        except DatabaseUnavailable as error:
            _log.warning("policy_not_announced", profile_id=profile_id, reason=error.code)
            return
        for policy in found:
            if policy is not None:
                await self.announce(with_days(policy, unflushed))

    async def announce(self, policy: Policy) -> None:
        """Announce a policy that was committed just now. A failure is not the parent's either."""
        try:
            with metrics.ANNOUNCED_SECONDS.time():
                await self._announcer.announce([policy])
        except CountersUnavailable as error:
            metrics.ANNOUNCEMENTS_FAILED.inc()
            _log.warning("policy_not_announced", profile_id=policy.profile_id, reason=error.code)

    async def request_answered(self, profile_id: str, request: ExtraTimeRequest, *, at_ms: int) -> None:
        """Tell the child how its request was answered; if that fails, it finds the answer in its list."""
        facts = {
            "request_id": request.request_id,
            "status": request.status.value,
            "minutes": request.minutes,
            "grant_id": request.grant_id,
        }
        try:
            await self._events.add(profile_id, REQUEST_ANSWERED, facts, at_ms=at_ms)
        except CountersUnavailable as error:
            _log.warning("answer_not_announced", profile_id=profile_id, reason=error.code)

    async def household_changed(self, account_id: str) -> None:
        """Announce that profiles were added to an account."""
        try:
            await self._announcer.announce_household(account_id)
        except CountersUnavailable as error:
            _log.warning("household_not_announced", account_id=account_id, reason=error.code)

    async def request_made(self, profile_id: str) -> None:
        """Show a child's request to parents who watch it live. A failure is not the child's: they see it later."""
        try:
            await self._announcer.wake([profile_id])
        except CountersUnavailable as error:
            _log.debug("request_not_announced", profile_id=profile_id, reason=error.code)
