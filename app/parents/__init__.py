"""FLOW 2: settings, grants and requests, from the parent to every cache."""

from dataclasses import dataclass

from app.clock import Clock
from app.parents.grants import GrantService, RequestService
from app.parents.pauses import PauseService
from app.parents.ports import Caregivers
from app.parents.service import ChildSettings


@dataclass(frozen=True, kw_only=True)
class Parents:
    """What the calls of this feature work with."""

    clock: Clock
    settings: ChildSettings
    grants: GrantService
    requests: RequestService
    caregivers: Caregivers
    pauses: PauseService
