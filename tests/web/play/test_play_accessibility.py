"""Every screen of the child's page against WCAG 2.2 AA, as far as axe can tell, in light and dark and at 320 px."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page

from tests.browsers import HEADLESS
from tests.web.play.scene import Service, new_home, opened

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
MAX_BYTES = 150 * 1024

pytestmark = pytest.mark.skipif(HEADLESS is None, reason="chromium is not installed: accessibility was not checked")


@pytest.fixture(scope="module")
def axe() -> str:
    """The script that the console's tests use as well."""
    [script] = (Path(__file__).parents[1] / "vendor").glob("axe-*.min.js")
    return script.read_text(encoding="utf-8")


async def _violations(page: Page, axe: str) -> list[str]:
    await page.evaluate(axe)
    found = await page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_screen(service: Service, browser: Browser, axe: str, scheme: Any) -> None:
    home = await new_home(service)
    context = await browser.new_context(
        viewport={"width": 320, "height": 700}, color_scheme=scheme, reduced_motion="reduce"
    )
    child = await opened(context, home)
    page = child.page
    seen: dict[str, list[str]] = {}

    async def look(screen: str) -> None:
        await child.until_shown(screen, seconds=8)
        seen[screen] = await _violations(page, axe)
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            seen[screen].append(f"it scrolls sideways by {wide} px")
        focused = await page.evaluate("document.activeElement && document.activeElement.tagName")
        if focused != "H1":
            seen[screen].append(f"the focus is on {focused}, not on the heading")

    await look("shelf")
    await page.click("#switch")
    await look("who")
    await page.click(".person")
    await child.until_shown("shelf")
    await child.watch()
    await look("stage")
    second = await opened(context, home)
    await second.watch()
    await look("elsewhere")
    await home.limit(15)
    await home.spend(15 * 60)
    await page.click("#here")
    await look("lock")
    await page.click("#ask-open")
    seen["asking"] = await _violations(page, axe)
    assert await page.evaluate("document.activeElement.dataset.minutes") == "15"
    assert {screen: found for screen, found in seen.items() if found} == {}
    await context.close()
    await home.http.aclose()


async def test_the_page_is_light_and_of_one_host(service: Service, browser: Browser) -> None:
    home = await new_home(service)
    context = await browser.new_context()
    await opened(context, home)
    html = await (await context.request.get(f"{service.url}/play")).text()
    loaded = set(re.findall(r'(?:src|href)="([^"]+)"', html))
    assert len(loaded) == 4
    assert all(path.startswith("/") for path in loaded), "nothing comes from another host"
    size = len(html.encode())
    async with httpx.AsyncClient(base_url=service.url) as http:
        for path in loaded:
            answer = await http.get(path)
            assert answer.status_code == 200, path
            size += answer.num_bytes_downloaded
    assert 10_000 < size <= MAX_BYTES
    await context.close()
    await home.http.aclose()
