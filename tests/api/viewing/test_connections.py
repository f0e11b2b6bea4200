"""Heartbeats over real connections: fast path and normal path answer equally and in order, and every wait ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from app.server.fast_path import Deadlines, FastPathProtocol
from tests.scenes.api import Api
from tests.scenes.households import Household, registered_at_noon
from tests.statements import statements_of

PATH = "/api/v1/viewing-time/heartbeat"
KEEP_ALIVE_SECONDS, ARRIVAL_SECONDS = 75.0, 10.0
BODY_LIMIT = 65_536
NOON_MS = 1_772_452_800_999
"""2026-03-02 12:00 UTC, nearly a second later."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Client:
    """A connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        first, *lines = head.decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def is_closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(1), 10) == b""


@dataclass
class Site:
    """The API behind real sockets."""

    port: int
    deadlines: Deadlines
    state: ServerState
    wall_ms: list[int]
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    def at(self, seconds: float) -> None:
        """Move the clock of the deadlines, and look at everybody."""
        for _ in range(20):
            self.deadlines.tick(seconds)


@pytest.fixture(params=["python", "native"])
async def site(api: Api, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    heartbeat = api.services.viewing.heartbeat
    if request.param == "python":
        monkeypatch.setattr(heartbeat, "take", None)
    elif heartbeat.take is None:
        pytest.skip("the native module is not built: scripts/test builds it")
    config = Config(api.front, http=FastPathProtocol, log_config=None, server_header=False, date_header=False)
    config.load()
    state = ServerState()
    wall_ms = [NOON_MS]
    deadlines = Deadlines(
        state.connections,
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
        arrival_seconds=ARRIVAL_SECONDS,
        clock=lambda: wall_ms[0],
    )
    deadlines.tick(0.0)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FastPathProtocol(config, state, {}), "127.0.0.1", 0)
    opened = Site(server.sockets[0].getsockname()[1], deadlines, state, wall_ms)
    yield opened
    server.close()
    for client in opened.clients:
        client.writer.close()
    while state.connections:  # noqa: ASYNC110  the server's own set, which tells nobody
        await asyncio.sleep(0)


@dataclass
class Player:
    home: Household
    child: str
    title: str

    def body(self, **fields: Any) -> bytes:
        beat = {"profile_id": self.child, "title_id": self.title, "device_id": "tv-1", "device_type": "tv"}
        return json.dumps(beat | fields).encode()

    def request(self, body: bytes, *more: str, version: str = "1.1", length: bool = True) -> bytes:
        lines = [f"POST {PATH} HTTP/{version}", "Host: test", f"Authorization: {self.home.as_player['Authorization']}"]
        lines += [f"Content-Length: {len(body)}"] if length else []
        return "\r\n".join([*lines, *more, "", ""]).encode() + body


@pytest.fixture
async def player(api: Api) -> Player:
    home = await registered_at_noon(api)
    return Player(home, await home.child(), await api.add_title())


async def test_a_beat_is_answered_as_over_the_long_way(site: Site, player: Player) -> None:
    client = await site.connect()
    client.send(player.request(player.body()))
    opened = await client.answer()
    session = opened.json["session_id"]
    client.send(player.request(player.body(session_id=session)))
    short = await client.answer()
    long = await player.home.beat(player.child, player.title, session_id=session)
    assert short.status == opened.status == long.status_code == 200
    moving = {"used_seconds", "used_minutes", "remaining_seconds", "remaining_minutes", "next_beat_in", "stop_at"}
    moving.add("server_time")
    assert set(short.json) == set(long.json())
    assert {k: v for k, v in short.json.items() if k not in moving} == {
        k: v for k, v in long.json().items() if k not in moving
    }
    assert {name: short.headers[name] for name in long.headers} | {"content-length": "0"} == dict(long.headers) | {
        "content-length": "0"
    }


async def test_every_answer_of_the_short_way_is_dated(site: Site, player: Player) -> None:
    client = await site.connect()
    for body, status in ((player.body(), 200), (b"{", 400)):
        client.send(player.request(body))
        answer = await client.answer()
        assert (answer.status, answer.headers["date"]) == (status, "Mon, 02 Mar 2026 12:00:00 GMT")
    site.wall_ms[0] += 1
    site.at(0.1)
    client.send(player.request(player.body()))
    assert (await client.answer()).headers["date"] == "Mon, 02 Mar 2026 12:00:01 GMT"


async def test_pipelined_beats_are_answered_in_order(site: Site, player: Player) -> None:
    client = await site.connect()
    client.send(player.request(player.body()))
    session = (await client.answer()).json["session_id"]
    sound, broken = player.request(player.body(session_id=session)), player.request(b"{")
    client.send(sound + broken + sound + broken + sound)
    assert [(await client.answer()).status for _ in range(5)] == [200, 400, 200, 400, 200]


async def test_other_requests_go_on_beside_beats(site: Site, player: Player) -> None:
    client = await site.connect()
    client.send(b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (await client.answer()).status == 200
    client.send(player.request(player.body()) + b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n")
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    client.send(player.request(player.body()))
    assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("body", "authorization", "refusal"),
    [
        (b"{", None, (400, "malformed")),
        (b'{"x": 1}', None, (422, "invalid_input")),
        (b"", None, (400, "malformed")),
        (None, "Bearer nobody", (401, "unauthenticated")),
        (None, "", (401, "unauthenticated")),
    ],
)
async def test_refusals_are_problems(
    site: Site, player: Player, body: bytes | None, authorization: str | None, refusal: tuple[int, str]
) -> None:
    client = await site.connect()
    request = player.request(player.body() if body is None else body)
    if authorization is not None:
        request = request.replace(player.home.as_player["Authorization"].encode(), authorization.encode())
    client.send(request)
    answer = await client.answer()
    assert (answer.status, answer.json["code"]) == refusal
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    client.send(player.request(player.body()))
    assert (await client.answer()).status == 200


async def test_who_is_met_on_the_way_is_refused_as_over_the_long_way(api: Api, site: Site, player: Player) -> None:
    foreign = await (await registered_at_noon(api)).child()
    client = await site.connect()
    for changed, refusal in (
        ({"profile_id": str(uuid4())}, (403, "profile_access_denied")),
        ({"profile_id": foreign}, (403, "profile_access_denied")),
        ({"title_id": "never heard of"}, (404, "title_unknown")),
    ):
        client.send(player.request(player.body(**changed)))
        answer = await client.answer()
        assert (answer.status, answer.json["code"]) == refusal


async def test_an_unknown_profile_is_looked_up_once(api: Api, site: Site, player: Player) -> None:
    client = await site.connect()
    with statements_of(api.services.engine) as sent:
        client.send(player.request(player.body(profile_id=str(uuid4()))))
        assert (await client.answer()).status == 403
    asked = [statement for statement in sent if "FROM profiles" in statement]
    assert len([statement for statement in asked if "external_id" in statement]) == 1, "as an id of the platform"
    assert len(asked) == 2


async def test_a_beat_may_arrive_in_pieces(site: Site, player: Player) -> None:
    client = await site.connect()
    for byte in player.request(player.body()):
        client.send(bytes([byte]))
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.answer()).status == 200


async def test_a_chunked_body_is_a_body(site: Site, player: Player) -> None:
    client = await site.connect()
    body = player.body()
    head = player.request(b"", "Transfer-Encoding: chunked", length=False)
    client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("length", [True, False], ids=["declared", "chunked"])
async def test_a_body_beyond_the_limit_is_refused_and_not_read(site: Site, player: Player, length: bool) -> None:
    client = await site.connect()
    body = b" " * (BODY_LIMIT + 1)
    if length:
        client.send(player.request(body))
    else:
        head = player.request(b"", "Transfer-Encoding: chunked", length=False)
        client.send(head + b"%x\r\n%b\r\n" % (len(body), body))
    answer = await client.answer()
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert await client.is_closed()


async def test_who_wants_to_be_told_to_go_on_is_told(site: Site, player: Player) -> None:
    client = await site.connect()
    body = player.body()
    client.send(player.request(b"", "Expect: 100-continue", f"Content-Length: {len(body)}", length=False))
    assert (await client.answer()).status == 100
    client.send(body)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize(("version", "more"), [("1.1", ["Connection: close"]), ("1.0", [])])
async def test_a_connection_ends_when_its_client_says_so(
    site: Site, player: Player, version: str, more: list[str]
) -> None:
    client = await site.connect()
    client.send(player.request(player.body(), *more, version=version))
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await client.is_closed()


# --- deadlines


async def test_silence_after_connecting_ends(site: Site) -> None:
    client = await site.connect()
    while not site.state.connections:  # noqa: ASYNC110  likewise
        await asyncio.sleep(0)
    site.at(ARRIVAL_SECONDS - 1)
    await asyncio.sleep(0)
    assert not client.reader.at_eof()
    site.at(ARRIVAL_SECONDS + 1)
    assert await client.is_closed()


@pytest.mark.parametrize(
    "sent", [b"POST /api", b"POST / HTTP/1.1\r\nHost: x\r\n", "half"], ids=["line", "head", "body"]
)
async def test_half_a_request_ends(site: Site, player: Player, sent: bytes | str) -> None:
    """Half of a beat's body; whoever reads other bodies has a deadline of its own."""
    client = await site.connect()
    client.send(player.request(player.body())[:-5] if isinstance(sent, str) else sent)
    await _arrived(site)
    site.at(ARRIVAL_SECONDS - 1)
    assert not client.reader.at_eof()
    site.at(ARRIVAL_SECONDS + 1)
    answer = await client.answer()
    assert (answer.status, answer.json["code"]) == (408, "body_timeout")
    assert await client.is_closed()


