"""A consumer that pulls the event feed while faults go on, and the comparison of what it read with what happened."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime

import msgspec

from app.auth.tokens import Role, Tokens
from app.clock import now_ms
from app.domain.feed import TYPE_PREFIX, EndedSession
from app.lab.bench.client import LOST, LoadConnection
from app.lab.chaos.background import Background

OK = 200
TOKEN_LIFE_SECONDS = 86_400
PATIENCE_SECONDS = 5.0
WAIT_SECONDS = 1
PAUSE_SECONDS = 0.25
PAGE = 1000
ENDED = TYPE_PREFIX + EndedSession.kind
SHOWN = 5


class _Data(msgspec.Struct, frozen=True):
    session_id: str = ""
    ended_at: datetime | None = None


class ReadEvent(msgspec.Struct, frozen=True):
    """An event as the consumer read it."""

    id: str
    type: str
    subject: str
    sequence: str
    data: _Data = _Data()

    @property
    def position(self) -> int:
        return int(self.sequence)


class _Page(msgspec.Struct):
    events: list[ReadEvent]
    next: str


_page = msgspec.json.Decoder(_Page).decode


@dataclass(frozen=True, kw_only=True)
class FeedResult:
    """What the consumer read, and how it differs from what happened.

    Attributes:
        ended: number of its events about ended sessions.
        interrupted: number of pages that were asked for again.
    """

    read: int
    ended: int
    interrupted: int
    differences: tuple[str, ...]


class FeedConsumer:
    """Reads the feed page by page. After a failure it asks again from its cursor."""

    def __init__(self, background: Background, *, url: str, tokens: Tokens) -> None:
        self.read: list[ReadEvent] = []
        self.answers: Counter[int] = Counter()
        self.repeated: list[str] = []
        """Events that did not follow the cursor."""
        self._background = background
        self._url = url
        token = tokens.issue(
            account_id="chaos-consumer", role=Role.SERVICE, at_s=now_ms() // 1000, life_seconds=TOKEN_LIFE_SECONDS
        )
        self._tail = f" HTTP/1.1\r\nHost: hourglass.example\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._cursor: str | None = None
        self._connection: LoadConnection | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._background.run(self._start())

    def stop(self) -> None:
        self._background.run(self._stop())

    async def _start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._hang_up()

    async def _run(self) -> None:
        while True:
            status, content = await self._ask()
            self.answers[status] += 1
            if status == OK:
                self._take(_page(content))
            else:
                await asyncio.sleep(PAUSE_SECONDS)

    def _take(self, page: _Page) -> None:
        last = int(self._cursor or 0)
        for event in page.events:
            if event.position <= last:
                self.repeated.append(event.id)
            last = event.position
        self.read += page.events
        self._cursor = page.next

    async def _ask(self) -> tuple[int, bytes]:
        after = "" if self._cursor is None else f"&after={self._cursor}"
        request = f"GET /api/v1/platform/events?limit={PAGE}&wait_seconds={WAIT_SECONDS}{after}{self._tail}"
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._connection is None:
                    self._connection = await LoadConnection.opened(self._url)
                status, content = await self._connection.send(request.encode())
        except (TimeoutError, OSError):
            status, content = LOST, b""
        if status == LOST:
            self._hang_up()
        return status, content

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def result(
        self,
        *,
        profiles: AbstractSet[str],
        kept: Mapping[str, int],
        sessions: Mapping[str, bool],
        confirmed: AbstractSet[str],
    ) -> FeedResult:
        """What was read about some profiles so far, compared as in ``differences``."""
        read = [event for event in self.read if event.subject in profiles]
        told = differences(read, kept=kept, sessions=sessions, confirmed=confirmed)
        refused = {status: count for status, count in self.answers.items() if status not in {OK, LOST, 503}}
        told += [f"feed: {count} answers {status}" for status, count in sorted(refused.items())]
        return FeedResult(
            read=len(read),
            ended=sum(event.type == ENDED for event in read),
            interrupted=self.answers.total() - self.answers[OK],
            differences=(*told, *_named("not after the cursor", self.repeated)),
        )


def differences(
    read: Iterable[ReadEvent], *, kept: Mapping[str, int], sessions: Mapping[str, bool], confirmed: AbstractSet[str]
) -> list[str]:
    """How the events that were read differ from what happened; empty if they tell all of it, once and in order.

    Args:
        read: in the order of reading.
        kept: the positions in PostgreSQL by event.
        sessions: whether it has ended, of each session in PostgreSQL.
        confirmed: sessions whose end a player was told.
    """
    positions: dict[str, int] = {}
    last: dict[str, int] = {}
    last_end: dict[str, datetime] = {}
    ends: Counter[str] = Counter()
    again, fell, late = [], [], []
    for event in read:
        if event.id in positions:
            again.append(event.id)
        positions[event.id] = event.position
        if event.position <= last.get(event.subject, 0):
            fell.append(event.id)
        last[event.subject] = event.position
        if event.type == ENDED and event.data.ended_at is not None:
            ends[event.data.session_id] += 1
            if event.data.ended_at < last_end.get(event.subject, event.data.ended_at):
                late.append(event.id)
            last_end[event.subject] = event.data.ended_at
    ended = {session for session, has_ended in sessions.items() if has_ended}
    return [
        *_named("read twice", again),
        *_named("sequence not above the one before", fell),
        *_named("session that ended before the one told before", late),
        *_named("kept, and not read", kept.keys() - positions.keys()),
        *_named("read, and not kept", positions.keys() - kept.keys()),
        *_named("moved", {each for each, position in positions.items() if kept.get(each, position) != position}),
        *_named("ended session without an event", ended - ends.keys()),
        *_named("confirmed end of a session that has not ended", confirmed - ended),
        *_named("session with several ends", {session for session, count in ends.items() if count > 1}),
        *_named("end of an unknown session", ends.keys() - sessions.keys()),
    ]


def _named(what: str, found: Iterable[str]) -> list[str]:
    some = sorted(found)
    return [f"feed: {len(some)} x {what}: {', '.join(some[:SHOWN])}"] if some else []
