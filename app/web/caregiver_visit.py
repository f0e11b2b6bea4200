"""One request of a caregiver: a session of its own kind, which opens the caregiver's page and nothing else."""

from typing import Any

from app.auth.tokens import Principal, Role
from app.domain.caregivers import CaregiverView
from app.parents.grants import Actor
from app.web.security import CAREGIVER_COOKIE
from app.web.sessions import CaregiverSession
from app.web.visit import FAR_FUTURE_S, Visit

HOME = "/care"


class CaregiverVisit(Visit):
    """A request to the caregiver's page."""

    cookie = CAREGIVER_COOKIE
    home = HOME
    entrance = f"{HOME}?ended=1"
    language_path = f"{HOME}/language"

    def _sessions(self) -> Any:  # noqa: ANN401  as in ``Visit``
        return self.services.console.caregiver_sessions

    @property
    def caregiver(self) -> CaregiverSession:
        assert isinstance(self.session, CaregiverSession)  # noqa: S101  views of caregivers run only with one
        return self.session

    @property
    def account_id(self) -> str:
        return self.caregiver.account_id

    @property
    def principal(self) -> Principal:
        return Principal(self.account_id, Role.CAREGIVER, FAR_FUTURE_S, device_id=self.caregiver.device_id)

    @property
    def actor(self) -> Actor:
        return Actor(self.account_id, self.principal.actor, caregiver_id=self.caregiver.device_id)

    async def view(self) -> CaregiverView:
        """What the caregiver may see beside balances. Raises Unauthenticated (revoked), DatabaseUnavailable."""
        caregivers = self.services.parents.caregivers
        return await caregivers.view(self.account_id, self.caregiver.device_id, at_ms=self.at_ms)
