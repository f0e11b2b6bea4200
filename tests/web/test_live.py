"""Open pages follow what happens, and end with their session."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.auth.tokens import Role
from app.web.live_overview import LiveOverview, Watch
from tests.web.conftest import PASSWORD, Site, VisitingFamily, family_of

SECONDS = 5.0
"""Far more than an update takes; what is measured is measured in the browser."""


class Stream:
    """The event stream of a page, as it arrives."""

    def __init__(self) -> None:
        self.status = 0
        self.text = ""
        self.is_over = False
        self._arrived = asyncio.Event()

    async def take(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.text += message.get("body", b"").decode()
            self.is_over = not message.get("more_body", False)
        self._arrived.set()

    def fragments(self) -> dict[str, str]:
        """The newest content of each element."""
        return self.fragments_of(self.text)

    @staticmethod
    def fragments_of(text: str) -> dict[str, str]:
        sent = [part.split("data: ", 1)[1] for part in text.split("\n\n") if part.startswith("event: fragment")]
        return {fragment["id"]: fragment["html"] for fragment in map(json.loads, sent)}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()


@asynccontextmanager
async def streaming(family: VisitingFamily, path: str = "/live") -> AsyncIterator[Stream]:
    stream, left = Stream(), asyncio.Event()
    cookie = family.browser.http.cookies["hourglass"]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.encode(),
        "query_string": path.partition("?")[2].encode(),
        "headers": [(b"host", b"localhost"), (b"cookie", f"hourglass={cookie}".encode())],
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }

    async def receive() -> dict[str, str]:
        await left.wait()
        return {"type": "http.disconnect"}

    application: Any = family.site.app.front
    answering = asyncio.create_task(application(scope, receive, stream.take))
    try:
        yield stream
    finally:
        left.set()
        await asyncio.wait_for(answering, SECONDS)


async def beat(family: VisitingFamily, name: str = "Ada") -> httpx.Response:
    await family.site.rows.title(title := f"film-{family.children[name][:8]}", "The Long Film")
    body = {"profile_id": family.children[name], "title_id": title, "device_id": "tv", "device_type": "tv"}
    answer = await family.site.api(family.account_id).post("/viewing-time/heartbeat", json=body)
    assert answer.status_code == 200, answer.text
    return answer


async def test_a_page_begins_with_everything(family: VisitingFamily) -> None:
    kinds, children = ("live", "given", "pause"), family.children.values()
    ids = {f"{kind}-{child}" for kind in kinds for child in children} | {"requests", "pause-all"}
    async with streaming(family) as stream:
        await stream.until(lambda: set(stream.fragments()) == ids)
    assert stream.status == 200


async def test_a_beat_is_shown_and_nothing_else_is_sent(family: VisitingFamily) -> None:
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        before = stream.text
        await beat(family)
        await stream.until(lambda: "The Long Film" in stream.fragments()[f"live-{family.child}"])
        assert set(Stream.fragments_of(stream.text[len(before) :])) == {f"live-{family.child}"}


async def test_a_grant_by_another_parent_is_shown(family: VisitingFamily) -> None:
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        api = family.site.api(family.account_id, Role.PARENT)
        path = f"/parental-controls/profiles/{family.child}/viewing-time/grant"
        assert (await api.post(path, json={"minutes": 60})).status_code == 201
        await stream.until(lambda: "+1 h" in stream.fragments()[f"given-{family.child}"])
        assert "3 h" in stream.fragments()[f"live-{family.child}"]


async def test_a_pause_by_another_parent_is_shown_and_its_end_too(family: VisitingFamily) -> None:
    """Nothing is sent when a pause ends: the page looks when it is due."""
    pause, live = f"pause-{family.child}", f"live-{family.child}"
    api = family.site.api(family.account_id, Role.PARENT)
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        path = f"/parental-controls/profiles/{family.child}/viewing-time/pause"
        assert (await api.post(path, json={"minutes": 1})).status_code == 200
        await stream.until(lambda: "Lift the pause" in stream.fragments()[pause])
        assert "Paused by a parent" in stream.fragments()[live]
        assert "Lift every pause" in stream.fragments()["pause-all"]
        family.site.set_forward(59_500)
        assert (await api.post(path.replace("pause", "grant"), json={"minutes": 15})).status_code == 201
        await stream.until(lambda: "+15" in stream.fragments()[f"given-{family.child}"])
        family.site.set_forward(501)
        await stream.until(lambda: "Pause now" in stream.fragments()[pause])
        assert "Paused by a parent" not in stream.fragments()[live]
        assert "Lift every pause" not in stream.fragments()["pause-all"]


async def test_a_request_is_shown(family: VisitingFamily) -> None:
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        api = family.site.api(family.account_id)
        path = f"/parental-controls/profiles/{family.child}/requests"
        assert (await api.post(path, json={"minutes": 15, "note": "<b>please</b>"})).status_code == 201
        await stream.until(lambda: "Ada asks for 15 min more" in stream.fragments()["requests"])
        assert "&lt;b&gt;please" in stream.fragments()["requests"]


async def test_time_that_passes_is_no_news(family: VisitingFamily) -> None:
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        before = stream.text
        family.site.set_forward(1000)
        path = f"/parental-controls/profiles/{family.child}/requests"
        assert (await family.site.api(family.account_id).post(path, json={"minutes": 15})).status_code == 201
        await stream.until(lambda: "Ada asks" in stream.fragments()["requests"])
        assert set(Stream.fragments_of(stream.text[len(before) :])) == {"requests"}


async def test_the_page_of_one_child_hears_of_that_child_only(family: VisitingFamily) -> None:
    async with streaming(family, f"/live?child={family.child}") as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        assert not any(family.children["Ben"] in element for element in stream.fragments())
        assert "Ada may watch" in stream.fragments()[f"why-{family.child}"]
        assert f'value="/children/{family.child}"' not in stream.fragments()["requests"]


@pytest.mark.parametrize("how", ["here", "everywhere", "erased"])
async def test_the_stream_ends_with_the_session(site: Site, how: str) -> None:
    family = await family_of(site, "Ada")
    token = family.browser.http.cookies["hourglass"]
    sessions = site.services.console.sessions
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        session = await sessions.find(token)
        assert session is not None
        if how == "here":
            await sessions.end(token, session)
        elif how == "everywhere":
            await sessions.end_all(family.account_id)
        else:
            await site.services.privacy.erasure.account(family.account_id, password=PASSWORD)
        await stream.until(lambda: stream.is_over)
    assert how == "erased" or stream.text.endswith("event: signed-out\ndata: {}\n\n")


@pytest.mark.parametrize("path", ["/live", "/session"])
async def test_without_a_session_there_is_no_stream(site: Site, path: str) -> None:
    answer = await site.browser().http.get(path)
    assert answer.status_code == 401


async def test_the_stream_does_not_prolong_the_session(family: VisitingFamily) -> None:
    redis = family.site.services.redis
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        keys = [key async for key in redis.scan_iter("hg:{w:*") if not key.count(b"once")]
        for key in keys:
            await redis.expire(key, 100)
        await beat(family)
        await stream.until(lambda: "The Long Film" in stream.fragments()[f"live-{family.child}"])
        assert max([await redis.ttl(key) for key in keys]) <= 100


async def test_nobody_looks_at_counters_when_no_page_is_open(family: VisitingFamily) -> None:
    live: LiveOverview = family.site.services.console.live
    async with streaming(family) as stream:
        await stream.until(lambda: "requests" in stream.fragments())
        assert live._polling is not None
        assert not live._polling.done()
    async with asyncio.timeout(SECONDS):
        await live._polling
    assert not live._watches
    assert not live._seen


def test_a_watch_tells_of_one_child_until_something_else_happens() -> None:
    watch = Watch()
    watch.beat("ada")
    assert watch.is_set()
    assert watch.take() == (False, {"ada"})
    assert not watch.is_set()
    watch.beat("ada")
    watch.set()
    assert watch.take() == (True, {"ada"})
    assert watch.take() == (False, set())
