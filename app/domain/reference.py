"""The executable specification of the rules that change counters.

Production never runs this module. It runs the Lua scripts in ``redis_store/lua``, which act atomically on the counters:

=====================  ==================  ==============================================
function               script              rule
=====================  ==================  ==============================================
``record``             ``record.lua``      a beat credits the time since the last beat
``apply_policy``       ``put_policy.lua``  a new policy acts on the running day at once
``merge_generations``  ``seed.lua``        recovered counters are merged after a loss
``reserve``            ``reserve.lua``     an offline sync reserves time from later claims
=====================  ==================  ==============================================

Property tests hold each function equal to its script, and the conformance kit predicts answers with them. An import
contract keeps features and stores from importing this module. The steps have the same names in both languages.
"""

from collections.abc import Sequence
from enum import Enum

import msgspec

from app.domain.breaks import BreakTerms
from app.domain.counters import (
    FREE_ABANDONED_SESSIONS,
    MAX_UNCOUNTED,
    NO_CLAIM,
    Beat,
    Counters,
    EndReason,
    Outcome,
    RecordResult,
    Rules,
    Status,
    begin_day,
    put_terms,
)
from app.domain.finishing import open_until_ms
from app.domain.policy import UNLIMITED, DayTerms
from app.domain.weekly import WeekTerms


class SessionMatch(Enum):
    """The session that a beat belongs to."""

    RUNNING = "running"
    NEW = "new"
    LOST = "lost"
    """Issued after the last known beat: its record was lost, and the session is resumed."""


def record(counters: Counters | None, beat: Beat, *, at_ms: int, rules: Rules, generation: int = 0) -> RecordResult:
    """Count one beat at an instant. Any outcome but OK leaves the counters unchanged.

    Counters of an older ``generation`` survived a loss and are answered COLD.
    """
    if counters is None or counters.generation < generation:
        return _refuse(counters, Status.COLD, at_ms)
    if counters.policy_version > beat.policy_version:
        return _refuse(counters, Status.STALE, at_ms)
    gcra_tat_ms = _next_tat_ms(counters, at_ms=at_ms, rules=rules)
    if gcra_tat_ms - at_ms > rules.beat_spacing_ms * rules.beat_burst:
        return _refuse(counters, Status.TOO_FAST, at_ms)
    match, ended_ms = _match_session(counters, beat, at_ms=at_ms, rules=rules)
    if isinstance(match, Status):
        return _refuse(counters, match, at_ms, ended_ms=ended_ms)
    if not _days_reach(counters, beat, at_ms=at_ms, rules=rules):
        return _refuse(counters, Status.DAY, at_ms)
    changes_title = match is SessionMatch.RUNNING and not beat.is_end and beat.title_id != counters.title_id
    if changes_title and not beat.new_session_id:
        return _refuse(counters, Status.NEEDS_ID, at_ms)

    now = msgspec.structs.replace(counters)
    now.version = max(counters.version + 1, at_ms)
    now.policy_version = beat.policy_version
    now.gcra_tat_ms = gcra_tat_ms if rules.beat_spacing_ms else 0
    closed: list[Counters] = []
    superseded_id = ""
    is_unflushed = bool(counters.dirty_since_ms) and not counters.is_blank
    beat = _with_reserved(counters, beat)
    _keep_unbroken(now, beat, at_ms=at_ms)
    if match is not SessionMatch.RUNNING:
        issued_ms = min(beat.issued_at_ms, at_ms) if match is SessionMatch.LOST else at_ms
        # The time up to the last known beat is counted already.
        from_ms = max(issued_ms, min(counters.last_beat_ms, at_ms))
        superseded_id = _take_over(now, beat, closed, at_ms=from_ms, rules=rules)
        is_unflushed = is_unflushed and not closed
        _open(now, beat, session_id=beat.session_id or beat.new_session_id, at_ms=issued_ms)
        now.last_beat_ms = from_ms
        _skip(now, issued_ms, from_ms)

    until_ms = now.last_beat_ms if match is SessionMatch.NEW else _counts_until_ms(now, beat, at_ms=at_ms, rules=rules)
    earned_ms = _unsynced_ms(now.last_beat_ms, until_ms, beat.synced)
    _credit_by_day(now, beat, closed, until_ms=until_ms, is_unflushed=is_unflushed, at_ms=at_ms, rules=rules)

    now.watched_ms = _watched_ms(now, beat, earned_ms=earned_ms)
    clock_fell = now.last_beat_ms - at_ms > rules.max_gap_ms
    if clock_fell:
        # The same instants come again, and may be counted then.
        now.uncounted, now.finish_until_ms = (), min(now.finish_until_ms, at_ms)
    now.last_beat_ms = at_ms if clock_fell else max(now.last_beat_ms, at_ms)
    if changes_title:
        _close(now, closed, EndReason.TITLE, at_ms=at_ms, was_running=True)
        _open(now, beat, session_id=beat.new_session_id, at_ms=at_ms)
    _promise_finish(now, beat, at_ms=at_ms)
    now.lease_ms = _lease_ms(now, beat, rules, at_ms=at_ms) if match is SessionMatch.NEW or changes_title else 0
    if beat.is_end:
        _enqueue(now, closed, has_ended=1)  # no later beat could restore it: it is flushed next
        now.has_ended = 1
    else:
        now.is_educational = beat.is_educational
        now.paused_since_ms = (now.paused_since_ms or at_ms) if beat.is_paused else 0
    now.dirty_since_ms = now.dirty_since_ms or at_ms
    counted_ms = now.used_ms - (counters.used_ms if now.day_number == counters.day_number else 0)
    outcome = _outcome(now, Status.OK, at_ms, counted_ms=counted_ms, superseded_id=superseded_id)
    outcome.week_left_ms = 0 if beat.week is None else beat.week.left_ms(now.week)
    return RecordResult(counters=now, closed=closed, outcome=outcome)


