"""What holds on every page: no barrier, nothing beside the screen, little to load."""

import itertools
from pathlib import Path

import pytest
from playwright.async_api import Page, Response

from app.clients.household import EDUCATIONAL
from tests.web.browser.conftest import DESKTOP, PHONE, Home, Service, Visit, home_of, unlock

AXE = (Path(__file__).parents[1] / "vendor" / "axe-4.14.1.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
MAX_BYTES = 150_000
MIN_TARGET_PX = 24
COLOURS = ["color-contrast"]
RUN = "async rules => (await axe.run({runOnly: rules})).violations"


@pytest.fixture(scope="module")
async def lively(service: Service) -> Home:
    """A household in which every page has something to show."""
    home = await home_of(service, "Ada", "Ben", "Cleo", past=True)
    await home.beat("Ada")
    await home.beat("Cleo", title=EDUCATIONAL[0])
    await home.ask("Ben", note="only the end of the film")
    async with home.parent() as parent:
        path = f"/parental-controls/profiles/{home.child('Ben')}/viewing-time/grant"
        await parent.post(path, json={"minutes": None})
    return home


def paths_of(home: Home) -> list[str]:
    child = f"/children/{home.child()}"
    return [
        "/",
        child,
        *(f"{child}/{page}" for page in ("settings", "week", "history", "data")),
        "/household",
        "/household/pin",
        "/household/pin/forgotten",
        "/style",
    ]


async def barriers(page: Page) -> list[str]:
    """What axe finds, in light and in dark; dark differs in its colours only."""
    await page.evaluate(AXE)
    found = []
    for scheme, options in (("light", {"type": "tag", "values": RULES}), ("dark", {"type": "rule", "values": COLOURS})):
        await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        faults = await page.evaluate(RUN, options)
        found += [
            f"{page.url} {scheme} {fault['id']}: {node['html'][:160]}" for fault in faults for node in fault["nodes"]
        ]
    return found


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_no_page_has_a_barrier_or_overflows(visit: Visit, lively: Home, viewport: dict[str, int]) -> None:
    visitor = await visit(viewport=viewport, reduced_motion="reduce", bypass_csp=True)
    page = await visitor.page()
    found = []
    for path in ("/sign-in", "/register"):
        await page.goto(path)
        found += await barriers(page)
    await page.close()
    page = await visitor.sign_in(lively, unlocked=False)
    await page.goto("/unlock")
    found += await barriers(page)
    await unlock(page)
    for path in paths_of(lively):
        await page.goto(path)
        if path.endswith("/settings"):
            await page.get_by_role("button", name="Preview").click()
            await page.wait_for_selector("#preview canvas")
        await page.evaluate("document.querySelectorAll('main details').forEach(details => { details.open = true })")
        found += await barriers(page)
        overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert overflow <= 0, f"{path} is {overflow} px too wide"
    assert not found, "\n".join(found)


async def test_the_check_for_barriers_finds_one(visit: Visit) -> None:
    page = await (await visit(bypass_csp=True)).page()
    await page.goto("/sign-in")
    await page.evaluate("document.querySelector('label').remove()")
    assert any("#email" in fault or "label" in fault for fault in await barriers(page))


async def test_every_page_weighs_little(visit: Visit, lively: Home) -> None:
    """Everything that a first visit loads, as it comes over the wire."""
    visitor = await visit()
    page = await visitor.sign_in(lively)
    session = await visitor.context.new_cdp_session(page)
    loaded: list[float] = []
    session.on("Network.loadingFinished", lambda event: loaded.append(event["encodedDataLength"]))
    await session.send("Network.enable")
    await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    weights = {}
    for path in paths_of(lively):
        loaded.clear()
        await page.goto(path, wait_until="load")
        weights[path] = sum(loaded)
    assert min(weights.values()) > MAX_BYTES / 10, "scripts were loaded, too"
    assert max(weights.values()) <= MAX_BYTES, weights


async def test_a_household_of_twenty_is_shown_and_weighs_little(visit: Visit, service: Service) -> None:
    home = await home_of(service, *(f"Child number {number}" for number in range(20)))
    page = await (await visit(viewport=PHONE)).sign_in(home)
    sizes: list[int] = []

    async def weigh(response: Response) -> None:
        if response.url == f"{service.url}/":
            sizes.append(len(await response.body()))

    page.on("response", weigh)
    await page.goto("/")
    await page.wait_for_timeout(300)
    assert await page.locator(".child").count() == 20
    assert sizes
    assert sizes[0] <= MAX_BYTES - 60_000  # scripts and styles are the rest


@pytest.mark.parametrize("locale", ["en-GB", "nb-NO"])
async def test_every_entry_of_the_menu_fits_on_a_narrow_phone(visit: Visit, lively: Home, locale: str) -> None:
    """Each on one line, inside the screen, clear of its neighbours, and large enough for a finger."""
    page = await (await visit(viewport=PHONE, locale=locale)).sign_in(lively, unlocked=False)
    boxes = await page.evaluate(
        """() => [...document.querySelectorAll('.brand, .top__nav a, .menu__open')].map(element => {
            const box = element.getBoundingClientRect();
            const text = document.createRange();
            text.selectNodeContents(element);
            const lines = new Set([...text.getClientRects()].map(line => Math.round(line.top))).size;
            return {name: element.textContent.trim(), left: box.left, right: box.right, height: box.height, lines};
        })"""
    )
    entries = boxes[1:4]
    assert [entry["lines"] for entry in entries] == [1, 1, 1], entries
    assert all(entry["height"] >= MIN_TARGET_PX for entry in entries)
    for left, right in itertools.pairwise(boxes):
        assert left["right"] <= right["left"], f"{left} lies over {right}"
    assert boxes[-1]["right"] <= PHONE["width"]
    await page.get_by_role("link", name={"en-GB": "Watch", "nb-NO": "Se film"}[locale]).click()
    await page.wait_for_url("**/play")
