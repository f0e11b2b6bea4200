"""Static files: read once, compressed once, addressed by their content so that browsers may keep them for ever."""

import gzip
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256, sha384
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static/"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
"""Only these are served."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """``integrity`` is the Subresource Integrity of its content."""

    name: str
    content: bytes
    compressed: bytes
    media_type: str
    digest: str
    integrity: str

    @property
    def url(self) -> str:
        return f"{PREFIX}{self.name}?v={self.digest}"


@cache
def assets() -> dict[str, Asset]:
    """Every file by its name below the folder."""
    paths = [path for path in sorted(FOLDER.rglob("*")) if path.suffix in _TYPES]
    return {asset.name: asset for asset in map(_read, paths)}


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(
        name=path.relative_to(FOLDER).as_posix(),
        content=content,
        compressed=gzip.compress(content, mtime=0),
        media_type=_TYPES[path.suffix],
        digest=sha256(content).hexdigest()[:12],
        integrity="sha384-" + b64encode(sha384(content).digest()).decode(),
    )
