"""Types of the counting rules: a child's counters in Redis, beats and their outcomes.

The rules run in ``redis_store/lua/record.lua``; ``domain/reference.py`` is their executable specification.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

import msgspec

from app.domain.breaks import BreakTerms
from app.domain.finishing import FinishTerms, less_owed
from app.domain.policy import UNLIMITED, DayTerms, EarlierDay
from app.domain.viewing_day import LONG_ABSENCE_MS, ViewingDay
from app.domain.weekly import WeekTerms

NO_CLAIM = -1
FREE_ABANDONED_SESSIONS = 2
"""How many abandoned sessions of a viewing day cost nothing."""
MAX_UNCOUNTED = 32
"""Most uncounted time ranges kept for a session's part in a day. If there are more, the shortest one is dropped."""
MAX_UNKNOWN_MS = 172_800_000
"""Age up to which a session whose record was lost is taken up again. What is older may have been flushed, and is not
read back, so that its claim could count twice."""


class Status(IntEnum):
    """The result of a beat. Anything but OK leaves the counters unchanged."""

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


class EndReason(IntEnum):
    """Why the previous session of a child ended."""

    NONE = 0
    ENDED = 1
    SUPERSEDED = 2
    TITLE = 3


class Counters(msgspec.Struct, array_like=True, gc=False):
    """One child's counters: the running day and the running (or last) session, all in milliseconds.

    The order of the fields is the layout that Redis stores; ``record.lua`` names the same positions. New fields go to
    the end. ``version`` only grows and is also an instant, so that counters rebuilt after a loss are newer than what
    was flushed before it. The session counters cover the part of the session that lies in this day; ``watched_ms`` is
    the player's own count of the session, without pauses: what it last claimed and what was counted since.
    ``uncounted`` are the time ranges of the session's part in this day in which nothing was counted, as instants from,
    to, from, to, ascending and apart from each other. What lies after ``last_beat_ms`` is reserved for offline syncs.
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
    previous_end_reason: int = EndReason.NONE
    previous_ended_ms: int = 0
    gcra_tat_ms: int = 0
    """Where the child's beats would have come to if they were evenly spaced (generic cell rate algorithm)."""
    lease_ms: int = 0
    """The lease that the opening beat of the session was given, until its second beat."""
    abandoned_sessions: int = 0
    """Sessions of this day that were abandoned: opened with a lease, then silent without a second beat or an end."""
    uncounted: tuple[int, ...] = ()
    week: tuple[EarlierDay, ...] = ()
    """The earlier days of the running week as they ended, of a child with a weekly limit."""
    unbroken_ms: int = 0
    """What was played since the last pause that was long enough, of a child with breaks. It goes on over a reset."""
    played_until_ms: int = 0
    """When that was last played."""
    borrowed_ms: int = 0
    """What finishing a title has used beyond the allowance of this day."""
    owed_ms: int = 0
    """What the day before borrowed: the allowance is so much less."""
    finish_until_ms: int = 0
    """Until when a title may be finished, whatever is left of the allowance; 0 for none."""

    @property
    def day(self) -> ViewingDay:
        return ViewingDay(self.day_number, self.day_starts_ms, self.day_ends_ms)

    @property
    def is_blank(self) -> bool:
        """Whether nothing is known of the child but its day."""
        counted_ms = self.used_ms + self.educational_ms + self.overrun_ms
        return not (self.session_id or counted_ms or self.owed_ms)

    def is_silent(self, at_ms: int, max_gap_ms: int) -> bool:
        """Whether the session's last beat is longer ago than a gap that counts."""
        return at_ms - self.last_beat_ms > max_gap_ms

    def is_over(self, at_ms: int, max_gap_ms: int) -> bool:
        """Whether the session has ended, or is taken to have by its silence."""
        return bool(self.has_ended) or self.is_silent(at_ms, max_gap_ms)

    @property
    def is_abandoned(self) -> bool:
        """Whether a session that is over has had no beat but the one that opened it, and a lease to play on."""
        return self.lease_ms > 0 and not self.has_ended and self.last_beat_ms == self.session_started_ms

    @property
    def has_session_part(self) -> bool:
        """Whether a part of the session lies in this day. It may begin after a day without a beat that is flushed."""
        return bool(self.session_id) and self.session_started_ms < self.day_ends_ms

    @property
    def charged_sessions(self) -> int:
        """Abandoned sessions of this day that were charged their lease."""
        return max(0, self.abandoned_sessions - FREE_ABANDONED_SESSIONS)

    @property
    def uncounted_ranges(self) -> list[tuple[int, int]]:
        """The pairs of ``uncounted``."""
        return list(zip(self.uncounted[::2], self.uncounted[1::2], strict=True))

    @property
    def of_week(self) -> EarlierDay:
        """The day as its week counts it: what it owes was watched the day before, and is used of this one."""
        return EarlierDay(self.day_number, self.used_ms + self.owed_ms, self.limit_ms)

    def owed_on(self, day: ViewingDay) -> int:
        """What a day owes to the one before: that of the counters, or a later one."""
        if day.number == self.day_number:
            return self.owed_ms
        return self.borrowed_ms if day.starts_ms == self.day_ends_ms else 0

    def finished_since_ms(self, at_ms: int, max_gap_ms: int) -> int:
        """What has been borrowed since the last beat: it is counted first when the policy changes.

        An exempt title borrows nothing; the caller knows whether the running one is.
        """
        is_running = bool(self.session_id) and not self.paused_since_ms and not self.is_over(at_ms, max_gap_ms)
        is_beyond = UNLIMITED < self.allowance_ms <= self.used_ms
        if not (is_running and is_beyond and at_ms < self.day_ends_ms):
            return 0
        return max(0, min(at_ms, self.finish_until_ms) - self.last_beat_ms)

    @property
    def session_total_ms(self) -> int:
        """All time the session was credited, over every day it touched."""
        return self.session_earlier_ms + self.session_used_ms + self.session_educational_ms + self.session_overrun_ms


