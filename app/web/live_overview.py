"""Pages that update by themselves: which of their children have changed.

What parents and other processes do arrives as a message on the invalidation channel. Heartbeats send none: their
counters are read for all watched children of a process in one call, a few times a second, while anybody watches.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import structlog

from app.domain.counters import Counters as LiveCounters
from app.errors import CountersUnavailable
from app.viewing.events import StreamNotifier
from app.web.ports import CounterReader

POLL_SECONDS = 0.4
_AWAY_SECONDS = 2.0

log = structlog.get_logger(__name__)


ProfileIds: TypeAlias = set[str]


class Watch(asyncio.Event):
    """What one page has to look at again."""

    def __init__(self) -> None:
        super().__init__()
        self._has_news = False
        self._beaten: ProfileIds = ProfileIds()

    def set(self) -> None:
        """Something may have happened to any of its children."""
        self._has_news = True
        super().set()

    def beat(self, profile_id: str) -> None:
        """The counters of one child have changed."""
        self._beaten.add(profile_id)
        super().set()

    def beat_all(self, profile_ids: Sequence[str]) -> None:
        """Time has passed, by which something may have changed."""
        self._beaten.update(profile_ids)

    def take(self) -> tuple[bool, ProfileIds]:
        """Whether all is to be looked at again, else whose counters have changed; both since the last time."""
        self.clear()
        taken = (self._has_news, self._beaten)
        self._has_news, self._beaten = False, ProfileIds()
        return taken


class LiveOverview:
    """Tells open pages which of their children have changed.

    Args:
        max_gap_ms: how long after its last beat a session has ended without a further one.
    """

    def __init__(self, counters: CounterReader, *, notifier: StreamNotifier, max_gap_ms: int) -> None:
        self._counters = counters
        self._notifier = notifier
        self._max_gap_ms = max_gap_ms
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self._seen: dict[str, object] = {}
        self._polling: asyncio.Task[None] | None = None

    @property
    def closing(self) -> asyncio.Event:
        """Set when the process is about to end."""
        return self._notifier.closing

    @contextlib.contextmanager
    def watching(self, profile_ids: Sequence[str]) -> Iterator[Watch]:
        """Watch children for as long as a page is open. Raises TooManyStreams."""
        watch = Watch()
        with contextlib.ExitStack() as stack:
            for profile_id in profile_ids:
                stack.enter_context(self._notifier.waiting_for(profile_id, signal=watch))
                self._watches[profile_id].add(watch)
                stack.callback(self._leave, profile_id, watch)
            if profile_ids and (self._polling is None or self._polling.done()):
                self._polling = asyncio.create_task(self._poll(), name="console")
            yield watch

    def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()

    def _leave(self, profile_id: str, watch: Watch) -> None:
        self._watches[profile_id].discard(watch)
        if not self._watches[profile_id]:
            del self._watches[profile_id]
            self._seen.pop(profile_id, None)

    async def _poll(self) -> None:
        """Compare counters while anybody watches."""
        while self._watches:
            pause_seconds = POLL_SECONDS
            try:
                await self._compare(list(self._watches))
            except CountersUnavailable:
                pause_seconds = _AWAY_SECONDS
            except Exception:
                log.exception("console_poll_failed")
                pause_seconds = _AWAY_SECONDS
            await asyncio.sleep(pause_seconds)

    async def _compare(self, profile_ids: Sequence[str]) -> None:
        for profile_id, (at_ms, counters) in zip(profile_ids, await self._counters.read(profile_ids), strict=True):
            if profile_id not in self._watches:  # its last page was closed while Redis answered
                continue
            now = self._fingerprint(counters, at_ms)
            # Also at the first look: something may have changed since the page was made.
            if profile_id not in self._seen or self._seen[profile_id] != now:
                for watch in self._watches[profile_id]:
                    watch.beat(profile_id)
            self._seen[profile_id] = now

    def _fingerprint(self, counters: LiveCounters | None, at_ms: int) -> object:
        """What differs when a page would show something else: a beat, an end, a silence, a new day."""
        if counters is None:
            return None
        is_silent = at_ms - counters.last_beat_ms > self._max_gap_ms
        return counters.version, counters.has_ended, is_silent, at_ms >= counters.day_ends_ms