async def test_a_head_without_end_is_refused(site: Site) -> None:
    client = await site.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + b"X-More: of the same\r\n" * 4_000)
    assert (await client.answer()).status == 431
    assert await client.is_closed()


async def test_an_idle_connection_is_kept_for_a_while(site: Site, player: Player) -> None:
    client = await site.connect()
    client.send(player.request(player.body()))
    assert (await client.answer()).status == 200
    site.at(ARRIVAL_SECONDS + 1)
    site.at(KEEP_ALIVE_SECONDS - 1)
    client.send(player.request(player.body()))
    assert (await client.answer()).status == 200
    site.at(2 * KEEP_ALIVE_SECONDS - 2)
    assert not client.reader.at_eof()
    site.at(2 * KEEP_ALIVE_SECONDS)
    assert await client.is_closed()


async def test_at_shutdown_a_beat_under_way_is_answered(site: Site, player: Player) -> None:
    idle, busy = await site.connect(), await site.connect()
    busy.send(player.request(player.body())[:-5])
    await _arrived(site)
    for connection in list(site.state.connections):
        connection.shutdown()
    assert await idle.is_closed()
    busy.send(player.request(player.body())[-5:])
    answer = await busy.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await busy.is_closed()


async def _arrived(site: Site) -> None:
    """Until a request has begun on some connection."""
    async with asyncio.timeout(10):
        while not any(hasattr(connection, "url") for connection in site.state.connections):  # noqa: ASYNC110  likewise
            await asyncio.sleep(0)


async def test_a_session_is_ended_as_over_the_long_way(site: Site, player: Player) -> None:
    client = await site.connect()
    client.send(player.request(player.body()))
    session = (await client.answer()).json["session_id"]
    path = f"/viewing-time/session/{session}/end"
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: test\r\nAuthorization: {player.home.as_player['Authorization']}\r\n"
    client.send(f"{head}Content-Length: 0\r\n\r\n".encode())
    short = await client.answer()
    long = await player.home.api.http.post(path, headers=player.home.as_player)
    assert (short.status, short.json) == (long.status_code, long.json())
    client.send(head.replace(session, "0" * 36).encode() + b"Content-Length: 0\r\n\r\n")
    assert (await client.answer()).status == 403
    client.send(head.replace(session, "nothing").encode() + b"Content-Length: 0\r\n\r\n")
    refused = await client.answer()
    assert (refused.status, refused.json["errors"][0]["parameter"]) == (422, "session_id")