def _keep_unbroken(counters: Counters, beat: Beat, *, at_ms: int) -> None:
    """Unbroken time is kept of a child with breaks only. It never ends in the future: the clock may have fallen."""
    if beat.breaks is None:
        counters.unbroken_ms = counters.played_until_ms = 0
    counters.played_until_ms = min(counters.played_until_ms, at_ms)


def _next_tat_ms(counters: Counters, *, at_ms: int, rules: Rules) -> int:
    """The theoretical arrival time of the beat after this one (generic cell rate algorithm)."""
    clock_fell = counters.gcra_tat_ms - at_ms > rules.beat_spacing_ms * rules.beat_burst
    return (at_ms if clock_fell else max(counters.gcra_tat_ms, at_ms)) + rules.beat_spacing_ms


def _match_session(counters: Counters, beat: Beat, *, at_ms: int, rules: Rules) -> tuple[SessionMatch | Status, int]:
    """The session match, or why the beat is refused and when that session ended."""
    is_previous = beat.session_id == counters.previous_session_id
    if beat.session_id == "":
        if beat.new_session_id != counters.session_id:
            return SessionMatch.NEW, 0
        # else a repeat of the call that opened it
    elif beat.session_id != counters.session_id:
        is_repeated_retitling = (
            is_previous
            and counters.previous_end_reason == EndReason.TITLE
            and beat.title_id == counters.title_id
            and beat.device_id == counters.device_id
            and not beat.is_end
        )
        if not is_repeated_retitling:
            if beat.issued_at_ms == 0:
                return Status.UNKNOWN, 0
            is_too_old = at_ms - beat.issued_at_ms > rules.longest_unknown_ms
            # The clock that dated the proof may be ahead of this one, but a session known to be closed was not lost.
            if is_previous or is_too_old or beat.issued_at_ms <= counters.session_started_ms:
                if is_previous and counters.previous_end_reason == EndReason.ENDED:
                    return Status.ENDED, counters.previous_ended_ms
                return Status.SUPERSEDED, counters.previous_ended_ms or counters.session_started_ms
            counted_to_ms = max(min(beat.issued_at_ms, at_ms), min(counters.last_beat_ms, at_ms))
            if at_ms - counted_to_ms > rules.max_gap_ms and beat.watched_ms == NO_CLAIM:
                return Status.ENDED, counted_to_ms
            return SessionMatch.LOST, 0
    if counters.has_ended or (counters.is_silent(at_ms, rules.max_gap_ms) and beat.watched_ms == NO_CLAIM):
        return Status.OK if beat.is_end else Status.ENDED, counters.last_beat_ms
    return SessionMatch.RUNNING, 0


