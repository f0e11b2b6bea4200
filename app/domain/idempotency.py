"""What makes two requests the same."""

import hashlib
from typing import Self

import msgspec

KEY_LIFE_MS = 24 * 3_600_000
MAX_KEY = 100


class IdempotencyKey(msgspec.Struct, frozen=True):
    """A key that a client chose, and a digest of what it asked for with it."""

    key: str
    digest: bytes

    @classmethod
    def of(cls, key: str, *request: object) -> Self:
        """``request`` is what was asked for. No PIN may be in it: four digits can be guessed from their digest."""
        return cls(key, hashlib.sha256(msgspec.json.encode(request)).digest())
