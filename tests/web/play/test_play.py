"""The child's page in a real Chromium against the real service: counted time equals played time."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Request, Route

from app.clock import now_ms
from app.timestamps import rfc3339
from tests.browsers import HEADLESS
from tests.web.play.scene import (
    BEAT_SECONDS,
    PASSWORD,
    Child,
    Home,
    Service,
    eventually,
    new_home,
    opened,
)

pytestmark = pytest.mark.skipif(HEADLESS is None, reason="chromium is not installed: the child's page was not tried")
TOLERANCE_SECONDS = 1.0
FROZEN_SECONDS = 2
LIMIT_SECONDS = 15 * 60


@dataclass
class Scene:
    """A household, its browser, and the page in it."""

    home: Home
    context: BrowserContext
    child: Child


@pytest_asyncio.fixture(loop_scope="session")
async def stage(service: Service, browser: Browser) -> AsyncIterator[Scene]:
    context = await browser.new_context(viewport={"width": 1000, "height": 760})
    home = await new_home(service)
    child = await opened(context, home)
    yield Scene(home, context, child)
    assert child.errors == []
    await context.close()
    await home.http.aclose()


async def settled(child: Child) -> None:
    """Leave the film and wait until its end was answered."""
    if await child.page.is_visible("#back"):
        await child.leave()
    await eventually(child.is_settled, "the end is answered", seconds=15)


async def used_seconds(home: Home, *, before: float = 0.0) -> float:
    return float((await home.balance())["used_seconds"]) - before


async def check_used(home: Home, *children: Child, before: float = 0.0) -> None:
    """What was counted is what ran, and a film ran at all."""
    played = sum([await child.played() for child in children])
    used = await used_seconds(home, before=before)
    assert played > 1.5
    assert abs(used - played) <= TOLERANCE_SECONDS, f"{used} s were counted, {played} s were played"


async def test_playing_pausing_and_another_film(stage: Scene) -> None:
    child, page = stage.child, stage.child.page
    await child.watch("moon-pirates")
    await eventually(lambda: _says(child, "#measure-text", "Your watching time is being"), "the sign is on")
    await child.until_played(2.5)
    first_session = await page.evaluate("hourglass.state.sessionId")
    await page.click("#next")  # an educational film: measured apart
    await eventually(lambda: _says(child, "#measure-text", "Learning film"), "the sign knows learning films")
    assert await page.inner_text("#film-title") == "Fun with Numbers"
    assert await page.evaluate("hourglass.state.sessionId") != first_session
    await child.until_played(1)
    await page.click("#next")
    await eventually(lambda: _says(child, "#measure-text", "Your watching time is being"), "and back")
    await page.click("#toggle")
    assert not await child.is_playing()
    await settled(child)
    balance = await stage.home.balance()
    played = await child.played()
    assert balance["educational_seconds"] > 0.8
    total = balance["used_seconds"] + balance["educational_seconds"]
    assert abs(total - played) <= TOLERANCE_SECONDS, f"{total} s were counted, {played} s were played"


async def _says(child: Child, selector: str, beginning: str) -> bool:
    return (await child.page.inner_text(selector)).startswith(beginning)


async def test_another_tab_takes_over_and_is_taken_back(stage: Scene) -> None:
    first = stage.child
    await first.watch()
    await first.until_played(1.5)
    second = await opened(stage.context, stage.home)
    await second.watch("dragon-school")
    assert await first.until_shown("elsewhere") < BEAT_SECONDS, "it is told, and does not wait for its next beat"
    assert not await first.is_playing()
    await second.until_played(1.5)
    assert await first.phase() == "superseded", "it does not fight"
    await first.page.click("#here")
    await first.until_phase("playing")
    await second.until_shown("elsewhere")
    assert not await second.is_playing()
    await settled(first)
    await check_used(stage.home, first, second)
    assert second.errors == []


async def answering(page: Page, **fields: object) -> None:
    """From now on the answers to heartbeats also say what the service itself would say only much later."""

    async def answer(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, json=await response.json() | fields)

    await page.route("**/viewing-time/heartbeat", answer)


async def test_a_break_is_named_kindly_and_no_more_time_is_asked_for(stage: Scene) -> None:
    child, page = stage.child, stage.child.page
    await answering(page, enforcement="warning_5", remaining_seconds=240, reason="break")
    await child.watch()
    assert await page.inner_text("#toast-text") == "4 minutes left, then it is time for a break."
    assert await page.inner_text("#ring-label") == "until a break"
    await page.unroute("**/viewing-time/heartbeat")
    ends = rfc3339(now_ms() + 15 * 60_000)
    await answering(page, enforcement="blocked", remaining_seconds=0, reason="break", available_again_at=ends)
    await page.click("#toggle")
    await child.until_shown("lock")
    assert await page.inner_text("#lock-title") == "Time for a break, Ada!"
    said = await page.inner_text("#lock-text")
    assert re.fullmatch(r"Take a break until \d\d:\d\d\. Then you can go on\.", said), said
    assert not await page.is_visible("#ask")
    await eventually(child.is_settled, "the session is over")


async def test_a_film_that_may_be_finished_is_named_once(stage: Scene) -> None:
    child, page = stage.child, stage.child.page
    await child.watch()
    assert not await page.is_visible("#toast")
    await answering(page, borrowed_seconds=3.5)
    await page.click("#toggle")
    await eventually(lambda: _says(child, "#toast-text", "You may finish this film"), "it is said")
    await page.click("#toast-close")
    await page.click("#toggle")
    await child.until_played(1)
    assert not await page.is_visible("#toast"), "it is said once"
    await settled(child)


async def test_a_film_that_ends_soon_after_the_limit_is_played_to_its_end(stage: Scene) -> None:
    child, home = stage.child, stage.home
    await home.limit(15)
    await home.change(finish_title_minutes=5)
    await home.spend(LIMIT_SECONDS - 4)
    await child.watch("short-story")
    await eventually(lambda: _says(child, "#toast-text", "You may finish this film"), "it is said", seconds=12)
    assert await child.is_playing()
    # A picture that came late may still be short of its end when the promised time is over: then the lock is shown.
    await eventually(child.is_settled, "the session is over", seconds=20)
    played = await child.played()
    assert 7.5 <= played <= 9, "it was played to its end"
    borrowed = (await home.balance())["borrowed_seconds"]
    assert abs(borrowed - (played - 4)) <= TOLERANCE_SECONDS, f"{borrowed} s were borrowed of {played} s"


async def test_it_stops_on_time_and_opens_when_a_parent_approves(stage: Scene) -> None:
    child, home, page = stage.child, stage.home, stage.child.page
    await home.limit(15)
    await home.spend(LIMIT_SECONDS - 4)
    before = await used_seconds(home)
    await child.watch()
    assert (await page.inner_text("#toast-text")).startswith("Nearly done")
    await child.until_shown("lock", seconds=6)
    assert not await child.is_playing()
    played = await child.played()
    assert 3 <= played <= 5, "it stops within a second"
    assert await page.inner_text("#lock-title") == "That was all for today, Ada!"
    assert "You can watch again" in await page.inner_text("#lock-text")
    await eventually(child.is_settled, "the session is over")
    assert await used_seconds(home) == LIMIT_SECONDS
    await page.click("#ask-open")
    await page.click("[data-minutes='15']")
    await eventually(lambda: _says(child, "#ask-answer", "You asked for 15"), "it was asked")
    approving = asyncio.create_task(home.approve())
    assert await child.until_shown("stage") < BEAT_SECONDS, "the page is told"
    await approving
    await child.until_phase("playing")
    assert (await page.inner_text("#toast-text")).startswith("You got more time")
    await child.until_played(1)
    await settled(child)
    await check_used(home, child, before=before)


async def test_a_tap_in_the_console_opens_the_page(stage: Scene, browser: Browser) -> None:
    child, home, pin = stage.child, stage.home, "4711"
    url = home.service.url
    assert (await home.http.post("/parental-controls/pin", json={"new_pin": pin, "password": PASSWORD})).is_success
    await home.limit(15)
    await home.spend(LIMIT_SECONDS)
    context = await browser.new_context(viewport={"width": 360, "height": 740})
    parent = await context.new_page()
    await parent.goto(f"{url}/sign-in")
    await parent.fill("#email", home.email)
    await parent.fill("#password", PASSWORD)
    await parent.click("main button")
    await parent.wait_for_url(f"{url}/")
    await parent.goto(f"{url}/unlock")
    await parent.fill("#pin", pin)
    await parent.click("main button")
    await parent.wait_for_selector("h1:has-text('Today')")
    await child.page.click("[data-title=moon-pirates]")
    await child.until_shown("lock")
    await child.page.click("#ask-open")
    await child.page.click("[data-minutes='15']")
    give = parent.get_by_role("button", name="Give 15 min")
    await give.wait_for(timeout=2_000)
    tapping = asyncio.create_task(give.click())
    assert await child.until_shown("stage") < BEAT_SECONDS, "the page is told of the tap"
    await tapping
    await child.until_phase("playing")
    await context.close()
    await settled(child)


async def test_a_grant_opens_the_page_and_a_limit_closes_it(stage: Scene) -> None:
    child, home = stage.child, stage.home
    await home.limit(15)
    await home.spend(LIMIT_SECONDS)
    await child.page.click("[data-title=moon-pirates]")
    await child.until_shown("lock")
    assert await child.played() < 0.5, "nothing plays before the answer"
    granting = asyncio.create_task(home.grant(15))
    assert await child.until_shown("stage") < BEAT_SECONDS
    await granting
    await child.until_phase("playing")
    await child.until_played(2)
    entries = (await home.http.get(f"/parental-controls/profiles/{home.child}/grants")).json()["grants"]
    path = f"/parental-controls/profiles/{home.child}/grants/{entries[0]['grant_id']}"
    revoking = asyncio.create_task(home.http.delete(path))
    assert await child.until_shown("lock") < BEAT_SECONDS, "a grant that is taken back stops the film before a beat"
    await revoking
    assert not await child.is_playing()
    await eventually(child.is_settled, "the session is over")
    balance = await home.balance()
    beyond = balance["used_seconds"] + balance["overrun_seconds"] - LIMIT_SECONDS
    assert abs(beyond - await child.played()) <= TOLERANCE_SECONDS


async def test_a_pause_closes_the_page_and_says_so_and_its_end_opens_it(stage: Scene) -> None:
    """For a learning film too. Asking for time would end no pause, so the page does not offer it."""
    child, home, page = stage.child, stage.home, stage.child.page
    pause = f"/parental-controls/profiles/{home.child}/viewing-time/pause"
    await child.watch("numbers")
    await child.until_played(1)
    pausing = asyncio.create_task(home.http.post(pause, json={"minutes": 30}))
    assert await child.until_shown("lock") < BEAT_SECONDS, "the film stops before a beat"
    assert (await pausing).status_code == 200
    assert not await child.is_playing()
    assert await page.inner_text("#lock-title") == "A grown-up has pressed pause, Ada."
    assert (await page.inner_text("#lock-text")).startswith("You can watch again t")
    assert await page.is_hidden("#ask")
    lifting = asyncio.create_task(home.http.delete(pause))
    assert await child.until_shown("stage") < BEAT_SECONDS
    assert (await lifting).status_code == 200
    await child.until_phase("playing")
    await settled(child)


async def test_the_locked_page_offers_learning_films_only_where_they_use_no_time(stage: Scene) -> None:
    child, home, page = stage.child, stage.home, stage.child.page
    await home.limit(15)
    await home.spend(LIMIT_SECONDS)
    await page.click("[data-title=moon-pirates]")
    await child.until_shown("lock")
    await eventually(lambda: page.is_visible("#learning"), "it is offered")
    await home.change(educational_exempt=False)
    await eventually(lambda: page.is_hidden("#learning"), "it is offered no more")
    await home.change(educational_exempt=True)
    await eventually(lambda: page.is_visible("#learning"), "it is offered again")
    await page.click("#learning")
    await child.watch("numbers")
    assert (await home.balance())["remaining_seconds"] == 0
    await settled(child)


async def test_without_a_connection_the_film_goes_on_and_nothing_is_lost(stage: Scene) -> None:
    child, home, context = stage.child, stage.home, stage.context
    await child.watch()
    await child.until_played(1)
    await context.set_offline(True)
    await eventually(lambda: _has_failed(child, 2), "a beat is lost, and repeated in vain", seconds=30)
    assert await child.is_playing()
    await context.set_offline(False)
    await settled(child)
    await check_used(home, child)


async def test_a_film_begun_offline_is_synced_once(stage: Scene) -> None:
    child, home, context, page = stage.child, stage.home, stage.context, stage.child.page
    await eventually(lambda: _has_balance(child), "the balance is known")
    await context.set_offline(True)
    batches: list[str] = []

    def note(request: Request) -> None:
        if _is_sync(request):
            batches.append(json.loads(request.post_data or "{}")["batch_id"])

    page.on("request", note)
    await page.click("[data-title=moon-pirates]")
    await child.until_phase("offline", seconds=10)
    assert await child.is_playing()
    await child.until_played(3)
    await context.set_offline(False)
    await child.until_phase("playing", seconds=20)
    await child.until_played(1)
    await settled(child)
    await eventually(lambda: _is_synced(child), "all of it is synced")
    assert len(batches) == len(set(batches)), "each batch is sent once: it was answered"
    assert batches
    await check_used(home, child)


def _is_sync(request: Request) -> bool:
    return request.method == "POST" and request.url.endswith("/offline-sync")


async def _is_synced(child: Child) -> bool:
    return not await child.page.evaluate("hourglass.machine.pending || hourglass.machine.syncing")


async def _has_balance(child: Child) -> bool:
    return bool(await child.page.evaluate("hourglass.state.usedSeconds !== null"))


async def test_a_service_that_dies_takes_nothing_along(stage: Scene, service: Service) -> None:
    child, home = stage.child, stage.home
    await child.watch()
    await child.until_played(1.5)
    service.kill()
    await eventually(lambda: _has_failed(child, 1), "a beat is lost", seconds=30)
    assert await child.is_playing(), "its lease goes on"
    await service.start()
    await eventually(lambda: _is_connected(child), "it is heard again", seconds=15)
    await settled(child)
    await check_used(home, child)


async def _has_failed(child: Child, times: int) -> bool:
    return bool(await child.page.evaluate(f"hourglass.machine.failures >= {times}"))


async def _is_connected(child: Child) -> bool:
    return bool(await child.page.evaluate("hourglass.state.connected && hourglass.machine.failures === 0"))


async def test_a_page_that_is_closed_ends_its_session(stage: Scene) -> None:
    child, home = stage.child, stage.home
    await child.watch()
    await child.until_played(2)
    played = await child.played()
    await child.page.goto("about:blank")

    async def is_counted() -> bool:
        return abs(await used_seconds(home) - played) <= TOLERANCE_SECONDS

    await eventually(is_counted, "the end was told on the way out", seconds=3)


async def test_the_page_is_for_those_who_are_signed_in(service: Service, browser: Browser) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(f"{service.url}/play")
    assert "/sign-in" in page.url
    assert (await context.request.get(f"{service.url}/play/token", max_redirects=0)).status == 401
    await context.close()


async def test_another_page_gets_no_token(stage: Scene) -> None:
    answer = await stage.context.request.get(
        f"{stage.home.service.url}/play/token", headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.status == 403
    assert "token" not in await answer.text()


async def test_what_was_watched_offline_outlives_its_page(stage: Scene) -> None:
    child, home, context, page = stage.child, stage.home, stage.context, stage.child.page
    await eventually(lambda: _has_balance(child), "the balance is known")
    await context.set_offline(True)
    await page.click("[data-title=moon-pirates]")
    await child.until_phase("offline", seconds=10)
    await child.until_played(3)
    played = await child.played()
    await page.goto("about:blank")
    assert await used_seconds(home) == 0
    await context.set_offline(False)
    again = await opened(context, home)  # nothing is played there: the page alone syncs

    async def is_counted() -> bool:
        return abs(await used_seconds(home) - played) <= TOLERANCE_SECONDS

    await eventually(is_counted, "it is synced", seconds=8)
    await again.page.reload(wait_until="networkidle")
    assert await is_counted(), "once"
    assert again.errors == []


async def test_a_page_that_was_frozen_asks_at_once_when_it_wakes(stage: Scene) -> None:
    """Freezing a visible page needs more than a test may do: its events are sent by hand."""
    child, page = stage.child, stage.child.page
    await child.watch()
    session = await page.evaluate("hourglass.state.sessionId")
    await page.evaluate("document.dispatchEvent(new Event('freeze'))")
    before = await page.evaluate("hourglass.state.watchedSeconds")
    await asyncio.sleep(FROZEN_SECONDS)
    async with page.expect_request("**/heartbeat", timeout=1000) as beat:
        await page.evaluate("document.dispatchEvent(new Event('resume'))")
    body = json.loads((await beat.value).post_data or "{}")
    assert body["session_id"] == session
    assert body["watched_seconds"] - before < 0.5, "sleep is not watching"
    await settled(child)
