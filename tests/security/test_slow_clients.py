"""Hundreds of clients that connect and stall, against a separate process."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from app.embedded.valkey import Valkey
from tests.fuzz.api import TITLE, Target, running_api

DEADLINE_SECONDS = 2
PATIENCE_SECONDS = 40.0
"""What a busy machine may need to get round to closing hundreds of connections."""
HEAD = "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
SILENT, HALF_HEAD = b"", b"POST /api/v1/auth/login HTTP/1.1\r\nHost: te"

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def target(database_url: str, valkey: Valkey) -> Iterator[Target]:
    deadline = str(DEADLINE_SECONDS)
    with running_api(database_url=database_url, redis_url=valkey.url, body_timeout_seconds=deadline) as started:
        yield started


@asynccontextmanager
async def clients(target: Target, sent: bytes, *, number: int) -> AsyncIterator[list[Client]]:
    """Connections with a started request that never continues."""
    address = urlsplit(target.url)
    opened = [await asyncio.open_connection(address.hostname, address.port) for _ in range(number)]
    for _, writer in opened:
        writer.write(sent)
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


def half_body(target: Target, path: str) -> bytes:
    """A request whose body is shorter than announced."""
    token = next(iter(target.tokens.values()))
    head = HEAD.format(path=path, token=token) + "Content-Length: 100\r\n\r\n"
    return head.encode() + b'{"profile_id":'


async def _end(client: Client) -> bytes:
    """All received bytes until the other side closed."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await client[0].read()


async def _slowest_of_a_hundred(target: Target) -> float:
    """The 99th percentile (s) of beats sent one after the other."""
    spent = []
    beat = {"profile_id": target.profiles[0], "title_id": TITLE, "device_id": "tv"}
    headers = {"Authorization": target.family.headers["Authorization"]}
    async with httpx.AsyncClient(base_url=target.url, headers=headers, timeout=PATIENCE_SECONDS) as http:
        for _ in range(200):
            began = time.perf_counter()
            answer = await http.post("/viewing-time/heartbeat", json=beat)
            spent.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
            beat["session_id"] = answer.json()["session_id"]
    return statistics.quantiles(spent, n=100)[98]


async def test_row_39_others_hardly_notice_five_hundred_that_do_not_get_on(database_url: str, valkey: Valkey) -> None:
    """While they stand there, before the deadline. Of three looks one is enough: the machine has other work, too."""
    with running_api(database_url=database_url, redis_url=valkey.url, body_timeout_seconds="60") as target:
        body = half_body(target, "/api/v1/viewing-time/heartbeat")
        looks = []
        for _ in range(3):
            calm = await _slowest_of_a_hundred(target)
            async with (
                clients(target, SILENT, number=170),
                clients(target, HALF_HEAD, number=170),
                clients(target, body, number=160),
            ):
                disturbed = await _slowest_of_a_hundred(target)
            if disturbed < 2 * calm:
                return
            looks.append((calm, disturbed))
    pytest.fail(f"99th percentiles before and with them: {looks}")


@pytest.mark.parametrize("path", ["/api/v1/viewing-time/heartbeat", "/api/v1/auth/login", "/api/v1/profiles"])
async def test_row_39_half_a_body_is_refused_by_the_deadline(target: Target, path: str) -> None:
    async with clients(target, half_body(target, path), number=50) as waiting:
        answers = await asyncio.gather(*map(_end, waiting))
    assert {answer.split(b" ", 2)[1] for answer in answers} == {b"408"}
    assert all(b"application/problem+json" in answer for answer in answers)


async def test_row_39_who_never_finishes_a_head_is_let_go(target: Target) -> None:
    async with clients(target, SILENT, number=25) as silent, clients(target, HALF_HEAD, number=25) as halves:
        answers = await asyncio.gather(*map(_end, [*silent, *halves]))
    assert all(answer == b"" or b" 408 " in answer for answer in answers)


async def test_row_39_connections_beyond_what_the_process_can_hold_are_closed_at_once(
    database_url: str, valkey: Valkey
) -> None:
    """Of 300 descriptors 200 are for servers and files; who was there before is served as ever."""
    with running_api(database_url=database_url, redis_url=valkey.url, children=1, descriptors=300) as target:
        async with clients(target, SILENT, number=150) as opened:
            ends = [asyncio.create_task(client[0].read()) for client in opened]
            _, held = await asyncio.wait(ends, timeout=DEADLINE_SECONDS)
            assert 90 <= len(held) <= 100
            assert target.family.get("/profiles").status_code == 200
            for task in held:
                task.cancel()
        metrics = target.family.get(target.url.replace("/api/v1/", "/metrics")).text
    refused = next(line for line in metrics.splitlines() if line.startswith("hourglass_refused_connections_total"))
    assert float(refused.split()[1]) >= 50
