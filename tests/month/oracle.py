"""An oracle of a child's limits: what happened, as plain lists of instants and time ranges, judged by looking at them.

It shares no code with the service. Local time comes from ``zoneinfo``, by reading the clock on the wall every quarter
of an hour. All instants and durations are in milliseconds of UTC; days are known by their ordinal date.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
GAP = 5 * MINUTE
"""A longer silence ends a session."""
GRACE = 5 * MINUTE
"""So much of a pause counts."""
LEASE = 5 * MINUTE
QUARTER = 15 * MINUTE
"""Offsets of zones are multiples of it, and so are resets."""
STEP = 5 * MINUTE
"""Windows begin and end at multiples of it."""
HORIZON = 16 * DAY
WEEKEND = (5, 6)
TimeRange = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Window:
    """By the clock on the wall; it ends on the next day where ``until_minute`` is not after ``from_minute``."""

    weekdays: tuple[int, ...]
    from_minute: int
    until_minute: int

    def holds(self, weekday: int, minute: int) -> bool:
        is_over_midnight = self.until_minute <= self.from_minute
        if weekday in self.weekdays and minute >= self.from_minute and (is_over_midnight or minute < self.until_minute):
            return True
        return is_over_midnight and (weekday - 1) % 7 in self.weekdays and minute < self.until_minute


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What a parent has set. Limits are in minutes, None for unlimited."""

    zone: str
    reset_hour: int = 6
    weekday: int | None = 120
    weekend: int | None = 180
    daily: tuple[int | None, ...] | None = None
    holidays: tuple[tuple[date, date], ...] = ()
    windows: tuple[Window, ...] = ()
    weekly: int | None = None
    is_exempt: bool = True
    break_after: int | None = None
    break_length: int | None = None
    finish: int | None = None

    def daily_limit(self, name: int) -> int | None:
        """The limit of a day of its own, in ms."""
        day = date.fromordinal(name)
        is_holiday = any(first <= day <= last for first, last in self.holidays)
        is_weekend = day.weekday() in WEEKEND
        if self.daily is not None:
            minutes = self.daily[WEEKEND[0] if is_holiday and not is_weekend else day.weekday()]
        else:
            minutes = self.weekend if is_weekend or is_holiday else self.weekday
        return None if minutes is None else minutes * MINUTE


@dataclass(frozen=True)
class Day:
    name: int
    starts: int
    ends: int
    zone: str

    def holds(self, at: int) -> bool:
        return self.starts <= at < self.ends


@dataclass
class Granted:
    at: int
    day: int
    minutes: int | None
    covered: int = 0
    revoked: int | None = None


@dataclass(frozen=True)
class Played:
    """A time range of playback that counts, with the allowance of its day when it was counted (None: unlimited).

    ``borrows_until`` is the instant up to which a promise let it go on beyond the allowance.
    """

    starts: int
    ends: int
    is_exempt: bool
    allowance: int | None
    borrows_until: int = 0


@dataclass(frozen=True)
class Synced:
    """What was credited to playback without a connection."""

    starts: int
    ends: int
    is_exempt: bool
    used: int

    @property
    def overrun(self) -> int:
        return 0 if self.is_exempt else self.ends - self.starts - self.used


@dataclass
class Session:
    id: str
    device: str
    title: str
    is_educational: bool
    last: int
    paused: int | None = None


@dataclass(frozen=True)
class Totals:
    used: int = 0
    educational: int = 0
    overrun: int = 0
    borrowed: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    enforcement: str
    reason: str | None
    remaining: int | None
    stop: int | None
    again: int | None
    lease: int


@dataclass
class Unbroken:
    """What was played since the last pause that was long enough, and until when."""

    played: int = 0
    until: int = 0


