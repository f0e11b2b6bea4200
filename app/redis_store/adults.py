"""Running sessions of adults in Redis, where they are tracked. Nothing of them goes anywhere else."""

from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis

from app.domain.adults import AdultBeat, AdultSession
from app.redis_store.client import translate_errors
from app.redis_store.keys import Keys
from app.redis_store.scripts import Script

MAX_SESSIONS = 32


class RedisAdultSessions:
    """Every call takes many adults at once and may raise CountersUnavailable.

    Args:
        silence_ms: how long after its last beat a session has ended.
        at_ms: instant of the beats instead of the server's clock; tests only.
    """

    def __init__(self, redis: Redis, keys: Keys, *, silence_ms: int, at_ms: int = 0) -> None:
        self._redis = redis
        self._keys = keys
        self._silence_ms = silence_ms
        self.at_ms = at_ms
        self._keep = Script("keep_sessions")
        self._running = Script("running_sessions")

    async def keep(self, beats: Sequence[AdultBeat]) -> None:
        """Keep the sessions that beat and drop those that end; of each adult the last ``MAX_SESSIONS``."""
        keys = [self._keys.sessions(beat.profile_id) for beat in beats]
        with translate_errors():
            await self._keep(self._redis, keys, (self._silence_ms, MAX_SESSIONS, self.at_ms, *map(_description, beats)))

    async def running(self, profile_ids: Sequence[str]) -> list[list[AdultSession]]:
        """The running sessions of each adult; none for a child or an unknown profile."""
        keys = [self._keys.sessions(profile_id) for profile_id in profile_ids]
        with translate_errors():
            found = await self._running(self._redis, keys, (self._silence_ms, self.at_ms))
        return [
            [_session(*pair) for pair in zip(some[::2], some[1::2], strict=True)]
            for some in cast("list[list[bytes]]", found)
        ]


def _description(beat: AdultBeat) -> str:
    return beat.session_id if beat.is_end else f"{beat.session_id}|{beat.device_type}|{beat.title_id}"


def _session(description: bytes, last_beat_ms: bytes) -> AdultSession:
    session_id, device_type, title_id = description.decode().split("|", 2)
    return AdultSession(session_id, title_id, device_type, int(last_beat_ms))
