"""Hints that a player's heartbeats do not tell what happens on its screen.

They need ``position_seconds``. A hint is no proof, and it changes no decision: it is told to parents and support. Each
rule needs several gaps between heartbeats, so that seeking, a stall or one strange heartbeat says nothing:

- *paused while the position moves*: eight gaps in a row, of two minutes or more together, lie between heartbeats that
  say paused. In each the position moves at about playback speed, and in all at one speed (± 10 %);
- *clock moved*: the position has moved at about playback speed for four gaps. The player's own count of watched time is
  two minutes ahead of the server's clock, or two minutes behind what the position shows, whatever the speed;
- *beats without playback*: the position has moved at about playback speed for four gaps. Then ten gaps in a row, of ten
  minutes or more together, say that the film plays, the claim grows, and the position stands still. A player that
  buffers claims nothing, and one without claims is not suspected.

About playback speed is 0.8 to 2.1 times the server's clock.
"""

from enum import StrEnum

import msgspec

from app.domain.counters import NO_CLAIM

MIN_GAP_MS = 5_000
"""Heartbeats that follow sooner are seen together with the next one."""
SLOWEST, FASTEST = 0.8, 2.1
PLAYING_GAPS = 4
PAUSED_GAPS, PAUSED_MS = 8, 120_000
SAME_SPEED = 0.1
STILL_GAPS, STILL_MS = 10, 600_000
STILL_MOVE_MS = 1_000
"""A position that moves by less stands still."""
CLOCK_MS = 120_000
_COUNTED_SHARE = 0.5


class TamperKind(StrEnum):
    PAUSED_WHILE_MOVING = "paused_while_moving"
    CLOCK_MOVED = "clock_moved"
    BEATS_WITHOUT_PLAYBACK = "beats_without_playback"


TEXTS = {
    TamperKind.PAUSED_WHILE_MOVING: "The player said that it was paused, and the film moved on.",
    TamperKind.CLOCK_MOVED: "The clock by which the player counts was moved.",
    TamperKind.BEATS_WITHOUT_PLAYBACK: "The player said that it played, and the film stood still.",
}
"""What parents and support read."""


class TamperHint(msgspec.Struct, array_like=True, frozen=True):
    """What was noticed in a session, and when; told once for each kind, session and viewing day."""

    kind: TamperKind
    session_id: str
    day_number: int
    device_id: str
    noted_ms: int


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What one heartbeat tells of playback. Durations and instants in ms.

    Attributes:
        at_ms: when the heartbeat was counted.
        watched_ms: the claim; ``NO_CLAIM`` without one.
        day_number: the viewing day.
    """

    session_id: str
    title_id: str
    device_id: str
    day_number: int
    at_ms: int
    position_ms: int
    watched_ms: int
    is_paused: bool


class PositionWatch(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered of a child whose player sends positions.

    ``playing_gaps`` are gaps of this session at about playback speed; ``paused_speed`` is that of the first of the
    ``paused_gaps``. ``ahead_ms`` and ``behind_ms`` are how far the
    player's count is from the server's clock and from the position. ``hints`` are those of the running day.
    """

    session_id: str
    title_id: str
    at_ms: int
    position_ms: int
    watched_ms: int
    is_paused: bool
    playing_gaps: int = 0
    paused_gaps: int = 0
    paused_ms: int = 0
    paused_speed: float = 0.0
    still_gaps: int = 0
    still_ms: int = 0
    ahead_ms: int = 0
    behind_ms: int = 0
    hints: tuple[TamperHint, ...] = ()


class _Gap(msgspec.Struct, frozen=True):
    """What lies between two heartbeats of a session. ``claimed_ms`` is None unless both carry a claim."""

    elapsed_ms: int
    moved_ms: int
    claimed_ms: int | None

    @property
    def speed(self) -> float:
        return self.moved_ms / self.elapsed_ms

    @property
    def is_playback(self) -> bool:
        return SLOWEST <= self.speed <= FASTEST

    @property
    def is_still(self) -> bool:
        return abs(self.moved_ms) < STILL_MOVE_MS

    @property
    def is_claimed(self) -> bool:
        """Whether the player claims that it played."""
        return self.claimed_ms is not None and self.claimed_ms >= _COUNTED_SHARE * self.elapsed_ms


def seen(watch: PositionWatch | None, sighting: Sighting, *, max_gap_ms: int) -> PositionWatch:
    """What is remembered after a heartbeat. New hints are at the end of ``hints``.

    Args:
        watch: what was remembered before it; None for nothing.
        sighting: the heartbeat.
        max_gap_ms: a longer gap says nothing.
    """
    if watch is None:
        return _begun(sighting, ())
    hints = tuple(hint for hint in watch.hints if hint.day_number == sighting.day_number)
    if (watch.session_id, watch.title_id) != (sighting.session_id, sighting.title_id):
        return _begun(sighting, hints)
    elapsed_ms = sighting.at_ms - watch.at_ms
    if elapsed_ms < MIN_GAP_MS and sighting.is_paused == watch.is_paused:
        return msgspec.structs.replace(watch, hints=hints)
    is_comparable = MIN_GAP_MS <= elapsed_ms <= max_gap_ms and sighting.is_paused == watch.is_paused
    followed = _followed(watch, sighting) if is_comparable else _interrupted(watch)
    noted = tuple(hint for hint in _hints(followed, sighting) if not _is_told(hint, hints))
    return msgspec.structs.replace(
        followed,
        at_ms=sighting.at_ms,
        position_ms=sighting.position_ms,
        watched_ms=sighting.watched_ms,
        is_paused=sighting.is_paused,
        hints=(*hints, *noted),
    )


