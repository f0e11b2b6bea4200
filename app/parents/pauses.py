"""Pauses by parents: of one child, or of all at once."""

from collections.abc import Sequence

from app.domain.grants import running_day
from app.domain.idempotency import IdempotencyKey
from app.domain.pauses import ParentPause, pause_end_ms
from app.domain.policy import Policy
from app.parents.announcements import Announcements
from app.parents.grants import Actor
from app.parents.ports import Pauses
from app.parents.used import UsedTime


class PauseService:
    """Pauses stop everything: exempt titles, unlimited days and extra time too.

    ``profile_id`` None means every child of the account. Every call may raise ProfileAccessDenied, NoConfig and
    DatabaseUnavailable.
    """

    def __init__(self, *, pauses: Pauses, used: UsedTime, announcements: Announcements) -> None:
        self._pauses = pauses
        self._used = used
        self._announcements = announcements

    async def begin(
        self, actor: Actor, profile_id: str | None, *, minutes: int | None, key: str | None, at_ms: int
    ) -> list[ParentPause]:
        """Pause for minutes from now on, None until the running day ends. A new pause replaces the one before.

        Raises:
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """
        ids = await self._pauses.children(actor.account_id) if profile_id is None else [profile_id]
        pinned = {child: used.pinned for child, used in (await self._used.of_all(ids)).items()}

        def until_for(policy: Policy) -> int:
            day = running_day(policy, at_ms, pinned=pinned.get(policy.profile_id))
            return pause_end_ms(minutes, day, at_ms=at_ms)

        pauses, changed = await self._pauses.set(
            account_id=actor.account_id,
            profile_id=profile_id,
            actor=actor.name,
            at_ms=at_ms,
            key=None if key is None else IdempotencyKey.of(key, "pause", profile_id, minutes),
            until_for=until_for,
        )
        await self._announce(changed)
        return pauses

    async def lift(self, actor: Actor, profile_id: str | None, *, at_ms: int) -> list[ParentPause]:
        """End a pause now. Repeating it changes nothing."""
        pauses, changed = await self._pauses.set(
            account_id=actor.account_id,
            profile_id=profile_id,
            actor=actor.name,
            at_ms=at_ms,
            key=None,
            until_for=lambda _: None,
        )
        await self._announce(changed)
        return pauses

    async def _announce(self, policies: Sequence[Policy]) -> None:
        for policy in policies:
            await self._announcements.announce(policy)
