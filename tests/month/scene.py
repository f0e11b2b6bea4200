"""A household's month: what children, parents, a caregiver, the worker and Redis do, in the order of their instants.

Everything is drawn from one seed. Each answer is held against the oracle, to the millisecond.
"""

import heapq
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

from app.wiring.worker import WorkerServices, open_worker
from tests.builders import settings_for
from tests.month.oracle import DAY, GAP, HOUR, MINUTE, Child, Granted, Saved, Verdict, Window
from tests.scenes.api import Api, SetClock, opened
from tests.scenes.households import PASSWORD, Household, registered

PIN = "4711"
FILMS, LESSONS = ("film", "cartoon"), ("course", "atlas")
BUDGET_MINUTES = 45
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = tuple(range(7))
SCHOOL_NIGHTS = (
    Window(weekdays=(0, 1, 2, 3, 4), from_minute=15 * 60, until_minute=19 * 60 + 35),
    Window(weekdays=(5, 6), from_minute=8 * 60 + 5, until_minute=21 * 60),
)
LATE_NIGHTS = (
    Window(weekdays=(4, 5), from_minute=17 * 60, until_minute=2 * 60 + 30),
    Window(weekdays=(0, 1, 2, 3, 6), from_minute=6 * 60 + 30, until_minute=20 * 60),
)
SMALL_HOURS = (Window(weekdays=EVERY_DAY, from_minute=2 * 60 + 10, until_minute=60),)
WINDOWS = ((), SCHOOL_NIGHTS, LATE_NIGHTS, SMALL_HOURS)
ODD_GAPS_MS = (1, 999, 30_000, 30_000, 60_000, 299_999, 300_000)
Action = Callable[[], Awaitable[None]]


@dataclass
class Player:
    """A device on which one child watches for a while."""

    child: "Viewer"
    device: str
    title: str
    beats_left: int
    is_claiming: bool
    will_end: bool
    session_id: str | None = None
    is_paused: bool = False
    watched_ms: int = 0
    last_ms: int = 0
    title_left_ms: int | None = None
    """What is left of the title, of players that tell."""


@dataclass
class Viewer:
    """A child of the household, and what the oracle knows of it."""

    id: str
    family: Household
    truth: Child
    stop_ms: int | None = None
    requests: list[str] = field(default_factory=list)
    live_grants: list[tuple[str, Granted]] = field(default_factory=list)
    opened_quietly: bool = False