def _with_reserved(counters: Counters, beat: Beat) -> Beat:
    """The beat with reserved time ranges among the synced ones: the policy of the process may not have them yet."""
    if not counters.uncounted or counters.uncounted[-1] <= counters.last_beat_ms:
        return beat
    synced = beat.synced
    for from_ms, to_ms in counters.uncounted_ranges:
        if to_ms > counters.last_beat_ms:
            synced = with_range(synced, max(from_ms, counters.last_beat_ms), to_ms)
    return msgspec.structs.replace(beat, synced=synced)


def with_range(ranges: Sequence[tuple[int, int]], from_ms: int, to_ms: int) -> tuple[tuple[int, int], ...]:
    """Add a time range to ascending and disjoint ones."""
    before = tuple(time_range for time_range in ranges if time_range[1] < from_ms)
    after = tuple(time_range for time_range in ranges if time_range[0] > to_ms)
    for starts_ms, ends_ms in ranges[len(before) : len(ranges) - len(after)]:
        from_ms, to_ms = min(from_ms, starts_ms), max(to_ms, ends_ms)
    return (*before, (from_ms, to_ms), *after)


def _take_over(counters: Counters, beat: Beat, closed: list[Counters], *, at_ms: int, rules: Rules) -> str:
    """Settle and close the session for another one. Answers its id if it was still running."""
    if not counters.session_id:
        return ""
    was_running = not counters.is_over(at_ms, rules.max_gap_ms)
    is_charged = False
    if was_running:
        until_ms = _counts_until_ms(counters, beat, at_ms=at_ms, rules=rules)
        _settle(counters, beat, closed, until_ms=until_ms, at_ms=at_ms, rules=rules)
    elif counters.is_abandoned:
        counters.abandoned_sessions += 1
        is_charged = counters.abandoned_sessions > FREE_ABANDONED_SESSIONS
        if is_charged:
            until_ms = min(at_ms, counters.last_beat_ms + counters.lease_ms)
            _settle(counters, beat, closed, until_ms=until_ms, at_ms=until_ms, rules=rules)
    _close(counters, closed, EndReason.SUPERSEDED, at_ms=at_ms, was_running=was_running, is_charged=is_charged)
    return counters.session_id if was_running else ""


def _settle(counters: Counters, beat: Beat, closed: list[Counters], *, until_ms: int, at_ms: int, rules: Rules) -> None:
    """Credit a session that another one ends, as its own beat at that instant would."""
    earned_ms = _unsynced_ms(counters.last_beat_ms, until_ms, beat.synced)
    is_unflushed = bool(counters.dirty_since_ms)
    _credit_by_day(counters, beat, closed, until_ms=until_ms, is_unflushed=is_unflushed, at_ms=at_ms, rules=rules)
    counters.watched_ms += 0 if counters.paused_since_ms else earned_ms
    counters.last_beat_ms = max(counters.last_beat_ms, at_ms)


def _lease_ms(counters: Counters, beat: Beat, rules: Rules, *, at_ms: int) -> int:
    """How long a player may continue without a further answer."""
    lease_ms = open_until_ms(beat.closed or (), at_ms=at_ms, until_ms=at_ms + rules.lease_ms) - at_ms
    if beat.breaks is not None:
        unbroken = counters.unbroken_ms, counters.played_until_ms
        lease_ms = min(lease_ms, beat.breaks.next_break(*unbroken, at_ms=at_ms).left_ms)
    if counters.allowance_ms == UNLIMITED or (counters.is_educational and beat.is_exempt):
        return lease_ms
    return min(lease_ms, max(0, counters.allowance_ms - counters.used_ms, counters.finish_until_ms - at_ms))


