"""The path of heartbeats in this process, from the bytes of a connection to its answer. A fake script counts."""

import asyncio
import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
from uvicorn import Config
from uvicorn.server import ServerState

from app.auth.tokens import Role, TokenCache, Tokens
from app.domain.counters import Rules
from app.domain.ids import SessionIds
from app.domain.markets import Market, Markets
from app.domain.policy import Policy
from app.domain.viewing_day import DAY_MS, Calendar
from app.kit.ttl_cache import TtlCache
from app.native import load_native
from app.observability import metrics
from app.redis_store.beat_calls import BeatCall
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys
from app.server.fast_path import FastPathProtocol
from app.server.known_heads import KnownHeads
from app.viewing.beat_recorder import BeatRecorder
from app.viewing.endpoint import HEARTBEAT_PATH, HeartbeatEndpoint
from app.viewing.policy_cache import PolicyCache
from app.viewing.service import HeartbeatTiming, ViewingService

NOW = 1_772_452_800_000
"""2026-03-02 12:00 UTC."""
SESSION = "0195d3c0-0000-7000-8000-000000000001"
TITLES: dict[str, bool | None] = {"title-1": False, "school-1": True, "gone-1": None}
_CALENDAR = Calendar.opened(NOW - 3 * DAY_MS, timezone="Europe/Oslo", reset_hour=6)
_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.decode


def id_of(number: int) -> str:
    return str(UUID(int=number, version=4))


def policy_of(number: int = 1, *, version: int = 1, **changed: Any) -> Policy:
    """The policy of a child whose account has the number + 1,000."""
    made = Policy(id_of(number), id_of(1_000 + number), version, True, 1, 120, 180, True, (15, 5), _CALENDAR)
    return msgspec.structs.replace(made, **changed)


class Wire:
    """The transport of a connection."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 80) if name.endswith("name") else default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def without_ids(sent: bytes) -> bytes:
    """What was sent up to a request id, which is made anew for each refusal."""
    return sent.partition(b"x-request-id")[0]


class HeartbeatProcess:
    """All that answers heartbeats, with or without the native module.

    Attributes:
        calls: keys and arguments of the script calls.
        script: answers a call of so many beats; raises what a call may.
    """

    def __init__(self, *, is_native: bool, revoked: Sequence[str] = ()) -> None:
        self.wall_ms = self.monotonic_ms = NOW
        self.is_native = is_native
        self.revoked = set(revoked)
        self.calls: list[tuple[Sequence[str | bytes], Sequence[bytes]]] = []
        self.script: Callable[[int], bytes | None] = answer_of
        self.random = random.Random(7)  # noqa: S311  the same one in both processes
        self.tokens = Tokens(secret=b"j" * 32, issuer="hourglass", audience="players")
        self.token_cache = TokenCache(
            self.tokens, size=1_000, clock=lambda: self.wall_ms, is_revoked=self.revoked.__contains__
        )
        nothing: Any = _Nothing()
        self.policies = PolicyCache(
            shared=nothing,
            source=nothing,
            markets=Markets(Market()),
            ttl_ms=60_000,
            stale_ms=600_000,
            size=1_000,
            clock=lambda: self.wall_ms,
            monotonic=lambda: self.monotonic_ms,
            jitter=random.Random(1),  # noqa: S311  when an entry ends
        )
        self.titles: TtlCache[str, bool | None] = TtlCache(
            _known_titles,
            ttl_ms=300_000,
            stale_ms=600_000,
            size=100,
            clock=lambda: self.monotonic_ms,
            jitter=random.Random(1),  # noqa: S311  likewise
        )
        for title_id, is_educational in TITLES.items():
            self.titles._keep(title_id, is_educational)
        native = load_native("required") if is_native else None
        self.service, self.recorder = self._service(BeatCall if native is None else native.NativeBeatCall)
        self.endpoint = HeartbeatEndpoint(
            service=self.service, tokens=self.token_cache, body_limit_bytes=4_096, body_timeout_seconds=5.0
        )
        self.native: Any = None
        if native is not None:
            self.native = native.NativeHeartbeats(
                tokens=self.token_cache,
                policies=self.policies,
                titles=self.titles,
                queue=self.recorder.queue,
                randomness=self.random,
                interval_ms=30_000,
                lease_ms=300_000,
                resume=self.endpoint.resume,
                answered=metrics.requests_of("POST", HEARTBEAT_PATH, 200),
            )
        self.taken = 0
        self._config = Config(self, http=FastPathProtocol, log_config=None, server_header=False, date_header=False)
        self._config.load()
        self._state = ServerState()
        self.known_heads = KnownHeads()

    def _service(self, call: type[BeatCall]) -> tuple[ViewingService, BeatRecorder]:
        redis: Any = None
        counters = RedisCounters(redis, Keys(4), Rules(), live_ttl_seconds=3_600, call=call)
        script: Any = self._run
        counters._record = script
        nothing: Any = _Nothing()
        recorder = BeatRecorder(
            counters=counters,
            usage=nothing,
            policies=self.policies,
            session_ids=SessionIds(b"s" * 32),
            randomness=self.random,
            max_batch=64,
            max_calls_in_flight=1,
        )
        external: Any = SimpleNamespace(peek_profile=lambda *_: None)
        service = ViewingService(
            recorder=recorder,
            policies=self.policies,
            titles=self.titles,
            households=nothing,
            events=_Nothing(),
            session_ids=SessionIds(b"s" * 32),
            active_sessions=nothing,
            leases=nothing,
            tampering=nothing,
            external_ids=external,
            timing=HeartbeatTiming(interval_ms=30_000, lease_ms=300_000),
            markets=Markets(Market()),
            clock=lambda: self.wall_ms,
            randomness=self.random,
        )
        return service, recorder

    async def _run(self, _: object, keys: Sequence[str | bytes], args: Sequence[bytes], *, node: object) -> object:
        del node
        self.calls.append((list(keys), list(args)))
        return self.script(len(_unpack(args[0])[2]))

    # --- what a server asks its application

    access_log = SimpleNamespace(answered=lambda *_, **__: None)
    body_limit_bytes = 4_096

    def beat_choice(self) -> None:
        return None

    def account_of(self, _: bytes | None) -> None:
        return None

    def fast_path(self) -> Callable[[bytes], Any]:
        return lambda url: self.endpoint.begin if url == HEARTBEAT_PATH.encode() else None

    def take_beat(self) -> Any:
        return None if self.native is None else self._take

    def _take(self, connection: Any, data: bytes) -> bool:
        is_taken = self.native.take(connection, data)
        self.taken += is_taken
        return bool(is_taken)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    # --- players

    def keep(self, policy: Policy) -> None:
        """Remember a policy."""
        self.policies._keep(policy)

    def token(self, number: int = 1, *, role: Role = Role.HOUSEHOLD, seconds: int = 3_600, **more: Any) -> bytes:
        """The ``Authorization`` of a child's household."""
        text = self.tokens.issue(
            account_id=id_of(1_000 + number), role=role, at_s=NOW // 1000, life_seconds=seconds, **more
        )
        return b"Bearer " + text.encode()

    def connect(self) -> "Line":
        connection = FastPathProtocol(self._config, self._state, {})
        connection.known_heads = self.known_heads
        wire = Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        return Line(connection, wire)