@dataclass
class Month:
    """One account with its children, and a child of another account that no action may reach."""

    api: Api
    worker: WorkerServices
    chance: random.Random
    starts_ms: int
    days: int
    at_ms: int
    children: list[Viewer] = field(default_factory=list)
    stranger: Viewer | None = None
    family: Household = None  # type: ignore[assignment]
    caregiver: dict[str, str] = field(default_factory=dict)
    budget: dict[date, int] = field(default_factory=dict)
    is_quiet: bool = False
    losses: int = 0
    told: dict[str, int] = field(default_factory=dict)
    _waiting: list[tuple[int, int, Action]] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    # --- the order of things

    def later(self, at_ms: int, action: Action) -> None:
        heapq.heappush(self._waiting, (at_ms, next(self._numbers), action))

    async def passes(self) -> None:
        """Everything that happens, one instant after the other."""
        while self._waiting:
            at_ms, _, action = heapq.heappop(self._waiting)
            self.is_now(max(at_ms, self.at_ms + 1))
            await action()

    def is_now(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self.api.set_clock(at_ms)

    def counts(self, what: str) -> None:
        self.told[what] = self.told.get(what, 0) + 1

    # --- players

    def plan_day(self, child: Viewer, day_ms: int) -> None:
        """Some watching on one day, at any time of it."""
        for _ in range(self.chance.choice([1, 2, 2, 3])):
            player = Player(
                child,
                self.chance.choice(["tv", "phone", "pad"]),
                self.chance.choice(FILMS + LESSONS),
                self.chance.choice([3, 8, 14, 25]),
                is_claiming=self.chance.random() < 0.4,
                will_end=self.chance.random() < 0.5,
            )
            self.later(day_ms + self._time_of_day_ms(child), self._beat_of(player))

    def _time_of_day_ms(self, child: Viewer) -> int:
        """Often near a reset or the end of a window."""
        chance = self.chance.random()
        if chance < 0.2:
            return (child.truth.days[-1].ends - self.starts_ms) % DAY - self.chance.randrange(GAP)
        if chance < 0.4:
            return self.chance.randrange(0, DAY, 5 * MINUTE) - self.chance.randrange(GAP)
        return self.chance.randrange(DAY)

    def _beat_of(self, player: Player) -> Action:
        async def beat() -> None:
            await self._beats(player)

        return beat

    async def _beats(self, player: Player) -> None:
        child, at_ms = player.child, self.at_ms
        truth, is_opening = child.truth, player.session_id is None
        if is_opening and self.is_quiet and child.opened_quietly:
            self.later(at_ms + 20 * MINUTE, self._beat_of(player))
            return
        self._plays_to_now(player)
        running = truth.session
        is_running = running is not None and running.id == player.session_id
        is_silent = is_running and running is not None and at_ms - running.last > GAP
        is_same_title = is_running and running is not None and running.title == player.title
        is_claimed = player.is_claiming and is_same_title
        body = _beat_of(player)
        if is_claimed:
            body["watched_seconds"] = player.watched_ms / 1000
        answer = await child.family.player.post("/viewing-time/heartbeat", json=body)
        if not is_opening and (not is_running or (is_silent and not is_claimed)):
            assert answer.status_code == 409, answer.text
            assert not is_running or answer.json()["code"] == "session_ended", answer.text
            self.counts("refused")
            return
        assert answer.status_code == 200, answer.text
        told = answer.json()
        if told["session_id"] != player.session_id:
            player.session_id, player.watched_ms = told["session_id"], 0
        truth.beats(
            at_ms,
            session_id=told["session_id"],
            device=player.device,
            title=player.title,
            is_educational=player.title in LESSONS,
            is_paused=player.is_paused,
            is_claimed=is_claimed,
            title_left=player.title_left_ms,
        )
        is_exempt = player.title in LESSONS and truth.saved[-1][1].is_exempt
        verdict = truth.verdict(is_exempt=is_exempt)
        self._agrees(child, told, verdict)
        self.counts(f"beat {verdict.enforcement} {verdict.reason}")
        if truth.totals(truth.days[-1]).borrowed:
            self.counts("beat that borrows")
        if truth.owed(truth.days[-1]):
            self.counts("beat of a day that owes")
        player.beats_left -= 1
        await self._goes_on(player, verdict)

    def _plays_to_now(self, player: Player) -> None:
        """What a player has come to by its next beat: it may have paused, or begun another title."""
        chance, child, is_opening = self.chance, player.child, player.session_id is None
        if not is_opening and not player.is_paused:
            player.watched_ms += self.at_ms - player.last_ms
            if player.title_left_ms is not None:
                player.title_left_ms = max(0, player.title_left_ms - (self.at_ms - player.last_ms))
        player.last_ms = self.at_ms
        may_change = not is_opening and not player.is_paused and not (self.is_quiet and child.opened_quietly)
        is_another = is_opening or (may_change and chance.random() < 0.05)
        if is_another:
            player.title = chance.choice(FILMS + LESSONS)
            player.title_left_ms = self._title_left_ms(child)
        if is_another and self.is_quiet:
            child.opened_quietly = True
            player.title_left_ms = None  # what it promises would be known to Redis alone
        if not self.is_quiet and chance.random() < 0.12:
            player.is_paused = not player.is_paused

    def _title_left_ms(self, child: Viewer) -> int | None:
        """Of a player that tells: often a title that ends a little after the limit."""
        chance, truth = self.chance, child.truth
        truth.is_now(self.at_ms)
        day = truth.days[-1]
        allowance_ms = truth.allowance(day)
        if chance.random() < 0.2:
            return None
        if allowance_ms is None or chance.random() < 0.2:
            return chance.randrange(90 * MINUTE)
        return max(0, allowance_ms - truth.totals(day).used + chance.randrange(-MINUTE, 25 * MINUTE))

    async def _goes_on(self, player: Player, verdict: Verdict) -> None:
        chance = self.chance
        if self.is_quiet:
            self.later(self.at_ms + chance.randrange(15_000, 30_000), self._beat_of(player))
            return
        if verdict.enforcement == "blocked" and player.child is not self.stranger and chance.random() < 0.15:
            self._plan_deed(self.at_ms + chance.randrange(MINUTE), player.child)
        is_over = player.beats_left <= 0 or (verdict.enforcement == "blocked" and chance.random() < 0.4)
        if is_over and player.will_end:
            self._in_calm(self.at_ms + chance.choice(ODD_GAPS_MS), self._end_of(player))
        elif not is_over:
            gap_ms = chance.choice(ODD_GAPS_MS) if chance.random() < 0.3 else chance.randrange(20_000, 5 * MINUTE)
            instants = [
                instant for instant in (verdict.stop, verdict.again) if instant and 1 < instant - self.at_ms <= GAP
            ]
            if instants and chance.random() < 0.6:
                gap_ms = chance.choice(instants) - self.at_ms + chance.choice([-1, 0, 1])
            if player.is_claiming and not player.is_paused and chance.random() < 0.05:
                gap_ms = chance.randrange(GAP + 1, 40 * MINUTE)
            self.later(self.at_ms + gap_ms, self._beat_of(player))

    def _end_of(self, player: Player) -> Action:
        async def end() -> None:
            truth, at_ms = player.child.truth, self.at_ms
            path = f"/viewing-time/session/{player.session_id}/end"
            answer = await player.child.family.player.post(path, json={})
            assert answer.status_code == 200, answer.text
            running = truth.session
            if running is not None and running.id == player.session_id and at_ms - running.last <= GAP:
                truth.ends(at_ms)
                await self.look(player.child)

        return end

    # --- what is read

    def _agrees(self, child: Viewer, told: dict[str, Any], verdict: Verdict) -> None:
        truth = child.truth
        day = truth.days[-1]
        found = {
            "used": _ms(told["used_seconds"]),
            "remaining": _ms(told["remaining_seconds"]),
            "enforcement": told["enforcement"],
            "reason": told["reason"],
            "again": _instant(told["available_again_at"]),
            "ends": _instant(told["next_reset_at"]),
            "borrowed": _ms(told.get("borrowed_seconds", 0)),
        }
        expected = {
            "used": truth.totals(day).used + truth.offline(day).used,
            "remaining": verdict.remaining,
            "enforcement": verdict.enforcement,
            "reason": verdict.reason,
            "again": verdict.again,
            "ends": day.ends,
            "borrowed": truth.totals(day).borrowed,
        }
        if "stop_at" in told:
            found |= {"stop": _instant(told["stop_at"]), "lease": _ms(told["lease_seconds"])}
            expected |= {"stop": verdict.stop, "lease": verdict.lease}
        assert found == expected, self._story(child)

    async def look(self, child: Viewer) -> None:
        """The balance, as anybody may read it."""
        answer = await child.family.player.get(f"/viewing-time/balance/{child.id}")
        assert answer.status_code == 200, answer.text
        told, truth = answer.json(), child.truth
        truth.is_now(self.at_ms)
        day = truth.days[-1]
        self._agrees(child, told, truth.verdict(is_exempt=False))
        beats, offline = truth.totals(day), truth.offline(day)
        names = ("educational", "overrun", "week_remaining", "break_in", "owed")
        found = [_ms(told[f"{name}_seconds"]) for name in names]
        expected = [
            beats.educational + offline.educational,
            beats.overrun + offline.overrun,
            truth.week_remaining(),
            truth.left_to_break(),
            truth.owed(day),
        ]
        assert found == expected, self._story(child)
        assert told["day"] == date.fromordinal(day.name).isoformat()
        self.counts("balance")

    async def look_at_all(self) -> None:
        for child in self.children:
            await self.look(child)

    def _story(self, child: Viewer) -> str:
        """What led to a disagreement."""
        truth = child.truth
        day = truth.days[-1]
        lines = [
            f"at {_text(self.at_ms)} ({self.at_ms}), day {date.fromordinal(day.name)}",
            f"{_text(day.starts)} to {_text(day.ends)} in {day.zone}",
            f"limit {truth.limit_of(day)} allowance {truth.allowance(day)} {truth.totals(day)}",
            f"offline {truth.offline(day)} paused until {truth.paused_until}",
            f"{truth.saved[-1]}",
            f"{truth.session} {truth.unbroken} promised until {truth.promised} owed {truth.owed(day)}",
            *(f"grant {each}" for each in truth.grants if each.day == day.name),
            *(f"played {each}" for each in truth.played[-4:]),
            *(f"kept {date.fromordinal(name)} {limit}" for name, limit in list(truth.kept.items())[-7:]),
        ]
        return "\n".join(lines)

    # --- the family

    async def changes_settings(self, child: Viewer, **fields: Any) -> None:
        truth = child.truth
        truth.is_now(self.at_ms)
        saved = replace(truth.saved[-1][1], **fields)
        answer = await child.family.set_limits(child.id, **_body_of(saved))
        assert answer.status_code == 200, answer.text
        truth.changes(self.at_ms, saved)
        await self.look(child)
        self.counts("settings")

    async def gives(self, child: Viewer, minutes: int | None) -> None:
        path = f"/parental-controls/profiles/{child.id}/viewing-time/grant"
        answer = await child.family.parent.post(path, json={"minutes": minutes})
        assert answer.status_code == 201, answer.text
        told = answer.json()
        granted = child.truth.is_given(self.at_ms, minutes)
        assert _ms(told["covered_seconds"]) == granted.covered, self._story(child)
        child.live_grants.append((told["grant_id"], granted))
        await self.look(child)
        self.counts("grant")

    async def takes_back(self, child: Viewer) -> None:
        child.truth.is_now(self.at_ms)
        today = child.truth.days[-1].name
        live = [each for each in child.live_grants if each[1].day == today and each[1].revoked is None]
        if not live:
            return
        grant_id, granted = self.chance.choice(live)
        answer = await child.family.parent.delete(f"/parental-controls/profiles/{child.id}/grants/{grant_id}")
        assert answer.status_code == 200, answer.text
        child.truth.loses(self.at_ms, granted)
        await self.look(child)
        self.counts("revoke")

    async def asks(self, child: Viewer, minutes: int) -> None:
        path = f"/parental-controls/profiles/{child.id}/requests"
        answer = await child.family.player.post(path, json={"minutes": minutes})
        assert answer.status_code in {201, 429}, answer.text
        if answer.status_code == 201:
            request_id = answer.json()["request_id"]
            if request_id in child.requests:  # an equal request within a minute is the first one
                return
            child.requests.append(request_id)
            self._in_calm(self.at_ms + self.chance.randrange(20 * MINUTE), self._approval(child, request_id, minutes))

    def _approval(self, child: Viewer, request_id: str, minutes: int) -> Action:
        asked_ms = self.at_ms

        async def approve() -> None:
            child.truth.is_now(self.at_ms)
            path = f"/parental-controls/profiles/{child.id}/requests/{request_id}/approve"
            answer = await self.api.http.post(path, headers=self.caregiver)
            today = _local_date(self.at_ms, "Europe/Oslo")
            if child.truth.day_of(asked_ms) != child.truth.days[-1]:
                assert answer.status_code == 409, answer.text
                return
            if self.budget.get(today, 0) + minutes > BUDGET_MINUTES:
                assert (answer.status_code, answer.json()["code"]) == (403, "budget_exhausted"), answer.text
                self.counts("budget exhausted")
                return
            assert answer.status_code == 200, answer.text
            self.budget[today] = self.budget.get(today, 0) + minutes
            granted = child.truth.is_given(self.at_ms, minutes)
            child.live_grants.append((answer.json()["grant_id"], granted))
            await self.look(child)
            self.counts("approved")

        return approve

    async def pauses(self, child: Viewer | None, minutes: int | None) -> None:
        """One child, or all children of the account."""
        paused = self.children if child is None else [child]
        path = "" if child is None else f"/profiles/{child.id}"
        answer = await self.family.parent.post(
            f"/parental-controls{path}/viewing-time/pause", json={"minutes": minutes}
        )
        assert answer.status_code == 200, answer.text
        for each in paused:
            each.truth.is_now(self.at_ms)
            until_ms = each.truth.days[-1].ends if minutes is None else self.at_ms + minutes * MINUTE
            each.truth.is_paused(self.at_ms, until_ms)
        await self.look_at_all()
        self.counts("pause" if child else "pause of all")

    async def lifts(self, child: Viewer | None) -> None:
        path = "" if child is None else f"/profiles/{child.id}"
        answer = await self.family.parent.delete(f"/parental-controls{path}/viewing-time/pause")
        assert answer.status_code == 200, answer.text
        for each in self.children if child is None else [child]:
            each.truth.is_paused(self.at_ms, None)
        await self.look_at_all()
        self.counts("lift")

    async def syncs(self, child: Viewer) -> None:
        """Some time ranges of the last two days, which may overlap anything."""
        at_ms, chance, truth = self.at_ms, self.chance, child.truth
        is_educational = chance.random() < 0.4
        ranges = []
        for _ in range(chance.choice([1, 2, 3])):
            ends_ms = at_ms - chance.choice([0, 1, chance.randrange(GAP), chance.randrange(2 * DAY)])
            starts_ms = ends_ms - chance.choice([1, chance.randrange(1, HOUR)])
            if starts_ms > truth.days[0].starts:
                ranges.append((starts_ms, ends_ms))
        title = LESSONS[0] if is_educational else FILMS[0]
        intervals = [
            {
                "title_id": title,
                "started_at": _rfc3339(starts_ms),
                "ended_at": _rfc3339(ends_ms),
                "watched_seconds": (ends_ms - starts_ms) / 1000,
            }
            for starts_ms, ends_ms in ranges
        ]
        body = {
            "profile_id": child.id,
            "device_id": "pad",
            "batch_id": f"batch-{at_ms}",
            "device_now": _rfc3339(at_ms),
            "last_server_time": _rfc3339(at_ms - 3 * DAY),
            "intervals": intervals,
        }
        credited = truth.syncs(at_ms, ranges, is_educational=is_educational)
        answer = await child.family.player.post("/viewing-time/offline-sync", json=body)
        assert answer.status_code == 200, answer.text
        assert [_ms(each) for each in answer.json()["credited_seconds"]] == credited, self._story(child)
        self.counts("sync")
        await self.look(child)

    # --- the worker, and Redis

    async def flushes(self) -> None:
        await self.worker.flusher.cycle(age_ms=0)

    async def loses_redis(self) -> None:
        """What runs was flushed a little before; then Redis is emptied."""
        if not any(self._is_watching(child) for child in self.children):
            self.later(self.at_ms + 3 * MINUTE, self.loses_redis)
            return
        self.is_quiet = True
        self.later(self.at_ms + GAP + MINUTE, self._flush_before_loss)

    def _is_watching(self, child: Viewer) -> bool:
        session = child.truth.session
        return session is not None and self.at_ms - session.last <= MINUTE

    async def _flush_before_loss(self) -> None:
        await self.flushes()
        for child in self.children:
            child.opened_quietly = False
        self.later(self.at_ms + self.chance.randrange(20_000, 150_000), self._empty_redis)

    async def _empty_redis(self) -> None:
        running = sum(self._is_watching(child) for child in self.children)
        if not running:
            self.is_quiet = False
            await self.loses_redis()
            return
        await self.api.services.redis.flushall()
        self.losses += 1
        self.counts(f"loss with {running} sessions")
        self.later(self.at_ms + MINUTE, self._is_calm_again)

    async def _is_calm_again(self) -> None:
        self.is_quiet = False

    # --- the plan

    def plan(self) -> None:
        for number in range(self.days):
            day_ms = self.starts_ms + number * DAY
            for child in (*self.children, self.stranger):
                assert child is not None
                self.later(day_ms, self._plan_of(child, day_ms))
            self.later(day_ms, self._partitions)
            for _ in range(self.chance.choice([1, 2, 3, 4])):
                self._plan_deed(day_ms + self.chance.randrange(DAY), self.chance.choice(self.children))
        for at_ms in range(self.starts_ms, self.starts_ms + self.days * DAY, 2 * HOUR):
            self.later(at_ms + self.chance.randrange(2 * HOUR), self.flushes)
        for third in (1, 2):
            self.later(self.starts_ms + third * self.days * DAY // 3, self.loses_redis)

    def _plan_of(self, child: Viewer, day_ms: int) -> Action:
        async def plan_day() -> None:
            child.truth.is_now(self.at_ms)
            self.plan_day(child, day_ms)

        return plan_day

    async def _partitions(self) -> None:
        await self.worker.make_partitions()

    def _plan_deed(self, at_ms: int, child: Viewer) -> None:
        chance = self.chance
        deeds: list[Callable[[Viewer], Awaitable[None]]] = [
            lambda child: self.gives(child, chance.choice([15, 15, 30, 60, None])),
            self._gives_and_takes_back,
            lambda child: self.asks(child, chance.choice([15, 30, 60])),
            lambda child: self.asks(child, chance.choice([15, 30, 60])),
            lambda child: self.pauses(child, chance.choice([1, 15, 90, None])),
            lambda _: self.pauses(None, chance.choice([5, 45, None])),
            lambda child: self.lifts(chance.choice([child, None])),
            self.syncs,
            self.syncs,
            self._changes_something,
            self._changes_something,
        ]
        deed, until_ms = chance.choice(deeds), at_ms + 12 * HOUR

        async def act() -> None:
            watching = [each for each in self.children if self._is_watching(each)]
            if not watching and chance.random() < 0.7 and self.at_ms < until_ms:
                self._in_calm(self.at_ms + 10 * MINUTE, act)  # what happens while somebody watches tells more
            else:
                await deed(chance.choice(watching) if watching and chance.random() < 0.7 else child)

        self._in_calm(at_ms, act)

    def _in_calm(self, at_ms: int, action: Action) -> None:
        """Do something at an instant; later, if Redis is just being lost."""

        async def act() -> None:
            if self.is_quiet:
                self.later(self.at_ms + 20 * MINUTE, act)
            else:
                await action()

        self.later(at_ms, act)

    async def _gives_and_takes_back(self, child: Viewer) -> None:
        await self.gives(child, self.chance.choice([15, 60, None]))
        self._in_calm(self.at_ms + self.chance.randrange(HOUR), lambda: self.takes_back(child))

    async def _changes_something(self, child: Viewer) -> None:
        chance, today = self.chance, date.fromordinal(child.truth.days[-1].name)
        holidays = ((today, today + timedelta(days=2)), (today + timedelta(days=5), today + timedelta(days=5)))
        changes: list[dict[str, Any]] = [
            {"weekday": chance.choice([15, 45, 120]), "weekend": chance.choice([30, 90, 240]), "daily": None},
            {"weekday": None, "weekend": None, "daily": None},
            {"daily": tuple(chance.choice([15, 60, 120, None]) for _ in range(7))},
            {"windows": chance.choice(WINDOWS)},
            {"windows": chance.choice(WINDOWS)},
            {"weekly": chance.choice([None, 90, 240, 420])},
            {"weekly": chance.choice([90, 240, 420])},
            {"is_exempt": chance.random() < 0.5},
            {"zone": chance.choice(["Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])},
            {"reset_hour": chance.choice([0, 2, 3, 5, 6, 23])},
            {"holidays": holidays},
            {"break_after": chance.choice([15, 30, 60]), "break_length": chance.choice([5, 10, 30])},
            {"break_after": None, "break_length": None},
            {"finish": chance.choice([None, 5, 30])},
        ]
        await self.changes_settings(child, **chance.choice(changes))

    # --- the end

    async def is_kept(self) -> None:
        """What PostgreSQL has of each day, after the last flush."""
        await self.flushes()
        for child in (*self.children, self.stranger):
            assert child is not None
            truth = child.truth
            truth.is_now(self.at_ms)
            first, last = (date.fromordinal(truth.days[place].name) for place in (0, -1))
            answer = await child.family.parent.get(
                f"/parental-controls/profiles/{child.id}/history",
                params={"from_date": first.isoformat(), "to_date": last.isoformat(), "limit": 500},
            )
            assert answer.status_code == 200, answer.text
            kept = {day["date"]: day for day in answer.json()["days"]}
            for day in truth.days:
                beats, offline = truth.totals(day), truth.offline(day)
                expected = [
                    beats.used + offline.used,
                    beats.educational + offline.educational,
                    beats.overrun + offline.overrun,
                ]
                told = kept.get(date.fromordinal(day.name).isoformat(), {})
                found = [_ms(told.get(f"{name}_seconds", 0)) for name in ("counted", "educational", "overrun")]
                assert found == expected, (child.id, day)
                self.counts("day kept")


@asynccontextmanager
async def a_month(database_url: str, redis_url: str, *, seed: int, first: date, days: int) -> AsyncIterator[Month]:
    starts_ms = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1000
    clock = SetClock(starts_ms)
    settings = settings_for(
        database_url=database_url,
        redis_url=redis_url,
        buckets=4,
        redis_timeout_seconds=10,
        account_requests_per_minute=0,
        token_requests_per_minute=0,
    )
    async with opened(settings, clock) as api, open_worker(settings, clock=clock) as worker:
        month = Month(api, worker, random.Random(seed), starts_ms, days, starts_ms)  # noqa: S311  no secret
        month.is_now(starts_ms)
        await worker.make_partitions()
        for title in FILMS + LESSONS:
            await api.rows.title_once(title, is_educational=title in LESSONS)
        await _settle_in(month)
        yield month


async def _settle_in(month: Month) -> None:
    """Four children with different settings, a caregiver, and another account."""
    month.family = family = await registered(month.api, timezone="Europe/Oslo")
    answer = await family.player.post("/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    device = {"name": "Grandma", "pin": PIN, "role": "caregiver", "daily_grant_minutes": BUDGET_MINUTES}
    made = await family.player.post("/auth/devices", json=device)
    assert made.status_code == 201, made.text
    month.caregiver = {"Authorization": f"Bearer {made.json()['token']}"}
    for saved in (
        Saved(zone="Europe/Oslo", windows=SCHOOL_NIGHTS, finish=30, break_after=30, break_length=10),
        Saved(zone="America/New_York", weekday=60, weekend=90, weekly=150, finish=20),
        Saved(zone="Australia/Lord_Howe", daily=(30, 60, 30, 60, 90, None, 120), weekly=210, windows=LATE_NIGHTS),
        Saved(
            zone="Europe/Oslo",
            weekday=None,
            weekend=None,
            is_exempt=False,
            windows=SMALL_HOURS,
            break_after=45,
            break_length=15,
        ),
    ):
        month.children.append(await _child(month, family, saved))
    stranger = await registered(month.api, timezone="Europe/Oslo")
    month.stranger = await _child(month, stranger, Saved(zone="Europe/Oslo", weekday=30, weekend=60))


async def _child(month: Month, family: Household, saved: Saved) -> Viewer:
    child_id = await family.child(timezone=saved.zone)
    truth = Child.born(month.at_ms, Saved(zone=saved.zone))
    child = Viewer(child_id, family, truth)
    month.is_now(month.at_ms + 1)
    await month.changes_settings(child, **{name: getattr(saved, name) for name in saved.__dataclass_fields__})
    return child


def _beat_of(player: Player) -> dict[str, Any]:
    """A heartbeat as its player sends it."""
    body: dict[str, Any] = {
        "profile_id": player.child.id,
        "title_id": player.title,
        "device_id": player.device,
        "device_type": "tv",
        "is_paused": player.is_paused,
    }
    if player.session_id is not None:
        body["session_id"] = player.session_id
    if player.title_left_ms is not None:
        body["title_remaining_seconds"] = player.title_left_ms / 1000
    return body


def _body_of(saved: Saved) -> dict[str, Any]:
    """Settings as the API takes them."""
    return {
        "weekday_limit_minutes": saved.weekday,
        "weekend_limit_minutes": saved.weekend,
        "daily_limits": None if saved.daily is None else dict(zip(WEEKDAYS, saved.daily, strict=True)),
        "holidays": [
            {"first_date": first.isoformat(), "last_date": last.isoformat()} for first, last in saved.holidays
        ],
        "windows": [
            {
                "days": [WEEKDAYS[day] for day in window.weekdays],
                "from": f"{window.from_minute // 60:02}:{window.from_minute % 60:02}",
                "until": f"{window.until_minute // 60:02}:{window.until_minute % 60:02}",
            }
            for window in saved.windows
        ],
        "weekly_limit_minutes": saved.weekly,
        "break_after_minutes": saved.break_after,
        "break_minutes": saved.break_length,
        "finish_title_minutes": saved.finish,
        "educational_exempt": saved.is_exempt,
        "timezone": saved.zone,
        "reset_hour": saved.reset_hour,
    }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _instant(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)


def _rfc3339(at_ms: int) -> str:
    return _text(at_ms)


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _local_date(at_ms: int, zone: str) -> date:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(zone)).date()
