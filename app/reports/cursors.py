"""Where a page of history ended, as a text that only we can make."""

import base64
import binascii
import hashlib
import hmac
from datetime import date

import msgspec

from app.errors import InvalidInput

_TAG_BYTES = 12
_LONGEST = 300


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The days that are paged through, and the start and id of the last session that was shown."""

    first: date
    last: date
    day: date
    started_ms: int
    session_id: str


_decode = msgspec.msgpack.Decoder(Place).decode


class Cursors:
    """Writes places down and reads them again, for the profile that they belong to."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, digest_size=32, person=b"history cursor").digest()

    def write(self, profile_id: str, place: Place) -> str:
        body = msgspec.msgpack.encode(place)
        return base64.urlsafe_b64encode(self._tag(profile_id, body) + body).rstrip(b"=").decode()

    def read(self, profile_id: str, cursor: str) -> Place:
        """Raises InvalidInput when the cursor is none that was written for this profile."""
        try:
            raw = base64.b64decode(cursor[:_LONGEST] + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(profile_id, body)):
            raise InvalidInput(
                errors=[{"parameter": "cursor", "in": "query", "detail": "is not one that was answered"}]
            )
        return _decode(body)

    def _tag(self, profile_id: str, body: bytes) -> bytes:
        return hashlib.blake2b(profile_id.encode() + body, key=self._key, digest_size=_TAG_BYTES).digest()
