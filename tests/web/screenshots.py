"""Screenshots of the console for the docs, from the demo household. See ``scripts/screenshots``."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright

from tests.browsers import CHROMIUM, FLAGS
from tests.integration.test_up import Up
from tests.web.pictures import IMAGES, record

SIZES = {"phone": (390, 844, 2), "desktop": (1280, 800, 1)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SETTLE_MS = 900
PAGES = {"limits": "Emil/settings", "week": "Emil/week", "history": "Emil/history", "today": "Jonas"}


async def main(folder: Path) -> None:
    """Start the demo, take every picture, end it."""
    up = Up(folder, "--demo")
    try:
        url = up.url()
        await asyncio.to_thread(up.wait_for, "Emil: watching", seconds=120)
        household = json.loads((folder / "demo" / "household.json").read_text(encoding="utf-8"))
        IMAGES.mkdir(exist_ok=True)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for scheme in SCHEMES:
                for size in SIZES:
                    await _take(browser, url, household, scheme, size)
        record("console-overview", *(f"console-{name}" for name in PAGES))
    finally:
        up.end()


async def _take(
    browser: Browser, url: str, household: dict[str, object], scheme: Literal["light", "dark"], size: str
) -> None:
    width, height, scale = SIZES[size]
    context = await browser.new_context(
        base_url=url,
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme=scheme,
        locale="en-GB",
    )
    page = await context.new_page()
    await page.goto("/sign-in")
    await page.fill("#email", str(household["email"]))
    await page.fill("#password", str(household["password"]))
    await page.click("main button")
    await page.wait_for_selector(".child")
    await _keep(page, f"console-overview-{size}-{scheme}")
    await page.goto("/unlock")
    await page.fill("#pin", str(household["pin"]))
    await page.click("main button")
    await page.wait_for_selector(".child")
    profiles = household["profiles"]
    assert isinstance(profiles, dict)
    for name, path in PAGES.items():
        child, _, rest = path.partition("/")
        await page.goto(f"/children/{profiles[child]}" + (f"/{rest}" if rest else ""))
        if name == "limits":
            await page.select_option("#weekday_limit_minutes", "60")
            await page.wait_for_selector("#preview canvas")
        await _keep(page, f"console-{name}-{size}-{scheme}")
    await context.close()


async def _keep(page: Page, name: str) -> None:
    await page.wait_for_timeout(SETTLE_MS)
    await page.screenshot(path=IMAGES / f"{name}.png")
    print(name, flush=True)  # noqa: T201  a program


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("there is no Chromium here; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as data:
        asyncio.run(main(Path(data) / "data"))
