"""A heartbeat on its way: what it needs to be counted, and what it meant."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import msgspec

from app.domain.counters import Beat
from app.domain.enforcement import Decision
from app.domain.offline import TimeRange
from app.viewing.policy_cache import KnownPolicy
from app.viewing.schemas import HeartbeatAnswer, HeartbeatRequest


class PreparedBeat(msgspec.Struct, gc=False):
    """A beat and what the decision on it needs.

    Attributes:
        profile_id: the child.
        known: the policy that the beat carries.
        beat: the beat as the counters take it.
        is_educational: whether the title is educational.
        is_new: whether PostgreSQL was found to have no counters of the child since the beat arrived.
        asked: the request, if it asks for more than an answer; None for an ordinary beat.
    """

    profile_id: str
    known: KnownPolicy
    beat: Beat
    is_educational: bool
    is_new: bool = False
    asked: HeartbeatRequest | None = None

    @property
    def account_id(self) -> str:
        return self.known.account_id


class PreparedAdult(msgspec.Struct, gc=False):
    """A beat of an adult, which nothing counts. ``request`` names the profile by our id."""

    account_id: str
    request: HeartbeatRequest
    is_educational: bool
    is_end: bool = False

    @property
    def profile_id(self) -> str:
        return self.request.profile_id


Prepared: TypeAlias = PreparedBeat | PreparedAdult


class DecidedBeat(NamedTuple):
    """What a beat meant for its profile at an instant.

    ``playable`` answers the time ranges from then on in which the profile may play, if nothing plays.
    """

    profile_id: str
    at_ms: int
    decision: Decision
    answer: HeartbeatAnswer
    playable: Callable[[], Iterable[TimeRange]]
