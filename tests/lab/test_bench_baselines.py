"""The baselines of the benchmark answer what the load sends, and count what the Go service must count."""

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from app.auth.tokens import Tokens
from app.embedded.secrets import development_secrets
from app.embedded.valkey import Valkey
from app.lab.bench.baselines import Message, asgi, echo, go_service
from app.lab.bench.baselines.answer import BODY
from app.lab.bench.failures import Skipped
from app.lab.bench.service_processes import Program, ServiceProcesses, baseline
from app.lab.bench.viewers import HEARTBEAT, request_of
from app.settings.settings import environment, variable_of

TOKEN = Tokens(secret=b"s" * 32, issuer="hourglass", audience="hourglass")
BEAT, _ = request_of(7, "t" * 200)
END = b"POST /api/v1/viewing-time/session/1/end HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: hourglass.example\r\n\r\n"
COUNT = (go_service.SOURCES / "count.lua").read_text(encoding="utf-8")
MAX_GAP_MS = 300_000
HAS_GO = shutil.which("go") is not None and (go_service.PACKAGES / go_service.REDIGO).is_dir()


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


@given(
    requests=st.lists(st.sampled_from([BEAT, END, HEALTH]), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 5 * len(BEAT)), max_size=8),
)
def test_the_echo_answers_each_request_once_however_its_bytes_arrive(requests: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(requests)
    protocol, transport = echo.EchoProtocol(), Transport()
    protocol.connection_made(cast("Any", transport))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in pairwise(edges):
        protocol.data_received(stream[begin:end])
    assert transport.written == [echo.ANSWER] * len(requests)


def test_the_echo_waits_for_the_last_byte_of_a_body() -> None:
    protocol, transport = echo.EchoProtocol(), Transport()
    protocol.connection_made(cast("Any", transport))
    protocol.data_received(BEAT[:-1])
    assert transport.written == []
    protocol.data_received(BEAT[-1:])
    assert transport.written == [echo.ANSWER]


async def test_the_echo_sends_the_answer_of_plain_asgi() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    await asgi.answer({"type": "http"}, receive, send)
    head, _, body = echo.ANSWER.partition(b"\r\n\r\n")
    lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:]]
    assert body == sent[1]["body"]
    assert [tuple(line) for line in lines if line[0] != b"date"] == sent[0]["headers"]
    assert json.loads(body)["enforcement"] == "allowed"


def test_the_echo_is_a_program_of_its_own(tmp_path: Path) -> None:
    given = development_secrets(tmp_path) | {"database_url": "postgresql:///nowhere", "redis_url": "redis://nowhere"}
    variables = {**environment(), **{variable_of(name): value for name, value in given.items()}}
    program = baseline("echo")
    with (
        ServiceProcesses(program=program, workers=1, flushes=False, folder=tmp_path, variables=variables) as crew,
        closing(http.client.HTTPConnection("127.0.0.1", crew.port, timeout=10)) as connection,
    ):
        for _ in range(2):
            connection.request("POST", HEARTBEAT, body=b"{}")
            with connection.getresponse() as answer:
                assert (answer.status, answer.read()) == (200, BODY)


@pytest.fixture
def redis(valkey: Valkey) -> Iterator["Redis"]:
    with Redis.from_url(valkey.url, protocol=2) as client:
        yield client


def test_the_bare_script_counts_the_time_between_beats(redis: "Redis", tmp_path: Path) -> None:
    """Time of a running session counts up to the longest gap; a pause and another session count nothing."""
    key = f"count:{tmp_path.name}"

    def beat(session: str, *, paused: bool = False, max_gap_ms: int = MAX_GAP_MS) -> tuple[int, int]:
        used_ms, at_ms = cast("list[int]", redis.eval(COUNT, 1, key, session, int(paused), max_gap_ms))
        return used_ms, at_ms

    used_ms, began_ms = beat("a")
    assert used_ms == 0
    time.sleep(0.02)
    used_ms, at_ms = beat("a")
    assert used_ms == at_ms - began_ms >= 20
    assert beat("a", paused=True)[0] == used_ms
    assert beat("b")[0] == used_ms
    redis.hset(key, "at_ms", at_ms - 5_000)
    assert beat("b", max_gap_ms=1_000)[0] == used_ms + 1_000
    redis.delete(key)


def test_without_go_the_part_is_skipped_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.lab.bench.baselines.go_service.shutil.which", lambda _: None)
    with pytest.raises(Skipped, match="golang-go"):
        go_service.build(tmp_path)


def test_without_redigo_the_part_is_skipped_and_nothing_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.lab.bench.baselines.go_service.shutil.which", lambda _: "/usr/bin/go")
    with pytest.raises(Skipped, match="redigo"):
        go_service.build(tmp_path, packages=tmp_path)
    assert go_service.OFFLINE["GOPROXY"] == "off"


@pytest.mark.skipif(not HAS_GO, reason="Go or redigo is not installed")
def test_the_go_service_counts_and_answers_like_a_service(valkey: Valkey, tmp_path: Path) -> None:
    program = Program(name="go_service", command=(str(go_service.build(tmp_path / "go")),), is_threaded=True)
    variables = {**environment(), "REDIS_URL": valkey.url}
    body = json.loads(BEAT.partition(b"\r\n\r\n")[2])
    with (
        ServiceProcesses(program=program, workers=2, flushes=False, folder=tmp_path, variables=variables) as crew,
        closing(http.client.HTTPConnection("127.0.0.1", crew.port, timeout=10)) as connection,
    ):
        assert len(crew.api) == 1

        def post(path: str, sent: object = None) -> dict[str, Any]:
            connection.request("POST", path, body=None if sent is None else json.dumps(sent))
            answer = connection.getresponse()
            assert answer.status == 200
            found: dict[str, Any] = json.loads(answer.read())
            return found

        opened = post(HEARTBEAT, body)
        time.sleep(0.02)
        going = post(HEARTBEAT, body | {"session_id": opened["session_id"]})
        ended = post(f"/api/v1/viewing-time/session/{opened['session_id']}/end")
        assert post(HEARTBEAT, body)["session_id"] != opened["session_id"]
    assert set(opened) == set(json.loads(BODY))
    assert opened["used_seconds"] == 0
    assert 0.02 <= going["used_seconds"] < 10
    assert going["session_id"] == opened["session_id"] == ended["session_id"]
