"""Many players, each with a ledger of its real playing time, its answers and their latencies."""

import asyncio
import random
from array import array
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from app.auth.tokens import Role, Tokens
from app.clock import now_ms
from app.domain.playback_bounds import PlaybackBounds
from app.lab.bench.client import LOST, LoadConnection
from app.lab.bench.viewers import HEARTBEAT, account_id, profile_id, title_of
from app.lab.chaos.background import Background

OK = 200
CONFLICT = 409
TOKEN_LIFE_SECONDS = 86_400
END_SECONDS = 60.0
END_PAUSE_SECONDS = 0.25
CONNECTS_AT_ONCE = 64
SIBLINGS = 5
"""Children of an account: so many may watch together."""
_TOLERATED_FALL_SECONDS = 0.001


class _Problem(msgspec.Struct):
    code: str = ""


class _CoViewer(msgspec.Struct):
    session_id: str = ""
    used_seconds: float = 0.0
    next_reset_at: str | None = None
    problem: _Problem | None = None


class _Answer(msgspec.Struct):
    session_id: str
    used_seconds: float
    next_reset_at: str | None
    enforcement: str
    server_time: datetime
    lease_seconds: float
    stop_at: datetime | None
    playback_lease: str | None = None
    co_viewers: list[_CoViewer] = []


class _Claims(msgspec.Struct):
    sub: str
    sid: str
    iat: int
    exp: int


_claims = msgspec.json.Decoder(_Claims).decode
_answer = msgspec.json.Decoder(_Answer).decode
_problem = msgspec.json.Decoder(_Problem).decode


@dataclass
class ClientStats:
    """Statistics of the players' requests.

    Attributes:
        answers: count of each status with the problem's code; ``lost`` for broken connections, ``late`` for timeouts.
        latencies_ms: latencies of answered requests, and the timeout of the others.
        falls: number of used times below an earlier one of the same day.
        leases: number of signed leases.
        wrong_leases: number of answers with a lease that does not fit, or without the one they owe.
    """

    answers: Counter[str] = field(default_factory=Counter)
    latencies_ms: "array[float]" = field(default_factory=lambda: array("f"))
    falls: int = 0
    leases: int = 0
    wrong_leases: int = 0

    @property
    def worst_ms(self) -> float:
        return max(self.latencies_ms, default=0.0)

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    @property
    def beats(self) -> int:
        return self.answers.total()

    def only(self, *allowed: str) -> bool:
        """Whether only these answers occurred."""
        return not set(self.answers) - set(allowed)


@dataclass(kw_only=True)
class _Session:
    """Bounds of a session in ms since 1970, see ``domain.playback_bounds``."""

    id: str
    opened_after_ms: int
    opened_before_ms: int
    last_beat_ms: int


class _Viewer:
    """What a player knows of one child that watches on it.

    Attributes:
        watched: its finished sessions.
        session: its running one.
    """

    def __init__(self, clients: "ClientPool", viewer: int) -> None:
        self.profile_id = profile_id(viewer)
        self.watched: list[PlaybackBounds] = []
        self.session: _Session | None = None
        self._clients = clients
        self._day: str | None = None
        self._used_seconds = 0.0
        self._maybe_since_ms: int | None = None
        """The earliest start of a session whose opening was not answered. The next opening settles it."""

    def named(self) -> dict[str, object]:
        """The members of a heartbeat about this child."""
        if self.session is None:
            return {"profile_id": self.profile_id}
        watched_seconds = (now_ms() - self.session.opened_before_ms) / 1000
        return {"profile_id": self.profile_id, "session_id": self.session.id, "watched_seconds": watched_seconds}

    def take(self, answer: _Answer | _CoViewer, sent_ms: int) -> None:
        if self.session is None:
            self.session = _Session(
                id=answer.session_id,
                opened_after_ms=self._maybe_since_ms or sent_ms,
                opened_before_ms=now_ms(),
                last_beat_ms=sent_ms,
            )
            self._maybe_since_ms = None
        self.session.last_beat_ms = sent_ms
        if answer.next_reset_at == self._day and answer.used_seconds < self._used_seconds - _TOLERATED_FALL_SECONDS:
            self._clients.stats.falls += 1
        self._day, self._used_seconds = answer.next_reset_at, answer.used_seconds

    def taken_over(self) -> None:
        """The session has ended elsewhere, perhaps with another one of our own."""
        self.close(ended_before_ms=now_ms())
        self._maybe_since_ms = now_ms()

    def unanswered(self, sent_ms: int) -> None:
        if self.session is None:
            self._maybe_since_ms = self._maybe_since_ms or sent_ms

    def close(self, *, ended_before_ms: int) -> None:
        if self.session is not None:
            session, self.session = self.session, None
            self.watched.append(
                PlaybackBounds(
                    profile_id=self.profile_id,
                    opened_after_ms=session.opened_after_ms,
                    opened_before_ms=session.opened_before_ms,
                    ended_after_ms=session.last_beat_ms,
                    ended_before_ms=ended_before_ms,
                )
            )


