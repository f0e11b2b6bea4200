"""What a call of ``record.lua`` carries and answers.

Most beats are ordinary: the running session goes on, and says nothing unusual. They travel in a shorter form, which the
script compares with the stored counters byte by byte. It decides itself whether they are ordinary indeed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from app.domain.counters import Beat, Outcome, Status
from app.redis_store.keys import Keys

if TYPE_CHECKING:
    from app.domain.policy import DayTerms

_encode = msgspec.msgpack.Encoder().encode
_OK = int(Status.OK)


class OrdinaryBeat(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A beat of the running session, as ``record.lua`` reads it.

    The fields from ``session_id`` on are the same run of elements as in ``Counters``.

    Attributes:
        is_free: whether the time is educational and exempt.
        days: the position of its days in the call. Many children share them.
    """

    policy_version: int
    is_exempt: int
    is_free: int
    watched_ms: int
    days: int
    session_id: str
    title_id: str
    is_educational: int
    device_id: str
    device_type: str


class _Answer(msgspec.Struct, array_like=True, gc=False):
    """``figures`` are three per beat: used time, what the beat added, and the total of the session; -1 for others."""

    at_ms: int
    figures: list[int]
    others: list[Outcome]


_decode_answer = msgspec.msgpack.Decoder(_Answer).decode


class BeatCall:
    """Beats of one call.

    Attributes:
        keys: counters of the profiles, then the keys of the buckets in use.
        lengths: bytes of each beat; negative for one of ordinary form.
        places: per beat, the position in ``keys`` of its bucket's keys.
        generations: per beat, that of its bucket.
        days: the days that ordinary beats name by position.
        first_bucket: the bucket of the first beat.
    """

    def __init__(self, beats: Sequence[tuple[str, Beat]], names: Keys, generations: Sequence[int]) -> None:
        self._beats = beats
        self.keys: list[str] = []
        self.lengths: list[int] = []
        self.places: list[int] = []
        self.generations: list[int] = []
        self.days: list[Sequence[DayTerms]] = []
        self.first_bucket = names.bucket(beats[0][0])
        self._place_of_days: dict[int, int] = {}
        self._packed: list[bytes] = []
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

    def _add(self, beat: Beat) -> None:
        if (
            not beat.session_id
            or beat.new_session_id
            or beat.issued_at_ms
            or beat.is_paused
            or beat.is_end
            or beat.synced
            or beat.week is not None
            or beat.breaks is not None
            or beat.finish is not None
        ):
            packed = _encode(beat)
            self.lengths.append(len(packed))
        else:
            days = beat.days
            place = self._place_of_days.get(id(days))
            if place is None:
                self.days.append(days)
                place = self._place_of_days[id(days)] = len(self.days)
            packed = _encode(
                (
                    beat.policy_version,
                    beat.is_exempt,
                    beat.is_exempt & beat.is_educational,
                    beat.watched_ms,
                    place,
                    beat.session_id,
                    beat.title_id,
                    beat.is_educational,
                    beat.device_id,
                    beat.device_type,
                )
            )
            self.lengths.append(-len(packed))
        self._packed.append(packed)

    def packed(self) -> bytes:
        """The beats, one behind the other."""
        return b"".join(self._packed)

    def outcomes(self, answer: bytes) -> list[Outcome]:
        """The outcomes in the answer of the script, in the order of the beats."""
        found = _decode_answer(answer)
        at_ms, figures, others = found.at_ms, iter(found.figures), iter(found.others)
        return [
            next(others)
            if used_ms < 0
            else Outcome(_OK, at_ms, at_ms, beat.session_id, total_ms, used_ms, counted_ms, "", beat.days[-1].number)
            for (_, beat), used_ms, counted_ms, total_ms in zip(self._beats, figures, figures, figures, strict=True)
        ]
