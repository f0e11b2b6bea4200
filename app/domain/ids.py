"""Session ids that carry their own proof.

A session id is a UUID whose bits hold the instant at which it was issued, randomness, and a keyed tag over these and
the profile. So the service can tell, from the id alone, that it issued this session to this profile at that instant:
a session whose record was lost is taken up again where it began, and a made-up id is refused without a look-up.

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
    """Issues and verifies session ids with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.blake2b(secret, digest_size=32).digest()

    def issue(self, profile_id: str, *, at_ms: int, entropy: int) -> str:
        """A new id. ``entropy`` supplies ``RANDOM_BITS`` random bits."""
        random_high = (entropy >> 22) & 0xFFF
        random_low = entropy & 0x3FFFFF
        head = (at_ms << 80) | _VERSION | (random_high << 64) | _VARIANT | (random_low << _TAG_BITS)
        return str(UUID(int=head | self._tag(profile_id, head)))

    def issued_ms(self, profile_id: str, session_id: str) -> int | None:
        """The instant at which this id was issued to this profile, or None when it never was."""
        try:
            value = UUID(session_id).int
        except ValueError:
            return None
        head = value >> _TAG_BITS << _TAG_BITS
        if session_id != str(UUID(int=value)) or not hmac.compare_digest(
            (value ^ head).to_bytes(_TAG_BYTES), self._tag(profile_id, head).to_bytes(_TAG_BYTES)
        ):
            return None
        return head >> 80

    def _tag(self, profile_id: str, head: int) -> int:
        message = head.to_bytes(16) + profile_id.encode()
        return int.from_bytes(hashlib.blake2b(message, key=self._key, digest_size=_TAG_BYTES).digest())
