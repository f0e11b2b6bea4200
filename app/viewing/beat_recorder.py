"""Records beats: repeats a beat until it is counted or refused, and supplies what the counters lack."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TypeVar

import msgspec

from app.domain.counters import MAX_UNKNOWN_MS, Beat, Counters, Outcome, Status, carried_into, cold
from app.domain.finishing import finish_of
from app.domain.ids import SessionIds
from app.domain.policy import DayTerms
from app.errors import CountersUnavailable, ProfileAccessDenied, TooManyRequests
from app.kit.batching import Batcher, Callback, Overloaded
from app.kit.sharded_batching import ShardedBatcher
from app.kit.single_flight import SingleFlight
from app.viewing.policy_cache import KnownPolicy, PolicyCache
from app.viewing.ports import CounterStore, FlushedUsage, Randomness

_MAX_ATTEMPTS = 8
_MAX_RECOVERED = 1000
_QUERIES_IN_FLIGHT = 1
_DAYS_UNFLUSHED = 3
REFUSED = frozenset({Status.SUPERSEDED, Status.ENDED})

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class BeatRecorder:
    """Turns beats into outcomes, over counters that may be missing, newer than the policy, or away.

    Args:
        max_batch: most beats in one call.
        max_calls_in_flight: most calls at once, to each shard if there are several.
        shard_of: the shard of a profile's counters, if several servers hold them. Each shard has calls of its own, so
            that a server that hangs or fails does not affect the others.
    """

    def __init__(
        self,
        *,
        counters: CounterStore,
        usage: FlushedUsage,
        policies: PolicyCache,
        session_ids: SessionIds,
        randomness: Randomness,
        max_batch: int,
        max_calls_in_flight: int,
        shard_of: Callable[[str], Hashable] | None = None,
    ) -> None:
        self._counters = counters
        self._usage = usage
        self._policies = policies
        self._session_ids = session_ids
        self._randomness = randomness
        self._shard_of = shard_of
        self.max_batch = max_batch
        self._max_calls_in_flight = max_calls_in_flight
        self._record = self._queue(counters.record, lambda beat: beat[0])
        self._read = self._queue(counters.read, lambda profile_id: profile_id)
        self._seed = self._queue(self._put, lambda seed: seed[0])
        self._batch_call = asyncio.Semaphore()
        self._recover_batcher = Batcher(usage.recover, max_batch=_MAX_RECOVERED, max_in_flight=_QUERIES_IN_FLIGHT)
        self._recoveries: SingleFlight[str, Counters | None] = SingleFlight(self._recover)

    @property
    def queue(self) -> Callable[..., None]:
        """Takes beats of the native module, each with its callback. Raises Overloaded if it is full."""
        return self._record.enqueue

    def submit(self, profile_id: str, beat: Beat) -> Awaitable[Outcome]:
        """Queue a beat for the next call and return a future of its outcome, which may be a miss.

        Raises:
            CountersUnavailable: the queue is full.
        """
        try:
            return self._record.submit((profile_id, beat))
        except Overloaded as error:
            raise CountersUnavailable from error

    def enqueue(self, profile_id: str, beat: Beat, callback: Callback[Outcome]) -> None:
        """As ``submit``, but pass the outcome or the error to ``callback``."""
        try:
            self._record.enqueue((profile_id, beat), callback)
        except Overloaded as error:
            raise CountersUnavailable from error

    async def record(
        self, profile_id: str, known: KnownPolicy, beat: Beat, *, is_new: bool = False
    ) -> tuple[KnownPolicy, DayTerms, Outcome]:
        """Count a beat and resolve misses; see ``record_until_done``."""
        return await self.record_until_done(profile_id, known, beat, await self.submit(profile_id, beat), is_new=is_new)

    async def record_until_done(
        self, profile_id: str, known: KnownPolicy, beat: Beat, outcome: Outcome, *, is_new: bool = False
    ) -> tuple[KnownPolicy, DayTerms, Outcome]:
        """Resolve misses and repeat a beat until it is counted or refused.

        Args:
            profile_id: the child.
            known: the policy that the beat carries.
            beat: the beat.
            outcome: the outcome of the first call.
            is_new: whether PostgreSQL was found to have no counters of the child since the beat arrived.

        Returns:
            The policy and the terms of the last call, and its outcome: OK, SUPERSEDED or ENDED.

        Raises:
            ProfileAccessDenied: the session was never issued to this profile, or the profile is gone.
            TooManyRequests: the child's beats come too fast.
            CountersUnavailable, DatabaseUnavailable: nothing was counted.
        """
        for _ in range(_MAX_ATTEMPTS):
            if outcome.status == Status.OK:
                self._policies.confirm(known)
                self._policies.drop_past_days(known)
                return known, beat.days[-1] if beat.days else known.days[-1], outcome
            if outcome.status in REFUSED:
                return known, known.days[-1], outcome
            if outcome.status == Status.TOO_FAST:
                raise TooManyRequests(retry_after_seconds=1)
            known, beat = await self._resolve_miss(profile_id, known, beat, outcome, is_new=is_new)
            is_new = is_new and outcome.status != Status.COLD
            outcome = await self.submit(profile_id, beat)
        raise CountersUnavailable("The counters of this profile are changing.", retry_after_seconds=1)

    async def record_batch(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome | CountersUnavailable]:
        """Count up to ``max_batch`` beats in one call. Outcomes may be misses.

        Only one such call is in flight at a time, so that single beats are not delayed. If several servers hold the
        counters, each gets a call of its own, and a server that is away fails its own beats only.

        Raises:
            CountersUnavailable: nothing was counted.
        """
        if not beats:
            return []
        if self._shard_of is None:
            async with self._batch_call:
                outcomes = await self._counters.record(beats)
            await asyncio.sleep(0)  # the next call leaves before the caller decides on these outcomes
            return [*outcomes]
        return await asyncio.gather(*(self._submit_or_refuse(*beat) for beat in beats))

    async def read_counters(self, profile_id: str, known: KnownPolicy) -> tuple[KnownPolicy, int, Counters, DayTerms]:
        """Read the counters of the running day without changing them.

        Returns:
            The policy, the instant in ms, the counters at that instant and the terms of that day.
        """
        known, at_ms, counters, terms = await self.last_counters(profile_id, known)
        return known, at_ms, carried_into(counters, known.days, known.effective.week), terms

    async def last_counters(self, profile_id: str, known: KnownPolicy) -> tuple[KnownPolicy, int, Counters, DayTerms]:
        """As ``read_counters``, but with the counters of the day of the last beat, which may have ended."""
        at_ms, counters = await _submitted(self._read, profile_id)
        if counters is None:
            known = _require_same_owner(known, await self._policies.reload(profile_id))
            at_ms, counters = await self._recovered_counters(profile_id, known, at_ms)
        if counters.policy_version > known.version:
            latest = await self._policies.get(profile_id, at_least=counters.policy_version)
            known = _require_same_owner(known, latest)
        self._policies.extend_days(known, counters.day, at_ms)
        return known, at_ms, counters, known.days[-1]

    async def _recovered_counters(self, profile_id: str, known: KnownPolicy, at_ms: int) -> tuple[int, Counters]:
        """Counters from PostgreSQL, put into Redis as for a beat: what Redis came back with may hold more than they."""
        [recovered] = await self._usage.recover([profile_id])
        if recovered is None:
            return at_ms, self._initial_counters(known, at_ms)
        await _submitted(self._seed, (profile_id, msgspec.structs.replace(recovered, policy_version=known.version)))
        at_ms, counters = await _submitted(self._read, profile_id)
        return at_ms, counters or recovered

    async def session_totals(self, profile_id: str, session_id: str, refusal: Outcome) -> tuple[int, int]:
        """The total credit of a finished session and the instant of its end, both in ms.

        Its shares are in PostgreSQL or in the outbox. A session without any share ended as the refusal says.
        """
        waiting = range(refusal.day_number - _DAYS_UNFLUSHED, refusal.day_number + 1)
        shares = {share.day_number: share for share in await self._usage.shares(profile_id, session_id)}
        for share in await self._counters.closed_shares(profile_id, session_id, waiting):
            flushed = shares.get(share.day_number)
            if flushed is None or flushed.credited_ms < share.credited_ms:
                shares[share.day_number] = share
        ended_ms = max((share.last_beat_ms for share in shares.values()), default=refusal.ended_ms)
        return sum(share.credited_ms for share in shares.values()), ended_ms

    async def outbox(self, profile_id: str) -> list[Counters]:
        """The finished sessions and days of a child that wait to be flushed."""
        return await self._counters.outbox(profile_id)

    async def reserve(
        self, profile_id: str, known: KnownPolicy, counters: Counters, ranges: Sequence[tuple[int, int]]
    ) -> bool:
        """Reserve intervals for an offline sync, so that no later claim counts them.

        Also where there is no session: the one that claims next may have been lost.

        Args:
            profile_id: the child.
            known: its policy.
            counters: the counters as read.
            ranges: the intervals in ms.

        Returns:
            False if something was counted since ``counters`` were read.

        Raises:
            CountersUnavailable: nothing was reserved.
        """
        if not ranges:
            return True
        is_reserved = await self._counters.reserve(profile_id, counters.version, ranges)
        if is_reserved is None:
            if counters.is_blank:
                # A lost session may have begun as long ago, and each of its days gets its share.
                earliest = self._initial_counters(known, counters.version - MAX_UNKNOWN_MS)
                counters = msgspec.structs.replace(earliest, version=counters.version)
            await _submitted(self._seed, (profile_id, msgspec.structs.replace(counters, policy_version=known.version)))
            is_reserved = await self._counters.reserve(profile_id, counters.version, ranges)
        return bool(is_reserved)

    def issue(self, profile_id: str, at_ms: int) -> str:
        return self._session_ids.issue(profile_id, at_ms=at_ms, entropy=self._randomness.getrandbits(64))

    async def drain(self) -> None:
        """Wait for what is in flight."""
        await self._seed.drain()
        await self._record.drain()

    async def _resolve_miss(
        self, profile_id: str, known: KnownPolicy, beat: Beat, outcome: Outcome, *, is_new: bool
    ) -> tuple[KnownPolicy, Beat]:
        """Supply what an outcome lacks: a session id, its proof, counters, a newer policy, or days."""
        if outcome.status == Status.NEEDS_ID:
            return known, msgspec.structs.replace(beat, new_session_id=self.issue(profile_id, outcome.at_ms))
        if outcome.status == Status.UNKNOWN:
            return known, self._with_proof(profile_id, beat)
        if outcome.status == Status.COLD:
            known = await self._seed_counters(profile_id, known, beat, outcome.at_ms, is_new=is_new)
        elif outcome.status == Status.STALE:
            latest = await self._policies.get(profile_id, at_least=outcome.policy_version)
            known = _require_same_owner(known, latest)
        elif outcome.status == Status.DAY:
            self._policies.extend_days(known, outcome.day, outcome.at_ms)
        return known, msgspec.structs.replace(
            beat,
            policy_version=known.version,
            is_exempt=1 if known.policy.educational_exempt else 0,
            days=known.days,
            synced=known.policy.synced,
            closed=known.effective.closed,
            week=known.effective.week,
            breaks=known.effective.breaks,
            finish=None if beat.finish is None else finish_of(known.policy.rules, beat.finish.title_left_ms),
        )

    def _with_proof(self, profile_id: str, beat: Beat) -> Beat:
        issued_ms = self._session_ids.issued_ms(profile_id, beat.session_id)
        if issued_ms is None:
            raise ProfileAccessDenied
        return msgspec.structs.replace(beat, issued_at_ms=issued_ms)

    async def _seed_counters(
        self, profile_id: str, known: KnownPolicy, beat: Beat, at_ms: int, *, is_new: bool
    ) -> KnownPolicy:
        known = _require_same_owner(known, await self._policies.reload(profile_id))
        started_ms = self._started_ms(profile_id, beat, at_ms)
        recovered = None if is_new else await self._recoveries.get(profile_id)
        counters = recovered or self._initial_counters(known, started_ms)
        await _submitted(self._seed, (profile_id, msgspec.structs.replace(counters, policy_version=known.version)))
        return known

    async def _recover(self, profile_id: str) -> Counters | None:
        return await _submitted(self._recover_batcher, profile_id)

    def _started_ms(self, profile_id: str, beat: Beat, at_ms: int) -> int:
        """The start of counters that no store has: that of the resumed session, so that each day gets its share."""
        issued_ms = self._session_ids.issued_ms(profile_id, beat.session_id) if beat.session_id else None
        is_lost = issued_ms is not None and at_ms - MAX_UNKNOWN_MS < issued_ms < at_ms
        return issued_ms if issued_ms is not None and is_lost else at_ms

    async def _put(self, seeds: Sequence[tuple[str, Counters]]) -> list[None]:
        await self._counters.seed(seeds)
        return [None] * len(seeds)

    async def _submit_or_refuse(self, profile_id: str, beat: Beat) -> Outcome | CountersUnavailable:
        try:
            return await self.submit(profile_id, beat)
        except CountersUnavailable as refusal:
            return refusal

    def _queue(
        self, call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], profile_of: Callable[[Item], str]
    ) -> "Batcher[Item, Answer] | ShardedBatcher[Item, Answer]":
        shard_of = self._shard_of
        if shard_of is None:
            return Batcher(call, max_batch=self.max_batch, max_in_flight=self._max_calls_in_flight)
        return ShardedBatcher(
            call,
            shard_of=lambda item: shard_of(profile_of(item)),
            max_batch=self.max_batch,
            max_in_flight=self._max_calls_in_flight,
        )

    def _initial_counters(self, known: KnownPolicy, at_ms: int) -> Counters:
        self._policies.extend_days(known, None, at_ms)
        return cold(terms=known.days[-1], policy_version=known.version, at_ms=at_ms)


def _require_same_owner(known: KnownPolicy, latest: KnownPolicy | None) -> KnownPolicy:
    """The newer policy of the same account. Raises ProfileAccessDenied if the profile is gone."""
    if latest is None or latest.account_id != known.account_id:
        raise ProfileAccessDenied
    return latest


async def _submitted(queue: "Batcher[Item, Answer] | ShardedBatcher[Item, Answer]", item: Item) -> Answer:
    try:
        return await queue.submit(item)
    except Overloaded as error:
        raise CountersUnavailable from error
