"""Co-viewing: several children of one account watch one playback, and each is charged on its own counters.

One of them owns the session that the player names. Each child gets a decision of its own; this module joins them.

Nothing stores who watched together. One device plays one title at a time: two children whose sessions were counted at
the same instants, on the same device and with the same title, watched it together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import NamedTuple

import msgspec

from app.domain.enforcement import ALLOWED, BLOCKED, Decision
from app.domain.offline import TimeRange, uncovered


class CoViewed(msgspec.Struct, frozen=True):
    """A child that watched along."""

    profile_id: str
    name: str


class PartKey(NamedTuple):
    """A session's part in one viewing day."""

    session_id: str
    day: date


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """A session's part and one of another child that overlaps it, on the same device and with the same title.

    ``counted`` and ``others_counted`` are the time ranges, in ms, in which each of them was counted.
    """

    profile_id: str
    part: PartKey
    counted: tuple[TimeRange, ...]
    other: CoViewed
    others_counted: tuple[TimeRange, ...]


class Together(msgspec.Struct, frozen=True):
    """Who watched along during a session's part, by name, and how much of it was watched with anybody."""

    co_viewers: tuple[CoViewed, ...]
    together_ms: int


def together_of(overlaps: Iterable[Overlap]) -> dict[PartKey, Together]:
    """What was watched together, by part. Time with several others counts once."""
    by_part: defaultdict[PartKey, list[Overlap]] = defaultdict(list)
    for overlap in overlaps:
        if _shared_ms(overlap.counted, overlap.others_counted):
            by_part[overlap.part].append(overlap)
    return {
        part: Together(
            tuple(sorted({each.other for each in found}, key=lambda other: (other.name, other.profile_id))),
            _shared_ms(found[0].counted, [ranged for each in found for ranged in each.others_counted]),
        )
        for part, found in by_part.items()
    }


def _shared_ms(ranges: Sequence[TimeRange], others: Sequence[TimeRange]) -> int:
    """The length of the ranges as far as others cover them."""
    alone = (part for each in ranges for part in uncovered(each, others))
    return _length_ms(ranges) - _length_ms(alone)


def _length_ms(ranges: Iterable[TimeRange]) -> int:
    return sum(ends_ms - starts_ms for starts_ms, ends_ms in ranges)


def strictest(own: Decision, others: Sequence[Decision], *, together_ms: Callable[[], int | None]) -> Decision:
    """The decision for all who watch together.

    Playback ends for everybody when it ends for one of them, and goes on when all may play again. ``remaining_ms`` and
    ``would_be`` stay the child's own.

    Args:
        own: the decision for the child who is answered.
        others: the decisions for all the others.
        together_ms: answers when all may play again. It is called if one of them is blocked.
    """
    if not others:
        return own
    everybody = (own, *others)
    first, may_all_play = deciding(everybody), all(each.may_play for each in everybody)
    return msgspec.structs.replace(
        own,
        enforcement=min((each.enforcement for each in everybody), key=_leniency),
        stop_at_ms=None if first is None else everybody[first].stop_at_ms,
        next_beat_ms=min(each.next_beat_ms for each in everybody),
        lease_ms=min(each.lease_ms for each in everybody),
        reason=own.reason if first is None else everybody[first].reason,
        available_again_ms=own.available_again_ms if may_all_play else together_ms(),
    )


def first_shared_ms(playable: Sequence[Iterable[TimeRange]]) -> int | None:
    """The first instant that lies in a time range of each child; None without one. The ranges of a child ascend."""
    waiting = [iter(ranges) for ranges in playable]
    found = [next(ranges, None) for ranges in waiting]
    while True:
        current = [time_range for time_range in found if time_range is not None]
        if len(current) < len(found):
            return None
        latest_ms = max(from_ms for from_ms, _ in current)
        if all(latest_ms < until_ms for _, until_ms in current):
            return latest_ms
        found = [
            time_range if latest_ms < time_range[1] else next(ranges, None)
            for time_range, ranges in zip(current, waiting, strict=True)
        ]


def deciding(decisions: Sequence[Decision]) -> int | None:
    """The position of the decision that ends the playback first, None if none does. The first one of equals."""
    stops_ms = [each.stop_at_ms for each in decisions if each.stop_at_ms is not None]
    if not stops_ms:
        return None
    first_ms = min(stops_ms)
    return next(place for place, each in enumerate(decisions) if each.stop_at_ms == first_ms)


def _leniency(enforcement: str) -> float:
    """Blocked comes before all warnings, a later warning before an earlier one, and ``allowed`` last."""
    if enforcement == BLOCKED:
        return 0
    return float("inf") if enforcement == ALLOWED else int(enforcement.removeprefix("warning_"))