class ChaosPlayer:
    """One device of one child, or of several who watch together. It sends heartbeats until stopped.

    ``is_watching``: its last heartbeat was counted, and it has not tried to end the session since.

    Args:
        viewers: numbers of the children among those in the database. The others are co-viewers of the first.
        interval_seconds: time between heartbeats.
        patience_seconds: timeout of one answer.
        leased: whether it asks for signed leases.
        chance: source of its phase and of its session changes.
    """

    def __init__(
        self,
        clients: "ClientPool",
        viewers: Sequence[int],
        *,
        token: str,
        interval_seconds: float,
        patience_seconds: float,
        leased: bool,
        chance: random.Random,
    ) -> None:
        self.is_watching = False
        self._clients = clients
        self._own, *self._others = self.viewers = [_Viewer(clients, viewer) for viewer in viewers]
        self._interval_seconds = interval_seconds
        self._patience_seconds = patience_seconds
        self._chance = chance
        self._leased = leased
        self._device: dict[str, object] = {"title_id": title_of(viewers[0]), "device_id": f"device-{viewers[0]}"}
        if leased:
            self._device["lease"] = True
        self._head = (
            " HTTP/1.1\r\nHost: hourglass.example\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: "
        )
        self._connection: LoadConnection | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Send heartbeats on a fixed timetable. A late answer does not move the next one."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._chance.random() * self._interval_seconds
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await stopping.wait()
                    return
            if self._own.session is not None and self._chance.random() < self._clients.churn:
                self.is_watching = False
                await self.end(seconds=self._interval_seconds)
            else:
                self.is_watching = await self.beat() == OK
            due = max(due + self._interval_seconds, loop.time())

    async def beat(self) -> int:
        """Send one heartbeat; return its status."""
        body = self._own.named() | self._device
        if self._others:
            body["co_viewers"] = [other.named() for other in self._others]
        sent_ms = now_ms()
        status, content = await self._post(HEARTBEAT, body)
        if status == OK:
            answer = _answer(content)
            self._own.take(answer, sent_ms)
            if self._leased:
                self._clients.stats.leases += answer.playback_lease is not None
                self._clients.stats.wrong_leases += not _has_right_lease(answer, self._own.profile_id)
            for other, told in zip(self._others, answer.co_viewers, strict=True):
                self._take_other(other, told, sent_ms)
            return status
        if status == CONFLICT:
            self._own.taken_over()
        for viewer in self._others if status == CONFLICT else self.viewers:
            viewer.unanswered(sent_ms)
        return status

    def _take_other(self, other: _Viewer, told: _CoViewer, sent_ms: int) -> None:
        if told.problem is None:
            other.take(told, sent_ms)
            return
        self._clients.stats.answers[f"co-viewer {told.problem.code}"] += 1
        other.taken_over()

    async def end(self, *, seconds: float) -> bool:
        """End the sessions with a confirmation. Returns False after a timeout.

        A good heartbeat comes first, so that earlier requests that arrived late are finished.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline and any(viewer.session is not None for viewer in self.viewers):
            if await self.beat() == OK:
                break
            await asyncio.sleep(END_PAUSE_SECONDS)
        sent_ms: int | None = None
        while self._own.session is not None and loop.time() < deadline:
            sent_ms = sent_ms or now_ms()
            sessions = [other.session.id for other in self._others if other.session is not None]
            body = {"co_viewers": [{"session_id": session_id} for session_id in sessions]} if sessions else {}
            status, _ = await self._post(f"/api/v1/viewing-time/session/{self._own.session.id}/end", body)
            if status == OK:
                self._clients.ended.add(self._own.session.id)
                for viewer in self.viewers:
                    if viewer.session is not None:
                        viewer.session.last_beat_ms = sent_ms
                    viewer.close(ended_before_ms=now_ms())
            else:
                await asyncio.sleep(END_PAUSE_SECONDS)
        return all(viewer.session is None for viewer in self.viewers)

    def leave(self) -> None:
        """Stop without an end, like a device that is switched off. At least the last answered heartbeat is counted."""
        for viewer in self.viewers:
            viewer.close(ended_before_ms=now_ms())
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _post(self, path: str, body: Mapping[str, object]) -> tuple[int, bytes]:
        content = msgspec.json.encode(body)
        request = f"POST {path}{self._head}{len(content)}\r\n\r\n".encode() + content
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._patience_seconds):
                status, answered = await (await self._connected()).send(request)
        except TimeoutError:
            status, answered, what = LOST, b"", "late"
        except OSError:
            status, answered, what = LOST, b"", "lost"
        else:
            what = _named(status, answered)
        self._clients.stats.answers[what] += 1
        self._clients.stats.latencies_ms.append((loop.time() - began) * 1000)
        if status == LOST and self._connection is not None:
            self._connection.close()
            self._connection = None
        return status, answered

    async def _connected(self) -> LoadConnection:
        if self._connection is None:
            async with self._clients.connecting:
                self._connection = await LoadConnection.opened(self._clients.url)
        return self._connection


class ClientPool:
    """Players of some of the children in the database.

    Args:
        background: runs the players' event loop.
        url: base address of the service.
        tokens: mints their tokens.
        viewers: numbers of the children.
        seed: seed of their phases.
        together: share of the players on which several children of an account watch.
        churn: probability, per heartbeat, of ending the session and opening another.
        leased: share of the players that ask for signed leases.

    Attributes:
        ended: the players' own sessions whose end was confirmed.
    """

    def __init__(
        self,
        background: Background,
        *,
        url: str,
        tokens: Tokens,
        viewers: Sequence[int],
        interval_seconds: float,
        patience_seconds: float = 5.0,
        seed: int = 0,
        churn: float = 0.0,
        together: float = 0.0,
        leased: float = 0.0,
    ) -> None:
        self.url = url
        self.stats = ClientStats()
        self.ended: set[str] = set()
        self.churn = churn
        self.connecting = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self._background = background
        self._stopping = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        chance = random.Random(seed)  # noqa: S311  when players beat
        asks = random.Random(seed)  # noqa: S311  who asks for leases
        at_s = now_ms() // 1000
        self._players = [
            ChaosPlayer(
                self,
                group,
                token=tokens.issue(
                    account_id=account_id(group[0] - group[0] % SIBLINGS),
                    role=Role.HOUSEHOLD,
                    at_s=at_s,
                    life_seconds=TOKEN_LIFE_SECONDS,
                ),
                interval_seconds=interval_seconds,
                patience_seconds=patience_seconds,
                leased=asks.random() < leased,
                chance=random.Random(chance.random()),  # noqa: S311  as above
            )
            for group in _groups(viewers, together, chance)
        ]

    @property
    def size(self) -> int:
        return len(self._players)

    @property
    def profile_ids(self) -> list[str]:
        return [viewer.profile_id for player in self._players for viewer in player.viewers]

    def ledger(self) -> list[PlaybackBounds]:
        """Every finished session."""
        return [session for player in self._players for viewer in player.viewers for session in viewer.watched]

    def start(self) -> None:
        self._background.run(self._start())

    def is_watching(self) -> bool:
        """Whether every player has a session that the service knows to be running."""
        return self._background.run(self._is_watching())

    def cut_stats(self) -> ClientStats:
        """The statistics since the last call."""
        stats, self.stats = self.stats, ClientStats()
        return stats

    def settle(self, *, seconds: float = END_SECONDS) -> int:
        """End all sessions; return the number of failures."""
        return self._background.run(self._settle(seconds))

    def leave(self) -> None:
        """Stop all players without an end."""
        self._background.run(self._leave())

    async def _start(self) -> None:
        self._running = [asyncio.create_task(player.run(self._stopping)) for player in self._players]

    async def _is_watching(self) -> bool:
        """The check on the event loop, so that no player ends its session during the check."""
        return all(player.is_watching for player in self._players)

    async def _stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._running)

    async def _settle(self, seconds: float) -> int:
        await self._stop()
        ended = await asyncio.gather(*(player.end(seconds=seconds) for player in self._players))
        for player in self._players:
            player.leave()
        return ended.count(False)

    async def _leave(self) -> None:
        await self._stop()
        for player in self._players:
            player.leave()


def _groups(viewers: Sequence[int], together: float, chance: random.Random) -> Iterator[list[int]]:
    """The children of each player: one, or several siblings in a row."""
    group: list[int] = []
    size = 1
    for viewer in viewers:
        if group and (len(group) == size or viewer // SIBLINGS != group[0] // SIBLINGS):
            yield group
            group = []
        if not group:
            size = chance.randint(2, SIBLINGS) if together and chance.random() < together else 1
        group.append(viewer)
    if group:
        yield group


def _has_right_lease(answer: _Answer, profile_id: str) -> bool:
    """Whether an answer has a lease exactly where playback may go on, and one that ends in time."""
    now_s = answer.server_time.timestamp()
    until_s = now_s + answer.lease_seconds
    if answer.stop_at is not None:
        until_s = min(until_s, answer.stop_at.timestamp())
    if answer.playback_lease is None:
        return answer.enforcement == "blocked" or until_s - now_s < 1
    payload = answer.playback_lease.split(".")[1]
    claims = _claims(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    is_ours = (claims.sub, claims.sid) == (profile_id, answer.session_id)
    return is_ours and answer.enforcement != "blocked" and now_s < claims.exp <= until_s


def _named(status: int, content: bytes) -> str:
    if status == LOST:
        return "lost"
    if status == OK:
        return "200"
    try:
        return f"{status} {_problem(content).code}".rstrip()
    except msgspec.MsgspecError:
        return str(status)