class Beat(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A heartbeat, or the end of a session, with everything that counting it needs. Durations and instants in ms.

    Attributes:
        session_id: empty on an opening beat.
        new_session_id: the id to open a session with, when one may be needed.
        issued_at_ms: when ``session_id`` was issued, once that is verified; else 0.
        days: ascending, each follows the one before; the last one should hold the instant of the beat.
        synced: time ranges credited to offline syncs, ascending and disjoint. No beat counts them again.
        closed: time ranges of the last day in which no player may go on, ascending and disjoint. None without any.
        week: the weekly limit; None without one.
        breaks: the rule of a break; None without one.
        finish: for a child that may finish a title, where the player tells what is left of it.
    """

    session_id: str
    new_session_id: str
    issued_at_ms: int
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
    closed: Sequence[tuple[int, int]] | None = None
    week: WeekTerms | None = None
    breaks: BreakTerms | None = None
    finish: FinishTerms | None = None


class Rules(msgspec.Struct, array_like=True, frozen=True):
    """The numbers of the counting rules, in milliseconds."""

    max_gap_ms: int = 300_000
    pause_grace_ms: int = 300_000
    long_absence_ms: int = LONG_ABSENCE_MS
    beat_spacing_ms: int = 0
    """Least time between beats in the long run; 0 sets no limit."""
    beat_burst: int = 10
    longest_unknown_ms: int = MAX_UNKNOWN_MS
    lease_ms: int = 300_000
    """The longest lease of a player."""


class Outcome(msgspec.Struct, array_like=True, gc=False):
    """The result of a beat, with the counters after it.

    ``ended_ms`` is the end of the session, or its last beat. ``superseded_id`` is the running session that this beat
    ended. The fields after ``day_number`` are left out if the status is OK. They are the day and the policy to repeat
    the beat with, and the device type of the running session.
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
    week_left_ms: int = 0
    """What the earlier days of the week leave of a weekly limit; only where the beat carried one."""
    unbroken_ms: int = 0
    played_until_ms: int = 0
    borrowed_ms: int = 0
    owed_ms: int = 0
    finish_until_ms: int = 0
    """These five are those of the counters after the beat; only for status OK."""

    @property
    def day(self) -> ViewingDay:
        return ViewingDay(self.day_number, self.day_starts_ms, self.day_ends_ms)


Counted: TypeAlias = Counters | Outcome
"""What a decision on the running day reads: counters as they are stored, or the outcome of a beat."""


class Share(msgspec.Struct, frozen=True):
    """What a finished session was credited on one viewing day, and its last beat in it."""

    day_number: int
    credited_ms: int
    last_beat_ms: int


class RecordResult(msgspec.Struct):
    """The counters after a beat, the copies for the outbox, and the outcome."""

    counters: Counters | None
    closed: list[Counters]
    outcome: Outcome


def cold(*, terms: DayTerms, policy_version: int, at_ms: int) -> Counters:
    """The first counters of a child that has none."""
    return Counters(
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


def carried_into(counters: Counters, days: Sequence[DayTerms], week: WeekTerms | None) -> Counters:
    """The counters in the last of some days, where no beat has opened it yet: nothing is used, the session continues.

    The days after that of the counters have passed without a beat. ``week`` is the weekly limit.
    """
    now = msgspec.structs.replace(counters)
    for terms in days:
        if terms.starts_ms >= now.day_ends_ms:
            now.week = (*now.week, now.of_week)
            begin_day(now, terms if week is None else week.within(terms, week.earlier_days(now.week, terms.number)))
    return now


def put_terms(counters: Counters, terms: DayTerms) -> None:
    """Give the counters the terms of their day. A promise to finish a title that was made for more is taken back."""
    allowance_ms = less_owed(terms.allowance_ms, counters.owed_ms)
    if not counters.borrowed_ms and UNLIMITED < allowance_ms < counters.allowance_ms:
        counters.finish_until_ms = 0
    counters.limit_ms, counters.allowance_ms = terms.limit_ms, allowance_ms


def begin_day(counters: Counters, terms: DayTerms) -> None:
    """Reset the counters for the next day. A running session continues in it. It owes what the day before borrowed."""
    counters.session_earlier_ms = counters.session_total_ms
    counters.owed_ms = counters.borrowed_ms if terms.starts_ms == counters.day_ends_ms else 0
    counters.borrowed_ms = counters.finish_until_ms = 0
    counters.day_number, counters.day_starts_ms, counters.day_ends_ms = terms.number, terms.starts_ms, terms.ends_ms
    counters.limit_ms, counters.allowance_ms = terms.limit_ms, less_owed(terms.allowance_ms, counters.owed_ms)
    counters.used_ms = counters.educational_ms = counters.overrun_ms = 0
    counters.abandoned_sessions, counters.uncounted = 0, ()
    counters.session_used_ms = counters.session_educational_ms = counters.session_overrun_ms = 0
