"""Encryption of the secrets of receivers, so that a copy of the database signs nothing."""

import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class SecretUnreadable(Exception):
    """No accepted key opens a secret: the one that sealed it was removed too early."""


class SecretSeal:
    """Seals with the first key, and opens what any of the keys has sealed (AES-256-GCM).

    The keys are derived from the secrets of sessions, which rotate (docs/howto/rotate.md).
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._keys = [AESGCM(hashlib.blake2b(each, digest_size=32, person=b"webhook").digest()) for each in secrets]

    def sealed(self, secret: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._keys[0].encrypt(nonce, secret, None)

    def opened(self, sealed: bytes) -> tuple[bytes, bool]:
        """The secret, and whether it is sealed with the first key. Raises SecretUnreadable."""
        for key in self._keys:
            try:
                return key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None), key is self._keys[0]
            except InvalidTag:
                continue
        raise SecretUnreadable
