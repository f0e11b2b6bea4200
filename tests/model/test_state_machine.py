"""Random actions and faults of a household on the real scripts: nothing is lost or doubled.

Players, parents, the flush and every kind of crash take turns. After each settlement the ledger must equal the oracle
of ``watching.py`` per child and viewing day, to the millisecond.
"""

import asyncio
import random
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.auth.tokens import Principal, Role
from app.domain.breaks import breaks_of
from app.domain.checkpoint import Checkpoint
from app.domain.counters import NO_CLAIM, Beat, Counters, Outcome, Rules, Status
from app.domain.finishing import finish_of
from app.domain.ids import SessionIds
from app.domain.limits import MAX_FINISH_TITLE_MINUTES, NO_RULES, LimitRules, Window
from app.domain.markets import Market, Markets
from app.domain.policy import UNLIMITED, DayTerms, Grant, Policy
from app.domain.unflushed import Unflushed
from app.domain.viewing_day import Calendar, ViewingDay
from app.domain.weekly import cut
from app.embedded.valkey import Valkey
from app.flushing.service import Flusher
from app.redis_store.checkpoints import RedisCheckpoints
from app.redis_store.client import create_client
from app.redis_store.counters import RedisCounters
from app.redis_store.events import RedisEvents
from app.redis_store.keys import Keys
from app.redis_store.policies import SharedPolicies
from app.redis_store.unflushed import RedisUnflushed
from app.rollback_guard.service import RollbackGuard
from app.timestamps import utc
from app.viewing.answers import adult_balance_answer
from app.viewing.beat_recorder import BeatRecorder
from app.viewing.offline import IntervalRequest, OfflineSync, OfflineSyncRequest
from app.viewing.policy_cache import KnownPolicy, PolicyCache
from app.viewing.schemas import BalanceAnswer
from tests.fakes import fake_redis
from tests.model.ledger import MemoryLedger, MemoryMarks
from tests.model.offline import MemoryOffline, Played, Policies, credits_of
from tests.model.watching import Break, Sent, TimeRange, Watching, beyond_ms, measure_ms, sums_ms

CHILD = "11111111-2222-3333-4444-555555555555"
ACCOUNT = "99999999-2222-3333-4444-555555555555"
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
START_MS = 1_790_000_000_000
KEYS = Keys(2)
SWEEP_MS = 10_000
BUCKET = KEYS.bucket(CHILD)
WEEKEND = (5, 6)
EVERY_DAY = tuple(range(7))
WINDOWS = st.sampled_from(
    [
        (),
        (),
        (Window(days=EVERY_DAY, from_minute=0, until_minute=1435),),
        (
            Window(days=EVERY_DAY, from_minute=60, until_minute=600),
            Window(days=EVERY_DAY, from_minute=605, until_minute=1300),
        ),
    ]
)
BREAKS = st.sampled_from([(None, None), (None, None), (15, 5), (15, 5), (20, 10)])
"""After so many minutes a break of so many."""
EDUCATIONAL = frozenset({"course", "atlas"})
IDS = SessionIds(b"secret")

TITLES = st.sampled_from(["film", "cartoon", "course", "atlas"])
DEVICES = st.sampled_from(["sofa", "phone"])
PROCESSES = st.integers(0, 1)
PASSING_MS = st.one_of(
    st.sampled_from([0, 1, 30_000, 30_000, 30_000, 60_000, 120_000, 299_999, 300_000, 300_001]),
    st.integers(0, 10 * MINUTE_MS),
    st.sampled_from([HOUR_MS, 9 * HOUR_MS, 25 * HOUR_MS, 49 * HOUR_MS, 4 * DAY_MS]),
)
AGO_MS = st.sampled_from([0, 0, 1, 30_000, 299_999, 300_000, 300_001, 9 * HOUR_MS])
LENGTH_MS = st.sampled_from([1, 30_000, 20 * MINUTE_MS, 2 * HOUR_MS, 30 * HOUR_MS]) | st.integers(1, HOUR_MS)
CLAIMS = st.sampled_from(["none", "none", "honest", "honest", "boasting", "falling"])
UNMARKED = Checkpoint()
SOMEBODY = Principal(ACCOUNT, Role.HOUSEHOLD, 0)
Answer = TypeVar("Answer")


class AlwaysOurs:
    async def is_ours(self) -> bool:
        return True


@dataclass
class Player:
    """A device that plays on until it is told otherwise, and remembers since when."""

    device: str
    session_id: str | None = None
    issued_ms: int = 0
    title: str = "film"
    is_playing: bool = True
    watched_ms: int = 0
    present_since_ms: int | None = None
    title_left_ms: int | None = None
    """What it tells to be left of its title, rightly or not."""


@dataclass(frozen=True)
class Reading:
    """What a flusher has read and not yet forgotten, with what the child had watched by then."""

    entries: list[Unflushed]
    watching: Watching
    turn: int
    mark: Checkpoint = UNMARKED


@dataclass(frozen=True)
class Snapshot:
    """All that Redis held at an instant, with what the child had watched by then."""

    strings: dict[bytes, bytes]
    dirty: dict[bytes, float]
    closed: dict[bytes, bytes]
    mark: dict[bytes, bytes]
    watching: Watching
    turn: int
    at_ms: int


class Titles:
    """The catalogue."""

    async def get(self, title_id: str) -> bool:
        return title_id in EDUCATIONAL


class Owners:
    """Whose profile it is, without asking; and no balance, which is not what is tested here."""

    def __init__(self, policies: PolicyCache) -> None:
        self._policies = policies

    async def owned(self, _: object, profile_id: str) -> KnownPolicy:
        known = await self._policies.get(profile_id)
        assert known is not None
        return known

    async def named(self, _: object, given: str) -> str:
        return given

    async def balance(self, _: object, profile_id: str) -> BalanceAnswer:
        return adult_balance_answer(profile_id, at_ms=0)


