"""The picture of docs/howto/player.md: the console beside the child's page, from the last seconds to an approval.

``scripts/screenshots`` takes it after those of the console.
"""

import asyncio
from base64 import b64encode

from tests.browsers import CHROMIUM
from tests.servers import running_postgres, running_valkey
from tests.web.pictures import IMAGES, record
from tests.web.play.scene import PASSWORD, Service, chromium, new_home, opened, running_service

PICTURE = IMAGES / "console-and-play.jpg"
WIDTH, HEIGHT = 900, 760
LIMIT_SECONDS = 15 * 60
SETTLE_SECONDS = 1.2


async def main(database_url: str, redis_url: str) -> None:
    """Play the scene on servers of its own and write the picture."""
    async with running_service(database_url, redis_url, {}) as service:
        rows = await _scene(service)
    await _compose(rows)


async def _scene(service: Service) -> list[tuple[bytes, bytes]]:
    home = await new_home(service)
    await home.http.post("/parental-controls/pin", json={"new_pin": "4711", "password": PASSWORD})
    await home.http.post("/profiles", json={"name": "Ola", "is_kids": True})
    await home.limit(15)
    await home.spend(LIMIT_SECONDS - 8)
    rows: list[tuple[bytes, bytes]] = []
    async with chromium(CHROMIUM) as browser:
        context = await browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        child = await opened(context, home)
        parent = await context.new_page()
        await parent.goto(f"{service.url}/")

        async def picture() -> None:
            await asyncio.sleep(SETTLE_SECONDS)
            rows.append((await parent.screenshot(), await child.page.screenshot()))

        await child.watch("dragon-school")
        await picture()
        await child.until_shown("lock", seconds=15)
        await child.page.click("#ask-open")
        await child.page.click("[data-minutes='15']")
        await picture()
        await home.approve()
        await child.until_shown("stage")
        await picture()
    await home.http.aclose()
    return rows


async def _compose(rows: list[tuple[bytes, bytes]]) -> None:
    images = "".join(
        f'<img width="560" src="data:image/png;base64,{b64encode(image).decode()}">' for row in rows for image in row
    )
    style = "body{margin:0;display:grid;grid-template-columns:auto auto;gap:12px;background:#8a8f96;width:1132px}"
    async with chromium(CHROMIUM) as browser:
        page = await browser.new_page(viewport={"width": 1132, "height": 400})
        await page.set_content(f"<style>{style} img{{display:block}}</style>{images}")
        await page.screenshot(path=PICTURE, full_page=True, type="jpeg", quality=82)
    record("console-and-play")


if __name__ == "__main__":
    with running_postgres() as postgres, running_valkey() as valkey:
        asyncio.run(main(postgres.fresh(), valkey.url))