def _promise_finish(counters: Counters, beat: Beat, *, at_ms: int) -> None:
    """Promise that the title may be finished, or take that back. From the limit on its end stays, for that session."""
    left_ms = counters.allowance_ms - counters.used_ms
    if counters.borrowed_ms or (left_ms == 0 and counters.finish_until_ms > at_ms):
        if beat.is_end:
            counters.finish_until_ms = min(counters.finish_until_ms, at_ms)
        return
    is_exempt = beat.is_educational and beat.is_exempt
    counters.finish_until_ms = 0
    if beat.finish is not None and not beat.is_end and not is_exempt and left_ms > 0:
        counters.finish_until_ms = beat.finish.promised_until_ms(
            left_ms=left_ms, at_ms=at_ms, day_ends_ms=counters.day_ends_ms, closed=beat.closed
        )


def _days_reach(counters: Counters, beat: Beat, *, at_ms: int, rules: Rules) -> bool:
    """Whether the given days lead from the running day to the instant. After a long absence they may leave a gap."""
    if not beat.days:
        return False
    first, last = beat.days[0], beat.days[-1]
    if at_ms < counters.day_ends_ms:
        return last.number == counters.day_number
    follows = first.starts_ms <= counters.day_ends_ms or at_ms - counters.day_ends_ms >= rules.long_absence_ms
    return follows and last.starts_ms <= at_ms < last.ends_ms


def _counts_until_ms(counters: Counters, beat: Beat, *, at_ms: int, rules: Rules) -> int:
    """The instant up to which the time since the last beat counts, apart from synced time.

    After silence it is the end of the player's claim. In a pause it is the end of the grace.
    """
    if counters.is_silent(at_ms, rules.max_gap_ms):
        reach_ms = counters.last_beat_ms + max(0, beat.watched_ms - counters.watched_ms)
        for starts_ms, ends_ms in beat.synced:
            if starts_ms < reach_ms:
                reach_ms += max(0, ends_ms - max(counters.last_beat_ms, starts_ms))
        return min(at_ms, reach_ms)
    if counters.paused_since_ms:
        return min(at_ms, counters.paused_since_ms + rules.pause_grace_ms)
    return at_ms


def _unsynced_ms(from_ms: int, until_ms: int, synced: Sequence[tuple[int, int]]) -> int:
    """The part of a time range (ms) that no offline sync was credited for."""
    unsynced_ms = max(0, until_ms - from_ms)
    for starts_ms, ends_ms in synced:
        unsynced_ms -= max(0, min(until_ms, ends_ms) - max(from_ms, starts_ms))
    return unsynced_ms


def _watched_ms(counters: Counters, beat: Beat, *, earned_ms: int) -> int:
    """The player's own count of the session after a beat. A claim under another session id does not apply."""
    if beat.watched_ms != NO_CLAIM and beat.session_id in {"", counters.session_id}:
        return max(counters.watched_ms, beat.watched_ms)
    return counters.watched_ms if counters.paused_since_ms else counters.watched_ms + earned_ms


def _credit_by_day(
    counters: Counters,
    beat: Beat,
    closed: list[Counters],
    *,
    until_ms: int,
    is_unflushed: bool,
    at_ms: int,
    rules: Rules,
) -> None:
    """Credit the time since the last beat up to ``until_ms``, split at every reset before the instant."""
    cursor_ms = counters.last_beat_ms
    if counters.paused_since_ms and not counters.is_silent(at_ms, rules.max_gap_ms):
        beat = msgspec.structs.replace(beat, breaks=None)  # a pause, though its grace counts; a claim is playback
    if beat.days[-1].number == counters.day_number:
        put_terms(counters, _within_week(counters, beat, beat.days[-1]))
    part_ms = _credit_part(counters, beat, cursor_ms, min(until_ms, counters.day_ends_ms))
    if at_ms < counters.day_ends_ms:
        _skip(counters, max(cursor_ms, until_ms), at_ms)
        return
    is_unflushed = is_unflushed or part_ms > 0
    counted_ms = 0
    for terms in beat.days:
        if terms.starts_ms < counters.day_ends_ms:
            continue
        if terms.starts_ms > at_ms:
            break
        cursor_ms, counted_ms = max(cursor_ms, min(until_ms, counters.day_ends_ms)), counted_ms + part_ms
        if is_unflushed:
            _enqueue(counters, closed, has_ended=counters.has_ended)
            # A store that has this day but not the next continues from this instant.
            closed[-1].last_beat_ms = cursor_ms
            closed[-1].watched_ms += 0 if counters.paused_since_ms else counted_ms
        if beat.week is not None:
            counters.week = (*counters.week, counters.of_week)
        begin_day(counters, _within_week(counters, beat, terms))
        cursor_ms = max(cursor_ms, terms.starts_ms)
        part_ms = _credit_part(counters, beat, cursor_ms, min(until_ms, terms.ends_ms))
        is_unflushed = part_ms > 0 or counters.owed_ms > 0
    _skip(counters, max(cursor_ms, until_ms), at_ms)


