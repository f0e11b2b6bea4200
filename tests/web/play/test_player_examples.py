"""The pages of docs/examples/players with hls.js, Shaka Player and video.js, on another origin than the service."""

import functools
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from app.auth.tokens import Role
from tests.browsers import HEADLESS
from tests.web.play.scene import Service, eventually, new_home, token_of

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples" / "players"
PACKAGES = ("hls.js@1.6.15", "shaka-player@4.16.0", "video.js@8.23.4")
TOLERANCE_SECONDS = 1.0
LIMIT_SECONDS = 15 * 60
FILM = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=15:duration=30", "-c:v", "libx264", "-pix_fmt", "yuv420p")
TOOLS = {name: shutil.which(name) for name in ("npm", "ffmpeg")}
MISSING = [name for name, path in (TOOLS | {"chromium": HEADLESS}).items() if path is None]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: no example was played")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


def _run(*command: str | Path, folder: Path) -> None:
    subprocess.run(  # noqa: S603  tools of the tests
        [str(word) for word in command], cwd=folder, check=True, capture_output=True, timeout=120
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The examples, the players from the registry and a film of 30 s, as a site of their own."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    try:
        _run(TOOLS["npm"] or "", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES, folder=folder)
    except subprocess.CalledProcessError:
        pytest.skip(f"the npm registry does not answer: {' '.join(PACKAGES)} were not tried")
    (folder / "node_modules").rename(folder / "vendor")
    media = folder / "media"
    media.mkdir()
    make = [TOOLS["ffmpeg"] or "", "-loglevel", "error", *FILM]
    _run(*make, "-f", "hls", "-hls_time", "2", "-hls_playlist_type", "vod", "film.m3u8", folder=media)
    _run(*make, "-f", "dash", "-seg_duration", "2", "film.mpd", folder=media)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def variables(site: str) -> Mapping[str, str]:
    return {"HOURGLASS_CORS_ORIGINS": site}


@pytest.mark.parametrize("name", ["hls", "shaka", "videojs"])
async def test_an_example_plays_pauses_and_stops_on_time(
    site: str, service: Service, browser: Browser, name: str
) -> None:
    home = await new_home(service)
    await home.limit(15)
    await home.spend(LIMIT_SECONDS - 6)
    before = (await home.balance())["used_seconds"]
    context = await browser.new_context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    token = token_of(home.account_id, Role.HOUSEHOLD)
    await page.goto(f"{site}/{name}.html#service={service.url}&profile={home.child}&token={token}")
    await page.wait_for_function("window.hourglass")
    await page.evaluate("film.play().catch(() => {})")

    async def phase_is(phase: str) -> bool:
        return bool(await page.evaluate(f"hourglass.state.phase === '{phase}'"))

    async def plays() -> bool:
        return bool(await page.evaluate("!film.paused && film.currentTime > 1"))

    await eventually(lambda: phase_is("playing"), "it plays", seconds=10)
    await eventually(plays, "the film moves", seconds=10)
    await page.evaluate("film.pause()")
    await eventually(lambda: _is(page.evaluate("hourglass.machine.wish === 'pause'")), "the pause is seen")
    position = await page.evaluate("film.currentTime")
    assert position > 0.5
    await page.evaluate("film.play()")
    await eventually(lambda: phase_is("blocked"), "the time ends", seconds=12)
    assert await page.evaluate("film.paused")
    assert await page.inner_text("#note") == "That was all for today."
    played = await page.evaluate("film.currentTime")
    used = (await home.balance())["used_seconds"] - before
    assert abs(used - played) <= TOLERANCE_SECONDS, f"{used} s were counted, {played} s were played"
    assert errors == []
    await context.close()
    await home.http.aclose()


async def _is(answer: Any) -> bool:
    return bool(await answer)
