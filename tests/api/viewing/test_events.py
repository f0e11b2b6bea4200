"""The event stream over a real socket: an action in one process reaches a player of another one."""

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
import structlog
import uvicorn

from app.auth.tokens import Role
from app.clock import now_ms
from app.http import problems
from app.parents.grants import Actor
from app.settings.settings import Settings
from app.timestamps import ms_of
from app.viewing.events import UPDATED
from tests.scenes.api import Api, running
from tests.scenes.households import PASSWORD, Household, registered_at_noon

SOON_SECONDS = 20.0


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
    async with stream_at(served, f"/viewing-time/events/{profile_id}", home.as_player | headers) as reader:
        yield reader


@asynccontextmanager
async def stream_at(served: Served, path: str, headers: Mapping[str, str]) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    lines = [f"GET /api/v1{path} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
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
    home = await registered_at_noon(api)
    child = await home.child()
    async with stream(served, home, child) as reader:
        await home.set_limits(child, weekday_limit_minutes=30, weekend_limit_minutes=30)
        _, kind, balance = await next_event(reader)
        assert kind == "viewing_time_updated"
        assert (balance["limit_minutes"], balance["remaining_seconds"]) == (30, 1800)


async def test_a_pause_and_its_end_are_heard(served: Served, api: Api) -> None:
    """Nobody acts when a pause ends, so the stream tells of it by itself."""
    home = await registered_at_noon(api)
    child = await home.child()
    async with stream(served, home, child) as reader:
        actor, before_ms = Actor(home.id, "parent"), now_ms() - 59_000
        await api.services.parents.pauses.begin(actor, child, minutes=1, key=None, at_ms=before_ms)
        _, kind, balance = await next_event(reader)
        assert (kind, balance["enforcement"], balance["reason"]) == (UPDATED, "blocked", "parent_pause")
        _, kind, balance = await next_event(reader)
        assert (kind, balance["enforcement"], balance["paused_until"]) == (UPDATED, "allowed", None)


async def test_a_break_and_its_end_are_heard(served: Served, api: Api) -> None:
    """Nobody acts when a break ends either. The playback before it is told of as of a quarter of an hour ago."""
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    await home.set_limits(child, break_after_minutes=15, break_minutes=5)
    due_ms = now_ms() - 299_000

    async def beats(before_ms: int, session_id: str | None) -> str:
        api.services.counters.at_ms = due_ms - before_ms
        try:
            answer = await home.beat(child, title, session_id=session_id)
        finally:
            api.services.counters.at_ms = 0
        told: str = answer.json()["session_id"]
        return told

    session_id = await beats(900_000, None)
    for before_ms in (600_000, 300_000):
        await beats(before_ms, session_id)
    async with stream(served, home, child) as reader:
        await beats(0, session_id)
        _, kind, facts = await next_event(reader)
        assert (kind, facts["reason"]) == ("blocked", "break")
        _, kind, balance = await next_event(reader)
        assert (kind, balance["enforcement"], balance["break_in_seconds"]) == (UPDATED, "warning_15", 900)


@pytest.mark.parametrize(("what", "status"), [("approve", "approved"), ("deny", "denied")])
async def test_a_child_hears_the_answer_to_its_request(served: Served, api: Api, what: str, status: str) -> None:
    """Through another process, within a second, and once however often the parent taps."""
    home = await registered_at_noon(api)
    child = await home.child()
    requests = f"/parental-controls/profiles/{child}/requests"
    async with stream(served, home, child) as reader:
        body = {"minutes": 30, "note": "please"}
        request_id = (await api.http.post(requests, json=body, headers=home.as_player)).json()["request_id"]
        answer = await api.http.post(f"{requests}/{request_id}/{what}", headers=home.as_parent)
        assert answer.status_code == 200, answer.text
        await api.http.post(f"{requests}/{request_id}/{what}", headers=home.as_parent)
        async with asyncio.timeout(1.0):
            heard = [await next_event(reader) for _ in range(2 if what == "approve" else 1)]
        facts = {"request_id": request_id, "status": status, "minutes": 30, "grant_id": answer.json()["grant_id"]}
        assert [event[2] for event in heard if event[1] == "request_answered"] == [facts]
        await home.set_limits(child, weekday_limit_minutes=30, weekend_limit_minutes=30)
        assert (await next_event(reader))[1] == "viewing_time_updated", "the second tap was no news"


async def test_the_loser_of_a_take_over_hears_of_it(served: Served, api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    first = (await home.beat(child, title)).json()["session_id"]
    async with stream(served, home, child) as reader:
        await home.beat(child, title, device_id="pad", device_type="tablet")
        _, kind, facts = await next_event(reader)
        assert (kind, facts) == ("session_superseded", {"session_id": first, "by": {"device_type": "tablet"}})


async def test_the_end_of_the_time_is_heard_once(served: Served, api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
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
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
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
    home = await registered_at_noon(api)
    child = await home.child()
    headers = home.as_player | {"Last-Event-ID": last_event_id}
    assert (await api.http.get(f"/viewing-time/events/{child}", headers=headers)).status_code == 422


async def test_another_familys_events_are_not_to_be_heard(api: Api) -> None:
    home, others = await registered_at_noon(api), await registered_at_noon(api)
    child = await home.child()
    assert (await api.http.get(f"/viewing-time/events/{child}", headers=others.as_player)).status_code == 403


PIN = "4711"


async def _with_device(api: Api, home: Household) -> tuple[str, dict[str, str]]:
    """The id of a new parent device, and the headers of its calls."""
    pin = await api.http.post(
        "/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD}, headers=home.as_player
    )
    assert pin.status_code == 200, pin.text
    added = await api.http.post("/auth/devices", json={"name": "phone", "pin": PIN}, headers=home.as_player)
    assert added.status_code == 201, added.text
    return added.json()["id"], {"Authorization": f"Bearer {added.json()['token']}"}


async def _grant(home: Household, child: str) -> None:
    given = await home.api.http.post(
        f"/parental-controls/profiles/{child}/viewing-time/grant", json={"minutes": 15}, headers=home.as_parent
    )
    assert given.status_code == 201, given.text


async def _rest_of(reader: asyncio.StreamReader) -> bytes:
    """What a stream still says until it ends."""
    async with asyncio.timeout(SOON_SECONDS):
        return await reader.readuntil(b"0\r\n\r\n")  # the last chunk


async def _ticket(api: Api, child: str, headers: Mapping[str, str]) -> str:
    answer = await api.http.post("/viewing-time/events-ticket", json={"profile_id": child}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"ticket", "expires_in"}
    assert answer.json()["expires_in"] == 60
    return str(answer.json()["ticket"])


@pytest.mark.parametrize("opened_by", ["token", "ticket"])
@pytest.mark.parametrize("revoked_on", ["the same process", "another process"])
async def test_a_stream_ends_when_its_device_is_revoked(
    served: Served, api: Api, opened_by: str, revoked_on: str
) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    device_id, headers = await _with_device(api, home)
    path = f"/viewing-time/events/{child}"
    if opened_by == "ticket":
        path, headers = f"{path}?ticket={await _ticket(api, child, headers)}", {}
    revoking = served.api if revoked_on == "the same process" else api
    async with stream_at(served, path, headers) as reader, stream(served, home, child) as other:
        revoked = await revoking.http.delete(f"/auth/devices/{device_id}", headers=home.as_parent)
        assert revoked.status_code == 204
        text = await _rest_of(reader)
        await _grant(home, child)
        assert b"event:" not in text
        assert (await next_event(other))[1] == "viewing_time_updated", "others of the household go on"


@pytest.mark.parametrize("opened_by", ["token", "ticket"])
@pytest.mark.parametrize("ended_on", ["the same process", "another process"])
async def test_a_stream_ends_with_its_sign_in(served: Served, api: Api, opened_by: str, ended_on: str) -> None:
    body = {"email": f"{uuid4().hex}@example.org", "password": PASSWORD, "timezone": "UTC"}
    signed_up = (await api.http.post("/auth/register", json=body)).json()
    parent = api.as_role(signed_up["account_id"], Role.PARENT)
    added = await api.http.post("/profiles", json={"name": "Ada", "is_kids": True}, headers=parent)
    child = added.json()["id"]
    headers = {"Authorization": f"Bearer {signed_up['access_token']}"}
    path = f"/viewing-time/events/{child}"
    if opened_by == "ticket":
        path, headers = f"{path}?ticket={await _ticket(api, child, headers)}", {}
    ending = served.api if ended_on == "the same process" else api
    async with stream_at(served, path, headers) as reader:
        [sign_in] = (await api.http.get("/auth/sign-ins", headers=parent)).json()
        assert (await ending.http.delete(f"/auth/sign-ins/{sign_in['id']}", headers=parent)).status_code == 204
        await _rest_of(reader)


@pytest.mark.parametrize("opened_by", ["token", "ticket"])
async def test_a_stream_ends_with_its_token(served: Served, api: Api, opened_by: str) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    tokens = api.services.tokens
    at_s = now_ms() // 1000
    token = tokens.issue(account_id=home.id, role=Role.HOUSEHOLD, at_s=at_s, life_seconds=2)
    headers, path = {"Authorization": f"Bearer {token}"}, f"/viewing-time/events/{child}"
    if opened_by == "ticket":
        path, headers = f"{path}?ticket={await _ticket(api, child, headers)}", {}
    async with stream_at(served, path, headers) as reader:
        await _rest_of(reader)
        assert 0 <= now_ms() / 1000 - (at_s + 2) < 1
    again = await served.api.http.get(f"/viewing-time/events/{child}", headers={"Authorization": f"Bearer {token}"})
    assert again.status_code == 401


async def test_a_ticket_opens_one_stream_on_any_process(served: Served, api: Api) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    path = f"/viewing-time/events/{child}?ticket={await _ticket(api, child, home.as_player)}"
    async with stream_at(served, path, {}) as reader:
        await _grant(home, child)
        event_id, kind, balance = await next_event(reader)
        assert (kind, balance["granted_minutes"]) == ("viewing_time_updated", 15)
    again = await api.http.get(path)
    assert (again.status_code, again.json()["code"]) == (401, "unauthenticated")
    assert "ticket" not in again.text
    await _grant(home, child)
    resumed = (
        f"/viewing-time/events/{child}?ticket={await _ticket(api, child, home.as_player)}&last_event_id={event_id}"
    )
    async with stream_at(served, resumed, {}) as reader:
        assert (await next_event(reader))[2]["granted_minutes"] == 30


async def test_a_ticket_is_for_one_profile_of_ones_own(api: Api) -> None:
    home, others = await registered_at_noon(api), await registered_at_noon(api)
    child, sibling = await home.child(), await home.child(name="Robin")
    for headers, status in ((others.as_player, 403), ({}, 401)):
        sold = await api.http.post("/viewing-time/events-ticket", json={"profile_id": child}, headers=headers)
        assert sold.status_code == status
    ticket = await _ticket(api, child, home.as_player)
    elsewhere = await api.http.get(f"/viewing-time/events/{sibling}", params={"ticket": ticket})
    assert elsewhere.json()["code"] == "profile_access_denied"
    used = await api.http.get(f"/viewing-time/events/{child}", params={"ticket": ticket})
    assert used.status_code == 401, "and is used up by that"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"profile_id": 5}', b'{"profile_id": ""}', b"[]", b'{"a": 1}'])
async def test_a_ticket_for_nobody_is_refused(api: Api, body: bytes) -> None:
    home = await registered_at_noon(api)
    headers = home.as_player | {"Content-Type": "application/json"}
    answer = await api.http.post("/viewing-time/events-ticket", content=body, headers=headers)
    assert answer.status_code in {400, 422}


async def test_a_ticket_for_nobodys_profile_is_refused(api: Api) -> None:
    home = await registered_at_noon(api)
    answer = await api.http.post("/viewing-time/events-ticket", json={"profile_id": "x"}, headers=home.as_player)
    assert (answer.status_code, answer.json()["code"]) == (403, "profile_access_denied")


async def test_a_ticket_is_kept_by_its_digest_for_a_minute(api: Api) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    ticket = await _ticket(api, child, home.as_player)
    redis = api.services.redis
    kept = [key async for key in redis.scan_iter("hg:ticket:*")]
    assert kept
    for key in kept:
        assert 0 < await redis.pttl(key) <= 60_000
        assert ticket.encode() not in key + await redis.get(key)


@pytest.mark.parametrize("ticket", ["", "x", "x" * 101, "\x00", "é"])
async def test_a_made_up_ticket_opens_nothing(api: Api, ticket: str) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    answer = await api.http.get(f"/viewing-time/events/{child}", params={"ticket": ticket})
    assert answer.status_code == 401


async def test_other_answers_are_dated_by_the_server(served: Served) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served.port}") as http:
        for path in ("/health/live", "/api/v1/profiles", "/nothing"):
            at = parsedate_to_datetime((await http.get(path)).headers["Date"])
            assert abs(ms_of(at) - now_ms()) < 3_000


async def test_no_log_ever_holds_a_ticket(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither when it is refused, nor when what it opens breaks."""
    home = await registered_at_noon(api)
    child, other = await home.child(), await home.child(name="Robin")
    tickets = [await _ticket(api, child, home.as_player) for _ in range(3)]
    said = io.StringIO()
    processors: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    monkeypatch.setattr(problems, "log", structlog.wrap_logger(structlog.PrintLogger(said), processors=processors))

    async def broken(*_: object) -> None:
        raise RuntimeError("something nobody foresaw")

    with caplog.at_level("DEBUG"):
        for profile_id, ticket in ((other, tickets[0]), (child, tickets[0])):
            await api.http.get(f"/viewing-time/events/{profile_id}", params={"ticket": ticket})
        monkeypatch.setattr(api.services.viewing.streams, "open", broken)
        opened = await api.http.get(f"/viewing-time/events/{child}", params={"ticket": tickets[1]})
        monkeypatch.setattr(api.services.viewing.tickets._store, "take", broken)
        taken = await api.http.get(f"/viewing-time/events/{child}", params={"ticket": tickets[2]})
    assert opened.status_code == taken.status_code == 500
    ours = (record.getMessage() for record in caplog.records if not record.name.startswith("http"))
    logged = "".join([said.getvalue(), *ours])
    assert logged.count("unexpected_error") == 2
    assert [ticket for ticket in tickets if ticket in logged] == []


async def test_a_ticket_of_a_revoked_device_opens_nothing(api: Api) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    device_id, headers = await _with_device(api, home)
    ticket = await _ticket(api, child, headers)
    await api.http.delete(f"/auth/devices/{device_id}", headers=home.as_parent)
    answer = await api.http.get(f"/viewing-time/events/{child}", params={"ticket": ticket})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
