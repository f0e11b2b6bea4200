"""Counting a beat until it is counted or refused, supplying on the way what the counters ask for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from app.coalesce import Coalescer, Deliver, Overloaded
from app.domain.accounting import LONGEST_UNKNOWN_MS, Beat, Live, Outcome, Status, cold, in_day
from app.domain.ids import SessionIds
from app.domain.policy import DayTerms
from app.errors import CountersUnavailable, ProfileAccessDenied, TooManyRequests
from app.lanes import Lanes
from app.viewing.policies import KnownPolicy, PolicyCache
from app.viewing.ports import Counters, FlushedUsage, Randomness

_ROUNDS = 8
_RECOVERED_AT_ONCE = 1000
_QUERIES_IN_FLIGHT = 1
_LANE_CALLS_IN_FLIGHT = 2
_DAYS_UNFLUSHED = 3
REFUSED = frozenset({Status.SUPERSEDED, Status.ENDED})

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Counting:
    """Beats to outcomes, over counters that may be cold, ahead of us, or away.

    Args:
        max_batch: beats in one call.
        max_calls_in_flight: calls at once.
        lane_of: where the counters of a profile lie, when several servers share them; the calls of a lane stand and
            fail alone.
    """

    def __init__(
        self,
        *,
        counters: Counters,
        usage: FlushedUsage,
        policies: PolicyCache,
        session_ids: SessionIds,
        randomness: Randomness,
        max_batch: int,
        max_calls_in_flight: int,
        lane_of: Callable[[str], int] | None = None,
    ) -> None:
        self._counters = counters
        self._usage = usage
        self._policies = policies
        self._session_ids = session_ids
        self._randomness = randomness
        self._lane_of = lane_of
        self.max_batch = max_batch
        self._max_calls_in_flight = max_calls_in_flight
        self._record = self._queue(counters.record, lambda beat: beat[0])
        self._read = self._queue(counters.read, lambda profile_id: profile_id)
        self._seed = self._queue(self._put, lambda seed: seed[0])
        self._counting_many = asyncio.Semaphore()
        self._recover = Coalescer(usage.recover, max_batch=_RECOVERED_AT_ONCE, max_in_flight=_QUERIES_IN_FLIGHT)

    def submit(self, profile_id: str, beat: Beat) -> Awaitable[Outcome]:
        """Hand a beat to the next call; the outcome may ask for what ``settle`` supplies.

        Raises:
            CountersUnavailable: too many beats wait already.
        """
        try:
            return self._record.submit((profile_id, beat))
        except Overloaded as error:
            raise CountersUnavailable from error

    def enqueue(self, profile_id: str, beat: Beat, deliver: Deliver[Outcome]) -> None:
        """As ``submit``, for callers that do not wait: the outcome, or the error, is handed to ``deliver``."""
        try:
            self._record.enqueue((profile_id, beat), deliver)
        except Overloaded as error:
            raise CountersUnavailable from error

    async def count(
        self, profile_id: str, known: KnownPolicy, beat: Beat, *, is_new: bool = False
    ) -> tuple[KnownPolicy, DayTerms, Outcome]:
        """Count a beat, supplying what the counters ask for on the way; see ``settle``."""
        return await self.settle(profile_id, known, beat, await self.submit(profile_id, beat), is_new=is_new)

    async def settle(
        self, profile_id: str, known: KnownPolicy, beat: Beat, outcome: Outcome, *, is_new: bool = False
    ) -> tuple[KnownPolicy, DayTerms, Outcome]:
        """Repeat a beat until it is counted or refused; answers the policy and the terms it was counted by.

        ``is_new`` says that PostgreSQL was found to have no counters of the child since the beat came. The outcome is
        OK, SUPERSEDED or ENDED.

        Raises:
            ProfileAccessDenied: the session was never issued to this profile, or the profile is gone.
            TooManyRequests: the child's beats come too fast.
            CountersUnavailable, DatabaseUnavailable: nothing was counted.
        """
        for _ in range(_ROUNDS):
            if outcome.status == Status.OK:
                self._policies.confirm(known)
                self._policies.settle(known)
                return known, beat.days[-1] if beat.days else known.days[-1], outcome
            if outcome.status in REFUSED:
                return known, known.days[-1], outcome
            if outcome.status == Status.TOO_FAST:
                raise TooManyRequests(retry_after_seconds=1)
            known, beat = await self._supply(profile_id, known, beat, outcome, is_new=is_new)
            is_new = is_new and outcome.status != Status.COLD
            outcome = await self.submit(profile_id, beat)
        raise CountersUnavailable("The counters of this profile are changing.", retry_after_seconds=1)

    async def count_at_once(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome | CountersUnavailable]:
        """Up to ``max_batch`` beats in one call; outcomes may ask for what ``settle`` supplies.

        One such call is under way at a time, so that single beats get their turn. Where several servers share the
        counters there is one call to each, and one that is away fails its beats alone.

        Raises:
            CountersUnavailable: nothing was counted.
        """
        if not beats:
            return []
        if self._lane_of is None:
            async with self._counting_many:
                return [*await self._counters.record(beats)]
        return await asyncio.gather(*(self._count_or_refuse(*beat) for beat in beats))

    async def look(self, profile_id: str, known: KnownPolicy) -> tuple[KnownPolicy, int, Live, DayTerms]:
        """The policy, the instant, the counters as they stand then and the terms of that day; nothing changes."""
        at_ms, live = await _submitted(self._read, profile_id)
        if live is None:
            known = _still_theirs(known, await self._policies.reread(profile_id))
            [recovered] = await self._usage.recover([profile_id])
            live = recovered or self._blank(known, at_ms)
        if live.policy_version > known.version:
            latest = await self._policies.get(profile_id, at_least=live.policy_version)
            known = _still_theirs(known, latest)
        self._policies.reach(known, live.day, at_ms)
        terms = known.days[-1]
        if terms.number != live.day_number:
            live = in_day(live, terms)
        return known, at_ms, live, terms

    async def ending(self, profile_id: str, session_id: str, refusal: Outcome) -> tuple[int, int]:
        """What a session that is over was credited in all, and when it ended, in ms.

        Its days are flushed, or wait to be; one that never counted anything has nothing and ended as refused.
        """
        waiting = range(refusal.day_number - _DAYS_UNFLUSHED, refusal.day_number + 1)
        shares = {share.day_number: share for share in await self._usage.shares(profile_id, session_id)}
        for share in await self._counters.closed_shares(profile_id, session_id, waiting):
            flushed = shares.get(share.day_number)
            if flushed is None or flushed.credited_ms < share.credited_ms:
                shares[share.day_number] = share
        ended_ms = max((share.last_beat_ms for share in shares.values()), default=refusal.ended_ms)
        return sum(share.credited_ms for share in shares.values()), ended_ms

    async def closed_stretches(self, profile_id: str) -> list[tuple[int, int]]:
        """From when to when the finished sessions ran that wait to be flushed, in ms."""
        return await self._counters.closed_stretches(profile_id)

    def issue(self, profile_id: str, at_ms: int) -> str:
        return self._session_ids.issue(profile_id, at_ms=at_ms, entropy=self._randomness.getrandbits(64))

    async def drain(self) -> None:
        """Wait for what is in flight."""
        await self._seed.drain()
        await self._record.drain()

    async def _supply(
        self, profile_id: str, known: KnownPolicy, beat: Beat, outcome: Outcome, *, is_new: bool
    ) -> tuple[KnownPolicy, Beat]:
        """What was missing: counters, a newer policy, days, a session id, or the proof of one."""
        if outcome.status == Status.NEEDS_ID:
            return known, msgspec.structs.replace(beat, new_session_id=self.issue(profile_id, outcome.at_ms))
        if outcome.status == Status.UNKNOWN:
            issued_ms = self._session_ids.issued_ms(profile_id, beat.session_id)
            if issued_ms is None:
                raise ProfileAccessDenied
            return known, msgspec.structs.replace(beat, proof_ms=issued_ms)
        if outcome.status == Status.COLD:
            known = _still_theirs(known, await self._policies.reread(profile_id))
            began_ms = self._began_ms(profile_id, beat, outcome.at_ms)
            recovered = None if is_new else await self._recovered(profile_id)
            seed = msgspec.structs.replace(recovered or self._blank(known, began_ms), policy_version=known.version)
            await _submitted(self._seed, (profile_id, seed))
        elif outcome.status == Status.STALE:
            latest = await self._policies.get(profile_id, at_least=outcome.policy_version)
            known = _still_theirs(known, latest)
        elif outcome.status == Status.DAY:
            self._policies.reach(known, outcome.day, outcome.at_ms)
        return known, msgspec.structs.replace(
            beat,
            policy_version=known.version,
            is_exempt=1 if known.policy.educational_exempt else 0,
            days=known.days,
            synced=known.policy.synced,
        )

    async def _recovered(self, profile_id: str) -> Live | None:
        """What PostgreSQL has of a child, asked once for all who need it."""
        try:
            return await self._recover.join(profile_id, profile_id)
        except Overloaded as error:
            raise CountersUnavailable from error

    def _began_ms(self, profile_id: str, beat: Beat, at_ms: int) -> int:
        """When counters that nobody has begin: with the session taken up again, so that each day gets its part."""
        issued_ms = self._session_ids.issued_ms(profile_id, beat.session_id) if beat.session_id else None
        is_lost = issued_ms is not None and at_ms - LONGEST_UNKNOWN_MS < issued_ms < at_ms
        return issued_ms if issued_ms is not None and is_lost else at_ms

    async def _put(self, seeds: Sequence[tuple[str, Live]]) -> list[None]:
        await self._counters.seed(seeds)
        return [None] * len(seeds)

    async def _count_or_refuse(self, profile_id: str, beat: Beat) -> Outcome | CountersUnavailable:
        try:
            return await self.submit(profile_id, beat)
        except CountersUnavailable as refusal:
            return refusal

    def _queue(
        self, call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], profile_of: Callable[[Item], str]
    ) -> "Coalescer[Item, Answer] | Lanes[Item, Answer]":
        lane_of = self._lane_of
        if lane_of is None:
            return Coalescer(call, max_batch=self.max_batch, max_in_flight=self._max_calls_in_flight)
        return Lanes(
            call,
            lane_of=lambda item: lane_of(profile_of(item)),
            max_batch=self.max_batch,
            max_in_flight=_LANE_CALLS_IN_FLIGHT,
        )

    def _blank(self, known: KnownPolicy, at_ms: int) -> Live:
        self._policies.reach(known, None, at_ms)
        return cold(terms=known.days[-1], policy_version=known.version, at_ms=at_ms)


def _still_theirs(known: KnownPolicy, latest: KnownPolicy | None) -> KnownPolicy:
    """The policy read again; a profile that vanished meanwhile is no longer anybody's."""
    if latest is None or latest.account_id != known.account_id:
        raise ProfileAccessDenied
    return latest


async def _submitted(queue: "Coalescer[Item, Answer] | Lanes[Item, Answer]", item: Item) -> Answer:
    try:
        return await queue.submit(item)
    except Overloaded as error:
        raise CountersUnavailable from error
