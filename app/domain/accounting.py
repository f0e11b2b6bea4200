"""How heartbeats become minutes.

Time is measured: a beat credits the time since the session's last beat, by one clock. ``record`` is the rule book in
Python; ``redis_store/lua/record.lua`` is its twin that runs atomically beside the counters, and a property test holds
the two equal. The steps bear the same names in both.
"""

from collections.abc import Sequence
from enum import Enum, IntEnum

import msgspec

from app.domain.policy import UNLIMITED, DayTerms
from app.domain.viewing_day import LONG_ABSENCE_MS, ViewingDay

NO_CLAIM = -1
LONGEST_UNKNOWN_MS = 172_800_000
"""Age up to which a session whose record was lost is taken up again. What is older may have been flushed, and is not
read back, so that its claim could count twice."""


class Status(IntEnum):
    """What came of a beat. All but OK left the counters untouched."""

    OK = 0
    COLD = 1
    """No counters here (or of an older generation): seed them from PostgreSQL, then repeat."""
    STALE = 2
    """A newer policy exists: load it, then repeat."""
    DAY = 3
    """The given days do not reach from the running day to now: compute them, then repeat."""
    NEEDS_ID = 4
    """Another title: repeat with an id for the session to open."""
    UNKNOWN = 5
    """Not the running session: repeat with proof of when it was issued."""
    SUPERSEDED = 6
    ENDED = 7
    TOO_FAST = 8


class Closing(IntEnum):
    """How the previous session of a child came to its end."""

    NONE = 0
    ENDED = 1
    SUPERSEDED = 2
    TITLE = 3


class Meant(Enum):
    """The session that a beat speaks of."""

    RUNNING = "running"
    NEW = "new"
    LOST = "lost"
    """Issued after all we know: its record was lost, and it is taken up again."""


class Live(msgspec.Struct, array_like=True, gc=False):
    """One child's counters: the running day and the running (or last) session, all in milliseconds.

    The order of the fields is the layout that Redis stores; ``record.lua`` names the same positions. New fields go to
    the end. ``version`` only grows and is also an instant, so that counters rebuilt after a loss are newer than what
    was flushed before it. The session counters cover the part of the session that lies in this day; ``watched_ms`` is
    the player's own count of the session, without pauses: what it last claimed and what was counted since.
    """

    version: int
    generation: int
    policy_version: int
    dirty_since_ms: int
    day_number: int
    day_starts_ms: int
    day_ends_ms: int
    limit_ms: int
    allowance_ms: int
    used_ms: int = 0
    educational_ms: int = 0
    overrun_ms: int = 0
    session_id: str = ""
    title_id: str = ""
    is_educational: int = 0
    device_id: str = ""
    device_type: str = ""
    session_started_ms: int = 0
    last_beat_ms: int = 0
    paused_since_ms: int = 0
    watched_ms: int = 0
    session_used_ms: int = 0
    session_educational_ms: int = 0
    session_overrun_ms: int = 0
    session_earlier_ms: int = 0
    has_ended: int = 0
    previous_session_id: str = ""
    previous_closing: int = Closing.NONE
    previous_ended_ms: int = 0
    paced_ms: int = 0
    """Where the child's beats would have come to if they were evenly spaced (generic cell rate algorithm)."""

    @property
    def day(self) -> ViewingDay:
        return ViewingDay(self.day_number, self.day_starts_ms, self.day_ends_ms)

    def is_silent(self, at_ms: int, max_gap_ms: int) -> bool:
        """Whether the session's last beat is longer ago than a gap that counts."""
        return at_ms - self.last_beat_ms > max_gap_ms

    def is_over(self, at_ms: int, max_gap_ms: int) -> bool:
        """Whether the session has ended, or is taken to have by its silence."""
        return bool(self.has_ended) or self.is_silent(at_ms, max_gap_ms)

    @property
    def session_total_ms(self) -> int:
        """All time the session was credited, over every day it touched."""
        return self.session_earlier_ms + self.session_used_ms + self.session_educational_ms + self.session_overrun_ms