def _within_week(counters: Counters, beat: Beat, terms: DayTerms) -> DayTerms:
    """The terms of a day after the earlier days of its week, which are kept. Without a weekly limit none are kept."""
    if beat.week is None:
        counters.week = ()
        return terms
    counters.week = beat.week.earlier_days(counters.week, terms.number)
    return beat.week.within(terms, counters.week)


def _credit_part(counters: Counters, beat: Beat, from_ms: int, until_ms: int) -> int:
    """Credit the unsynced part of a time range of the running day. Answers that part in ms."""
    part_ms = _unsynced_ms(from_ms, until_ms, beat.synced)
    finishing_ms = _unsynced_ms(from_ms, min(until_ms, counters.finish_until_ms), beat.synced)
    _credit(counters, part_ms, finishing_ms, is_exempt=beat.is_exempt)
    for starts_ms, ends_ms in beat.synced:
        _skip(counters, max(from_ms, starts_ms), min(until_ms, ends_ms))
    if beat.breaks is not None:
        _play(counters, beat.breaks, beat.synced, from_ms, until_ms)
    return part_ms


def _play(
    counters: Counters, breaks: BreakTerms, synced: Sequence[tuple[int, int]], from_ms: int, until_ms: int
) -> None:
    """Extend the unbroken time by the playback of a time range, apart from what was synced."""
    for starts_ms, ends_ms in [*synced, (until_ms, until_ms)]:
        stops_ms = min(starts_ms, until_ms)
        if from_ms < stops_ms:
            counters.unbroken_ms, counters.played_until_ms = breaks.played(
                counters.unbroken_ms, counters.played_until_ms, from_ms=from_ms, until_ms=stops_ms
            )
        from_ms = max(from_ms, ends_ms)


def _skip(counters: Counters, from_ms: int, to_ms: int) -> None:
    """Note an uncounted time range of the session."""
    if from_ms >= to_ms:
        return
    ranges = with_range(counters.uncounted_ranges, from_ms, to_ms)
    if len(ranges) > MAX_UNCOUNTED:
        shortest = min(ranges, key=lambda time_range: time_range[1] - time_range[0])
        ranges = tuple(time_range for time_range in ranges if time_range != shortest)
    counters.uncounted = tuple(instant_ms for time_range in ranges for instant_ms in time_range)


def _credit(counters: Counters, part_ms: int, finishing_ms: int, *, is_exempt: int) -> None:
    """Credit exempt educational time, else used time up to the allowance, and the rest as overrun.

    What is beyond the allowance in the part in which a title may be finished is used as well, and borrowed.
    """
    if counters.is_educational and is_exempt:
        counters.educational_ms += part_ms
        counters.session_educational_ms += part_ms
        return
    counted_ms = part_ms
    if counters.allowance_ms != UNLIMITED:
        counted_ms = min(part_ms, max(0, counters.allowance_ms - counters.used_ms))
        borrowed_ms = max(0, finishing_ms - counted_ms)
        counters.borrowed_ms += borrowed_ms
        counted_ms += borrowed_ms
    counters.used_ms += counted_ms
    counters.session_used_ms += counted_ms
    counters.overrun_ms += part_ms - counted_ms
    counters.session_overrun_ms += part_ms - counted_ms


def _close(
    counters: Counters,
    closed: list[Counters],
    closing: EndReason,
    *,
    at_ms: int,
    was_running: bool,
    is_charged: bool = False,
) -> None:
    """Add the session to the outbox and remember why it ended."""
    counters.previous_session_id = counters.session_id
    counters.previous_end_reason = closing if was_running else EndReason.ENDED
    counters.previous_ended_ms = at_ms if was_running else counters.last_beat_ms
    counters.finish_until_ms = min(counters.finish_until_ms, at_ms)  # no other session finishes its title
    if counters.dirty_since_ms or was_running or is_charged:
        _enqueue(counters, closed, has_ended=1)


