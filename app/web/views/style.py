"""Every component on one page, for those who change the look. In development only."""

from starlette.responses import Response

from app.web.visit import Visit


async def style(visit: Visit) -> Response:
    states = (("watching", 0.66), ("low", 0.12), ("blocked", 0.0), ("unlimited", 1.0))
    return visit.render("style.html", states=states)