class Line:
    """A connection and its transport."""

    def __init__(self, connection: FastPathProtocol, wire: Wire) -> None:
        self.connection = connection
        self.wire = wire

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    async def sent(self) -> bytes:
        """What was written since the last time, after all that is under way."""
        for _ in range(12):
            await asyncio.sleep(0)
        found, self.wire.sent = b"".join(self.wire.sent), []
        return found


class _Nothing:
    """A store without anything, that takes everything."""

    async def load(self, profile_ids: Sequence[str]) -> list[None]:
        return [None] * len(profile_ids)

    load_with_counters = recover = load

    async def put(self, policies: Sequence[Policy], counters_of: object = None) -> list[Policy]:
        del counters_of
        return list(policies)

    async def add(self, *_: object, **__: object) -> None:
        return


async def _known_titles(title_ids: Sequence[str]) -> list[bool | None]:
    return [TITLES.get(title_id) for title_id in title_ids]


def body_of(number: int = 1, **fields: Any) -> bytes:
    """The body of an ordinary heartbeat, with some of its fields changed."""
    beat = {"profile_id": id_of(number), "title_id": "title-1", "device_id": "tv-1", "device_type": "tv"}
    return msgspec.json.encode({**beat, "session_id": SESSION, **fields})


def request_of(token: bytes, body: bytes, *lines: bytes) -> bytes:
    head = [b"POST %b HTTP/1.1" % HEARTBEAT_PATH.encode(), b"Host: test", b"Authorization: " + token]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), *lines, b"", b""]) + body


def answer_of(
    beats: int, *, at_ms: int = NOW, figures: Sequence[int] = (600_000, 30_000, 900_000), others: Sequence[Any] = ()
) -> bytes:
    """What the script answers: the same figures for each beat."""
    return _pack((at_ms, [*figures] * beats, [*others], []))
