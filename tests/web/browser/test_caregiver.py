"""The page of a caregiver in a browser: from the link on a phone to the extra time."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.web.browser.conftest import DESKTOP, PHONE, PIN, Home, Visit
from tests.web.browser.test_quality import barriers

expect.set_options(timeout=8_000)

SIZES = pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])


async def link_of(visit: Visit, home: Home, *, minutes: str = "30") -> str:
    """The link that a parent gets in the console."""
    page = await (await visit()).sign_in(home)
    await page.goto("/household")
    await page.get_by_text("Add a caregiver").click()
    await page.fill("#caregiver-name", "Grandma")
    await page.select_option("#caregiver-budget", minutes)
    await page.fill("#caregiver-pin", PIN)
    await page.get_by_role("button", name="Add the caregiver").click()
    shown = page.locator("#caregivers .token")
    await expect(shown).to_contain_text("/care#")
    return await shown.inner_text()


async def opened(visit: Visit, link: str, **options: object) -> Page:
    page = await (await visit(**options)).page()
    await page.goto(link)
    await expect(page.get_by_role("heading", name="Hello, Grandma")).to_be_visible()
    return page


@SIZES
async def test_a_link_opens_the_page_and_leaves_the_address(visit: Visit, home: Home, viewport: dict[str, int]) -> None:
    link = await link_of(visit, home)
    page = await opened(visit, link, viewport=viewport)
    assert page.url == f"{home.service.url}/care"
    assert link.partition("#")[2] not in await page.evaluate("document.documentElement.outerHTML + location.href")
    await page.click(f"#give-15-{home.child()}")
    await expect(page.locator(".flash")).to_contain_text("Ada has 15 min more today.")
    await expect(page.locator("#care")).to_contain_text("You may give 15 min more today")
    await expect(page.locator(f"#give-30-{home.child()}")).to_have_count(0)
    await page.reload()
    await expect(page.get_by_role("heading", name="Hello, Grandma")).to_be_visible()
    await expect(page.locator("article").first).to_contain_text("1 h 15 min")


async def test_two_taps_give_it_once(visit: Visit, home: Home) -> None:
    page = await opened(visit, await link_of(visit, home, minutes="60"), viewport=PHONE)
    await page.dblclick(f"#give-15-{home.child()}")
    await expect(page.locator("#care")).to_contain_text("You may give 45 min more today")
    await page.wait_for_timeout(500)
    await page.reload()
    await expect(page.locator("#care")).to_contain_text("You may give 45 min more today")


async def test_a_request_is_approved_in_one_tap(visit: Visit, home: Home) -> None:
    await home.ask(minutes=15)
    page = await opened(visit, await link_of(visit, home), viewport=PHONE)
    await page.get_by_role("button", name="Give 15 min").click()
    await expect(page.locator(".flash")).to_contain_text("Ada has 15 min more today.")
    await expect(page.locator(".request")).to_have_count(0)


@SIZES
async def test_everything_goes_without_javascript(visit: Visit, home: Home, viewport: dict[str, int]) -> None:
    await home.ask(minutes=15)
    link = await link_of(visit, home)
    page = await (await visit(viewport=viewport, java_script_enabled=False)).page()
    await page.goto(link)
    await page.fill("#token", link)
    await page.get_by_role("button", name="Open", exact=True).click()
    await page.get_by_role("button", name="Give 15 min").click()
    await expect(page.locator(".flash")).to_contain_text("Ada has 15 min more today.")
    await page.click(f"#give-15-{home.child()}")
    await expect(page.locator("#care")).to_contain_text("You have given all that you may give today.")
    await page.get_by_role("button", name="Sign out here").click()
    await expect(page.get_by_role("heading", name="For caregivers")).to_be_visible()


async def test_it_goes_by_keyboard(visit: Visit, home: Home) -> None:
    page = await opened(visit, await link_of(visit, home))
    for _ in range(30):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == f"give-15-{home.child()}":
            break
    await page.keyboard.press("Enter")
    await expect(page.locator(".flash")).to_contain_text("Ada has 15 min more today.")


async def test_an_open_page_learns_that_it_was_revoked(visit: Visit, home: Home) -> None:
    link = await link_of(visit, home)
    page = await opened(visit, link, viewport=PHONE)
    async with home.parent() as parent:
        devices = (await parent.get("/auth/devices")).json()
        [device] = [each for each in devices if each["role"] == "caregiver"]
        assert (await parent.delete(f"/auth/devices/{device['id']}")).status_code == 204
    await page.click(f"#give-15-{home.child()}")
    await expect(page.locator("#care")).to_contain_text("You are signed out here.")
    await page.goto("about:blank")
    await page.goto(link)
    await expect(page.locator("#care")).to_contain_text("This link opens nothing any more.")


@SIZES
async def test_no_page_has_a_barrier_or_overflows(visit: Visit, home: Home, viewport: dict[str, int]) -> None:
    await home.ask(minutes=15)
    await home.ask("Ben", minutes=60)
    async with home.parent() as parent:
        path = f"/parental-controls/profiles/{home.child('Ben')}/viewing-time/pause"
        assert (await parent.post(path, json={"minutes": 30})).status_code == 200
    link = await link_of(visit, home)
    visitor = await visit(viewport=viewport, reduced_motion="reduce", bypass_csp=True)
    page = await visitor.page()
    await page.goto("/care")
    found = await barriers(page)
    assert await _too_wide(page) <= 0
    await page.goto(link)
    await expect(page.get_by_role("heading", name="Hello, Grandma")).to_be_visible()
    await expect(page.locator(".request")).to_have_count(2)
    found += await barriers(page)
    assert await _too_wide(page) <= 0
    await page.click(f"#give-30-{home.child()}")
    await expect(page.locator("#care")).to_contain_text("You have given all that you may give today.")
    found += await barriers(page)
    assert not found, "\n".join(found)
    assert not re.findall("%\\(", await page.content())


async def _too_wide(page: Page) -> int:
    width: int = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return width
