"""An oracle of the real watched time. It keeps ranges of wall time without counters and adds them up at the end.

It treats a loss of Redis as if the heartbeats since the last flush had never arrived.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

GAP_MS = 300_000
PAUSE_GRACE_MS = 300_000
MAX_UNKNOWN_MS = 48 * 3_600_000
FREE_ABANDONED = 2


@dataclass(frozen=True)
class TimeRange:
    """What was counted. ``break_ms`` is how long a break had to be then, None without breaks."""

    starts_ms: int
    ends_ms: int
    is_exempt: bool
    is_paused: bool = False
    break_ms: int | None = None


@dataclass(frozen=True)
class Break:
    """A break of ``length_ms`` is due after ``after_ms`` without one."""

    after_ms: int
    length_ms: int


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A beat as its player sent it; ``issued_ms`` is when its session was opened, as its id proves."""

    at_ms: int
    session_id: str | None
    issued_ms: int
    title: str
    device: str
    is_paused: bool = False
    is_end: bool = False
    claim_ms: int | None = None
    title_left_ms: int | None = None


@dataclass
class Session:
    id: str
    title: str
    device: str
    started_ms: int
    last_ms: int
    paused_ms: int | None = None
    watched_ms: int = 0
    is_over: bool = False
    retitled_from: str | None = None
    lease_ms: int = 0
    """What its player was told with its only beat."""


