"""What parents do, in a browser."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable

import psutil  # type: ignore[import-untyped]  # no stubs
import pytest
from playwright.async_api import Page, expect

from app.clock import now_ms
from tests.web.browser.conftest import DESKTOP, PASSWORD, PHONE, PIN, Home, Service, Visit, home_of

expect.set_options(timeout=8_000)


def card(home: Home, name: str = "Ada") -> str:
    return f"article:has(#live-{home.child(name)})"


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_a_parent_gives_a_quarter_of_an_hour_and_takes_it_back(
    visit: Visit, home: Home, viewport: dict[str, int]
) -> None:
    page = await (await visit(viewport=viewport)).sign_in(home, unlocked=False)
    await page.click(f"{card(home)} button[value='15']")
    await expect(page.get_by_role("heading", name="Parents only")).to_be_visible()
    await page.fill("#pin", PIN)
    await page.click("main button")
    await expect(page.locator(".flash")).to_contain_text("Ada has 15 min more today.")
    ring = page.locator(f"#live-{home.child()}")
    await expect(ring).to_contain_text("1 h 15 min")
    await page.click(".flash__undo")
    await expect(page.locator(".flash")).to_contain_text("The 15 min for Ada are taken back.")
    await expect(ring).not_to_contain_text("1 h 15 min")


async def test_two_taps_give_it_once(visit: Visit, home: Home) -> None:
    page = await (await visit()).sign_in(home)
    await page.dblclick(f"{card(home)} button[value='15']")
    await expect(page.locator(".flash")).to_be_visible()
    await page.wait_for_timeout(500)
    await expect(page.locator(".given li")).to_have_count(1)


async def test_the_page_follows_a_beat_within_a_second(
    visit: Visit, home: Home, record_property: Callable[[str, object], None]
) -> None:
    """From the answer of the beat to the painted words, by one clock."""
    page = await (await visit()).sign_in(home)
    await page.wait_for_timeout(1_000)
    took_ms = []
    for name, word in (("Ada", "Watching"), ("Ben", "Watching")):
        painted = page.evaluate(
            """([id, word]) => new Promise(done => {
                const look = () => {
                    if (!document.getElementById(id).textContent.includes(word)) return requestAnimationFrame(look);
                    requestAnimationFrame(() => done(performance.timeOrigin + performance.now()));
                };
                look();
            })""",
            [f"live-{home.child(name)}", "since"],
        )
        await home.beat(name)
        answered_ms = now_ms()
        took_ms.append(await painted - answered_ms)
        await expect(page.locator(f"#live-{home.child(name)} .state")).to_have_text(word)
    record_property("live_update_ms", [round(ms) for ms in took_ms])


async def test_the_page_follows_what_others_do(visit: Visit, home: Home) -> None:
    page = await (await visit()).sign_in(home)
    await home.ask(minutes=30, note="one more episode")
    await expect(page.locator("#requests")).to_contain_text("Ada asks for 30 min more")
    async with home.parent() as parent:
        await parent.post(f"/parental-controls/profiles/{home.child('Ben')}/viewing-time/grant", json={"minutes": 60})
    await expect(page.locator(f"#live-{home.child('Ben')}")).to_contain_text("2 h")
    await expect(page.locator(f"#given-{home.child('Ben')}")).to_contain_text("+1 h")


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_a_parent_pauses_one_child_and_then_all_and_lifts_it(
    visit: Visit, home: Home, viewport: dict[str, int]
) -> None:
    page = await (await visit(viewport=viewport)).sign_in(home)
    ada, ben = (page.locator(f"#live-{home.child(name)}") for name in ("Ada", "Ben"))
    await page.select_option(f"#pause-for-{home.child()}", "60")
    await page.get_by_role("button", name="Pause now: Ada").click()
    await expect(page.locator(".flash")).to_contain_text("Ada is paused until")
    await expect(ada).to_contain_text("Paused by a parent")
    await expect(ben).not_to_contain_text("Paused")
    await page.click("#pause-now-all")
    await expect(ben).to_contain_text("Paused by a parent")
    await page.click("#lift-all")
    await expect(ada).not_to_contain_text("Paused")
    await expect(page.get_by_role("button", name="Pause now: Ben")).to_be_visible()


async def test_a_request_is_answered_in_one_tap(visit: Visit, home: Home) -> None:
    await home.ask()
    page = await (await visit(viewport=PHONE)).sign_in(home)
    await page.get_by_role("button", name="Give 15 min").click()
    await expect(page.locator(".flash")).to_contain_text("Ada has 15 min more today.")
    await expect(page.locator(".request")).to_have_count(0)


async def test_a_limit_is_lowered_after_a_look_at_its_preview(visit: Visit, service: Service) -> None:
    home = await home_of(service, "Ada", past=True)
    page = await (await visit()).sign_in(home)
    await page.goto(f"/children/{home.child()}")
    await page.get_by_role("link", name="Limits").click()
    await page.wait_for_load_state()  # a change before the scripts ran would be nobody's
    await page.select_option("#weekday_limit_minutes", "30")
    await expect(page.locator("#preview")).to_contain_text("days it would have been over")
    await expect(page.locator("#preview canvas")).to_be_visible()
    async with home.parent() as parent:
        known = (await parent.get(f"/parental-controls/profiles/{home.child()}/viewing-time")).json()
    assert known["weekday_limit_minutes"] == 60, "a preview saves nothing"
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".flash")).to_contain_text("The settings of Ada are saved and in force.")
    await expect(page.locator(".in-force")).to_contain_text("30 min")


async def _draw(page: Page, how: str) -> None:
    """From 15:00 to 19:30 on a Tuesday."""
    if how == "keyboard":
        await page.locator("[name=window-0-tue]").press("Space")
        await page.locator("[name=window-0-from]").press_sequentially("1500")
        await page.locator("[name=window-0-until]").press_sequentially("1930")
        return
    grid = page.locator("[data-week-grid]")
    await grid.scroll_into_view_if_needed()
    box = await grid.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] * 1.5 / 7
    xs = [box["x"] + box["width"] * hour / 24 for hour in (15, 17, 19.5)]
    if how == "mouse":
        await page.mouse.move(xs[0], y)
        await page.mouse.down()
        for x in xs[1:]:
            await page.mouse.move(x, y)
        await page.mouse.up()
        return
    touch = await page.context.new_cdp_session(page)
    for kind, x in zip(("touchStart", "touchMove", "touchMove"), xs, strict=True):
        await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    await touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@pytest.mark.parametrize("how", ["mouse", "touch", "keyboard"])
async def test_a_time_is_drawn_into_the_week_and_saved(visit: Visit, home: Home, how: str) -> None:
    page = await (await visit()).sign_in(home)
    await page.goto(f"/children/{home.child()}/settings")
    await page.get_by_text("When films may play").click()
    await _draw(page, how)
    await expect(page.locator("[data-week-bars] rect")).to_have_count(1)
    await expect(page.locator("[name=window-0-tue]")).to_be_checked()
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".in-force")).to_contain_text("Tue 15:00\N{EN DASH}19:30")
    await page.get_by_role("button", name="Remove").first.click()
    await expect(page.locator("[data-week-bars] rect")).to_have_count(0)
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".in-force")).not_to_contain_text("19:30")


async def test_the_week_and_the_history_are_read(visit: Visit, service: Service) -> None:
    home = await home_of(service, "Ada", past=True)
    visitor = await visit(viewport=PHONE)
    page = await visitor.sign_in(home)
    await page.goto(f"/children/{home.child()}")
    await page.get_by_role("link", name="Week").click()
    await expect(page.locator(".chart canvas")).to_be_visible()
    await expect(page.locator("tbody tr")).to_have_count(7)
    await page.get_by_role("link", name="Earlier").click()
    await expect(page.get_by_role("link", name="Later")).to_be_visible()
    await expect(page.locator(".chart canvas")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download as CSV").click()
    assert (await download.value).suggested_filename.startswith("weekly-report-")
    await page.get_by_role("link", name="History").click()
    await expect(page.locator(".day").nth(5)).to_be_visible()
    await page.get_by_role("link", name="Older").click()
    await expect(page.get_by_role("link", name="Newest")).to_be_visible()


async def test_everything_goes_without_javascript(visit: Visit, home: Home) -> None:
    await home.ask()
    page = await (await visit(java_script_enabled=False)).sign_in(home)
    await page.get_by_role("button", name="Not today").first.click()
    await expect(page.locator(".flash")).to_contain_text("The request of Ada is denied.")
    await page.click(f"{card(home)} button[value='30']")
    await expect(page.locator(".flash")).to_contain_text("Ada has 30 min more today.")
    await page.click(".flash__undo")
    await expect(page.locator(".flash")).to_contain_text("The 30 min for Ada are taken back.")
    await page.goto(f"/children/{home.child()}/settings")
    await page.select_option("#weekend_limit_minutes", "120")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.locator("#preview")).to_contain_text("The last 28 days")
    await expect(page.locator("#weekend_limit_minutes")).to_have_value("120")
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator(".flash")).to_contain_text("saved and in force")
    await page.goto("/household")
    await page.fill("#new-name", "Cleo")
    await page.get_by_role("button", name="Add", exact=True).click()
    await expect(page.locator(".flash")).to_contain_text("Cleo is part of the household.")


async def test_everything_goes_by_keyboard(visit: Visit, home: Home) -> None:
    page = await (await visit()).page()
    await page.goto("/sign-in")
    await page.keyboard.type(home.email)  # the first field has the focus
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Today")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await tab_to(page, f"give-15-{home.child()}")
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2, "the focus is seen"
    await page.keyboard.press("Enter")
    await expect(page.locator("#pin")).to_be_focused()
    await page.keyboard.type(PIN)
    await page.keyboard.press("Enter")
    await expect(page.locator(".flash")).to_contain_text("Ada has 15 min more today.")


async def tab_to(page: Page, element_id: str) -> None:
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == element_id:
            return
    raise AssertionError(f"{element_id} is not reached by the keyboard")


async def test_a_session_that_ended_in_mid_form_leads_back_to_it(visit: Visit, home: Home) -> None:
    visitor = await visit()
    page = await visitor.sign_in(home)
    await page.goto(f"/children/{home.child()}/settings")
    other = await visitor.page()
    await other.goto("/")
    await other.click(".menu__open")
    await other.get_by_role("button", name="Sign out everywhere").click()
    await page.get_by_role("button", name="Save").click()
    await expect(page.locator("main")).to_contain_text("You had been signed out meanwhile")
    await page.fill("#email", home.email)
    await page.fill("#password", PASSWORD)
    await page.click("main button")
    await page.fill("#pin", PIN)
    await page.click("main button")
    await expect(page.get_by_role("heading", name="Change the limits")).to_be_visible()


async def test_an_open_page_is_left_within_a_second_of_signing_out_elsewhere(visit: Visit, home: Home) -> None:
    page = await (await visit()).sign_in(home)
    other = await (await visit()).sign_in(home, unlocked=False)
    await page.wait_for_timeout(500)
    await other.click(".menu__open")
    await other.get_by_role("button", name="Sign out everywhere").click()
    await expect(page).to_have_url(f"{home.service.url}/sign-in", timeout=2_000)


async def test_the_back_button_shows_nothing_after_signing_out(visit: Visit, home: Home) -> None:
    page = await (await visit()).sign_in(home)
    await page.get_by_role("link", name="Household").first.click()
    await expect(page.get_by_role("heading", name="Household")).to_be_visible()
    await page.click(".menu__open")
    await page.get_by_role("button", name="Sign out", exact=True).click()
    await expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Welcome back")).to_be_visible()
    assert home.email not in await page.content()


async def test_two_parents_at_once_do_not_overwrite_each_other(visit: Visit, home: Home) -> None:
    one = await (await visit()).sign_in(home)
    other = await (await visit(viewport=PHONE)).sign_in(home)
    for page in (one, other):
        await page.goto(f"/children/{home.child()}/settings")
    await one.select_option("#weekday_limit_minutes", "45")
    await one.get_by_role("button", name="Save").click()
    await expect(one.locator(".flash")).to_be_visible()
    await other.select_option("#weekday_limit_minutes", "240")
    await other.get_by_role("button", name="Save").click()
    await expect(other.get_by_role("alert")).to_contain_text("Somebody else has changed these settings meanwhile.")
    await expect(other.locator(".in-force")).to_contain_text("45 min")


@pytest.mark.parametrize("server", ["Valkey", "PostgreSQL"])
async def test_a_server_that_is_away_is_said_kindly_and_forgotten(visit: Visit, home: Home, server: str) -> None:
    page = await (await visit()).sign_in(home)
    pid = home.service.pid_of(server)
    await stopped(pid)
    try:
        await page.goto("/household", timeout=20_000)
        await expect(page.get_by_role("heading", name="Hourglass is catching its breath")).to_be_visible()
    finally:
        await went_on(pid)
    await until(lambda: shows(page, "/household", "Children and adults"))
    await page.goto("/")
    await expect(page.locator("[data-live-state]")).to_be_hidden()


async def stopped(pid: int) -> None:
    """A server and its children stand still: nothing is refused, nothing answers."""
    for one in family(pid):
        os.kill(one, signal.SIGSTOP)


async def went_on(pid: int) -> None:
    for one in family(pid):
        os.kill(one, signal.SIGCONT)


def family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


async def shows(page: Page, path: str, text: str) -> bool:
    await page.goto(path)
    return text in await page.content()


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.2)
