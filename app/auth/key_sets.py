"""The keys of the platform's identity service: a key set (RFC 7517), in a file or at an address.

One algorithm is pinned, and only public keys of that algorithm are taken: no header can make a key mean something else.
What cannot be read changes nothing.
"""

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jose import jwk

EDDSA = "EdDSA"
SEEK_SECONDS = 10
"""An unknown key makes us look again at most once in so long."""
_MAX_KEYS = 100
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_BITS_PER_LETTER = 6  # of base64

log = structlog.get_logger(__name__)


class KeysUnusable(Exception):
    """The key set cannot be read, or holds no key that fits; the text says why."""


class VerifyingKey(Protocol):
    def verify(self, msg: bytes, sig: bytes) -> bool:
        """Whether a signature is of this key."""
        ...


class KeySource(Protocol):
    """Keys that come and go.

    Attributes:
        generation: grows when a key was taken away or replaced.
    """

    generation: int

    def find(self, kid: str, *, at_s: int) -> VerifyingKey | None:
        """A key by its name. Raises Pending where it is worth while to ask once more, and IdentityUnavailable."""
        ...

    def look(self, at_s: int) -> None:
        """Notice what has changed."""
        ...


class Ed25519Key:
    """What the library for tokens lacks (RFC 8037)."""

    def __init__(self, x: str) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(base64url(x))

    def verify(self, msg: bytes, sig: bytes) -> bool:
        try:
            self._key.verify(sig, msg)
        except InvalidSignature:
            return False
        return True


class _Jwk(msgspec.Struct, frozen=True):
    """A public key as the set shows it; private parts are not read."""

    kty: str
    kid: str
    use: str = "sig"
    alg: str | None = None
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""

    def fits(self, algorithm: str) -> bool:
        if self.use != "sig" or self.alg not in {None, algorithm}:
            return False
        if algorithm == EDDSA:
            return self.kty == "OKP" and self.crv == "Ed25519"
        if algorithm in _CURVES:
            return self.kty == "EC" and self.crv == _CURVES[algorithm]
        bits = len(self.n) * _BITS_PER_LETTER
        return self.kty == "RSA" and _MIN_RSA_BITS <= bits <= _MAX_RSA_BITS + _BITS_PER_LETTER

    def key(self, algorithm: str) -> VerifyingKey:
        if algorithm == EDDSA:
            return Ed25519Key(self.x)
        parts = {"kty": self.kty, "n": self.n, "e": self.e, "crv": self.crv, "x": self.x, "y": self.y}
        return jwk.construct({name: part for name, part in parts.items() if part}, algorithm)


class _JwkSet(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


_decode_set = msgspec.json.Decoder(_JwkSet).decode
_decode_key = msgspec.json.Decoder(_Jwk).decode


class KeySet:
    """Keys by their names, as a key set shows them."""

    def __init__(self, keys: Mapping[str, tuple[_Jwk, VerifyingKey]]) -> None:
        self.shown: Mapping[str, _Jwk] = {kid: shown for kid, (shown, _) in keys.items()}
        self._keys: Mapping[str, VerifyingKey] = {kid: key for kid, (_, key) in keys.items()}

    @classmethod
    def read(cls, raw: bytes, algorithm: str) -> "KeySet":
        """The keys for an algorithm. Raises KeysUnusable."""
        try:
            shown = [_key_or_none(key) for key in _decode_set(raw).keys]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise KeysUnusable("is no key set") from None
        fitting = [key for key in shown if key is not None and key.fits(algorithm)]
        if len(fitting) > _MAX_KEYS:
            raise KeysUnusable(f"holds more than {_MAX_KEYS} keys")
        if len({key.kid for key in fitting}) < len(set(fitting)):
            raise KeysUnusable("gives two keys one name")
        try:
            return cls({key.kid: (key, key.key(algorithm)) for key in fitting})
        except Exception:  # noqa: BLE001  whatever a damaged key provokes in the libraries below
            raise KeysUnusable("holds a damaged key") from None

    def find(self, kid: str) -> VerifyingKey | None:
        return self._keys.get(kid)

    def lacks_some_of(self, before: "KeySet") -> bool:
        """Whether a key of an earlier set was taken away or replaced."""
        return any(self.shown.get(kid) != shown for kid, shown in before.shown.items())

    def __contains__(self, kid: str) -> bool:
        return kid in self._keys

    def __len__(self) -> int:
        return len(self._keys)


def _key_or_none(raw: msgspec.Raw) -> _Jwk | None:
    """A key set may hold what others use: keys without a name, of other kinds."""
    try:
        return _decode_key(raw)
    except msgspec.ValidationError:
        return None


def base64url(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


class KeyFile:
    """The keys of a file. It is looked at once a second at most, and read again when it has changed.

    Args:
        path: the key set.
        algorithm: the one that keys must fit.

    Raises:
        KeysUnusable: there is no key to begin with.
    """

    def __init__(self, path: Path, *, algorithm: str) -> None:
        self._path = path
        self._algorithm = algorithm
        self._stamp = self._stamped()
        self._looked_s = self._sought_s = 0
        self.generation = 0
        self._known = self._read()
        if not self._known:
            raise KeysUnusable(f"holds no key for {algorithm}")

    def find(self, kid: str, *, at_s: int) -> VerifyingKey | None:
        """A key by its name. One that is unknown may be newer than the last look, so now and then this reads again."""
        self.look(at_s)
        if kid not in self._known and not 0 <= at_s - self._sought_s < SEEK_SECONDS:
            self._sought_s = at_s
            self._load()
        return self._known.find(kid)

    def look(self, at_s: int) -> None:
        """Read the file if it has changed."""
        if at_s == self._looked_s:
            return
        self._looked_s = at_s
        stamp = self._stamped()
        if stamp != self._stamp:
            self._stamp = stamp
            self._load()

    def _stamped(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _load(self) -> None:
        try:
            known = self._read()
        except KeysUnusable as error:
            log.warning("key_set_unusable", reason=str(error))
            return
        if known.lacks_some_of(self._known):
            self.generation += 1
        self._known = known

    def _read(self) -> KeySet:
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            raise KeysUnusable(f"cannot be read: {error.strerror}") from None
        return KeySet.read(raw, self._algorithm)