@dataclass
class Watching:
    """One child. ``day_number`` is the last viewing day of which anything is known."""

    educational: frozenset[str]
    session: Session | None = None
    ranges: list[TimeRange] = field(default_factory=list)
    day_number: int = 0
    abandoned_ms: list[int] = field(default_factory=list)
    """When the sessions were opened that were abandoned."""
    charged_leases: list[tuple[int, int]] = field(default_factory=list)
    """What abandoned sessions were charged, whether or not anybody was there."""
    unruled: int = 0
    """How many of the ranges were counted before breaks were last off: nobody kept count of those."""

    def copy(self) -> "Watching":
        return deepcopy(self)

    def means(self, sent: Sent) -> str:
        """What a beat speaks of: "new", "running", "lost", or "over" when it is refused."""
        session = self.session
        if sent.session_id is None:
            return "new"
        if session is not None and (sent.session_id == session.id or self._repeats_retitling(sent, session)):
            is_closed = session.is_over or (sent.at_ms - session.last_ms > GAP_MS and sent.claim_ms is None)
            return "over" if is_closed else "running"
        if session is not None and sent.issued_ms <= session.started_ms:
            return "over"
        is_silent = sent.at_ms - self._uncounted_since_ms(sent) > GAP_MS and sent.claim_ms is None
        return "over" if is_silent or sent.at_ms - sent.issued_ms > MAX_UNKNOWN_MS else "lost"

    def beat(
        self,
        sent: Sent,
        *,
        session_id: str,
        is_exempt: bool,
        synced: Sequence[tuple[int, int]],
        lease_ms: int,
        days: Sequence[tuple[int, int, int]],
        breaks: Break | None = None,
    ) -> None:
        """Count a beat that was accepted.

        ``session_id`` and ``lease_ms`` are what the answer said but for breaks, ``synced`` is credited elsewhere,
        ``days`` are given as number, start and end.
        """
        match = self.means(sent)
        assert match != "over"
        if match != "running":
            until_ms = sent.at_ms if match == "new" else self._uncounted_since_ms(sent)
            self._is_left(until_ms, is_exempt=is_exempt, synced=synced, days=days, breaks=breaks)
        if match == "new":
            self.session = Session(session_id, sent.title, sent.device, sent.at_ms, sent.at_ms)
        if match == "lost":
            since_ms = self._uncounted_since_ms(sent)
            self.session = Session(session_id, sent.title, sent.device, sent.issued_ms, since_ms)
        session = self.session
        assert session is not None
        is_apart = is_exempt and session.title in self.educational
        is_paused = session.paused_ms is not None and sent.at_ms - session.last_ms <= GAP_MS
        rule = None if breaks is None else breaks.length_ms
        counted = [TimeRange(*span, is_apart, is_paused, rule) for span in self._counts(sent, session, synced)]
        self.ranges += counted
        if sent.claim_ms is not None and sent.session_id in {None, session.id}:
            session.watched_ms = max(session.watched_ms, sent.claim_ms)
        elif session.paused_ms is None:
            session.watched_ms += sum(time_range.ends_ms - time_range.starts_ms for time_range in counted)
        session.last_ms = sent.at_ms
        session.lease_ms = lease_ms if match == "new" else 0
        if breaks is None:
            self.unruled = len(self.ranges)
        else:
            lease_ms = min(lease_ms, self.left_to_break_ms(breaks, sent.at_ms))
            session.lease_ms = min(session.lease_ms, lease_ms)
        if sent.is_end:
            session.is_over = True
            return
        if sent.title != session.title:
            session = self.session = Session(
                session_id, sent.title, sent.device, sent.at_ms, sent.at_ms, retitled_from=sent.session_id
            )
            session.lease_ms = lease_ms
        if not sent.is_paused:
            session.paused_ms = None
        elif session.paused_ms is None:
            session.paused_ms = sent.at_ms

    def left_to_break_ms(self, breaks: Break, at_ms: int) -> int:
        """What may be played until a break is due: looks back over what was played until it finds the last one."""
        until_ms, longest_ms, played_ms = at_ms, breaks.length_ms, 0
        for time_range in reversed(self.ranges[self.unruled :]):
            if time_range.is_paused or time_range.break_ms is None:
                continue
            if until_ms - time_range.ends_ms >= longest_ms:
                break
            played_ms += time_range.ends_ms - time_range.starts_ms
            until_ms, longest_ms = time_range.starts_ms, time_range.break_ms
        return max(0, breaks.after_ms - played_ms)

    def is_blocked(self, at_ms: int, *, synced: Sequence[tuple[int, int]], breaks: Break | None) -> None:
        """Extra time counts from now: what was played since the last beat, and not synced, was beyond the allowance."""
        session = self.session
        assert session is not None
        assert not session.is_over
        assert session.paused_ms is None
        assert 0 < at_ms - session.last_ms <= GAP_MS
        cursor_ms = session.last_ms
        for starts_ms, ends_ms in [*sorted(synced), (at_ms, at_ms)]:
            stops_ms = min(starts_ms, at_ms)
            if stops_ms > cursor_ms:
                rule = None if breaks is None else breaks.length_ms
                self.ranges.append(TimeRange(cursor_ms, stops_ms, is_exempt=False, break_ms=rule))
                session.watched_ms += stops_ms - cursor_ms
            cursor_ms = max(cursor_ms, ends_ms)
        session.last_ms, session.lease_ms = at_ms, 0

    def spans(self, at_ms: int) -> list[tuple[int, int]]:
        """Where anything was counted, and what the next beat of the running session will count up to now."""
        counted = [(time_range.starts_ms, time_range.ends_ms) for time_range in self.ranges]
        session = self.session
        if session is None or session.is_over or at_ms - session.last_ms > GAP_MS:
            return counted
        return [*counted, (session.last_ms, _counts_to(session, at_ms))]

    def sums_ms(self, days: Iterable[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
        """Deducted and exempt time of each day, given as number, start and end; days without any are left out."""
        return sums_ms(self.ranges, days)

    def _is_left(
        self,
        at_ms: int,
        *,
        is_exempt: bool,
        synced: Sequence[tuple[int, int]],
        days: Sequence[tuple[int, int, int]],
        breaks: Break | None,
    ) -> None:
        """Another session begins. What ran until then counts; who left a player alone pays for it from the third on."""
        session = self.session
        if session is None or session.is_over:
            return
        until_ms = session.last_ms
        if at_ms - session.last_ms <= GAP_MS:
            until_ms = _counts_to(session, at_ms)
        elif session.lease_ms:
            [day] = [
                (starts_ms, ends_ms) for _, starts_ms, ends_ms in days if starts_ms <= session.started_ms < ends_ms
            ]
            before = [opened_ms for opened_ms in self.abandoned_ms if day[0] <= opened_ms < day[1]]
            self.abandoned_ms.append(session.started_ms)
            if len(before) >= FREE_ABANDONED:
                until_ms = min(at_ms, session.started_ms + session.lease_ms)
                self.charged_leases.append((session.started_ms, until_ms))
        is_apart = is_exempt and session.title in self.educational
        free = [(session.last_ms, until_ms)]
        for starts_ms, ends_ms in synced:
            free = [
                part
                for begins, stops in free
                for part in ((begins, min(stops, starts_ms)), (max(begins, ends_ms), stops))
            ]
        is_paused, rule = session.paused_ms is not None, None if breaks is None else breaks.length_ms
        self.ranges += [TimeRange(begins, stops, is_apart, is_paused, rule) for begins, stops in free if begins < stops]

    @staticmethod
    def _repeats_retitling(sent: Sent, session: Session) -> bool:
        same = (sent.session_id, sent.title, sent.device) == (session.retitled_from, session.title, session.device)
        return same and not sent.is_end

    def _uncounted_since_ms(self, sent: Sent) -> int:
        """No instant is counted twice: not for a session that was lost either."""
        last_ms = 0 if self.session is None else self.session.last_ms
        return max(sent.issued_ms, last_ms)

    @staticmethod
    def _counts(sent: Sent, session: Session, synced: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """What of the time since the last beat counts: what was synced is credited already."""
        left_ms, until_ms = sent.at_ms, sent.at_ms
        if sent.at_ms - session.last_ms > GAP_MS:
            left_ms = max(0, (sent.claim_ms or 0) - session.watched_ms)
        elif session.paused_ms is not None:
            until_ms = min(sent.at_ms, session.paused_ms + PAUSE_GRACE_MS)
        counted: list[tuple[int, int]] = []
        cursor_ms = session.last_ms
        for starts_ms, ends_ms in [*sorted(synced), (until_ms, until_ms)]:
            stops_ms = min(starts_ms, until_ms, cursor_ms + left_ms)
            if stops_ms > cursor_ms:
                counted.append((cursor_ms, stops_ms))
                left_ms -= stops_ms - cursor_ms
            cursor_ms = max(cursor_ms, ends_ms)
        return counted


def _counts_to(session: Session, at_ms: int) -> int:
    """Up to when a session counts that beats at an instant: in a pause, up to the end of its grace."""
    if session.paused_ms is None:
        return at_ms
    return max(session.last_ms, min(at_ms, session.paused_ms + PAUSE_GRACE_MS))


def sums_ms(ranges: Sequence[TimeRange], days: Iterable[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
    """Deducted and exempt time of each day, given as number, start and end; days without any are left out."""
    sums: dict[int, tuple[int, int]] = {}
    for number, starts_ms, ends_ms in days:
        shares = [0, 0]
        for time_range in ranges:
            share_ms = min(time_range.ends_ms, ends_ms) - max(time_range.starts_ms, starts_ms)
            shares[time_range.is_exempt] += max(0, share_ms)
        if any(shares):
            sums[number] = shares[0], shares[1]
    return sums


def beyond_ms(ranges: Sequence[TimeRange], *, left_ms: int, until_ms: int) -> int:
    """How much was watched after so much of an allowance was used up, and before an instant."""
    found_ms = 0
    for time_range in sorted(ranges, key=lambda each: each.starts_ms):
        if not time_range.is_exempt:
            length_ms = time_range.ends_ms - time_range.starts_ms
            reached_ms = time_range.starts_ms + min(left_ms, length_ms)
            left_ms -= min(left_ms, length_ms)
            found_ms += max(0, min(time_range.ends_ms, until_ms) - reached_ms)
    return found_ms


def measure_ms(ranges: Iterable[tuple[int, int]], *, starts_ms: int, ends_ms: int) -> int:
    """How much of a day the time ranges cover, however they overlap."""
    covered_ms, until_ms = 0, starts_ms
    for begins_ms, stops_ms in sorted(ranges):
        begins, stops = max(begins_ms, until_ms), min(stops_ms, ends_ms)
        if stops > begins:
            covered_ms += stops - begins
            until_ms = stops
    return covered_ms