@dataclass
class Child:
    """All that happened to one child, in the order in which it became known."""

    saved: list[tuple[int, Saved]]
    days: list[Day] = field(default_factory=list)
    grants: list[Granted] = field(default_factory=list)
    paused_until: int = 0
    played: list[Played] = field(default_factory=list)
    synced: list[Synced] = field(default_factory=list)
    session: Session | None = None
    unbroken: Unbroken = field(default_factory=Unbroken)
    promised: int = 0
    """Until when the title that plays may be finished, whatever is left; 0 for no promise."""
    now: int = 0
    begun: set[int] = field(default_factory=set)
    """Days with a beat."""
    kept: dict[int, int | None] = field(default_factory=dict)
    """The limits of these days as they ended."""
    _totals: dict[int, Totals] = field(default_factory=dict)
    """Of days that are long over."""
    _ahead: tuple[int, Saved, list[Day]] | None = None

    @classmethod
    def born(cls, at: int, saved: Saved) -> "Child":
        starts = next(at for at in range(at // QUARTER * QUARTER, 0, -QUARTER) if _is_reset(at, saved))
        day = Day(_name(starts, saved.zone), starts, _next_reset(starts + 1, saved), saved.zone)
        return cls([(at, saved)], [day], now=at)

    # --- what happens

    def is_now(self, at: int) -> None:
        self.now = at
        while at >= self.days[-1].ends:
            if self.days[-1].name in self.begun:
                self.kept[self.days[-1].name] = self.limit_of(self.days[-1])
            self.days.append(self._after(self.days[-1], self._saved_before(self.days[-1].ends)))

    def beats(
        self,
        at: int,
        *,
        session_id: str,
        device: str,
        title: str,
        is_educational: bool,
        is_paused: bool,
        is_claimed: bool = False,
        title_left: int | None = None,
    ) -> None:
        """A beat that was accepted: of the running session, of another title, or the first of a session.

        ``is_claimed`` tells of a silence in which the player claims to have played on. ``title_left`` is what it says
        is left of the title.
        """
        self.is_now(at)
        self.begun.add(self.days[-1].name)
        self._forgets_breaks()
        session = self.session
        if session is not None and (session.id == session_id or at - session.last <= GAP):
            self._settles(at, is_claimed=is_claimed and session.id == session_id)
        if session is None or session.id != session_id:
            self.promised = min(self.promised, at)
            session = self.session = Session(session_id, device, title, is_educational, at)
        session.last = at
        if not is_paused:
            session.paused = None
        elif session.paused is None:
            session.paused = at
        is_exempt = is_educational and self.saved[-1][1].is_exempt
        self._promises(at, None if is_exempt else title_left)

    def ends(self, at: int, *, is_claimed: bool = False) -> None:
        """The running session ends."""
        self.is_now(at)
        self._forgets_breaks()
        self.begun.add(self.days[-1].name)
        self._settles(at, is_claimed=is_claimed)
        self._promises(at, None, is_end=True)
        self.session = None

    def changes(self, at: int, saved: Saved) -> None:
        """A parent saves settings."""
        self._is_counted_first(at, saved=saved)
        before = self.allowance(self.days[-1])
        self.saved.append((at, saved))
        self._takes_back(before)

    def is_given(self, at: int, minutes: int | None) -> Granted:
        """Extra time. What the child is over its allowance is covered."""
        self._is_counted_first(at)
        day, covered = self.days[-1], 0
        limit, totals = self.limit_of(day), self.totals(day)
        given = self._given(day)
        if minutes is not None and limit is not None and given is not None:
            covered = max(0, totals.used + self._deducted(day) + self.owed(day) - limit - given)
        granted = Granted(at, day.name, minutes, covered)
        self.grants.append(granted)
        return granted

    def loses(self, at: int, granted: Granted) -> None:
        """Extra time is taken back."""
        self._is_counted_first(at)
        before = self.allowance(self.days[-1])
        granted.revoked = at
        self._takes_back(before)

    def is_paused(self, at: int, until: int | None) -> None:
        """A parent's pause, from now on; None lifts it. What is there already changes nothing."""
        if (until or 0) == (self.paused_until if self.paused_until > at else 0):
            return
        self._is_counted_first(at)
        self.paused_until = until or 0

    def syncs(self, at: int, ranges: Sequence[TimeRange], *, is_educational: bool) -> list[int]:
        """Playback without a connection. Answers what of each range was credited: where nothing else was counted."""
        self.is_now(at)
        taken = [(each.starts, each.ends) for each in self.played]
        taken += [(each.starts, each.ends) for each in self.synced]
        session = self.session
        if session is not None and at - session.last <= GAP:
            taken.append((session.last, max(session.last, self._counts_until(session, at))))
        is_beyond, before = self._is_beyond(at), self.allowance(self.days[-1])
        credited = []
        allowances = {
            day.name: None if allowance is None else allowance + self._deducted(day)
            for day in self.days[-5:]
            for allowance in [self.allowance(day)]
        }  # each day of a batch is judged by the week as it was before the batch
        for wanted in ranges:
            free = _without(wanted, taken)
            credited.append(sum(ends - starts for starts, ends in free))
            taken.append(wanted)
            for part in free:
                self._credit_offline(part, allowances, is_educational=is_educational)
        if is_beyond:
            self._settles(at)
        self._takes_back(before)
        return credited

    # --- what it comes to

    def day_of(self, at: int) -> Day:
        return next(day for day in reversed(self.days) if day.starts <= at)

    def totals(self, day: Day) -> Totals:
        """What beats used, were exempt, and were beyond the allowance of a day."""
        if day.name in self._totals:
            return self._totals[day.name]
        used = educational = overrun = borrowed = 0
        for each in self._played_on(day):
            length = each.ends - each.starts
            if each.is_exempt:
                educational += length
                continue
            counted = length if each.allowance is None else min(length, max(0, each.allowance - used))
            finishing = min(each.ends, each.borrows_until) - each.starts
            lent = max(0, finishing - counted) if counted < length else 0
            used += counted + lent
            borrowed += lent
            overrun += length - counted - lent
        totals = Totals(used, educational, overrun, borrowed)
        if day.ends <= self.now - 2 * HOUR:
            self._totals[day.name] = totals
        return totals

    def offline(self, day: Day) -> Totals:
        parts = [each for each in self.synced if day.holds(each.starts)]
        return Totals(
            sum(each.used for each in parts),
            sum(each.ends - each.starts for each in parts if each.is_exempt),
            sum(each.overrun for each in parts),
        )

    def limit_of(self, day: Day) -> int | None:
        """The limit of a day within the week, by the settings of its end or of now."""
        if day.name in self.kept:
            return self.kept[day.name]
        saved = self._saved_on(day)
        limits = [saved.daily_limit(day.name)]
        if saved.weekly is not None:
            limits.append(self.week_left(day))
        known = [limit for limit in limits if limit is not None]
        return min(known) if known else None

    def week_left(self, day: Day) -> int:
        """What the earlier days of its week leave of the weekly limit."""
        weekly = self._saved_on(day).weekly
        assert weekly is not None
        earlier = [each for each in self.days if _monday(day.name) <= each.name < day.name]
        return max(0, weekly * MINUTE - sum(map(self._of_week, earlier)))

    def owed(self, day: Day) -> int:
        """What the day directly before it has borrowed."""
        before = next((each for each in reversed(self.days) if each.ends == day.starts), None)
        return 0 if before is None else self.totals(before).borrowed

    def week_remaining(self) -> int | None:
        """What today leaves of it."""
        day = self.days[-1]
        if self._saved_on(day).weekly is None:
            return None
        return max(0, self.week_left(day) - self._of_week(day))

    def allowance(self, day: Day) -> int | None:
        """What beats may use of a day; None for unlimited."""
        limit, given = self.limit_of(day), self._given(day)
        if limit is None or given is None:
            return None
        return max(0, limit + given - self._deducted(day) - self.owed(day))

    def verdict(self, *, is_exempt: bool) -> Verdict:
        """What a player is to be told now."""
        by_allowance = self._verdict_of_allowance(is_exempt=is_exempt)
        verdict = self._with_closing(by_allowance, is_exempt=is_exempt)
        verdict = self._with_break(verdict, is_exempt=is_exempt)
        return replace(verdict, again=self._again(is_exempt=is_exempt)) if verdict.enforcement == "blocked" else verdict

    def left_to_break(self) -> int | None:
        """What may be played until a break is due; None without breaks."""
        saved = self.saved[-1][1]
        if saved.break_after is None or saved.break_length is None:
            return None
        has_paused = self.now - self.unbroken.until >= saved.break_length * MINUTE
        return saved.break_after * MINUTE if has_paused else max(0, saved.break_after * MINUTE - self.unbroken.played)

    # --- underneath

    def _verdict_of_allowance(self, *, is_exempt: bool) -> Verdict:
        now, day = self.now, self.days[-1]
        saved, allowance, totals = self._saved_on(day), self.allowance(day), self.totals(day)
        if allowance is None:
            return Verdict(enforcement="allowed", reason=None, remaining=None, stop=None, again=None, lease=LEASE)
        remaining = max(0, allowance - totals.used, self.promised - now)
        if is_exempt:
            return Verdict(enforcement="allowed", reason=None, remaining=remaining, stop=None, again=None, lease=LEASE)
        daily = saved.daily_limit(day.name)
        is_weekly = saved.weekly is not None and (daily is None or self.week_left(day) < daily)
        reason = "weekly_limit" if is_weekly else "daily_limit"
        following = self._ahead_of_today()[0]
        stop: int | None = now + remaining
        if remaining and stop is not None and stop >= day.ends:
            will_borrow = max(0, self.promised - now - max(0, allowance - totals.used))
            onward = self._next_allowance(following, played=day.ends - now, borrowed=totals.borrowed + will_borrow)
            stop = None if onward is None else day.ends + onward
        return Verdict(
            enforcement=_by_threshold(remaining),
            reason=reason if stop is not None else None,
            remaining=remaining,
            stop=stop,
            again=None,
            lease=min(remaining, LEASE),
        )

    def _with_closing(self, verdict: Verdict, *, is_exempt: bool) -> Verdict:
        now = self.now
        closed_by = self._closed_by(now)
        if closed_by is not None:
            return Verdict(enforcement="blocked", reason=closed_by, remaining=0, stop=now, again=None, lease=0)
        if verdict.enforcement == "blocked":
            return verdict
        closes = self._closes(now)
        if closes is None:
            return verdict
        left = closes - now
        remaining = left if verdict.remaining is None else min(left, verdict.remaining)
        is_first = verdict.stop is None or closes <= verdict.stop
        return Verdict(
            enforcement=_by_threshold(left if is_exempt else remaining),
            reason=self._closed_by(closes) if is_first else verdict.reason,
            remaining=remaining,
            stop=closes if is_first else verdict.stop,
            again=None,
            lease=min(verdict.lease, left),
        )

    def _with_break(self, verdict: Verdict, *, is_exempt: bool) -> Verdict:
        now, left = self.now, self.left_to_break()
        if left is None or verdict.enforcement == "blocked":
            return verdict
        if left:
            remaining = left if verdict.remaining is None else min(left, verdict.remaining)
            is_first = verdict.stop is None or now + left < verdict.stop
            stop = now + left if verdict.stop is None else min(now + left, verdict.stop)
            return Verdict(
                enforcement=_by_threshold(stop - now if is_exempt else remaining),
                reason="break" if is_first else verdict.reason,
                remaining=remaining,
                stop=stop,
                again=None,
                lease=min(verdict.lease, left),
            )
        return Verdict(enforcement="blocked", reason="break", remaining=0, stop=now, again=None, lease=0)

    def _again(self, *, is_exempt: bool) -> int | None:
        """The first instant from now on at which a child may play that is left alone."""
        rested = self.now
        if self.left_to_break() == 0:
            length = self.saved[-1][1].break_length
            assert length is not None
            rested = self.unbroken.until + length * MINUTE
        for starts, ends in self._with_time(is_exempt=is_exempt):
            opens = self._opens(max(starts, rested))
            if opens is None or opens < ends:
                return opens
        return None

    def _with_time(self, *, is_exempt: bool) -> Iterator[TimeRange]:
        """Today and the days after it, as far as they have something left; nothing is played in them."""
        today, saved = self.days[-1], self.saved[-1][1]
        allowance, totals = self.allowance(today), self.totals(today)
        if is_exempt or allowance is None or totals.used < allowance:
            yield self.now, today.ends
        elif self.promised > self.now:
            yield self.now, self.promised
        week, left, owed = None, 0, totals.borrowed
        if saved.weekly is not None:
            week, left = _monday(today.name), self.week_left(today) - self._of_week(today)
        for day in self._ahead_of_today():
            limit = saved.daily_limit(day.name)
            if saved.weekly is not None:
                if _monday(day.name) != week:
                    week, left = _monday(day.name), saved.weekly * MINUTE
                limit = max(0, left) if limit is None else min(limit, max(0, left))
                left -= min(owed, limit)
            if is_exempt or limit is None or limit > owed:
                yield day.starts, day.ends
            owed = 0

    def _next_allowance(self, following: Day, *, played: int, borrowed: int = 0) -> int | None:
        """What the next day allows if so much more is played today; by the settings of now."""
        today, saved = self.days[-1], self.saved[-1][1]
        limit = saved.daily_limit(following.name)
        if saved.weekly is not None:
            left = saved.weekly * MINUTE
            if date.fromordinal(following.name).weekday() > date.fromordinal(today.name).weekday():
                left = max(0, self.week_left(today) - self._of_week(today, more=played))
            limit = left if limit is None else min(limit, left)
        return None if limit is None else max(0, limit - borrowed)

    def _settles(self, at: int, *, is_claimed: bool = False, saved: Saved | None = None) -> None:
        """The running session is counted up to an instant, unless it is over; each day gets its own."""
        session = self.session
        assert session is not None
        if at - session.last > GAP and not is_claimed:
            return
        until = self._counts_until(session, at)
        is_exempt = session.is_educational and (saved or self.saved[-1][1]).is_exempt
        for part in _without((session.last, until), [(each.starts, each.ends) for each in self.synced]):
            for day, starts, ends in self._by_day(part):
                until = self.promised if day.holds(self.promised - 1) else 0
                self.played.append(Played(starts, ends, is_exempt, self.allowance(day), until))
                if session.paused is None:
                    self._plays_on(starts, ends, saved or self.saved[-1][1])
        session.last = max(session.last, at)

    def _is_counted_first(self, at: int, *, saved: Saved | None = None) -> None:
        """What is beyond the allowance is counted before a change of it."""
        if self._is_beyond(at, saved):
            self._settles(at, saved=saved)

    def _takes_back(self, before: int | None) -> None:
        """A promise that was made for more is taken back, unless the title is being finished."""
        day = self.days[-1]
        now = self.allowance(day)
        if before is not None and now is not None and now < before and not self.totals(day).borrowed:
            self.promised = 0

    def _promises(self, at: int, title_left: int | None, *, is_end: bool = False) -> None:
        """A title that ends soon after the limit may be finished, once a day. From the limit on that stays."""
        day, saved = self.days[-1], self.saved[-1][1]
        allowance, totals = self.allowance(day), self.totals(day)
        left = None if allowance is None else allowance - totals.used
        if totals.borrowed or (left == 0 and self.promised > at):
            self.promised = min(self.promised, at) if is_end else self.promised
            return
        self.promised = 0
        if saved.finish is None or title_left is None or left is None or left <= 0 or is_end:
            return
        if left < title_left <= left + saved.finish * MINUTE:
            closes = at if self._closed_by(at) is not None else self._closes(at)
            until = min(end for end in (at + title_left, day.ends, closes) if end is not None)
            self.promised = until if until > at + left else 0

    def _plays_on(self, starts: int, ends: int, saved: Saved) -> None:
        """What is played extends the unbroken time, unless a pause that was long enough came before it."""
        if saved.break_length is None:
            return
        if starts - self.unbroken.until >= saved.break_length * MINUTE:
            self.unbroken.played = 0
        self.unbroken.played += ends - starts
        self.unbroken.until = ends

    def _forgets_breaks(self) -> None:
        if self.saved[-1][1].break_length is None:
            self.unbroken = Unbroken()

    def _counts_until(self, session: Session, at: int) -> int:
        return at if session.paused is None else max(session.last, min(at, session.paused + GRACE))

    def _is_beyond(self, at: int, saved: Saved | None = None) -> bool:
        """Whether what the running session plays now is beyond the allowance: then extra time counts from now on.

        Whether a learning title is exempt is as for the next beat: by what was saved last.
        """
        self.is_now(at)
        session, day = self.session, self.days[-1]
        if session is None or session.paused is not None or not 0 < at - session.last <= GAP:
            return False
        is_exempt = session.is_educational and (saved or self.saved[-1][1]).is_exempt
        if is_exempt or session.last < day.starts:
            return False
        allowance = self.allowance(day)
        return allowance is not None and self.totals(day).used >= allowance

    def _credit_offline(self, part: TimeRange, allowances: dict[int, int | None], *, is_educational: bool) -> None:
        for day, starts, ends in self._by_day(part):
            changes = [at for at, _ in self.saved if starts < at < ends]
            for begins, stops in pairwise([starts, *changes, ends]):
                is_exempt = is_educational and self._saved_before(begins + 1).is_exempt
                used, allowance = stops - begins, allowances[day.name]
                if is_exempt:
                    used = 0
                elif allowance is not None:
                    used = min(used, max(0, allowance - self._deducted(day) - self.totals(day).used))
                self.synced.append(Synced(begins, stops, is_exempt, used))

    def _by_day(self, part: TimeRange) -> Iterator[tuple[Day, int, int]]:
        for day in self.days:
            starts, ends = max(part[0], day.starts), min(part[1], day.ends)
            if starts < ends:
                yield day, starts, ends

    def _played_on(self, day: Day) -> list[Played]:
        recent = takewhile(lambda each: each.ends > day.starts - DAY, reversed(self.played))
        return [each for each in recent if day.holds(each.starts)][::-1]

    def _of_week(self, day: Day, *, more: int = 0) -> int:
        """What the weekly limit counts of a day: extra time is on top."""
        used, limit = self.totals(day).used + self.offline(day).used + more + self.owed(day), self.limit_of(day)
        return used if limit is None else min(used, limit)

    def _deducted(self, day: Day) -> int:
        return self.offline(day).used

    def _given(self, day: Day) -> int | None:
        """Extra time of a day; None where it lifts the limit. What is taken back later does not change a past day."""
        live = [
            each for each in self.grants if each.day == day.name and (each.revoked is None or each.revoked >= day.ends)
        ]
        if any(each.minutes is None for each in live):
            return None
        return sum((each.minutes or 0) * MINUTE + each.covered for each in live)

    def _saved_on(self, day: Day) -> Saved:
        return self._saved_before(day.ends)

    def _saved_before(self, at: int) -> Saved:
        """The settings saved last before an instant."""
        return next((saved for since, saved in reversed(self.saved) if since < at), self.saved[0][1])

    # --- days and windows

    def _after(self, day: Day, saved: Saved) -> Day:
        name = max(_name(day.ends, saved.zone), day.name + 1)
        return Day(name, day.ends, _next_reset(day.ends + 12 * HOUR, saved), saved.zone)

    def _ahead_of_today(self) -> list[Day]:
        """The days after today, as far as anybody looks, by the settings of now."""
        today, saved = self.days[-1], self.saved[-1][1]
        if self._ahead is None or self._ahead[:2] != (today.starts, saved):
            days = [today]
            while days[-1].starts < today.starts + HORIZON:
                days.append(self._after(days[-1], saved))
            self._ahead = today.starts, saved, days[1:]
        return self._ahead[2]

    def _closed_by(self, at: int) -> str | None:
        if at < self.paused_until:
            return "parent_pause"
        windows = self.saved[-1][1].windows
        if not windows or self._is_in_extra_time(at):
            return None
        zone = next(day.zone for day in (*reversed(self._ahead_of_today()), self.days[-1]) if day.starts <= at)
        return None if _is_in_window(windows, zone, at // STEP * STEP) else "window"

    def _is_in_extra_time(self, at: int) -> bool:
        """Whether extra time of today goes on: its minutes run off from the moment it was given."""
        day, until = self.days[-1], 0
        if not day.holds(at):
            return False
        for each in sorted(self.grants, key=lambda each: each.at):
            if each.day == day.name and each.revoked is None and each.at <= at:
                if each.minutes is None:
                    return True
                until = max(each.at, until) + each.minutes * MINUTE
        return at < until

    def _instants(self, at: int) -> Iterator[int]:
        """Where opening hours may change after an instant."""
        ends = {self.paused_until, self.days[-1].ends}
        until = 0
        for each in sorted(self.grants, key=lambda each: each.at):
            if each.day == self.days[-1].name and each.revoked is None and each.minutes is not None:
                until = max(each.at, until) + each.minutes * MINUTE
                ends.add(until)
        odd = sorted(end for end in ends if end > at)
        for step in range((at // STEP + 1) * STEP, at + HORIZON, STEP):
            while odd and odd[0] <= step:
                yield odd.pop(0)
            yield step

    def _opens(self, at: int) -> int | None:
        if self._closed_by(at) is None:
            return at
        return next((instant for instant in self._instants(at) if self._closed_by(instant) is None), None)

    def _closes(self, at: int) -> int | None:
        if not self.saved[-1][1].windows:
            return None
        return next((instant for instant in self._instants(at) if self._closed_by(instant) is not None), None)


def _monday(name: int) -> int:
    return name - date.fromordinal(name).weekday()


def _by_threshold(remaining: int) -> str:
    if remaining == 0:
        return "blocked"
    return next((f"warning_{minutes}" for minutes in (5, 15) if remaining <= minutes * MINUTE), "allowed")


def _without(part: TimeRange, taken: Iterable[TimeRange]) -> list[TimeRange]:
    """A time range without what is taken."""
    free = [part]
    for starts, ends in taken:
        if ends <= part[0] or starts >= part[1]:
            continue
        free = [cut for begins, stops in free for cut in ((begins, min(stops, starts)), (max(begins, ends), stops))]
    return [(begins, stops) for begins, stops in free if begins < stops]


@lru_cache(maxsize=200_000)
def _local(at: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at // 1000, UTC).astimezone(ZoneInfo(zone))


def _name(at: int, zone: str) -> int:
    return _local(at, zone).toordinal()


def _is_reset(at: int, saved: Saved) -> bool:
    """Whether the clock on the wall has just come to the reset hour, or over it."""
    now, before = _local(at, saved.zone), _local(at - QUARTER, saved.zone)
    return now.hour >= saved.reset_hour and (before.date() < now.date() or before.hour < saved.reset_hour)


def _next_reset(at: int, saved: Saved) -> int:
    first = -(-at // QUARTER) * QUARTER
    return next(at for at in range(first, first + 2 * DAY, QUARTER) if _is_reset(at, saved))


@lru_cache(maxsize=500_000)
def _is_in_window(windows: tuple[Window, ...], zone: str, at: int) -> bool:
    local = _local(at, zone)
    return any(window.holds(local.weekday(), local.hour * 60 + local.minute) for window in windows)
