"""Many players with a ledger each: what they really watched, every answer they got, and how long it took."""

import asyncio
import random
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from app.auth.tokens import Role, Tokens
from app.bench.client import LOST, Connection
from app.bench.viewers import HEARTBEAT, account_id, profile_id, title_of
from app.chaos.background import Background
from app.clock import now_ms
from app.domain.ledger import Watched

OK = 200
CONFLICT = 409
TOKEN_LIFE_SECONDS = 86_400
END_SECONDS = 60.0
END_PAUSE_SECONDS = 0.25
CONNECTS_AT_ONCE = 64
_TOLERATED_FALL_SECONDS = 0.001


class _Answer(msgspec.Struct):
    session_id: str
    used_seconds: float
    next_reset_at: str | None


class _Problem(msgspec.Struct):
    code: str = ""


_answer = msgspec.json.Decoder(_Answer).decode
_problem = msgspec.json.Decoder(_Problem).decode


@dataclass
class Tale:
    """What players met with.

    Attributes:
        answers: how often each status, with the problem's code; ``lost`` for broken connections, ``late`` for none.
        latencies_ms: of all that were answered, and the patience of those that were not.
        falls: how often a used time was less than one told before on the same day.
    """

    answers: Counter[str] = field(default_factory=Counter)
    latencies_ms: "array[float]" = field(default_factory=lambda: array("f"))
    falls: int = 0

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
        """Whether nothing but these was answered."""
        return not set(self.answers) - set(allowed)


@dataclass(kw_only=True)
class _Session:
    """Instants in ms since 1970, see ``domain.ledger.Watched``."""

    id: str
    opened_after_ms: int
    opened_before_ms: int
    last_beat_ms: int


