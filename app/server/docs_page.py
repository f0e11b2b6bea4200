"""The interactive documentation: Swagger UI, shipped with the package, so that it works without the internet.

`static/swagger-ui/vendored.json` pins the version and the digest of each file; browsers check the digests, too.
"""

from base64 import b64encode
from hashlib import sha256, sha384
from html import escape
from pathlib import Path

import msgspec
from fastapi import FastAPI, Response

from app.errors import NotFound

STATIC = Path(__file__).parent / "static"
VENDORED = STATIC / "swagger-ui"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".png": "image/png"}
_A_YEAR = "public, max-age=31536000, immutable"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Hourglass</title>
<link rel="icon" type="image/png" href="{folder}/favicon-32x32.png">
<link rel="stylesheet" href="{folder}/swagger-ui.css" integrity="{style}">
</head>
<body>
<div id="swagger-ui" data-openapi="{openapi}"></div>
<script src="{folder}/swagger-ui-bundle.js" integrity="{bundle}"></script>
<script src="{folder}/docs.js" integrity="{start}"></script>
</body>
</html>
"""


class Vendored(msgspec.Struct, frozen=True):
    """Files of another project and the digests (SRI) that they must have."""

    name: str
    version: str
    licence: str
    source: str
    files: dict[str, str]


def vendored() -> Vendored:
    return msgspec.json.decode((VENDORED / "vendored.json").read_bytes(), type=Vendored)


def integrity_of(content: bytes) -> str:
    """A digest as the attribute ``integrity`` holds it (W3C Subresource Integrity)."""
    return "sha384-" + b64encode(sha384(content).digest()).decode()


def add_docs_page(api: FastAPI, *, path: str, openapi_url: str) -> None:
    """Serve the page at a path, and its files below it under a name that changes with their content."""
    pinned = vendored()
    files = {name: (VENDORED / name).read_bytes() for name in pinned.files}
    files["docs.js"] = (STATIC / "docs.js").read_bytes()
    edition = sha256(b"".join(files[name] for name in sorted(files))).hexdigest()[:16]
    folder = f"{path}/{edition}"
    page = _PAGE.format(
        folder=folder,
        openapi=escape(openapi_url),
        style=pinned.files["swagger-ui.css"],
        bundle=pinned.files["swagger-ui-bundle.js"],
        start=integrity_of(files["docs.js"]),
    )

    async def show() -> Response:
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    async def file(name: str) -> Response:
        content = files.get(name)
        if content is None:
            raise NotFound
        return Response(content, media_type=_TYPES[Path(name).suffix], headers={"Cache-Control": _A_YEAR})

    api.add_api_route(path, show, include_in_schema=False)
    api.add_api_route(folder + "/{name}", file, include_in_schema=False)