def _enqueue(counters: Counters, closed: list[Counters], *, has_ended: int) -> None:
    """Add a copy to the outbox. The counters get a newer version, so that they win over the copy of the same day."""
    closed.append(msgspec.structs.replace(counters, has_ended=has_ended))
    counters.version += 1


def _open(counters: Counters, beat: Beat, *, session_id: str, at_ms: int) -> None:
    counters.session_id = session_id
    counters.title_id, counters.is_educational = beat.title_id, beat.is_educational
    counters.device_id, counters.device_type = beat.device_id, beat.device_type
    counters.session_started_ms = counters.last_beat_ms = at_ms
    counters.paused_since_ms = counters.watched_ms = counters.has_ended = 0
    counters.uncounted = ()
    counters.session_used_ms = counters.session_educational_ms = counters.session_overrun_ms = (
        counters.session_earlier_ms
    ) = 0


def _refuse(counters: Counters | None, status: Status, at_ms: int, *, ended_ms: int = 0) -> RecordResult:
    outcome = Outcome(status, at_ms) if counters is None else _outcome(counters, status, at_ms, ended_ms=ended_ms)
    return RecordResult(counters=counters, closed=[], outcome=outcome)


def _outcome(
    counters: Counters, status: Status, at_ms: int, *, ended_ms: int = 0, counted_ms: int = 0, superseded_id: str = ""
) -> Outcome:
    outcome = Outcome(
        status=status,
        at_ms=at_ms,
        ended_ms=ended_ms or counters.last_beat_ms,
        session_id=counters.session_id,
        session_total_ms=counters.session_total_ms,
        used_ms=counters.used_ms,
        counted_ms=counted_ms,
        superseded_id=superseded_id,
        day_number=counters.day_number,
    )
    if status != Status.OK:
        outcome.day_starts_ms, outcome.day_ends_ms = counters.day_starts_ms, counters.day_ends_ms
        outcome.policy_version, outcome.by_device_type = counters.policy_version, counters.device_type
        return outcome
    outcome.unbroken_ms, outcome.played_until_ms = counters.unbroken_ms, counters.played_until_ms
    outcome.borrowed_ms, outcome.owed_ms = counters.borrowed_ms, counters.owed_ms
    outcome.finish_until_ms = counters.finish_until_ms
    return outcome


def apply_policy(
    counters: Counters,
    *,
    version: int,
    terms: DayTerms | None,
    synced: Sequence[tuple[int, int]],
    is_exempt: bool,
    at_ms: int,
    max_gap_ms: int,
    generation: int = 0,
    week: WeekTerms | None = None,
    breaks: BreakTerms | None = None,
) -> Counters:
    """The counters after a policy was put: ``put_policy.lua``.

    Args:
        counters: the counters before.
        version: the version of the policy.
        terms: its terms of the running day; None for an adult.
        synced: intervals (ms) that offline syncs were credited for, ascending and disjoint.
        is_exempt: whether it exempts educational titles.
        at_ms: the instant.
        max_gap_ms: the longest gap that counts.
        generation: the generation of the bucket. Older counters stay as they are until they are merged.
        week: its weekly limit.
        breaks: its rule of a break.
    """
    if counters.policy_version >= version or counters.generation < generation:
        return counters
    now = msgspec.structs.replace(counters, policy_version=version)
    if week is not None:
        now.week = week.earlier_days(now.week, now.day_number)
    if terms is not None and terms.number == now.day_number:
        if not (is_exempt and now.is_educational):
            _settle_overrun(now, synced, breaks, at_ms=at_ms, max_gap_ms=max_gap_ms)
        put_terms(now, terms if week is None else week.within(terms, now.week))
    now.version = max(now.version + 1, at_ms)
    now.dirty_since_ms = now.dirty_since_ms or at_ms
    return now


