"""What a child really watched: an oracle that keeps stretches of wall time, knows no counters, and adds them up last.

A loss of Redis is, to it, the same as if the beats since the last flush had been lost on their way.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

GAP_MS = 300_000
PAUSE_GRACE_MS = 300_000
LONGEST_UNKNOWN_MS = 48 * 3_600_000


@dataclass(frozen=True)
class Stretch:
    starts_ms: int
    ends_ms: int
    is_exempt: bool


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


@dataclass
class Watching:
    """One child. ``day_number`` is the last viewing day of which anything is known."""

    educational: frozenset[str]
    session: Session | None = None
    stretches: list[Stretch] = field(default_factory=list)
    day_number: int = 0
    earlier: list[tuple[int, int]] = field(default_factory=list)
    """When the sessions before this one ran."""

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
        return "over" if is_silent or sent.at_ms - sent.issued_ms > LONGEST_UNKNOWN_MS else "lost"

    def beat(self, sent: Sent, *, session_id: str, is_exempt: bool, synced: Sequence[tuple[int, int]]) -> None:
        """Count a beat that was accepted. ``session_id`` is what the answer said, ``synced`` is credited elsewhere."""
        meant = self.means(sent)
        assert meant != "over"
        if meant != "running":
            self._is_left()
        if meant == "new":
            self.session = Session(session_id, sent.title, sent.device, sent.at_ms, sent.at_ms)
        if meant == "lost":
            since_ms = self._uncounted_since_ms(sent)
            self.session = Session(session_id, sent.title, sent.device, sent.issued_ms, since_ms)
        session = self.session
        assert session is not None
        is_apart = is_exempt and session.title in self.educational
        counted = [Stretch(*span, is_apart) for span in self._counts(sent, session, synced)]
        self.stretches += counted
        if sent.claim_ms is not None and sent.session_id in {None, session.id}:
            session.watched_ms = max(session.watched_ms, sent.claim_ms)
        elif session.paused_ms is None:
            session.watched_ms += sum(stretch.ends_ms - stretch.starts_ms for stretch in counted)
        session.last_ms = sent.at_ms
        if sent.is_end:
            session.is_over = True
            return
        if sent.title != session.title:
            self._is_left()
            session = self.session = Session(
                session_id, sent.title, sent.device, sent.at_ms, sent.at_ms, retitled_from=sent.session_id
            )
        if not sent.is_paused:
            session.paused_ms = None
        elif session.paused_ms is None:
            session.paused_ms = sent.at_ms

    def is_blocked(self, at_ms: int) -> None:
        """Extra time counts from now: what was played since the last beat was beyond the allowance."""
        session = self.session
        assert session is not None
        assert not session.is_over
        assert session.paused_ms is None
        assert 0 < at_ms - session.last_ms <= GAP_MS
        self.stretches.append(Stretch(session.last_ms, at_ms, is_exempt=False))
        session.watched_ms += at_ms - session.last_ms
        session.last_ms = at_ms

    def spans(self, at_ms: int) -> list[tuple[int, int]]:
        """When sessions ran, the running one up to now: its next beat counts the rest."""
        session = self.session
        if session is None:
            return self.earlier
        is_running = not session.is_over and at_ms - session.last_ms <= GAP_MS
        return [*self.earlier, (session.started_ms, at_ms if is_running else session.last_ms)]

    def sums_ms(self, days: Iterable[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
        """Deducted and exempt time of each day, given as number, start and end; days without any are left out."""
        return sums_ms(self.stretches, days)

    def _is_left(self) -> None:
        if self.session is not None:
            self.earlier.append((self.session.started_ms, self.session.last_ms))

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


def sums_ms(stretches: Sequence[Stretch], days: Iterable[tuple[int, int, int]]) -> dict[int, tuple[int, int]]:
    """Deducted and exempt time of each day, given as number, start and end; days without any are left out."""
    sums: dict[int, tuple[int, int]] = {}
    for number, starts_ms, ends_ms in days:
        shares = [0, 0]
        for stretch in stretches:
            share_ms = min(stretch.ends_ms, ends_ms) - max(stretch.starts_ms, starts_ms)
            shares[stretch.is_exempt] += max(0, share_ms)
        if any(shares):
            sums[number] = shares[0], shares[1]
    return sums


def measure_ms(stretches: Iterable[tuple[int, int]], *, starts_ms: int, ends_ms: int) -> int:
    """How much of a day the stretches cover, however they overlap."""
    covered_ms, until_ms = 0, starts_ms
    for begins_ms, stops_ms in sorted(stretches):
        begins, stops = max(begins_ms, until_ms), min(stops_ms, ends_ms)
        if stops > begins:
            covered_ms += stops - begins
            until_ms = stops
    return covered_ms
