"""What a call of ``record.lua`` carries and answers.

Most beats are ordinary: the running session goes on, and says nothing unusual. They travel in a shorter form, which the
script compares with the stored counters byte by byte. It decides itself whether they are ordinary indeed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from app.domain.counters import Beat, Outcome, Status
from app.domain.weekly import cut
from app.redis_store.keys import Keys

if TYPE_CHECKING:
    from app.domain.policy import DayTerms

_encode = msgspec.msgpack.Encoder().encode
_OK = int(Status.OK)
_NOTHING_BEFORE_WEEK = _encode(0) + _encode(0) + _encode(())
"""What ``Counters`` hold between ``gcra_tat_ms`` and ``week`` where a later field says something."""
_NO_TITLE = -1


class OrdinaryBeat(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A beat of the running session, as ``record.lua`` reads it.

    The fields from ``session_id`` on are the same run of elements as in ``Counters``. Those from ``break_ms`` to
    ``kept`` are left out for a child without a weekly limit, breaks and a title to finish.

    Attributes:
        is_free: whether the time is educational and exempt.
        days: the position of its days in the call. Many children share them.
        break_ms: how long a break is; 0 without breaks.
        finish_ms: how long after the limit a title may end.
        title_left_ms: how much of the title is left; -1 if no title may be finished.
        kept: the bytes from ``lease_ms`` to ``week`` in counters without anything unusual; empty where they end before.
    """

    policy_version: int
    is_exempt: int
    is_free: int
    watched_ms: int
    days: int
    break_ms: int
    finish_ms: int
    title_left_ms: int
    kept: msgspec.Raw
    session_id: str
    title_id: str
    is_educational: int
    device_id: str
    device_type: str


def _text(packed: bytes) -> msgspec.Raw:
    """Bytes as MessagePack text, whatever they are: scripts cannot read its byte strings."""
    return msgspec.Raw(b"\xda%b%b" % (len(packed).to_bytes(2), packed))


_NOTHING_KEPT = _text(b"")
_NO_WEEK_KEPT = _text(_NOTHING_BEFORE_WEEK + _encode(()))


class _Answer(msgspec.Struct, array_like=True, gc=False):
    """``figures`` are three per beat: used time, what the beat added, and the total of the session; -1 for others.

    ``unbroken_ms`` has one for each ordinary beat of a child with breaks.
    """

    at_ms: int
    figures: list[int]
    others: list[Outcome]
    unbroken_ms: list[int]


decode_answer = msgspec.msgpack.Decoder(_Answer).decode