class Process:
    """An API process with caches of its own."""

    def __init__(self, home: "Home") -> None:
        self.rollback_guard = home.new_continuity()
        home.run(self.rollback_guard.check())
        self.counters = RedisCounters(
            home.redis, KEYS, Rules(), live_ttl_seconds=3600, rollback_guard=self.rollback_guard, at_ms=home.at_ms
        )
        self.shared = home.shared_policies(self.rollback_guard)
        self.policies = PolicyCache(
            shared=self.shared,
            source=home.source,
            markets=Markets(Market(weekend_days=WEEKEND)),
            ttl_ms=60_000,
            stale_ms=0,
            size=10,
            clock=home.clock,
            monotonic=home.clock,
            jitter=random.Random(1),  # noqa: S311  no secret
        )
        self.recorder = BeatRecorder(
            counters=self.counters,
            usage=home.ledger,
            policies=self.policies,
            session_ids=IDS,
            randomness=random.Random(1),  # noqa: S311  no secret
            max_batch=10,
            max_calls_in_flight=2,
        )
        self.offline = OfflineSync(
            ledger=home.offline,
            viewing=cast("Any", Owners(self.policies)),
            recorder=self.recorder,
            titles=cast("Any", Titles()),
            policies=home.source,
            announcer=self.shared,
            remembered=self.policies,
            rules=Rules(),
        )

    def is_at(self, at_ms: int) -> None:
        self.counters.at_ms = self.shared.at_ms = at_ms