class Player:
    """One device of one child, which beats until told to stop.

    ``is_watching``: its last beat was counted, and it has not tried to end the session since.

    Args:
        viewer: number of the child among those in the database.
        interval_seconds: between beats.
        patience_seconds: for one answer.
        chance: where in its interval it begins, and when it changes sessions.
    """

    def __init__(
        self,
        crowd: "Crowd",
        viewer: int,
        *,
        token: str,
        interval_seconds: float,
        patience_seconds: float,
        chance: random.Random,
    ) -> None:
        self.profile_id = profile_id(viewer)
        self.watched: list[Watched] = []
        self.is_watching = False
        self._crowd = crowd
        self._interval_seconds = interval_seconds
        self._patience_seconds = patience_seconds
        self._chance = chance
        self._beat = {"profile_id": self.profile_id, "title_id": title_of(viewer), "device_id": f"device-{viewer}"}
        self._head = (
            " HTTP/1.1\r\nHost: hourglass.example\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: "
        )
        self._connection: Connection | None = None
        self._session: _Session | None = None
        self._day: str | None = None
        self._used_seconds = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Beat on a timetable of its own; a late answer does not move the beats after it."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._chance.random() * self._interval_seconds
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await stopping.wait()
                    return
            if self._session is not None and self._chance.random() < self._crowd.churn:
                self.is_watching = False
                await self.end(seconds=self._interval_seconds)
            else:
                self.is_watching = await self.beat() == OK
            due = max(due + self._interval_seconds, loop.time())

    async def beat(self) -> int:
        """One heartbeat; its status."""
        body: dict[str, object] = dict(self._beat)
        session = self._session
        if session is not None:
            body["session_id"] = session.id
            body["watched_seconds"] = (now_ms() - session.opened_before_ms) / 1000
        sent_ms = now_ms()
        status, content = await self._post(HEARTBEAT, body)
        if status == OK:
            self._take(_answer(content), sent_ms)
        elif status == CONFLICT:
            self._close(ended_before_ms=now_ms())
        return status

    async def end(self, *, seconds: float) -> bool:
        """End the session and have it confirmed; False when that takes too long.

        A last good beat comes first: whatever was sent earlier and arrived late is behind us then.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline and self._session is not None:
            if await self.beat() == OK:
                break
            await asyncio.sleep(END_PAUSE_SECONDS)
        sent_ms: int | None = None
        while self._session is not None and loop.time() < deadline:
            sent_ms = sent_ms or now_ms()
            status, _ = await self._post(f"/api/v1/viewing-time/session/{self._session.id}/end", {})
            if status == OK:
                self._session.last_beat_ms = sent_ms
                self._close(ended_before_ms=now_ms())
            else:
                await asyncio.sleep(END_PAUSE_SECONDS)
        return self._session is None

    def leave(self) -> None:
        """Go away as if switched off: counted is at least up to the last beat that was answered."""
        self._close(ended_before_ms=now_ms())
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _take(self, answer: _Answer, sent_ms: int) -> None:
        if self._session is None:
            self._session = _Session(
                id=answer.session_id, opened_after_ms=sent_ms, opened_before_ms=now_ms(), last_beat_ms=sent_ms
            )
        self._session.last_beat_ms = sent_ms
        if answer.next_reset_at == self._day and answer.used_seconds < self._used_seconds - _TOLERATED_FALL_SECONDS:
            self._crowd.tale.falls += 1
        self._day, self._used_seconds = answer.next_reset_at, answer.used_seconds

    def _close(self, *, ended_before_ms: int) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            self.watched.append(
                Watched(
                    profile_id=self.profile_id,
                    opened_after_ms=session.opened_after_ms,
                    opened_before_ms=session.opened_before_ms,
                    ended_after_ms=session.last_beat_ms,
                    ended_before_ms=ended_before_ms,
                )
            )

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
        self._crowd.tale.answers[what] += 1
        self._crowd.tale.latencies_ms.append((loop.time() - began) * 1000)
        if status == LOST and self._connection is not None:
            self._connection.close()
            self._connection = None
        return status, answered

    async def _connected(self) -> Connection:
        if self._connection is None:
            async with self._crowd.connecting:
                self._connection = await Connection.opened(self._crowd.url)
        return self._connection


class Crowd:
    """Players of some of the children in the database.

    Args:
        background: whose loop they live in.
        url: base address of the service.
        tokens: mints theirs.
        viewers: numbers of the children.
        seed: for where in their intervals they begin.
        churn: how likely a player is, at each beat, to end its session and open another.
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
    ) -> None:
        self.url = url
        self.tale = Tale()
        self.churn = churn
        self.connecting = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self._background = background
        self._stopping = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        chance = random.Random(seed)  # noqa: S311  when players beat
        at_s = now_ms() // 1000
        self._players = [
            Player(
                self,
                viewer,
                token=tokens.issue(
                    account_id=account_id(viewer), role=Role.HOUSEHOLD, at_s=at_s, life_seconds=TOKEN_LIFE_SECONDS
                ),
                interval_seconds=interval_seconds,
                patience_seconds=patience_seconds,
                chance=random.Random(chance.random()),  # noqa: S311  as above
            )
            for viewer in viewers
        ]

    @property
    def size(self) -> int:
        return len(self._players)

    @property
    def profile_ids(self) -> list[str]:
        return [player.profile_id for player in self._players]

    def ledger(self) -> list[Watched]:
        """Every session that is over."""
        return [session for player in self._players for session in player.watched]

    def start(self) -> None:
        self._background.run(self._start())

    def is_watching(self) -> bool:
        """Whether everybody is in a session that the service knows to be running."""
        return self._background.run(self._is_watching())

    def cut_tale(self) -> Tale:
        """What happened since the last time."""
        tale, self.tale = self.tale, Tale()
        return tale

    def settle(self, *, seconds: float = END_SECONDS) -> int:
        """Have everybody end; how many could not."""
        return self._background.run(self._settle(seconds))

    def leave(self) -> None:
        """Have everybody go without a word."""
        self._background.run(self._leave())

    async def _start(self) -> None:
        self._running = [asyncio.create_task(player.run(self._stopping)) for player in self._players]

    async def _is_watching(self) -> bool:
        """Asked between what players do, so that none is about to end its session unseen."""
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


def _named(status: int, content: bytes) -> str:
    if status == LOST:
        return "lost"
    if status == OK:
        return "200"
    try:
        return f"{status} {_problem(content).code}".rstrip()
    except msgspec.MsgspecError:
        return str(status)
