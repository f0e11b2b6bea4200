"""Signed cursors for the pages of a history."""

import base64
import binascii
import hashlib
import hmac
from datetime import date

import msgspec

from app.errors import InvalidInput

_TAG_BYTES = 12
_LONGEST = 300


class CursorPosition(msgspec.Struct, frozen=True, array_like=True):
    """The days of the whole listing, and the start and id of the last session on the page before."""

    first: date
    last: date
    day: date
    started_ms: int
    session_id: str


_decode = msgspec.msgpack.Decoder(CursorPosition).decode


class Cursors:
    """Encodes and decodes cursors. A cursor is valid for one profile."""

    def __init__(self, secret: bytes, *previous: bytes) -> None:
        self._keys = tuple(
            hashlib.blake2b(each, digest_size=32, person=b"history cursor").digest() for each in (secret, *previous)
        )

    def write(self, profile_id: str, place: CursorPosition) -> str:
        body = msgspec.msgpack.encode(place)
        return base64.urlsafe_b64encode(_tag(self._keys[0], profile_id, body) + body).rstrip(b"=").decode()

    def read(self, profile_id: str, cursor: str) -> CursorPosition:
        """Decode a cursor. Raises InvalidInput when it was not issued for this profile."""
        try:
            raw = base64.b64decode(cursor[:_LONGEST] + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not any(hmac.compare_digest(tag, _tag(key, profile_id, body)) for key in self._keys):
            raise InvalidInput(
                errors=[{"parameter": "cursor", "in": "query", "detail": "is not one that was answered"}]
            )
        return _decode(body)


def _tag(key: bytes, profile_id: str, body: bytes) -> bytes:
    return hashlib.blake2b(profile_id.encode() + body, key=key, digest_size=_TAG_BYTES).digest()