class Beat(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """A heartbeat (or the end of a session) with all that the accounting needs to know about it.

    Durations and instants in milliseconds. ``session_id`` is empty on an opening beat; ``new_session_id`` is the id to
    open with, when one may be needed. ``proof_ms`` is the instant at which ``session_id`` was issued, once verified, or
    0. ``days`` ascend and follow on each other; the last is meant to hold the instant of the beat. ``synced`` are
    stretches that offline syncs were credited for, ascending and apart from each other: no beat counts them again.
    """

    session_id: str
    new_session_id: str
    proof_ms: int
    title_id: str
    is_educational: int
    is_exempt: int
    is_paused: int
    is_end: int
    watched_ms: int
    device_id: str
    device_type: str
    policy_version: int
    days: Sequence[DayTerms]
    synced: Sequence[tuple[int, int]] = ()


class Rules(msgspec.Struct, array_like=True, frozen=True):
    """The numbers of the counting rules, in milliseconds."""

    max_gap_ms: int = 300_000
    pause_grace_ms: int = 300_000
    long_absence_ms: int = LONG_ABSENCE_MS
    beat_spacing_ms: int = 0
    """Least time between beats in the long run; 0 sets no limit."""
    beat_burst: int = 10
    longest_unknown_ms: int = LONGEST_UNKNOWN_MS


class Outcome(msgspec.Struct, array_like=True, gc=False):
    """What came of a beat, with the counters as they stand after it.

    ``ended_ms`` tells when the session ended, or its last beat; ``superseded_id`` which running one this beat ended.
    The fields after ``day_number`` say with which day and policy to repeat a beat, or who took over; a beat that is OK
    has no need of them and leaves them out.
    """

    status: int
    at_ms: int
    ended_ms: int = 0
    session_id: str = ""
    session_total_ms: int = 0
    used_ms: int = 0
    counted_ms: int = 0
    """What this beat added to ``used_ms`` of the day it leaves running."""
    superseded_id: str = ""
    day_number: int = 0
    day_starts_ms: int = 0
    day_ends_ms: int = 0
    policy_version: int = 0
    by_device_type: str = ""

    @property
    def day(self) -> ViewingDay:
        return ViewingDay(self.day_number, self.day_starts_ms, self.day_ends_ms)


class Share(msgspec.Struct, frozen=True):
    """What a finished session was credited on one viewing day, and its last beat in it."""

    day_number: int
    credited_ms: int
    last_beat_ms: int


class Recorded(msgspec.Struct):
    """The counters after a beat, what was set aside for the flush, and the outcome."""

    live: Live | None
    closed: list[Live]
    outcome: Outcome


def cold(*, terms: DayTerms, policy_version: int, at_ms: int) -> Live:
    """The counters of a child of whom nothing is known yet."""
    return Live(
        version=at_ms,
        generation=0,
        policy_version=policy_version,
        dirty_since_ms=0,
        day_number=terms.number,
        day_starts_ms=terms.starts_ms,
        day_ends_ms=terms.ends_ms,
        limit_ms=terms.limit_ms,
        allowance_ms=terms.allowance_ms,
    )


def in_day(live: Live, terms: DayTerms) -> Live:
    """Counters as they stand in a later day that no beat has opened yet: nothing used, the session goes on."""
    now = msgspec.structs.replace(live)
    _begin_day(now, terms)
    return now


def record(live: Live | None, beat: Beat, *, at_ms: int, rules: Rules, generation: int = 0) -> Recorded:
    """Count one beat at an instant. Anything but OK changes nothing.

    Counters of an older ``generation`` than the given one survived from before a loss and count as COLD.
    """
    if live is None or live.generation < generation:
        return _refuse(live, Status.COLD, at_ms)
    if live.policy_version > beat.policy_version:
        return _refuse(live, Status.STALE, at_ms)
    longest_lead_ms = rules.beat_spacing_ms * rules.beat_burst
    clock_fell = live.paced_ms - at_ms > longest_lead_ms
    paced_ms = (at_ms if clock_fell else max(live.paced_ms, at_ms)) + rules.beat_spacing_ms
    if paced_ms - at_ms > longest_lead_ms:
        return _refuse(live, Status.TOO_FAST, at_ms)
    meant, ended_ms = _session_meant(live, beat, at_ms=at_ms, rules=rules)
    if isinstance(meant, Status):
        return _refuse(live, meant, at_ms, ended_ms=ended_ms)
    if not _days_reach(live, beat, at_ms=at_ms, rules=rules):
        return _refuse(live, Status.DAY, at_ms)
    changes_title = meant is Meant.RUNNING and not beat.is_end and beat.title_id != live.title_id
    if changes_title and not beat.new_session_id:
        return _refuse(live, Status.NEEDS_ID, at_ms)

    now = msgspec.structs.replace(live)
    now.version = max(live.version + 1, at_ms)
    now.policy_version = beat.policy_version
    now.paced_ms = paced_ms if rules.beat_spacing_ms else 0
    closed: list[Live] = []
    superseded_id = ""
    is_unflushed = bool(live.dirty_since_ms)
    if meant is not Meant.RUNNING:
        superseded_id = _close(now, closed, Closing.SUPERSEDED, at_ms=at_ms, rules=rules)
        is_unflushed = is_unflushed and not closed
        issued_ms = min(beat.proof_ms, at_ms) if meant is Meant.LOST else at_ms
        _open(now, beat, session_id=beat.session_id or beat.new_session_id, at_ms=issued_ms)
        # What is already counted up to the last known beat is not counted again.
        now.last_beat_ms = max(issued_ms, min(live.last_beat_ms, at_ms))

    until_ms = now.last_beat_ms if meant is Meant.NEW else _counts_until_ms(now, beat, at_ms=at_ms, rules=rules)
    earned_ms = _unsynced_ms(now.last_beat_ms, until_ms, beat.synced)
    _credit_by_day(now, beat, closed, until_ms=until_ms, is_unflushed=is_unflushed, at_ms=at_ms)

    now.watched_ms = _watched_ms(now, beat, earned_ms=earned_ms)
    clock_fell = now.last_beat_ms - at_ms > rules.max_gap_ms
    now.last_beat_ms = at_ms if clock_fell else max(now.last_beat_ms, at_ms)
    if changes_title:
        _close(now, closed, Closing.TITLE, at_ms=at_ms, rules=rules)
        _open(now, beat, session_id=beat.new_session_id, at_ms=at_ms)
    if beat.is_end:
        _set_aside(now, closed, has_ended=1)  # no later beat could restore it: it is flushed next
        now.has_ended = 1
    else:
        now.is_educational = beat.is_educational
        now.paused_since_ms = (now.paused_since_ms or at_ms) if beat.is_paused else 0
    now.dirty_since_ms = now.dirty_since_ms or at_ms
    counted_ms = now.used_ms - (live.used_ms if now.day_number == live.day_number else 0)
    outcome = _outcome(now, Status.OK, at_ms, counted_ms=counted_ms, superseded_id=superseded_id)
    return Recorded(live=now, closed=closed, outcome=outcome)


def _session_meant(live: Live, beat: Beat, *, at_ms: int, rules: Rules) -> tuple[Meant | Status, int]:
    """The session meant, or why the beat is refused and when that session ended."""
    is_previous = beat.session_id == live.previous_session_id
    if beat.session_id == "":
        if beat.new_session_id != live.session_id:
            return Meant.NEW, 0
        # else a repeat of the call that opened it
    elif beat.session_id != live.session_id:
        is_repeated_retitling = (
            is_previous
            and live.previous_closing == Closing.TITLE
            and beat.title_id == live.title_id
            and beat.device_id == live.device_id
            and not beat.is_end
        )
        if not is_repeated_retitling:
            if beat.proof_ms == 0:
                return Status.UNKNOWN, 0
            is_too_old = at_ms - beat.proof_ms > rules.longest_unknown_ms
            # The clock that dated the proof may be ahead of ours, but whom we know to be closed was not lost.
            if is_previous or is_too_old or beat.proof_ms <= live.session_started_ms:
                if is_previous and live.previous_closing == Closing.ENDED:
                    return Status.ENDED, live.previous_ended_ms
                return Status.SUPERSEDED, live.previous_ended_ms or live.session_started_ms
            counted_to_ms = max(min(beat.proof_ms, at_ms), min(live.last_beat_ms, at_ms))
            if at_ms - counted_to_ms > rules.max_gap_ms and beat.watched_ms == NO_CLAIM:
                return Status.ENDED, counted_to_ms
            return Meant.LOST, 0
    if live.has_ended or (live.is_silent(at_ms, rules.max_gap_ms) and beat.watched_ms == NO_CLAIM):
        return Status.OK if beat.is_end else Status.ENDED, live.last_beat_ms
    return Meant.RUNNING, 0


def _days_reach(live: Live, beat: Beat, *, at_ms: int, rules: Rules) -> bool:
    """Whether the given days lead from the running day to the instant. After a long absence they may leave a gap."""
    if not beat.days:
        return False
    first, last = beat.days[0], beat.days[-1]
    if at_ms < live.day_ends_ms:
        return last.number == live.day_number
    follows = first.starts_ms <= live.day_ends_ms or at_ms - live.day_ends_ms >= rules.long_absence_ms
    return follows and last.starts_ms <= at_ms < last.ends_ms


def _counts_until_ms(live: Live, beat: Beat, *, at_ms: int, rules: Rules) -> int:
    """Up to when the time since the last beat counts, but for what was synced.

    After silence that is as far as the player's claim reaches; in a pause it is the end of the grace.
    """
    if live.is_silent(at_ms, rules.max_gap_ms):
        reach_ms = live.last_beat_ms + max(0, beat.watched_ms - live.watched_ms)
        for starts_ms, ends_ms in beat.synced:
            if starts_ms < reach_ms:
                reach_ms += max(0, ends_ms - max(live.last_beat_ms, starts_ms))
        return min(at_ms, reach_ms)
    if live.paused_since_ms:
        return min(at_ms, live.paused_since_ms + rules.pause_grace_ms)
    return at_ms


def _unsynced_ms(from_ms: int, until_ms: int, synced: Sequence[tuple[int, int]]) -> int:
    """How much of a stretch no offline sync was credited for."""
    unsynced_ms = max(0, until_ms - from_ms)
    for starts_ms, ends_ms in synced:
        unsynced_ms -= max(0, min(until_ms, ends_ms) - max(from_ms, starts_ms))
    return unsynced_ms


def _watched_ms(live: Live, beat: Beat, *, earned_ms: int) -> int:
    """The player's count of the session after a beat. A claim made under another session's id says nothing of it."""
    if beat.watched_ms != NO_CLAIM and beat.session_id in {"", live.session_id}:
        return max(live.watched_ms, beat.watched_ms)
    return live.watched_ms if live.paused_since_ms else live.watched_ms + earned_ms


def _credit_by_day(
    live: Live, beat: Beat, closed: list[Live], *, until_ms: int, is_unflushed: bool, at_ms: int
) -> None:
    """Credit what counts of the time since the last beat, split at every reset on the way to the instant."""
    cursor_ms = live.last_beat_ms
    if at_ms < live.day_ends_ms:
        live.limit_ms, live.allowance_ms = beat.days[-1].limit_ms, beat.days[-1].allowance_ms
        _credit(live, _unsynced_ms(cursor_ms, until_ms, beat.synced), is_exempt=beat.is_exempt)
        return
    part_ms = _unsynced_ms(cursor_ms, min(until_ms, live.day_ends_ms), beat.synced)
    _credit(live, part_ms, is_exempt=beat.is_exempt)
    is_unflushed = is_unflushed or part_ms > 0
    counted_ms = 0
    for terms in beat.days:
        if terms.starts_ms < live.day_ends_ms:
            continue
        cursor_ms, counted_ms = max(cursor_ms, min(until_ms, live.day_ends_ms)), counted_ms + part_ms
        if is_unflushed:
            _set_aside(live, closed, has_ended=live.has_ended)
            # Whoever has this day and not the next goes on from where it is counted to.
            closed[-1].last_beat_ms = cursor_ms
            closed[-1].watched_ms += 0 if live.paused_since_ms else counted_ms
        _begin_day(live, terms)
        cursor_ms = max(cursor_ms, terms.starts_ms)
        part_ms = _unsynced_ms(cursor_ms, min(until_ms, terms.ends_ms), beat.synced)
        _credit(live, part_ms, is_exempt=beat.is_exempt)
        is_unflushed = part_ms > 0


def _credit(live: Live, part_ms: int, *, is_exempt: int) -> None:
    """Educational time apart while exempt; the rest up to the allowance; what is beyond it apart as overrun."""
    if live.is_educational and is_exempt:
        live.educational_ms += part_ms
        live.session_educational_ms += part_ms
        return
    counted_ms = part_ms
    if live.allowance_ms != UNLIMITED:
        counted_ms = min(part_ms, max(0, live.allowance_ms - live.used_ms))
    live.used_ms += counted_ms
    live.session_used_ms += counted_ms
    live.overrun_ms += part_ms - counted_ms
    live.session_overrun_ms += part_ms - counted_ms


def _begin_day(live: Live, terms: DayTerms) -> None:
    """Fresh counters for the day that follows; a running session goes on in it."""
    live.session_earlier_ms = live.session_total_ms
    live.day_number, live.day_starts_ms, live.day_ends_ms = terms.number, terms.starts_ms, terms.ends_ms
    live.limit_ms, live.allowance_ms = terms.limit_ms, terms.allowance_ms
    live.used_ms = live.educational_ms = live.overrun_ms = 0
    live.session_used_ms = live.session_educational_ms = live.session_overrun_ms = 0


def _close(live: Live, closed: list[Live], closing: Closing, *, at_ms: int, rules: Rules) -> str:
    """Set the session aside for the flush. Answers its id when it was still running and another took over."""
    if not live.session_id:
        return ""
    was_running = not live.is_over(at_ms, rules.max_gap_ms)
    live.previous_session_id = live.session_id
    live.previous_closing = closing if was_running else Closing.ENDED
    live.previous_ended_ms = at_ms if was_running else live.last_beat_ms
    if live.dirty_since_ms or was_running:
        _set_aside(live, closed, has_ended=1)
    return live.session_id if was_running and closing == Closing.SUPERSEDED else ""


def _set_aside(live: Live, closed: list[Live], *, has_ended: int) -> None:
    """Keep a copy for the flush. What goes on is newer, so that it wins where both tell of the same day."""
    closed.append(msgspec.structs.replace(live, has_ended=has_ended))
    live.version += 1


def _open(live: Live, beat: Beat, *, session_id: str, at_ms: int) -> None:
    live.session_id = session_id
    live.title_id, live.is_educational = beat.title_id, beat.is_educational
    live.device_id, live.device_type = beat.device_id, beat.device_type
    live.session_started_ms = live.last_beat_ms = at_ms
    live.paused_since_ms = live.watched_ms = live.has_ended = 0
    live.session_used_ms = live.session_educational_ms = live.session_overrun_ms = live.session_earlier_ms = 0


def _refuse(live: Live | None, status: Status, at_ms: int, *, ended_ms: int = 0) -> Recorded:
    outcome = Outcome(status, at_ms) if live is None else _outcome(live, status, at_ms, ended_ms=ended_ms)
    return Recorded(live=live, closed=[], outcome=outcome)


def _outcome(
    live: Live, status: Status, at_ms: int, *, ended_ms: int = 0, counted_ms: int = 0, superseded_id: str = ""
) -> Outcome:
    outcome = Outcome(
        status=status,
        at_ms=at_ms,
        ended_ms=ended_ms or live.last_beat_ms,
        session_id=live.session_id,
        session_total_ms=live.session_total_ms,
        used_ms=live.used_ms,
        counted_ms=counted_ms,
        superseded_id=superseded_id,
        day_number=live.day_number,
    )
    if status != Status.OK:
        outcome.day_starts_ms, outcome.day_ends_ms = live.day_starts_ms, live.day_ends_ms
        outcome.policy_version, outcome.by_device_type = live.policy_version, live.device_type
    return outcome
