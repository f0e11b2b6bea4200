"""The child's page: who watches, which film, and the film through the player SDK; and tokens for the SDK.

The page is one document. Its texts, the household and the shelf come with it; everything else is the SDK's.
"""

from typing import Protocol, cast

from starlette.responses import JSONResponse, Response

from app.auth.tokens import Role, Tokens
from app.catalogue.service import Catalogue
from app.errors import Forbidden
from app.sdk.router import PREFIX, sdk_file, version
from app.web.play_texts import texts
from app.web.security import HEADERS
from app.web.visit import Visit

TOKEN_SECONDS = 600
"""Short: after signing out, playback must not go on for long."""
_SHELF = 24
_FILM_POLICY = "; worker-src 'self' blob:; media-src 'self' blob: mediastream:"


class PlayServices(Protocol):
    """What the page needs beside what every page needs."""

    @property
    def catalogue(self) -> Catalogue: ...

    @property
    def tokens(self) -> Tokens: ...


async def play(visit: Visit) -> Response:
    """The page. Raises DatabaseUnavailable."""
    titles, _ = await _services(visit).catalogue.page(after_id="", limit=_SHELF)
    script = sdk_file("hourglass-player.js")
    facts = {
        "language": visit.language,
        "sdk": f"{PREFIX}/{version()}/{script.name}",
        "texts": texts(visit.language),
        "profiles": [
            {"id": profile.id, "name": profile.name, "isKids": profile.is_kids, "timezone": profile.timezone}
            for profile in await visit.profiles()
        ],
        "titles": [
            {
                "id": title.id,
                "name": title.name,
                "isLearning": title.is_educational,
                "durationSeconds": title.duration_seconds,
            }
            for title in titles
        ],
    }
    response = visit.render("play.html", facts=facts, say=texts(visit.language), integrity=script.integrity)
    response.headers["Content-Security-Policy"] = HEADERS["Content-Security-Policy"] + _FILM_POLICY
    return response


async def play_token(visit: Visit) -> Response:
    """A household token for the page that asks. Raises Forbidden for any other page."""
    if visit.request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Forbidden
    token = _services(visit).tokens.issue(
        account_id=visit.account_id,
        role=Role.HOUSEHOLD,
        sign_in_id=visit.signed_in.sign_in_id or None,
        at_s=visit.at_ms // 1000,
        life_seconds=TOKEN_SECONDS,
    )
    return JSONResponse({"token": token, "expires_in": TOKEN_SECONDS})


def _services(visit: Visit) -> PlayServices:
    return cast("PlayServices", visit.services)
