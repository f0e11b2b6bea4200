"""The decision: may playback go on, for how long, and when should the player ask again.

Heartbeat, balance and eligibility all decide here.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from app.domain.breaks import BREAK, NextBreak
from app.domain.markets import SHADOW
from app.domain.offline import TimeRange
from app.domain.opening_hours import OpeningHours
from app.domain.past_terms import FOREVER_MS
from app.domain.policy import MINUTE_MS, UNLIMITED

ALLOWED = "allowed"
BLOCKED = "blocked"
DAILY_LIMIT = "daily_limit"
WEEKLY_LIMIT = "weekly_limit"


class Decision(msgspec.Struct, frozen=True, gc=False):
    """An answer to a player.

    ``remaining_ms`` is None when unlimited. ``stop_at_ms`` is the instant at which the allowance ends if playback goes
    on, None when nothing will end it. ``next_beat_ms`` and ``lease_ms`` are durations from the instant decided at.
    ``would_be`` is the enforcement that was decided and not enforced, in shadow mode only. ``reason`` names the rule
    that has ended playback, or that will at ``stop_at_ms``; None where nothing will. ``available_again_ms`` is the
    first instant at which a blocked child may play, if nothing plays until then and nothing else changes; None where
    that is not known, and for one that may play.
    """

    enforcement: str
    remaining_ms: int | None
    stop_at_ms: int | None
    next_beat_ms: int
    lease_ms: int
    would_be: str | None = None
    reason: str | None = None
    available_again_ms: int | None = None

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
    opening_hours: OpeningHours | None = None,
    limit_reason: str = DAILY_LIMIT,
    next_break: NextBreak | None = None,
    finish_until_ms: int = 0,
) -> Decision:
    """Judge the state of a viewing day at an instant. The strictest of all rules decides.

    When a blocked child may play again is not told: days beyond the next one may decide that.

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
        opening_hours: when playback is open at all; None for always.
        limit_reason: the rule that the allowance comes from.
        next_break: the break of the child; None for a child without breaks.
        finish_until_ms: until when the title may be finished, whatever is left of the allowance; 0 for none.
    """
    decision = decide_by_allowance(
        at_ms,
        used_ms,
        allowance_ms,
        is_exempt,
        day_ends_ms,
        next_allowance_ms,
        warning_minutes,
        interval_ms,
        longest_lease_ms,
        limit_reason,
        finish_until_ms,
    )
    if opening_hours is not None:
        decision = _by_opening_hours(decision, opening_hours, at_ms, is_exempt, warning_minutes)
    if next_break is None or not decision.may_play:
        return decision
    if next_break.left_ms:
        return _ended_after(next_break.left_ms, BREAK, decision, at_ms, is_exempt, warning_minutes, wins_ties=False)
    return Decision(BLOCKED, 0, at_ms, min(decision.next_beat_ms, next_break.ends_ms - at_ms), 0, None, BREAK)


def decide_by_allowance(  # noqa: PLR0917  every heartbeat comes here, and keywords cost
    at_ms: int,
    used_ms: int,
    allowance_ms: int,
    is_exempt: bool,
    day_ends_ms: int,
    next_allowance_ms: int,
    warning_minutes: Sequence[int],
    interval_ms: int,
    longest_lease_ms: int,
    limit_reason: str = DAILY_LIMIT,
    finish_until_ms: int = 0,
) -> Decision:
    """The decision of the allowance alone, as ``decide`` without opening hours and breaks."""
    if allowance_ms == UNLIMITED:
        return Decision(ALLOWED, None, None, interval_ms, longest_lease_ms)
    remaining_ms = max(0, allowance_ms - used_ms, finish_until_ms - at_ms)
    to_day_end_ms = max(1, day_ends_ms - at_ms)
    if is_exempt:
        return Decision(ALLOWED, remaining_ms, None, min(interval_ms, to_day_end_ms), longest_lease_ms)
    next_beat_ms = _next_beat_ms(remaining_ms, min(interval_ms, to_day_end_ms), warning_minutes)
    stop_at_ms = _stop_at_ms(at_ms, remaining_ms, day_ends_ms, next_allowance_ms)
    return Decision(
        enforcement_of(remaining_ms, warning_minutes),
        remaining_ms,
        stop_at_ms,
        next_beat_ms,
        min(remaining_ms, longest_lease_ms),
        None,
        None if stop_at_ms is None else limit_reason,
    )


def _by_opening_hours(
    decision: Decision, opening_hours: OpeningHours, at_ms: int, is_exempt: bool, warning_minutes: Sequence[int]
) -> Decision:
    """The decision of the allowance, where the opening hours may be stricter."""
    place = opening_hours.place_of(at_ms)
    closed_by, changes_ms = opening_hours.closed_by[place], opening_hours.ends_ms(place)
    if closed_by is not None:
        next_beat_ms = decision.next_beat_ms if changes_ms is None else min(decision.next_beat_ms, changes_ms - at_ms)
        return Decision(BLOCKED, 0, at_ms, next_beat_ms, 0, None, closed_by)
    if changes_ms is None or not decision.may_play:
        return decision
    reason = opening_hours.closed_by[place + 1]
    return _ended_after(changes_ms - at_ms, reason, decision, at_ms, is_exempt, warning_minutes, wins_ties=True)


def _ended_after(  # noqa: PLR0917  as above
    left_ms: int,
    reason: str | None,
    decision: Decision,
    at_ms: int,
    is_exempt: bool,
    warning_minutes: Sequence[int],
    *,
    wins_ties: bool,
) -> Decision:
    """The decision on a child that may play, where one more rule ends playback after so long.

    Args:
        left_ms: how long that rule lets playback go on.
        reason: its name.
        decision: that of the other rules.
        at_ms: the instant.
        is_exempt: as for ``decide``.
        warning_minutes: as for ``decide``.
        wins_ties: whether the rule is named where the others end playback at the same instant.
    """
    remaining_ms, known_ms, stop_at_ms = decision.remaining_ms, decision.stop_at_ms, at_ms + left_ms
    next_beat_ms = _next_beat_ms(left_ms, decision.next_beat_ms, warning_minutes)
    if known_ms is not None and (known_ms < stop_at_ms or (known_ms == stop_at_ms and not wins_ties)):
        is_bounded = remaining_ms is not None and remaining_ms <= left_ms and next_beat_ms == decision.next_beat_ms
        if is_bounded and not is_exempt:
            return decision
        stop_at_ms, reason = known_ms, decision.reason
    remaining_ms = left_ms if remaining_ms is None else min(left_ms, remaining_ms)
    return Decision(
        enforcement_of(stop_at_ms - at_ms if is_exempt else remaining_ms, warning_minutes),
        remaining_ms,
        stop_at_ms,
        next_beat_ms,
        min(left_ms, decision.lease_ms),
        None,
        reason,
    )


def playable_ranges(
    with_time: Iterable[TimeRange], *, from_ms: int, opening_hours: OpeningHours | None
) -> Iterator[TimeRange]:
    """The time ranges in which something is left and open, as far as they are known.

    Args:
        with_time: time ranges in which something is left of an allowance, ascending and disjoint.
        from_ms: when a break ends, or now.
        opening_hours: as for ``decide``.
    """
    for starts_ms, ends_ms in with_time:
        again_ms = max(from_ms, starts_ms)
        while again_ms < ends_ms:
            opens_ms, closes_ms = again_ms, None
            if opening_hours is not None:
                found_ms = opening_hours.opens_ms(again_ms)
                if found_ms is None:
                    return
                opens_ms, closes_ms = found_ms, opening_hours.closes_ms(found_ms)
            again_ms = ends_ms if closes_ms is None else min(ends_ms, closes_ms)
            if opens_ms < again_ms:
                yield opens_ms, again_ms


def playable_always(at_ms: int) -> Iterator[TimeRange]:
    """The time ranges of ``playable_ranges`` where nothing ends playback."""
    yield at_ms, FOREVER_MS


def not_enforced(decision: Decision, mode: str, *, longest_lease_ms: int) -> Decision:
    """What a player is told where limits are counted but not enforced.

    Nothing limits it: neither ``remaining_ms`` nor ``stop_at_ms`` nor a short lease. In shadow mode the answer says
    what was decided, by which rule, and until when.

    Args:
        decision: as for a profile whose limits are enforced.
        mode: `shadow` or `off`.
        longest_lease_ms: upper bound of the lease.
    """
    if mode != SHADOW:
        return Decision(ALLOWED, None, None, decision.next_beat_ms, longest_lease_ms)
    return Decision(
        ALLOWED,
        None,
        None,
        decision.next_beat_ms,
        longest_lease_ms,
        decision.enforcement,
        decision.reason,
        decision.available_again_ms,
    )


def _next_beat_ms(remaining_ms: int, next_beat_ms: int, warning_minutes: Sequence[int]) -> int:
    """A beat falls on each threshold and on the end of what remains, if that comes before the regular one."""
    for minutes in warning_minutes:
        to_threshold_ms = remaining_ms - minutes * MINUTE_MS
        if 0 < to_threshold_ms < next_beat_ms:
            next_beat_ms = to_threshold_ms
    return remaining_ms if 0 < remaining_ms < next_beat_ms else next_beat_ms


def lease_end_s(decision: Decision, *, at_ms: int) -> int | None:
    """When a signed lease for a decision ends (UTC seconds), rounded down; None if playback must not go on.

    It ends with the answer's own lease, and never after the instant at which playback must stop.
    """
    ends_ms = at_ms + decision.lease_ms
    if decision.stop_at_ms is not None:
        ends_ms = min(ends_ms, decision.stop_at_ms)
    ends_s = ends_ms // 1000
    return ends_s if decision.may_play and ends_s * 1000 > at_ms else None


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
    """Playback that reaches the reset continues with the next day's allowance, but never into a third day."""
    if remaining_ms == 0 or at_ms + remaining_ms < day_ends_ms:
        return at_ms + remaining_ms
    return None if next_allowance_ms == UNLIMITED else day_ends_ms + next_allowance_ms
