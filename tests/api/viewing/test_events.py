"""The event stream, over a real socket: what one process does, a player connected to another hears."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

from app.clock import now_ms
from app.settings import Settings
from tests.api.viewing.conftest import running
from tests.builders import Api, Household

SOON_SECONDS = 5.0


@dataclass(frozen=True)
class Served:
    """An API that answers on a port."""

    api: Api
    port: int


@pytest_asyncio.fixture(loop_scope="session")
async def served(prepared: Settings) -> AsyncIterator[Served]:
    async with running(prepared) as api:
        config = uvicorn.Config(api.front, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        with contextlib.suppress(asyncio.CancelledError):
            task = asyncio.create_task(server._serve())
            while not server.started:  # noqa: ASYNC110  uvicorn offers no event to wait for
                await asyncio.sleep(0.01)
            yield Served(api, server.servers[0].sockets[0].getsockname()[1])
            server.should_exit = True
            await task


@asynccontextmanager
async def stream(
    served: Served, home: Household, profile_id: str, **headers: str
) -> AsyncIterator[asyncio.StreamReader]:
    """An open event stream, past the response's head and the greeting."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    lines = [f"GET /api/v1/viewing-time/events/{profile_id} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in (home.player | headers).items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    try:
        async with asyncio.timeout(SOON_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head, head
            assert b"text/event-stream" in head
            await reader.readuntil(b": connected\n\n")
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def next_event(reader: asyncio.StreamReader) -> tuple[str, str, Any]:
    """The next event as id, kind and facts."""
    async with asyncio.timeout(SOON_SECONDS):
        await reader.readuntil(b"id: ")
        text = (await reader.readuntil(b"\n\n")).decode()
    event_id, kind, facts = text.strip().split("\n")
    return event_id, kind.removeprefix("event: "), json.loads(facts.removeprefix("data: "))


async def test_a_changed_limit_is_heard_with_the_new_balance(served: Served, api: Api) -> None:
    home = await api.household()
    child = await home.add_profile()
    async with stream(served, home, child) as reader:
        await home.set_limits(child, weekday_limit_minutes=30, weekend_limit_minutes=30)
        _, kind, balance = await next_event(reader)
        assert kind == "viewing_time_updated"
        assert (balance["limit_minutes"], balance["remaining_seconds"]) == (30, 1800)


async def test_the_loser_of_a_take_over_hears_of_it(served: Served, api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    first = (await home.beat(child, title)).json()["session_id"]
    async with stream(served, home, child) as reader:
        await home.beat(child, title, device_id="pad", device_type="tablet")
        _, kind, facts = await next_event(reader)
        assert (kind, facts) == ("session_superseded", {"session_id": first, "by": {"device_type": "tablet"}})


async def test_the_end_of_the_time_is_heard_once(served: Served, api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    await home.set_limits(child, weekday_limit_minutes=15, weekend_limit_minutes=15)
    counters = api.services.counters
    counters.at_ms = now_ms()
    try:
        session_id = (await home.beat(child, title)).json()["session_id"]
        async with stream(served, home, child) as reader:
            for _ in range(5):
                counters.at_ms += 240_000
                await home.beat(child, title, session_id=session_id)
            await home.beat(child, title, device_id="pad", device_type="tablet")
            _, kind, facts = await next_event(reader)
            assert (kind, facts.keys()) == ("blocked", {"next_reset_at"})
            assert (await next_event(reader))[1] == "session_superseded"
    finally:
        counters.at_ms = 0


async def test_a_stream_resumes_after_the_last_event_it_sent(served: Served, api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    async with stream(served, home, child) as reader:
        await home.beat(child, title)
        await home.beat(child, title, device_id="a")
        event_id, _, first = await next_event(reader)
    await home.beat(child, title, device_id="b")
    await home.beat(child, title, device_id="c")
    async with stream(served, home, child, **{"Last-Event-ID": event_id}) as reader:
        sessions = [(await next_event(reader))[2]["session_id"] for _ in range(2)]
    assert len({first["session_id"], *sessions}) == 3


@pytest.mark.parametrize("last_event_id", ["x", "1", "1-2-3", "9" * 30 + "-0", "9" * 20 + "-0"])
async def test_a_made_up_event_id_is_refused(api: Api, last_event_id: str) -> None:
    home = await api.household()
    child = await home.add_profile()
    headers = home.player | {"Last-Event-ID": last_event_id}
    assert (await api.http.get(f"/viewing-time/events/{child}", headers=headers)).status_code == 422


async def test_another_familys_events_are_not_to_be_heard(api: Api) -> None:
    home, others = await api.household(), await api.household()
    child = await home.add_profile()
    assert (await api.http.get(f"/viewing-time/events/{child}", headers=others.player)).status_code == 403
