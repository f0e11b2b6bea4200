"""The SDK's files under ``/sdk/v1/``: open to every page, compressed once, kept by browsers.

The plain address follows each release within minutes. The one with a version never changes, and is for pages that name
its integrity. ``version.json`` says which versions are served and from which on players are still welcome; the
heartbeat itself never looks at a player's version.
"""

import gzip
import json
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha384
from pathlib import Path

from fastapi import APIRouter, Request, Response

from app.errors import NotFound

PREFIX = "/sdk/v1"
PACKAGE = Path(__file__).parent / "player"
_YEAR_SECONDS, _MINUTES_SECONDS = 365 * 86_400, 300
_TYPES = {
    "hourglass-player.js": "text/javascript; charset=utf-8",
    "hourglass-player.d.ts": "text/plain; charset=utf-8",
}
_OPEN = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
"""Nothing here is anybody's secret."""

router = APIRouter(prefix=PREFIX, include_in_schema=False)


@dataclass(frozen=True)
class SdkFile:
    """A file of the package. ``integrity`` is its Subresource Integrity."""

    name: str
    content: bytes = field(repr=False)

    @property
    def integrity(self) -> str:
        return "sha384-" + b64encode(sha384(self.content).digest()).decode()

    @property
    def compressed(self) -> bytes:
        return gzip.compress(self.content, 9, mtime=0)


@dataclass(frozen=True, kw_only=True)
class _Served:
    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@cache
def version() -> str:
    """The version of the package."""
    manifest = json.loads((PACKAGE / "package.json").read_bytes())
    return str(manifest["version"])


@cache
def sdk_file(name: str) -> SdkFile:
    """A file that is served. Raises NotFound."""
    if name not in _TYPES:
        raise NotFound
    return SdkFile(name, (PACKAGE / name).read_bytes())


@cache
def _served(name: str) -> _Served:
    file = sdk_file(name)
    return _Served(
        content=file.content,
        compressed=file.compressed,
        media_type=_TYPES[name],
        etag=f'"{file.integrity.removeprefix("sha384-")[:24]}"',
    )


@router.get("/version.json")
async def sdk_version(request: Request) -> Response:
    """Which version is served, and the oldest that is still welcome."""
    settings = request.app.state.services.settings
    player = sdk_file("hourglass-player.js")
    facts = {
        "version": version(),
        "minimum": settings.sdk_minimum_version,
        "message": settings.sdk_message,
        "url": f"{PREFIX}/{version()}/{player.name}",
        "integrity": player.integrity,
    }
    headers = _OPEN | {"Cache-Control": f"public, max-age={_MINUTES_SECONDS}"}
    return Response(json.dumps(facts), media_type="application/json", headers=headers)


@router.get("/{name}")
async def sdk_latest(request: Request, name: str) -> Response:
    """A file of the newest release."""
    return _answer(request, name, f"public, max-age={_MINUTES_SECONDS}, stale-while-revalidate=86400")


@router.get("/{release}/{name}")
async def sdk_release(request: Request, release: str, name: str) -> Response:
    """A file that never changes. Raises NotFound for a release that is not served any more."""
    if release != version():
        raise NotFound
    return _answer(request, name, f"public, max-age={_YEAR_SECONDS}, immutable")


def _answer(request: Request, name: str, cache_control: str) -> Response:
    file = _served(name)
    headers = _OPEN | {"Cache-Control": cache_control, "ETag": file.etag, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(file.compressed, media_type=file.media_type, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