def _settle_overrun(
    counters: Counters,
    synced: Sequence[tuple[int, int]],
    breaks: BreakTerms | None,
    *,
    at_ms: int,
    max_gap_ms: int,
) -> None:
    """Count what a blocked child played since its last beat, so that extra time counts from now on.

    It is overrun, and what finished a title is borrowed. The next beat would count it the same, by the same exemption.
    """
    is_running = bool(counters.session_id) and not counters.has_ended and not counters.paused_since_ms
    is_blocked = UNLIMITED < counters.allowance_ms <= counters.used_ms
    elapsed_ms = at_ms - counters.last_beat_ms
    if not (is_running and is_blocked and 0 < elapsed_ms <= max_gap_ms and at_ms < counters.day_ends_ms):
        return
    played_ms = _unsynced_ms(counters.last_beat_ms, at_ms, synced)
    finishing_ms = _unsynced_ms(counters.last_beat_ms, min(at_ms, counters.finish_until_ms), synced)
    _credit(counters, played_ms, finishing_ms, is_exempt=0)
    counters.watched_ms += played_ms
    if breaks is not None:
        _play(counters, breaks, synced, counters.last_beat_ms, at_ms)
    counters.last_beat_ms = at_ms


def merge_generations(survived: Counters, recovered: Counters, *, at_ms: int) -> Counters:
    """Counters of an older generation, merged with those recovered from PostgreSQL: ``seed.lua``.

    The ones with the later beat go on, or with the newer version: an end may come in the millisecond of the last beat.
    Counters of one day only grow, so the larger value is right.

    Args:
        survived: what Redis came back with.
        recovered: what PostgreSQL has, with the generation of the bucket.
        at_ms: the instant.
    """
    later, earlier = recovered, survived
    if (survived.last_beat_ms, survived.version) >= (recovered.last_beat_ms, recovered.version):
        later, earlier = survived, recovered
    merged = msgspec.structs.replace(
        later,
        generation=recovered.generation,
        policy_version=max(survived.policy_version, recovered.policy_version),
        version=max(survived.version, recovered.version) + 1,
        dirty_since_ms=at_ms,
    )
    if survived.day_number == recovered.day_number:
        merged.used_ms = max(later.used_ms, earlier.used_ms)
        merged.educational_ms = max(later.educational_ms, earlier.educational_ms)
        merged.overrun_ms = max(later.overrun_ms, earlier.overrun_ms)
        merged.abandoned_sessions = max(later.abandoned_sessions, earlier.abandoned_sessions)
        merged.borrowed_ms = max(later.borrowed_ms, earlier.borrowed_ms)
        merged.owed_ms = max(later.owed_ms, earlier.owed_ms)
    merged.week = later.week or earlier.week
    return merged


def reserve(counters: Counters, *, version: int, ranges: Sequence[tuple[int, int]], at_ms: int) -> Counters | None:
    """The counters after intervals were reserved for an offline sync: ``reserve.lua``.

    Only time after the last beat is reserved: no later claim may count it. If more intervals are noted than may be
    kept, the last reserved ones become one; if that is not enough, the earliest are dropped.

    Args:
        counters: the counters before.
        version: the version of the counters that the sync read.
        ranges: the intervals (ms), ascending and disjoint.
        at_ms: the instant.

    Returns:
        None if the counters have changed since they were read.
    """
    if counters.version != version:
        return None
    reserved = [(max(from_ms, counters.last_beat_ms), to_ms) for from_ms, to_ms in ranges]
    reserved = [(from_ms, to_ms) for from_ms, to_ms in reserved if from_ms < to_ms]
    if not reserved:
        return counters
    noted: tuple[tuple[int, int], ...] = ()
    for from_ms, to_ms in (*counters.uncounted_ranges, *reserved):
        noted = with_range(noted, from_ms, to_ms)
    while len(noted) > MAX_UNCOUNTED and noted[-2][1] > counters.last_beat_ms:
        noted = (*noted[:-2], (noted[-2][0], noted[-1][1]))
    noted = noted[-MAX_UNCOUNTED:]
    return msgspec.structs.replace(
        counters,
        uncounted=tuple(instant_ms for time_range in noted for instant_ms in time_range),
        version=max(counters.version + 1, at_ms),
        dirty_since_ms=counters.dirty_since_ms or at_ms,
    )
