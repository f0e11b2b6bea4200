"""Minutes in a tab nobody sees, in a Chromium with a window and no help from the automation, under Xvfb.

    apt-get install -y xvfb
    HOURGLASS_HIDDEN_SECONDS=600 scripts/test -m faults tests/web/play/test_play_background.py -s

Headless Chromium hides no tab, and Playwright tells every page that it is in front. So this browser is started as a
child would start it, and nothing is attached to it while the tab is hidden.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browsers import CHROMIUM
from tests.web.play.scene import (
    PLAYED,
    Child,
    Service,
    eventually,
    free_port,
    new_home,
    opened,
)

XVFB = shutil.which("Xvfb")
HIDDEN_SECONDS = float(os.environ.get("HOURGLASS_HIDDEN_SECONDS", "600"))  # noqa: TID251  how long it may take
TOLERANCE_SECONDS = 1.0
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-component-update")
NOTE = """
() => {
  const notes = window.notes = [];
  const note = (what) => notes.push([Math.round(performance.now()), what]);
  document.addEventListener('visibilitychange', () => note(document.visibilityState));
  for (const name of ['freeze', 'resume']) document.addEventListener(name, () => note(name));
  const video = document.getElementById('film');
  for (const name of ['play', 'pause', 'waiting', 'stalled']) video.addEventListener(name, () => note(name));
}
"""
pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(CHROMIUM is None or XVFB is None, reason="chromium or Xvfb is not installed"),
]


@pytest_asyncio.fixture(loop_scope="session")
async def debugging_url(tmp_path: Path) -> AsyncIterator[str]:
    """Where a Chromium with a window of its own listens."""
    reading, writing = os.pipe()
    screen = subprocess.Popen(  # noqa: ASYNC220, S603  ours
        [str(XVFB), "-displayfd", str(writing), "-screen", "0", "1200x900x24", "-nolisten", "tcp"],
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    display = (await asyncio.to_thread(os.read, reading, 16)).decode().strip()
    os.close(reading)
    port = free_port()
    places = [f"--user-data-dir={tmp_path / 'profile'}", f"--remote-debugging-port={port}"]
    browser = subprocess.Popen(  # noqa: ASYNC220, S603  ours
        [str(CHROMIUM), *FLAGS, *places, "about:blank"],
        env=os.environ | {"DISPLAY": f":{display}"},  # noqa: TID251  handed on
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient() as http:

        async def is_there() -> bool:
            with suppress(httpx.TransportError):
                return (await http.get(f"{url}/json/version")).status_code == 200
            return False

        await eventually(is_there, "Chromium listens", seconds=60)
    yield url
    for process in (browser, screen):
        process.terminate()
        process.wait()


async def test_minutes_in_a_hidden_tab_are_counted_as_they_are_played(service: Service, debugging_url: str) -> None:
    home = await new_home(service)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(debugging_url)
        child = await opened(browser.contexts[0], home)
        await child.page.evaluate(NOTE)
        await child.watch()
        await browser.close()  # lets go of it: the browser runs on
    async with httpx.AsyncClient() as http:
        other = await http.put(f"{debugging_url}/json/new?about:blank")
        assert (await http.get(f"{debugging_url}/json/activate/{other.json()['id']}")).status_code == 200
    used = await sampled(home, HIDDEN_SECONDS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(debugging_url)
        child = await back_at(browser, child)
        notes = await child.page.evaluate("notes")
        film_seconds = await child.page.evaluate("document.getElementById('film').currentTime")
        state = await child.page.evaluate("({...hourglass.state})")
        await child.leave()
        await eventually(child.is_settled, "the end is answered", seconds=15)
        played = float(await child.page.evaluate(PLAYED))
        balance = await home.balance()
        await browser.close()
    await home.http.aclose()
    figures = {
        "played": round(played, 2),
        "used": balance["used_seconds"],
        "film_seconds": round(film_seconds, 2),
        "watched_by_sdk": state["watchedSeconds"],
        "used_each_minute": used,
        "notes": notes,
    }
    print(f"\nhidden for {HIDDEN_SECONDS:.0f} s: {figures}")  # noqa: T201  shown with -s
    assert "hidden" in [what for _, what in notes], "nobody saw the tab"
    assert played > HIDDEN_SECONDS / 2
    assert abs(balance["used_seconds"] - played) <= TOLERANCE_SECONDS


async def sampled(home: Any, seconds: float) -> list[float]:
    """The used seconds of each minute that passes."""
    used = []
    for _ in range(max(1, round(seconds / 60))):
        await asyncio.sleep(min(60.0, seconds))
        used.append((await home.balance())["used_seconds"])
    return used


async def back_at(browser: Browser, child: Child) -> Child:
    """The same tab, for a client that comes back."""
    pages = [page for page in browser.contexts[0].pages if page.url.endswith("/play")]
    assert len(pages) == 1
    return Child(pages[0], child.home)
