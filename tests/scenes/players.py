"""Players that keep a ledger of what they watched, to hold against what was counted."""

import asyncio
import time
from dataclasses import dataclass, field

from tests.scenes.households import Household

CLOCKS_APART_SECONDS = 0.02
"""Players measure with the monotonic clock, servers with the wall clock, in whole milliseconds."""


@dataclass
class Player:
    """Watches one title from its first beat that is answered to its last. Instants are monotonic seconds."""

    home: Household
    child: str
    title: str
    session_id: str | None = None
    used_seconds: float = -1.0
    answered: int = 0
    last_answer_at: float = 0.0
    refused_at: list[float] = field(default_factory=list)
    _shortest_from: float = 0.0
    _longest_from: float | None = None
    """An opening beat whose answer was lost may have been counted: the next one settles it."""
    _shortest_until: float = 0.0

    async def watch(self, stop: asyncio.Event, *, pause_seconds: float = 0.15) -> None:
        while not stop.is_set():
            await self.beat()
            await asyncio.sleep(pause_seconds)

    async def beat(self) -> None:
        sent_at = time.monotonic()
        if self._longest_from is None:
            self._longest_from = sent_at
        answer = await self.home.beat(self.child, self.title, session_id=self.session_id)
        answered_at = time.monotonic()
        if answer.status_code == 503:
            assert answer.json()["code"] == "counters_unavailable", answer.text
            assert "Retry-After" in answer.headers
            self.refused_at.append(answered_at)
            return
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["used_seconds"] >= self.used_seconds, "what was counted never falls"
        if self.session_id is None:
            self.session_id = told["session_id"]
            self._shortest_from = answered_at
        assert told["session_id"] == self.session_id
        self.used_seconds, self.last_answer_at = told["used_seconds"], answered_at
        self._shortest_until = sent_at
        self.answered += 1

    def assert_nothing_lost_or_doubled(self) -> None:
        """What was counted lies between the shortest and the longest time its beats can have been apart."""
        assert self._longest_from is not None
        longest = self.last_answer_at - self._longest_from
        shortest = self._shortest_until - self._shortest_from
        assert shortest - CLOCKS_APART_SECONDS <= self.used_seconds <= longest + CLOCKS_APART_SECONDS