class Home(RuleBasedStateMachine):
    """Redis, two API processes, a flusher, a ledger, a child with two devices, and a parent."""

    redis: Any
    loop: asyncio.AbstractEventLoop

    def run(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        return self.loop.run_until_complete(call)

    def clock(self) -> int:
        return self.at_ms

    @initialize(
        zone=st.sampled_from(["Europe/Oslo", "Australia/Lord_Howe", "America/Los_Angeles"]),
        hour=st.integers(0, 23),
        starts_ms=st.integers(0, 120).map(lambda days: START_MS + days * DAY_MS)
        | st.integers(START_MS, START_MS + 30 * DAY_MS),
        limit=st.sampled_from([None, 15, 480]),
        weekly=st.sampled_from([None, 15, 60, 600]),
        finish=st.sampled_from([None, 30, 30]),
    )
    def settle_in(
        self,
        zone: str,
        hour: int,
        starts_ms: int,
        limit: int | None,
        weekly: int | None = None,
        *,
        finish: int | None = None,
    ) -> None:
        self.run(self.redis.flushall())
        self.at_ms = starts_ms
        calendar = Calendar.opened(starts_ms, timezone=zone, reset_hour=hour)
        self.days: list[ViewingDay] = [calendar.anchor]
        self.ledger = MemoryLedger(self.clock)
        self.weekly_minutes = weekly
        """It stays: of days that ended without a weekly limit only the ledger knows."""
        limits = LimitRules(weekly_limit_minutes=weekly, finish_title_minutes=finish)
        rules = None if limits == NO_RULES else limits
        policy = Policy(CHILD, ACCOUNT, 1, True, 1, limit, limit, True, (15, 5), calendar, rules=rules)
        self.source = Policies(policy, self.ledger, at_ms=starts_ms)
        self.exemptions = [(0, True)]
        """From when on educational titles were exempt, or not."""
        self.offline = MemoryOffline(self.ledger, self.source)
        self.synced: list[TimeRange] = []
        """What was credited to offline playback, and where."""
        self.batches = 0
        self.flushing = self.new_continuity()
        self.processes = [Process(self), Process(self)]
        self.players = {device: Player(device) for device in ("sofa", "phone")}
        self.present: list[tuple[int, int]] = []
        self.watching = Watching(EDUCATIONAL)
        self.unbroken: Watching | None = None
        """What the child had watched when Redis was lost, until the first beat since."""
        self.durable = Reading([], self.watching.copy(), 0)
        self.turn = 0
        self.is_cold = True
        self.past: Snapshot | None = None
        self.readings: list[Reading] = []
        self.floor_ms: dict[int, tuple[int, int, int]] = {}
        self.newest_policy = 0
        self.unannounced_since_ms: int | None = None
        self.restored_ms: int | None = None
        """When Redis came back old, until the first beat since."""

    # --- time

    @rule(duration_ms=PASSING_MS)
    def time_passes(self, duration_ms: int) -> None:
        if self.restored_ms is not None and self.at_ms + duration_ms - self.restored_ms > DAY_MS:
            self.flushes(0)  # what came back old is not left alone for days
            self.clean_counters_expire()
        self.at_ms += duration_ms
        if self.unannounced_since_ms is not None and self.at_ms - self.unannounced_since_ms >= SWEEP_MS:
            self._announce()
        for player in self.players.values():
            if player.session_id is not None and player.is_playing:
                player.watched_ms += duration_ms
                player.title_left_ms = player.title_left_ms and max(0, player.title_left_ms - duration_ms)

    @rule(before_ms=st.sampled_from([-1, 0, 1, 10_000, 299_999]))
    def the_reset_comes_near(self, before_ms: int) -> None:
        until_ms = self.today().ends_ms - before_ms - self.at_ms
        if until_ms > 0:
            self.time_passes(until_ms)

    # --- players

    @rule(device=DEVICES, title=TITLES, process=PROCESSES, is_paused=st.booleans())
    def opens(self, device: str, title: str, process: int, *, is_paused: bool) -> None:
        self._moment_passes()
        player = self.players[device]
        self._stops(player)
        player.title, player.is_playing = title, not is_paused
        self._beat(player, process)

    @rule(
        process=PROCESSES,
        turns=st.lists(
            st.tuples(DEVICES, st.sampled_from([10_000, 250_000, 299_000, 300_001, 320_000])), min_size=2, max_size=6
        ),
    )
    def is_opened_again_and_again(self, process: int, turns: list[tuple[str, int]]) -> None:
        """Without a second beat: by one device, or by two that take the child from each other."""
        for device, gap_ms in turns:
            self.time_passes(gap_ms)
            self.opens(device, self.players[device].title, process, is_paused=False)

    @rule(device=DEVICES, process=PROCESSES, claim=CLAIMS)
    def beats(self, device: str, process: int, claim: str) -> None:
        if self.players[device].session_id is not None:
            self._beat(self.players[device], process, claim=claim)

    @rule(
        device=DEVICES,
        process=PROCESSES,
        gaps_ms=st.lists(st.sampled_from([10_000, 30_000, 240_000]), min_size=1, max_size=6),
    )
    def keeps_beating(self, device: str, process: int, gaps_ms: list[int]) -> None:
        for gap_ms in gaps_ms:
            self.time_passes(gap_ms)
            self.beats(device, process, "none")

    @rule(device=DEVICES, process=PROCESSES, is_told=st.booleans())
    def pauses_or_resumes(self, device: str, process: int, *, is_told: bool) -> None:
        player = self.players[device]
        if player.session_id is not None:
            player.is_playing = not player.is_playing
            if is_told:
                self._beat(player, process)

    @rule(device=DEVICES, process=PROCESSES, title=TITLES, is_lost=st.booleans(), claim=CLAIMS)
    def changes_title(self, device: str, process: int, title: str, claim: str, *, is_lost: bool) -> None:
        player = self.players[device]
        if player.session_id is not None:
            self._moment_passes()
            player.title = title
            self._beat(player, process, claim=claim, is_answer_lost=is_lost)

    @rule(
        device=DEVICES, left_ms=st.sampled_from([None, 1, 5 * MINUTE_MS, 20 * MINUTE_MS, 40 * MINUTE_MS, 4 * HOUR_MS])
    )
    def tells_what_is_left(self, device: str, left_ms: int | None) -> None:
        self.players[device].title_left_ms = left_ms

    @rule(device=DEVICES, process=PROCESSES, minutes=st.sampled_from([16, 20, 44]))
    def plays_a_title_to_its_end(self, device: str, process: int, minutes: int) -> None:
        """And a little longer."""
        self.tells_what_is_left(device, minutes * MINUTE_MS)
        self.opens(device, "film", process, is_paused=False)
        self.keeps_beating(device, process, [240_000] * (minutes // 4 + 1))

    @rule(device=DEVICES, process=PROCESSES, claim=CLAIMS)
    def ends(self, device: str, process: int, claim: str) -> None:
        player = self.players[device]
        if player.session_id is not None:
            self._beat(player, process, claim=claim, is_end=True)
            self._stops(player)

    # --- the parent

    @rule(
        limit=st.sampled_from([None, 15, 30, 480]),
        is_exempt=st.booleans(),
        granted=st.sampled_from([0, 0, 15, None]),
        shape=st.none()
        | st.tuples(st.sampled_from(["Europe/Oslo", "Asia/Tokyo", "America/New_York"]), st.integers(0, 23)),
        is_announced=st.booleans(),
        windows=WINDOWS,
        breaks=BREAKS,
        finish=st.sampled_from([None, None, 1, 30]),
        paused_ms=st.sampled_from([None, None, None, 1, 40_000, 15 * MINUTE_MS]),
    )
    def changes_settings(  # noqa: PLR0917  drawn by name
        self,
        limit: int | None,
        granted: int | None,
        shape: tuple[str, int] | None,
        windows: tuple[Window, ...],
        breaks: tuple[int | None, int | None],
        finish: int | None,
        paused_ms: int | None,
        *,
        is_exempt: bool,
        is_announced: bool,
    ) -> None:
        known = self.source.policy
        assert known.calendar is not None
        today = self.today()
        calendar = (
            known.calendar
            if shape is None
            else known.calendar.changed(self.at_ms, timezone=shape[0], reset_hour=shape[1])
        )
        rules = LimitRules(
            windows=windows,
            weekly_limit_minutes=self.weekly_minutes,
            break_after_minutes=breaks[0],
            break_minutes=breaks[1],
            finish_title_minutes=finish,
        )
        policy = msgspec.structs.replace(
            known,
            version=known.version + 1,
            weekday_limit_minutes=limit,
            weekend_limit_minutes=limit,
            educational_exempt=is_exempt,
            calendar=calendar,
            grants=() if granted == 0 else (*known.grants[-3:], Grant(today.number, granted, 0, self.at_ms)),
            rules=None if rules == NO_RULES else rules,
            paused_until_ms=None if paused_ms is None else self.at_ms + paused_ms,
        )
        self.source.change(policy, at_ms=self.at_ms)
        self.exemptions.append((self.at_ms, is_exempt))
        assert self.today() == today, "a change leaves the running day alone"
        # A change of the days' shape is taken to arrive: beats that cross a reset before it would keep to the old rule.
        self._tells_of_change(is_announced=is_announced or shape is not None)

    # --- a device without a connection

    @rule(
        process=PROCESSES,
        played=st.lists(
            st.tuples(TITLES, st.integers(0, 3 * HOUR_MS) | AGO_MS, LENGTH_MS, st.sampled_from([1.0, 1.0, 0.5])),
            min_size=1,
            max_size=3,
        ),
        is_clock_moved=st.sampled_from([False, False, False, True]),
        claimant=st.sampled_from(["nobody", "sofa", "phone"]),
    )
    def syncs(
        self,
        process: int,
        played: list[tuple[str, int, int, float]],
        *,
        is_clock_moved: bool,
        claimant: str = "nobody",
    ) -> None:
        """Playback without a connection is credited where nothing was counted. Changes have arrived by then.

        A device that claims the same time may come before the credit is committed, to a process that knows nothing yet.
        """
        self._announce()
        for each in self.processes:
            each.policies.require_version(CHILD, self.source.policy.version)
        today = self.today()
        batch = [
            self._played(title, ago_ms, length_ms, share)
            for title, ago_ms, length_ms, share in played
            if self.at_ms - ago_ms - length_ms >= self.days[0].starts_ms
        ]
        self.batches += 1
        request = OfflineSyncRequest(
            profile_id=CHILD,
            device_id="pad",
            batch_id=f"batch-{self.batches}",
            device_now=utc(self.at_ms - (HOUR_MS if is_clock_moved else 0)),
            last_server_time=utc(self.days[0].starts_ms - DAY_MS),
            intervals=[
                IntervalRequest(one.title, utc(one.starts_ms), utc(one.ends_ms), one.watched_ms / 1000) for one in batch
            ],
        )
        covered = [*self.watching.spans(self.at_ms), *(part.time_range for part in self.offline.parts)]
        if is_clock_moved:
            whole_day = [Played("film", today.starts_ms, self.at_ms, sum(one.watched_ms for one in batch))]
            expected_ms, placed = credits_of(whole_day, covered=covered, is_exempt=lambda *_: False)
        else:
            expected_ms, placed = credits_of(
                batch,
                covered=covered,
                is_exempt=lambda title, at_ms: title in EDUCATIONAL and self._was_exempt(at_ms),
                changes_ms=[at_ms for at_ms, _ in self.exemptions],
            )
        for each in self.processes:
            each.is_at(self.at_ms)
        player = self.players.get(claimant)
        claims: list[tuple[Sent, str, dict[int, int]]] = []
        counted: list[tuple[Policy, int, Outcome]] = []
        if player is not None and player.session_id is not None and not self.is_cold:
            sent = self._sent(player, claim="honest")
            claims.append((sent, self.watching.means(sent), self._used_ms()))

        async def claims_meanwhile() -> None:
            counted.extend([await self._count(self.processes[1 - process], sent) for sent, _, _ in claims])

        self.offline.before_commit = claims_meanwhile
        answers = [self.run(self.processes[each].offline.sync(SOMEBODY, request)) for each in (process, 1 - process)]
        for answer in answers:
            assert answer.tampered == is_clock_moved
            credited_ms = [round(1000 * part) for part in answer.credited_seconds]
            assert [sum(credited_ms)] == expected_ms if is_clock_moved else credited_ms == expected_ms
            watched_ms = sum(one.watched_ms for one in batch)
            charged_ms = sum(credited_ms) + round(1000 * answer.penalty_seconds)
            assert charged_ms == watched_ms if is_clock_moved else answer.penalty_seconds == 0
        claims = claims[: len(counted)]
        for (sent, expected, before_ms), outcome in zip(claims, counted, strict=True):
            assert player is not None
            self._is_answered(player, sent, expected, before_ms, outcome, synced=self.source.policy.synced)
        self._notes_what_was_beyond()
        self.synced += placed

    @rule(
        device=DEVICES,
        process=PROCESSES,
        silence_ms=PASSING_MS,
        played_ms=st.tuples(st.integers(0, 10 * MINUTE_MS), LENGTH_MS),
        is_redis_lost=st.sampled_from([False, False, True]),
        claim=CLAIMS,
    )
    def is_silent_while_another_device_plays(
        self, device: str, process: int, silence_ms: int, *, played_ms: tuple[int, int], is_redis_lost: bool, claim: str
    ) -> None:
        self.time_passes(silence_ms)
        if is_redis_lost:
            self.redis_loses_everything()
        self.syncs(process, [("film", *played_ms, 1.0)], is_clock_moved=False)
        self.beats(device, process, claim)

    @rule()
    def announces_again(self) -> None:
        self._announce()

    # --- the flush

    @rule(age_ms=st.just(0))
    def flushes(self, age_ms: int) -> None:
        unflushed = self._unflushed()
        before = Reading([], self.watching.copy(), self.turn)
        flusher = Flusher(
            counters=unflushed,
            usage_store=self.ledger,
            lock=AlwaysOurs(),
            rollback_guard=self.flushing,
            clock=self.clock,
            age_ms=45_000,
            batch=3,
        )
        self.run(flusher.cycle(age_ms=age_ms))
        assert self.run(flusher.backlog()).is_empty
        self._processes_look()
        self._is_durable(before)

    @rule()
    def a_flusher_reads(self) -> None:
        self.run(self.flushing.check())
        entries = self.run(self._unflushed().peek([BUCKET], older_than_ms=0, limit=100))[BUCKET]
        mark = self.run(self.flushing.advance([BUCKET]))[BUCKET]
        self._processes_look()
        self.readings.append(Reading(entries, self.watching.copy(), self.turn, mark))

    @precondition(lambda self: self.readings)
    @rule(data=st.data())
    def it_writes(self, data: st.DataObject) -> None:
        reading = data.draw(st.sampled_from(self.readings))
        entries = [(entry.profile_id, entry.counters) for entry in reading.entries]
        self.run(self.ledger.upsert(entries, {BUCKET: reading.mark}))
        self._is_durable(reading)

    @precondition(lambda self: self.readings)
    @rule(data=st.data())
    def it_forgets(self, data: st.DataObject) -> None:
        """Only what was written may be forgotten; what was not forgotten by a flusher that died is read again."""
        reading = data.draw(st.sampled_from(self.readings))
        if reading.turn <= self.durable.turn:
            self.run(self._unflushed().forget(BUCKET, reading.entries))
            self.readings.remove(reading)

    @rule()
    def the_flusher_dies(self) -> None:
        self.readings.clear()

    # --- what breaks

    @rule(process=PROCESSES)
    def a_process_dies(self, process: int) -> None:
        self.processes[process] = Process(self)

    @rule()
    def clean_counters_expire(self) -> None:
        if self.run(self.redis.ttl(KEYS.counters(CHILD))) > 0:
            self.run(self.redis.delete(KEYS.counters(CHILD)))
            self.is_cold, self.restored_ms = True, None
            self._forgets_previous()
            assert self.durable.watching.ranges == self.watching.ranges, "only what is flushed expires"

    @rule()
    def redis_loses_everything(self) -> None:
        self.run(self.redis.flushall())
        self.restored_ms = None
        self._falls_back_to(self.durable)
        self._forgets_previous()

    @rule()
    def redis_is_copied(self) -> None:
        async def copied() -> Snapshot:
            names = [KEYS.counters(CHILD), KEYS.policy(CHILD)]
            strings = {name.encode(): raw for name in names if (raw := await self.redis.get(name)) is not None}
            dirty = dict(await self.redis.zrange(KEYS.dirty(BUCKET), 0, -1, withscores=True))
            closed = await self.redis.hgetall(KEYS.closed(BUCKET))
            mark = await self.redis.hgetall(KEYS.mark(BUCKET))
            return Snapshot(strings, dirty, closed, mark, self.watching.copy(), self.turn, self.at_ms)

        if not self.is_cold:
            self.past = self.run(copied())

    @precondition(lambda self: self.past is not None and self.at_ms - self.past.at_ms <= DAY_MS)
    @rule()
    def redis_comes_back_old(self) -> None:
        """A snapshot is restored; the next beat or flush notices."""
        past = self.past
        assert past is not None

        async def restored() -> None:
            await self.redis.flushall()
            for name, raw in past.strings.items():
                await self.redis.set(name, raw)
            if past.dirty:
                await self.redis.zadd(KEYS.dirty(BUCKET), past.dirty)
            if past.closed:
                await self.redis.hset(KEYS.closed(BUCKET), mapping=past.closed)
            if past.mark:
                await self.redis.hset(KEYS.mark(BUCKET), mapping=past.mark)

        self.run(restored())
        self.restored_ms = self.at_ms
        if past.turn >= self.durable.turn:
            self._falls_back_to(Reading([], past.watching, past.turn))
        else:
            self._falls_back_to(self.durable)
            self._forgets_previous()

    # --- what must hold

    def _tells_of_change(self, *, is_announced: bool) -> None:
        """The message may be lost, and the sweep makes up for it."""
        if is_announced:
            self._announce()
        elif self.unannounced_since_ms is None:
            self.unannounced_since_ms = self.at_ms

    @rule()
    def settles(self) -> None:
        """Everything flushed, the ledger equals the oracle."""
        self.flushes(0)
        self._compare()

    @invariant()
    def nothing_in_the_ledger_ever_falls(self) -> None:
        sums_ms = self.ledger.sums_ms(CHILD)
        for day, floor_ms in self.floor_ms.items():
            assert all(now >= then for now, then in zip(sums_ms[day], floor_ms, strict=True))
        self.floor_ms = sums_ms

    def teardown(self) -> None:
        if hasattr(self, "processes"):
            if not self.is_cold:
                self.settles()
            self.run(self.redis.flushall())

    # --- underneath

    def _was_exempt(self, at_ms: int) -> bool:
        return next(exempt for since_ms, exempt in reversed(self.exemptions) if since_ms <= at_ms)

    def _played(self, title: str, ago_ms: int, length_ms: int, share: float) -> Played:
        ends_ms = self.at_ms - ago_ms
        return Played(title, ends_ms - length_ms, ends_ms, round(length_ms * share))

    def today(self) -> ViewingDay:
        """The viewing day that runs; each is pinned as it opens."""
        calendar = self.source.policy.calendar
        assert calendar is not None
        self.days += calendar.days_after(self.days[-1], until_ms=self.at_ms)
        return self.days[-1]

    def _moment_passes(self) -> None:
        """No two sessions open in the same millisecond, and none in that of the reset."""
        self.time_passes(1)
        if self.at_ms == self.today().starts_ms:
            self.time_passes(1)

    def _unflushed(self) -> RedisUnflushed:
        return RedisUnflushed(self.redis, KEYS, live_ttl_seconds=3600, clock=self.clock)

    def new_continuity(self) -> RollbackGuard:
        return RollbackGuard(marks=RedisCheckpoints(self.redis, KEYS, clock=self.clock), noted=MemoryMarks(self.ledger))

    def _processes_look(self) -> None:
        """As each does every second."""
        for process in self.processes:
            self.run(process.rollback_guard.look())

    def shared_policies(self, rollback_guard: RollbackGuard) -> SharedPolicies:
        return SharedPolicies(
            self.redis,
            KEYS,
            RedisEvents(self.redis, KEYS),
            ttl_seconds=3600,
            live_ttl_seconds=3600,
            markets=Markets(Market(weekend_days=WEEKEND)),
            clock=self.clock,
            rollback_guard=rollback_guard,
            at_ms=self.at_ms,
        )

    def _announce(self) -> None:
        self.unannounced_since_ms = None
        self.run(self.shared_policies(self.flushing).announce([self.source.current]))
        self._notes_what_was_beyond()

    def _notes_what_was_beyond(self) -> None:
        """A child that is blocked has its overrun settled when its policy changes."""
        counters, session = self._live(), self.watching.session
        is_theirs = counters is not None and session is not None and counters.session_id == session.id
        if counters is not None and session is not None and is_theirs and counters.last_beat_ms > session.last_ms:
            assert counters.last_beat_ms == self.at_ms
            policy = self.source.policy
            assert not (counters.is_educational and policy.educational_exempt)
            self.watching.is_blocked(self.at_ms, synced=policy.synced, breaks=_breaks(policy))
            self.turn += 1

    def _beat(
        self, player: Player, process: int, *, claim: str = "none", is_end: bool = False, is_answer_lost: bool = False
    ) -> None:
        """A beat, what comes of it by the oracle, and what it makes of the player."""
        sent = self._sent(player, claim=claim, is_end=is_end)
        if self.is_cold:
            self._recovers_from_ledger()
        expected, before_ms, before = self.watching.means(sent), self._used_ms(), self._live()
        known = len(self.watching.ranges)
        counted = self.run(self._count(self.processes[process], sent))
        self._is_answered(player, sent, expected, before_ms, counted, is_answer_lost=is_answer_lost)
        policy, allowance_ms, outcome = counted
        if outcome.status == Status.OK and expected != "over" and not is_end:
            after = self._live()
            assert after is not None
            is_same = before is not None and (before.day, before.policy_version) == (after.day, after.policy_version)
            if before is not None and is_same and expected != "lost":
                self._is_borrowed(before, outcome, allowance_ms, self.watching.ranges[known:])
            self._is_promised(sent, outcome, policy, allowance_ms)

    def _sent(self, player: Player, *, claim: str, is_end: bool = False) -> Sent:
        self.today()
        return Sent(
            at_ms=self.at_ms,
            session_id=player.session_id,
            issued_ms=player.issued_ms,
            title="" if is_end else player.title,
            device="" if is_end else player.device,
            is_paused=not player.is_playing,
            is_end=is_end,
            claim_ms=_claim_ms(player, claim),
            title_left_ms=None if is_end else player.title_left_ms,
        )

    def _is_answered(
        self,
        player: Player,
        sent: Sent,
        expected: str,
        before_ms: dict[int, int],
        counted: tuple[Policy, int, Outcome],
        *,
        is_answer_lost: bool = False,
        synced: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        """``synced`` is what offline syncs were credited, where the process that counted the beat did not know."""
        policy, allowance_ms, outcome = counted
        synced = policy.synced if synced is None else synced
        assert policy.version >= self.newest_policy, "no decision by an older policy than one already used"
        self.newest_policy = policy.version
        is_accepted = outcome.status == Status.OK
        if expected == "over":
            assert not is_accepted or sent.is_end
            self._stops(player)
            self.unbroken = None
            return
        assert is_accepted, f"a {expected} session was refused: {Status(outcome.status).name}"
        counters = self._live()
        assert counters is not None, "what was counted is there"
        assert counters.day == self.days[-1], "every instant in its viewing day"
        self.turn += 1
        lease_ms = _lease_ms(sent, outcome, policy, allowance_ms, self.at_ms)
        self.watching.beat(
            sent,
            session_id=outcome.session_id,
            is_exempt=policy.educational_exempt,
            synced=synced,
            lease_ms=lease_ms,
            days=self._bounds(),
            breaks=_breaks(policy),
        )
        self._is_told_of_breaks(outcome, policy)
        self.watching.day_number = outcome.day_number
        self._is_nothing_lost(sent, outcome, policy, lease_ms)
        if allowance_ms != UNLIMITED:
            used_before_ms = before_ms.get(outcome.day_number, 0)
            used_ms = outcome.used_ms - outcome.borrowed_ms
            assert used_ms <= max(allowance_ms, used_before_ms), "used never passes the allowance"
        if outcome.session_id != player.session_id and not is_answer_lost:
            if player.present_since_ms is None:
                player.present_since_ms = self.at_ms
            player.session_id, player.watched_ms = outcome.session_id, 0
            player.issued_ms = IDS.issued_ms(CHILD, outcome.session_id) or 0

    def _is_borrowed(self, before: Counters, outcome: Outcome, allowance_ms: int, ranges: Sequence[TimeRange]) -> None:
        """What a beat adds to the borrowed time lies between the instant of the limit and the end of the title."""
        added_ms, until_ms = outcome.borrowed_ms - before.borrowed_ms, before.finish_until_ms
        if allowance_ms == UNLIMITED:
            assert added_ms == 0
            return
        allowance_ms = max(0, allowance_ms - outcome.owed_ms)
        if not before.borrowed_ms and allowance_ms < before.allowance_ms:
            until_ms = 0
        left_ms = max(0, allowance_ms - before.used_ms)
        assert added_ms == beyond_ms(ranges, left_ms=left_ms, until_ms=until_ms)

    def _is_promised(self, sent: Sent, outcome: Outcome, policy: Policy, allowance_ms: int) -> None:
        """A title may be finished exactly if it ends soon after the limit, and never in closed time."""
        longest_ms = (policy.rules.finish_title_minutes or 0) * MINUTE_MS if policy.rules is not None else 0
        left_ms = 0 if allowance_ms == UNLIMITED else max(0, allowance_ms - outcome.owed_ms) - outcome.used_ms
        is_exempt = policy.educational_exempt and sent.title in EDUCATIONAL
        told_ms = 0 if sent.title_left_ms is None or is_exempt else sent.title_left_ms
        may_finish = left_ms > 0 and not outcome.borrowed_ms and left_ms < told_ms <= left_ms + longest_ms
        if outcome.finish_until_ms > self.at_ms and left_ms > 0 and not outcome.borrowed_ms:
            assert may_finish
            assert self.at_ms + left_ms < outcome.finish_until_ms <= self.at_ms + told_ms
            assert _is_open(policy, self.at_ms)
            assert _is_open(policy, outcome.finish_until_ms - 1)
        elif may_finish and _is_always_open(policy, self.at_ms):
            assert self.days[-1].ends_ms <= self.at_ms + left_ms, "it ends with the day"

    def _is_told_of_breaks(self, outcome: Outcome, policy: Policy) -> None:
        """What the script keeps agrees with what was played and paused."""
        rule, terms = _breaks(policy), breaks_of(policy.rules)
        if rule is None or terms is None:
            assert (outcome.unbroken_ms, outcome.played_until_ms) == (0, 0)
            return
        told = terms.next_break(outcome.unbroken_ms, outcome.played_until_ms, at_ms=self.at_ms)
        assert told.left_ms == self.watching.left_to_break_ms(rule, self.at_ms)

    async def _count(self, process: Process, sent: Sent) -> tuple[Policy, int, Outcome]:
        process.is_at(self.at_ms)
        known, is_new, _ = await process.policies.load_with_counters(CHILD)
        assert known is not None
        beat = Beat(
            session_id=sent.session_id or "",
            new_session_id="" if sent.session_id else process.recorder.issue(CHILD, self.at_ms),
            issued_at_ms=0,
            title_id=sent.title,
            is_educational=int(sent.title in EDUCATIONAL),
            is_exempt=int(known.policy.educational_exempt),
            is_paused=int(sent.is_paused and not sent.is_end),
            is_end=int(sent.is_end),
            watched_ms=NO_CLAIM if sent.claim_ms is None else sent.claim_ms,
            device_id=sent.device,
            device_type="tv",
            policy_version=known.version,
            days=known.days,
            synced=known.policy.synced,
            closed=known.effective.closed,
            breaks=known.effective.breaks,
            finish=None if sent.title_left_ms is None else finish_of(known.policy.rules, sent.title_left_ms),
            week=known.effective.week,
        )
        known, terms, outcome = await process.recorder.record(CHILD, known, beat, is_new=is_new)
        allowance_ms = terms.allowance_ms
        if outcome.status == Status.OK and not sent.is_end:
            await self._owes_what_was_borrowed(outcome)
            await self._is_read_as_answered(process, known, terms, outcome)
        if known.effective.week is not None and outcome.status == Status.OK and not sent.is_end:
            await self._week_is_right(known.policy, outcome)
            allowance_ms = _of_week_ms(terms, outcome.week_left_ms)
        return known.policy, allowance_ms, outcome

    async def _is_read_as_answered(
        self, process: Process, known: KnownPolicy, terms: DayTerms, outcome: Outcome
    ) -> None:
        """A balance right after a beat decides as the answer to the beat did."""
        left_ms, effective = outcome.week_left_ms, known.effective
        if effective.week is not None:
            terms = cut(terms, left_ms)
        asked: dict[str, Any] = {"is_exempt": False, "interval_ms": 30_000, "longest_lease_ms": 300_000}
        answered = effective.decision(terms, outcome, self.at_ms, week_left_ms=left_ms, **asked)
        known, at_ms, counters, terms = await process.recorder.read_counters(CHILD, known)
        terms, left_ms = known.effective.within_week(terms, counters)
        assert known.effective.decision(terms, counters, at_ms, week_left_ms=left_ms, **asked) == answered

    async def _owes_what_was_borrowed(self, outcome: Outcome) -> None:
        """A day owes what the day directly before it has borrowed, which is no more than any title may take."""
        [today] = [day for day in self.days if day.number == outcome.day_number]
        kept = (await self._kept_days()).values()
        assert outcome.owed_ms == sum(before.borrowed_ms for before in kept if before.day_ends_ms == today.starts_ms)
        assert outcome.borrowed_ms <= MAX_FINISH_TITLE_MINUTES * MINUTE_MS
        assert outcome.finish_until_ms <= today.ends_ms

    async def _kept_days(self) -> dict[int, Counters]:
        """All days that the ledger and the outbox have, the newest of each."""
        kept = {day: counters for (_, day), counters in self.ledger.balances.items()}
        for raw in (await self.redis.hgetall(KEYS.closed(BUCKET))).values():
            counters = msgspec.msgpack.decode(raw, type=Counters)
            known = kept.get(counters.day_number)
            if known is None or counters.version > known.version:
                kept[counters.day_number] = counters
        return kept

    async def _week_is_right(self, policy: Policy, outcome: Outcome) -> None:
        """What the week leaves of a day, by all that the ledger and the outbox have of its earlier days."""
        assert self.weekly_minutes is not None
        kept = await self._kept_days()
        monday = outcome.day_number - date.fromordinal(date(1970, 1, 1).toordinal() + outcome.day_number).weekday()
        least_ms = most_ms = self.weekly_minutes * MINUTE_MS
        for day in range(monday, outcome.day_number):
            offline_ms = policy.offline_use(day).used_ms
            if day in kept:
                used_ms, limit_ms = kept[day].used_ms + kept[day].owed_ms + offline_ms, kept[day].limit_ms
                used_ms = used_ms if limit_ms == UNLIMITED else min(used_ms, limit_ms)
                least_ms, most_ms = least_ms - used_ms, most_ms - used_ms
            else:  # its limit is not kept anywhere
                least_ms -= offline_ms
        assert max(0, least_ms) <= outcome.week_left_ms <= max(0, most_ms)

    def _used_ms(self) -> dict[int, int]:
        counters = self._live()
        flushed = {day: used for day, (used, _, _) in self.ledger.sums_ms(CHILD).items()}
        return flushed if counters is None else flushed | {counters.day_number: counters.used_ms}

    def _live(self) -> Counters | None:
        stored = self.processes[0].counters
        stored.at_ms = self.at_ms
        [(_, counters)] = self.run(stored.read([CHILD]))
        return counters

    def _stops(self, player: Player) -> None:
        if player.present_since_ms is not None:
            self.present.append((player.present_since_ms, self.at_ms))
        player.session_id, player.present_since_ms = None, None

    def _is_durable(self, reading: Reading) -> None:
        """What was read is written: newer wins, so an older reading changes nothing."""
        if reading.turn >= self.durable.turn:
            self.durable = reading

    def _falls_back_to(self, known: Reading) -> None:
        if self.unbroken is None and not self.is_cold:
            self.unbroken = self.watching
        self.watching = known.watching.copy()
        self.is_cold = True
        self.past = None
        # A flush that read before a loss and writes after the first beat since would tell of another past.
        self.readings.clear()

    def _forgets_previous(self) -> None:
        """The ledger does not tell which session the running one came from.

        A change of title whose answer was lost cannot be told from a session that is over.
        """
        if self.watching.session is not None:
            self.watching.session.retitled_from = None

    def _recovers_from_ledger(self) -> None:
        """Counters come back from the ledger, which looks back three days for a balance and for a session."""
        is_from_ledger = self.restored_ms is None
        self.is_cold, self.restored_ms = False, None
        session, number = self.watching.session, self.watching.day_number
        since_ms = self.at_ms - 3 * DAY_MS
        starts_ms = max((day.starts_ms for day in self.days if day.number == number), default=0)
        is_blank = is_from_ledger and number < since_ms // DAY_MS
        is_forgotten = is_from_ledger and session is not None and max(session.started_ms, starts_ms) < since_ms
        if is_blank or is_forgotten:
            self.watching.session = None

    def _is_nothing_lost(self, sent: Sent, outcome: Outcome, policy: Policy, lease_ms: int) -> None:
        """The first beat after a loss brings everything back.

        It does so if it goes on with the session that ran when the ledger last heard, comes within five minutes of what
        that knew, and no pause ended in between.
        """
        unbroken, self.unbroken = self.unbroken, None
        known = self.durable.watching.session
        if unbroken is None or unbroken.session is None or known is None or known.id != unbroken.session.id:
            return
        if sent.session_id != known.id or known.paused_ms is not None or self.at_ms - known.last_ms > 5 * MINUTE_MS:
            return
        if unbroken.means(sent) == "running":
            bounds = self._bounds()
            unbroken.beat(
                sent,
                session_id=outcome.session_id,
                is_exempt=policy.educational_exempt,
                synced=policy.synced,
                lease_ms=lease_ms,
                days=bounds,
                breaks=_breaks(policy),
            )
            totals = [{day: sum(both) for day, both in w.sums_ms(bounds).items()} for w in (unbroken, self.watching)]
            assert totals[0] == totals[1], "nothing is lost"

    def _bounds(self) -> list[tuple[int, int, int]]:
        return [(day.number, day.starts_ms, day.ends_ms) for day in self.days]

    def _compare(self) -> None:
        counted = self.ledger.sums_ms(CHILD)
        deducted_and_exempt = {day: (used + over, exempt) for day, (used, exempt, over) in counted.items()}
        nothing = dict.fromkeys(counted, (0, 0))
        assert deducted_and_exempt == nothing | self.watching.sums_ms(self._bounds())
        offline = {day: both for day, both in self.offline.sums_ms().items() if any(both)}
        assert offline == sums_ms(self.synced, self._bounds())
        present = [*self.present, *self.watching.charged_leases] + [
            (player.present_since_ms, self.at_ms)
            for player in self.players.values()
            if player.present_since_ms is not None
        ]
        synced = [(time_range.starts_ms, time_range.ends_ms) for time_range in self.synced]
        for number, starts_ms, ends_ms in self._bounds():
            assert sum(counted.get(number, ())) <= measure_ms(present, starts_ms=starts_ms, ends_ms=ends_ms)
            counted_and_synced_ms = sum(counted.get(number, ())) + sum(self.offline.sums_ms().get(number, ()))
            assert counted_and_synced_ms <= measure_ms([*present, *synced], starts_ms=starts_ms, ends_ms=ends_ms)
        _counts_no_instant_twice(self.watching.ranges + self.synced)


def _counts_no_instant_twice(ranges: Sequence[TimeRange]) -> None:
    ascending = sorted((time_range.starts_ms, time_range.ends_ms) for time_range in ranges)
    for (_, ends_ms), (starts_ms, _) in pairwise(ascending):
        assert ends_ms <= starts_ms


def _breaks(policy: Policy) -> Break | None:
    rules = policy.rules
    if rules is None or rules.break_after_minutes is None or rules.break_minutes is None:
        return None
    return Break(rules.break_after_minutes * MINUTE_MS, rules.break_minutes * MINUTE_MS)


def _claim_ms(player: Player, claim: str) -> int | None:
    claims = {"honest": player.watched_ms, "boasting": 10**10, "falling": player.watched_ms // 2}
    return claims.get(claim)


def _of_week_ms(terms: DayTerms, left_ms: int) -> int:
    """The allowance of a day of which the week leaves so much; extra time is on top."""
    if terms.allowance_ms == UNLIMITED or terms.limit_ms <= left_ms:
        return terms.allowance_ms
    return max(0, left_ms + terms.allowance_ms - terms.limit_ms)


def _lease_ms(sent: Sent, outcome: Outcome, policy: Policy, allowance_ms: int, at_ms: int) -> int:
    """What the player is told: it may go on for so long without an answer."""
    return min(_lease_of_allowance_ms(sent, outcome, policy, allowance_ms), _open_for_ms(policy, at_ms))


def _open_for_ms(policy: Policy, at_ms: int) -> int:
    """How long playback stays open, at most five minutes, by looking at the wall clock wherever that may end."""
    step_ms = 5 * MINUTE_MS
    ends = [grant.at_ms + minutes * MINUTE_MS for grant in policy.grants for minutes in (15, 30, 45, 60)]
    looks = sorted({at_ms, (at_ms // step_ms + 1) * step_ms, at_ms + 300_000, policy.paused_until_ms or 0, *ends})
    closed = [look for look in looks if at_ms <= look <= at_ms + 300_000 and not _is_open(policy, look)]
    return min(300_000, closed[0] - at_ms) if closed else 300_000


def _is_always_open(policy: Policy, at_ms: int) -> bool:
    has_windows = policy.rules is not None and bool(policy.rules.windows)
    return not has_windows and at_ms >= (policy.paused_until_ms or 0)


def _is_open(policy: Policy, at_ms: int) -> bool:
    assert policy.calendar is not None
    if policy.paused_until_ms is not None and at_ms < policy.paused_until_ms:
        return False
    if policy.rules is None or not policy.rules.windows:
        return True
    day = policy.calendar.day_at(at_ms)
    zone = ZoneInfo(policy.calendar.rule_of(day).timezone)
    local = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(zone)
    minute = local.hour * 60 + local.minute
    if any(window.from_minute <= minute < window.until_minute for window in policy.rules.windows):
        return True
    left_ms = last_ms = 0  # what is left of extra time: it runs off from the moment it was given
    for grant in policy.grants:
        if grant.day_number == day.number:
            if grant.minutes is None:
                return True
            left_ms = max(0, left_ms - (grant.at_ms - last_ms)) + grant.minutes * MINUTE_MS
            last_ms = grant.at_ms
    return at_ms - last_ms < left_ms


def _lease_of_allowance_ms(sent: Sent, outcome: Outcome, policy: Policy, allowance_ms: int) -> int:
    is_exempt = policy.educational_exempt and sent.title in EDUCATIONAL
    is_unlimited = allowance_ms == UNLIMITED or is_exempt
    left_ms = allowance_ms - outcome.owed_ms - outcome.used_ms
    return 300_000 if is_unlimited else min(300_000, max(0, left_ms, outcome.finish_until_ms - outcome.at_ms))


def live_through(redis: Any, loop: asyncio.AbstractEventLoop, *, examples: int, steps: int) -> None:
    machine = type("Household", (Home,), {"redis": redis, "loop": loop})
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=steps))


@contextmanager
def a_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    try:
        yield loop
    finally:
        loop.close()


def test_a_household_in_memory() -> None:
    with a_loop() as loop:
        redis = fake_redis()
        live_through(redis, loop, examples=60, steps=40)
        loop.run_until_complete(redis.aclose())


def test_a_household_on_valkey(valkey: Valkey) -> None:
    with a_loop() as loop:
        redis = create_client(valkey.url, timeout_seconds=5, connections=4)
        live_through(redis, loop, examples=15, steps=40)
        loop.run_until_complete(redis.aclose())
