"""The decision: may playback go on, for how long, and when should the player ask again.

Heartbeat, balance and eligibility all decide here.
"""

from collections.abc import Sequence

import msgspec

from app.domain.policy import MINUTE_MS, UNLIMITED

ALLOWED = "allowed"
BLOCKED = "blocked"


class Decision(msgspec.Struct, frozen=True, gc=False):
    """An answer to a player.

    ``remaining_ms`` is None when unlimited. ``stop_at_ms`` is the instant at which the allowance ends if playback goes
    on, None when nothing will end it. ``next_beat_ms`` and ``lease_ms`` are durations from the instant decided at.
    """

    enforcement: str
    remaining_ms: int | None
    stop_at_ms: int | None
    next_beat_ms: int
    lease_ms: int

    @property
    def may_play(self) -> bool:
        return self.enforcement != BLOCKED


def decide(
    *,
    at_ms: int,
    used_ms: int,
    allowance_ms: int,
    is_exempt: bool,
    day_ends_ms: int,
    next_allowance_ms: int,
    warning_minutes: Sequence[int],
    interval_ms: int,
    longest_lease_ms: int,
) -> Decision:
    """Judge the state of a viewing day at an instant.

    Args:
        at_ms: the instant.
        used_ms: what counts against the allowance so far.
        allowance_ms: limit + grants of the day, -1 for unlimited.
        is_exempt: the title is educational and such titles are not deducted.
        day_ends_ms: when the running day ends.
        next_allowance_ms: the allowance with which the next day begins, -1 for unlimited.
        warning_minutes: thresholds below which the player warns.
        interval_ms: the regular beat interval, jitter applied.
        longest_lease_ms: upper bound of the lease.
    """
    if allowance_ms == UNLIMITED:
        return Decision(ALLOWED, None, None, interval_ms, longest_lease_ms)
    remaining_ms = max(0, allowance_ms - used_ms)
    to_day_end_ms = max(1, day_ends_ms - at_ms)
    if is_exempt:
        return Decision(ALLOWED, remaining_ms, None, min(interval_ms, to_day_end_ms), longest_lease_ms)
    next_beat_ms = min(interval_ms, to_day_end_ms)
    for minutes in warning_minutes:
        to_threshold_ms = remaining_ms - minutes * MINUTE_MS
        if 0 < to_threshold_ms < next_beat_ms:
            next_beat_ms = to_threshold_ms
    if 0 < remaining_ms < next_beat_ms:
        next_beat_ms = remaining_ms
    return Decision(
        enforcement_of(remaining_ms, warning_minutes),
        remaining_ms,
        _stop_at_ms(at_ms, remaining_ms, day_ends_ms, next_allowance_ms),
        next_beat_ms,
        min(remaining_ms, longest_lease_ms),
    )


def enforcement_of(remaining_ms: int, warning_minutes: Sequence[int]) -> str:
    """``blocked`` at nothing left, ``warning_N`` at the smallest threshold N reached, else ``allowed``."""
    if remaining_ms == 0:
        return BLOCKED
    reached = 0
    for minutes in warning_minutes:
        if remaining_ms <= minutes * MINUTE_MS and (not reached or minutes < reached):
            reached = minutes
    return f"warning_{reached}" if reached else ALLOWED


def _stop_at_ms(at_ms: int, remaining_ms: int, day_ends_ms: int, next_allowance_ms: int) -> int | None:
    """Playback that reaches the reset goes on with the next day's allowance; no allowance outlasts a second day."""
    if remaining_ms == 0 or at_ms + remaining_ms < day_ends_ms:
        return at_ms + remaining_ms
    return None if next_allowance_ms == UNLIMITED else day_ends_ms + next_allowance_ms
