"""Session ids that carry their own proof.

A session id is a UUID that contains the instant of its issue, randomness, and a keyed tag over these and the profile.
From the id alone the service verifies that it issued this session to this profile at that instant. So a session whose
record was lost can be resumed from its start, and an invented id is refused without a look-up.

Layout, RFC 9562 version 8: 48 bits milliseconds | 4 version | 12 random | 2 variant | 22 random | 40 tag.
"""

import hashlib
import hmac
from uuid import UUID

RANDOM_BITS = 34
_TAG_BITS = 40
_TAG_BYTES = _TAG_BITS // 8
_VERSION = 8 << 76
_VARIANT = 2 << 62


class SessionIds:
    """Issues session ids with one secret, and verifies ids of that secret and of ``previous`` ones."""

    def __init__(self, secret: bytes, *previous: bytes) -> None:
        self._keys = tuple(hashlib.blake2b(each, digest_size=32).digest() for each in (secret, *previous))

    def issue(self, profile_id: str, *, at_ms: int, entropy: int) -> str:
        """A new id. ``entropy`` supplies ``RANDOM_BITS`` random bits."""
        random_high = (entropy >> 22) & 0xFFF
        random_low = entropy & 0x3FFFFF
        head = (at_ms << 80) | _VERSION | (random_high << 64) | _VARIANT | (random_low << _TAG_BITS)
        return str(UUID(int=head | _tag(self._keys[0], profile_id, head)))

    def issued_ms(self, profile_id: str, session_id: str) -> int | None:
        """The instant at which this id was issued to this profile, or None when it never was."""
        try:
            value = UUID(session_id).int
        except ValueError:
            return None
        head = value >> _TAG_BITS << _TAG_BITS
        if session_id != str(UUID(int=value)):
            return None
        tag = (value ^ head).to_bytes(_TAG_BYTES)
        for key in self._keys:
            if hmac.compare_digest(tag, _tag(key, profile_id, head).to_bytes(_TAG_BYTES)):
                return head >> 80
        return None


def _tag(key: bytes, profile_id: str, head: int) -> int:
    message = head.to_bytes(16) + profile_id.encode()
    return int.from_bytes(hashlib.blake2b(message, key=key, digest_size=_TAG_BYTES).digest())
