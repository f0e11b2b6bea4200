"""A parent's pause: nothing of a child plays until it ends or is lifted."""

import msgspec

from app.domain.policy import MINUTE_MS, Policy
from app.domain.viewing_day import ViewingDay

MAX_PAUSE_MINUTES = 1440


class ParentPause(msgspec.Struct, frozen=True, kw_only=True):
    """The pause of a child. ``until_ms`` is None where there is none."""

    profile_id: str
    until_ms: int | None


def pause_end_ms(minutes: int | None, day: ViewingDay, *, at_ms: int) -> int:
    """When a pause that begins at an instant ends; without minutes it ends with the running day."""
    return day.ends_ms if minutes is None else at_ms + minutes * MINUTE_MS


def with_pause(policy: Policy, until_ms: int | None) -> Policy:
    """The policy after a pause began, or after it was lifted (None)."""
    return msgspec.structs.replace(policy, version=policy.version + 1, paused_until_ms=until_ms)
