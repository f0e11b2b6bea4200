"""A simulated player: it sends heartbeats, obeys the answers, and keeps its own account."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.clients.http import Client, Reply, Unreachable

OK = 200
REFUSED_FOR_GOOD = frozenset({400, 401, 403, 404, 422})
BUSY = frozenset({429, 503})
RETRY_SECONDS = 1.0
END_ATTEMPTS = 20
TITLE_PAUSE_SECONDS = (2.0, 5.0)
ELIGIBILITY_SECONDS = (4.0, 6.0)


@dataclass
class PlaybackLog:
    """The player's own account, for comparison with the service.

    Attributes:
        watched_seconds: playing time between a session's first answer and its end.
        sessions: number of opened sessions.
        answers: count of each status or problem code; ``unreachable`` without an answer.
        latencies_ms: latencies of answered heartbeats.
    """

    watched_seconds: float = 0.0
    sessions: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)


class _Stopwatch:
    """Counts while it plays."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._total = 0.0
        self._since: float | None = None

    def play(self) -> None:
        if self._since is None:
            self._since = self._now()

    def pause(self) -> None:
        if self._since is not None:
            self._total += self._now() - self._since
            self._since = None

    @property
    def seconds(self) -> float:
        return self._total + (0.0 if self._since is None else self._now() - self._since)


@dataclass
class _Session:
    """One playback. Instants are on the event loop's clock; `stop_at` None means no stop."""

    title_id: str
    ends_at: float
    watched: _Stopwatch
    id: str | None = None
    stop_at: float | None = None
    lease_until: float = 0.0


class Player:
    """One device of one profile.

    Args:
        client: the service.
        token: returns the household's current token.
        profile_id: the watching profile.
        device: id and type, e.g. ``("tv-1", "tv")``.
        titles: ids to choose from.
        title_seconds: shortest and longest time spent with one title.
        clock_ms: UTC now, as the device knows it.
        chance: source of random choices and jitter.
    """

    def __init__(
        self,
        client: Client,
        *,
        token: Callable[[], str],
        profile_id: str,
        device: tuple[str, str],
        titles: Sequence[str],
        title_seconds: tuple[float, float],
        clock_ms: Callable[[], int],
        chance: random.Random,
    ) -> None:
        self.playback_log = PlaybackLog()
        self.last_answer: dict[str, Any] = {}
        self.doing = "waiting"
        self._client = client
        self._token = token
        self._profile_id = profile_id
        self._device = device
        self._titles = titles
        self._title_seconds = title_seconds
        self._clock_ms = clock_ms
        self._chance = chance
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the running session and return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Watch one title after the other until stopped or finally refused."""
        while not self._stopping.is_set():
            await self._watch(self._chance.choice(self._titles))
            self.doing = "choosing"
            await self._idle(self._chance.uniform(*TITLE_PAUSE_SECONDS))

    async def _watch(self, title_id: str) -> None:
        now = self._now()
        session = _Session(title_id, now + self._chance.uniform(*self._title_seconds), _Stopwatch(self._now))
        wait = 0.0
        while not self._stopping.is_set() and self._now() < session.ends_at:
            await self._idle(min(wait, session.ends_at - self._now()))
            if self._is_over(session):
                session.watched.pause()
            reply = await self._beat(session)
            if reply is None or reply.status in BUSY:
                wait = RETRY_SECONDS * self._chance.uniform(1, 2) if reply is None else reply.retry_after_seconds
            elif reply.status == OK:
                wait = self._follow(session, reply.body)
                if reply.body["enforcement"] == "blocked":
                    break
            else:  # superseded or ended: the next playback is a new session
                self.doing = reply.code
                if reply.status in REFUSED_FOR_GOOD:
                    self.stop()
                break
        await self._end(session)
        if self.last_answer.get("enforcement") == "blocked":
            await self._wait_for_time()

    def _is_over(self, session: _Session) -> bool:
        """Whether playback must stop by the last answer, or by the lease without a newer answer."""
        told_to_stop = session.stop_at is not None and self._now() >= session.stop_at
        return session.id is not None and (told_to_stop or self._now() >= session.lease_until)

    def _follow(self, session: _Session, answer: dict[str, Any]) -> float:
        """Apply the answer; return the seconds until the next heartbeat."""
        session.id = answer["session_id"]
        session.lease_until = self._now() + answer["lease_seconds"]
        session.stop_at = None
        if answer["stop_at"] is not None:
            left_ms = datetime.fromisoformat(answer["stop_at"]).timestamp() * 1000 - self._clock_ms()
            session.stop_at = self._now() + left_ms / 1000
        self.last_answer = answer
        if answer["enforcement"] == "blocked":
            session.watched.pause()
        else:
            session.watched.play()
            self.doing = f"watching {session.title_id}"
        return float(answer["next_beat_in"])

    async def _beat(self, session: _Session) -> Reply | None:
        device_id, device_type = self._device
        body: dict[str, Any] = {
            "profile_id": self._profile_id,
            "title_id": session.title_id,
            "device_id": device_id,
            "device_type": device_type,
        }
        if session.id is not None:
            body |= {"session_id": session.id, "watched_seconds": round(session.watched.seconds, 3)}
        return await self._post("/api/v1/viewing-time/heartbeat", body)

    async def _end(self, session: _Session) -> None:
        """End the session, with retries, because without an answer the time since the last heartbeat is unknown."""
        session.watched.pause()
        self.playback_log.watched_seconds += session.watched.seconds
        if session.id is None:
            return
        self.playback_log.sessions += 1
        path = f"/api/v1/viewing-time/session/{session.id}/end"
        for _ in range(END_ATTEMPTS):
            reply = await self._post(path, {"watched_seconds": round(session.watched.seconds, 3)})
            if reply is not None and reply.status not in BUSY:
                return
            await asyncio.sleep(RETRY_SECONDS if reply is None else reply.retry_after_seconds)

    async def _wait_for_time(self) -> None:
        """Ask at intervals whether there is time again: a grant may arrive, or a new day begins."""
        self.doing = "blocked"
        while not self._stopping.is_set():
            await self._idle(self._chance.uniform(*ELIGIBILITY_SECONDS))
            try:
                path = f"/api/v1/viewing-time/playback-eligible/{self._profile_id}"
                reply = await self._client.request("GET", path, token=self._token())
            except Unreachable:
                continue
            if reply.status == OK and reply.body["eligible"]:
                return

    async def _post(self, path: str, body: dict[str, Any]) -> Reply | None:
        sent_at = self._now()
        try:
            reply = await self._client.request("POST", path, token=self._token(), body=body)
        except Unreachable:
            self.playback_log.answers["unreachable"] += 1
            return None
        self.playback_log.answers["200" if reply.status == OK else reply.code] += 1
        if path.endswith("/heartbeat"):
            self.playback_log.latencies_ms.append((self._now() - sent_at) * 1000)
        return reply

    async def _idle(self, seconds: float) -> None:
        """Wait, but return at once when stopped."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