def new_hints(watch: PositionWatch | None, later: PositionWatch) -> tuple[TamperHint, ...]:
    """The hints that a heartbeat has brought."""
    return tuple(hint for hint in later.hints if watch is None or hint not in watch.hints)


def _begun(sighting: Sighting, hints: tuple[TamperHint, ...]) -> PositionWatch:
    return PositionWatch(
        sighting.session_id,
        sighting.title_id,
        sighting.at_ms,
        sighting.position_ms,
        sighting.watched_ms,
        sighting.is_paused,
        hints=hints,
    )


def _interrupted(watch: PositionWatch) -> PositionWatch:
    """After a change of pause, or a gap that says nothing, rows of gaps begin anew."""
    return msgspec.structs.replace(watch, paused_gaps=0, paused_ms=0, still_gaps=0, still_ms=0)


def _followed(watch: PositionWatch, sighting: Sighting) -> PositionWatch:
    has_claims = NO_CLAIM not in {watch.watched_ms, sighting.watched_ms}
    gap = _Gap(
        sighting.at_ms - watch.at_ms,
        sighting.position_ms - watch.position_ms,
        sighting.watched_ms - watch.watched_ms if has_claims else None,
    )
    if sighting.is_paused:
        return _paused(watch, gap)
    return _played(watch, gap)


def _paused(watch: PositionWatch, gap: _Gap) -> PositionWatch:
    if not gap.is_playback:
        return msgspec.structs.replace(watch, paused_gaps=0, paused_ms=0)
    if not watch.paused_gaps or abs(gap.speed - watch.paused_speed) > SAME_SPEED * watch.paused_speed:
        return msgspec.structs.replace(watch, paused_gaps=1, paused_ms=gap.elapsed_ms, paused_speed=gap.speed)
    return msgspec.structs.replace(watch, paused_gaps=watch.paused_gaps + 1, paused_ms=watch.paused_ms + gap.elapsed_ms)


def _played(watch: PositionWatch, gap: _Gap) -> PositionWatch:
    ahead_ms, behind_ms = _count_errors(watch, gap)
    is_still = gap.is_still and gap.is_claimed
    return msgspec.structs.replace(
        watch,
        playing_gaps=watch.playing_gaps + gap.is_playback,
        still_gaps=watch.still_gaps + 1 if is_still else 0,
        still_ms=watch.still_ms + gap.elapsed_ms if is_still else 0,
        ahead_ms=ahead_ms,
        behind_ms=behind_ms,
    )


def _count_errors(watch: PositionWatch, gap: _Gap) -> tuple[int, int]:
    """How far the player's count is ahead of the server's clock, and behind the position (cumulative sums).

    Some players count media time, so a count may run as fast as playback does. Only a gap at about playback speed
    raises a sum, and any gap lowers it: of a late heartbeat and the one after it, one raises and the other lowers.
    """
    if gap.claimed_ms is None:
        return watch.ahead_ms, watch.behind_ms
    ahead_ms = max(0, watch.ahead_ms + gap.claimed_ms - round(gap.elapsed_ms * FASTEST))
    behind_ms = max(0, watch.behind_ms + round(gap.moved_ms / FASTEST) - gap.claimed_ms)
    if gap.is_playback:
        return ahead_ms, behind_ms
    return min(watch.ahead_ms, ahead_ms), min(watch.behind_ms, behind_ms)


def _hints(watch: PositionWatch, sighting: Sighting) -> list[TamperHint]:
    kinds = []
    if watch.paused_gaps >= PAUSED_GAPS and watch.paused_ms >= PAUSED_MS:
        kinds.append(TamperKind.PAUSED_WHILE_MOVING)
    has_played = watch.playing_gaps >= PLAYING_GAPS
    if has_played and max(watch.ahead_ms, watch.behind_ms) >= CLOCK_MS:
        kinds.append(TamperKind.CLOCK_MOVED)
    if has_played and watch.still_gaps >= STILL_GAPS and watch.still_ms >= STILL_MS:
        kinds.append(TamperKind.BEATS_WITHOUT_PLAYBACK)
    return [
        TamperHint(kind, sighting.session_id, sighting.day_number, sighting.device_id, sighting.at_ms) for kind in kinds
    ]


def _is_told(hint: TamperHint, told: tuple[TamperHint, ...]) -> bool:
    return any((hint.kind, hint.session_id) == (other.kind, other.session_id) for other in told)