class BeatCall:
    """Beats of one call.

    Attributes:
        keys: counters of the profiles, then the keys of the buckets in use.
        lengths: bytes of each beat; negative for one of ordinary form.
        places: per beat, the position in ``keys`` of its bucket's keys.
        generations: per beat, that of its bucket.
        days: the days that ordinary beats name by position.
        rules: bytes of what the long form of an ordinary beat has from ``days`` on, by the position of the beat. They
            follow the beat and are read only if it is not ordinary after all.
        buckets: the buckets in use, that of the first beat first.
    """

    def __init__(self, beats: Sequence[tuple[str, Beat]], names: Keys, generations: Sequence[int]) -> None:
        self._beats = beats
        self.keys: list[str] = []
        self.lengths: list[int] = []
        self.places: list[int] = []
        self.generations: list[int] = []
        self.days: list[Sequence[DayTerms]] = []
        self.rules: dict[int, int] = {}
        self._place_of_days: dict[int, int] = {}
        self._week_left_ms: dict[int, int] = {}  # by the place of the beat
        self._with_breaks: list[int] = []  # the places of such beats
        self._packed: list[bytes] = []
        self._add_all(beats, names, generations)

    def _add_all(self, beats: Sequence[tuple[str, Beat]], names: Keys, generations: Sequence[int]) -> None:
        place_of: dict[int, int] = {}
        bucket_keys: list[str] = []
        for profile_id, beat in beats:
            bucket = names.bucket(profile_id)
            place = place_of.get(bucket)
            if place is None:
                place = place_of[bucket] = len(beats) + len(bucket_keys) + 1
                bucket_keys += names.unflushed(bucket)
            self.keys.append(names.counters_in(bucket, profile_id))
            self.places.append(place)
            self.generations.append(generations[bucket])
            self._add(beat)
        self.keys += bucket_keys
        self.buckets = list(place_of)

    def _add(self, beat: Beat) -> None:
        if (
            not beat.session_id
            or beat.new_session_id
            or beat.issued_at_ms
            or beat.is_paused
            or beat.is_end
            or beat.synced
        ):
            self._add_long(beat)
        elif beat.week is None and beat.breaks is None and beat.finish is None:
            self._add_ordinary(beat, beat.days)
        else:
            self._add_with_rules(beat)

    def _add_long(self, beat: Beat) -> None:
        packed = _encode(beat)
        self.lengths.append(len(packed))
        self._packed.append(packed)

    def _add_ordinary(self, beat: Beat, days: "Sequence[DayTerms]", *rules: int | msgspec.Raw) -> None:
        """Add what an OrdinaryBeat holds, with or without the fields of ``rules``."""
        packed = _encode(
            (
                beat.policy_version,
                beat.is_exempt,
                beat.is_exempt & beat.is_educational,
                beat.watched_ms,
                self._place(days),
                *rules,
                beat.session_id,
                beat.title_id,
                beat.is_educational,
                beat.device_id,
                beat.device_type,
            )
        )
        self.lengths.append(-len(packed))
        self._packed.append(packed)

    def _add_with_rules(self, beat: Beat) -> None:
        week, breaks, finish, days = beat.week, beat.breaks, beat.finish, beat.days
        kept = _NOTHING_KEPT
        if week is not None:
            if not days or not week.is_before(days[-1].number):
                self._add_long(beat)
                return
            left_ms = self._week_left_ms[len(self.lengths)] = week.left_ms(week.days)
            terms = cut(days[-1], left_ms)
            days = days if terms is days[-1] else (terms,)
        if week is not None and week.days:
            kept = _text(_NOTHING_BEFORE_WEEK + _encode(week.days))
        elif breaks is not None:
            kept = _NO_WEEK_KEPT
        if breaks is not None:
            self._with_breaks.append(len(self.lengths))
        rules = _encode((beat.days, beat.synced, beat.closed, week, breaks, finish))
        self._add_ordinary(
            beat,
            days,
            0 if breaks is None else breaks.length_ms,
            0 if finish is None else finish.longest_ms,
            _NO_TITLE if finish is None else finish.title_left_ms,
            kept,
        )
        self.rules[len(self.lengths)] = len(rules)
        self._packed.append(rules)

    def _place(self, days: "Sequence[DayTerms]") -> int:
        """The position of days in the call."""
        place = self._place_of_days.get(id(days))
        if place is None:
            self.days.append(days)
            place = self._place_of_days[id(days)] = len(self.days)
        return place

    def packed(self) -> bytes:
        """The beats, one behind the other."""
        return b"".join(self._packed)

    def outcomes(self, answer: bytes) -> list[Outcome]:
        """The outcomes in the answer of the script, in the order of the beats."""
        found = decode_answer(answer)
        at_ms, figures, others = found.at_ms, iter(found.figures), iter(found.others)
        outcomes = [
            next(others)
            if used_ms < 0
            else Outcome(_OK, at_ms, at_ms, beat.session_id, total_ms, used_ms, counted_ms, "", beat.days[-1].number)
            for (_, beat), used_ms, counted_ms, total_ms in zip(self._beats, figures, figures, figures, strict=True)
        ]
        if self._week_left_ms or found.unbroken_ms:
            self._add_rules(outcomes, found)
        return outcomes

    def _add_rules(self, outcomes: Sequence[Outcome], found: _Answer) -> None:
        """What the rules of a child add to the outcomes of ordinary beats."""
        for place, left_ms in self._week_left_ms.items():
            if found.figures[3 * place] >= 0:
                outcomes[place].week_left_ms = left_ms
        counted = [place for place in self._with_breaks if found.figures[3 * place] >= 0]
        for place, unbroken_ms in zip(counted, found.unbroken_ms, strict=True):
            outcomes[place].unbroken_ms, outcomes[place].played_until_ms = unbroken_ms, found.at_ms
