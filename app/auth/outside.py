"""Tokens of the platform's identity service: signed with a key of its key set (RFC 7517), which changes at any time.

One algorithm is pinned, and only public keys of that algorithm are taken from the set: no header can make a key mean
something else. The key set is a file, so whatever fetches it decides how; a file that cannot be read changes nothing.
"""

from base64 import urlsafe_b64decode
from pathlib import Path
from uuid import UUID

import msgspec
import structlog
from jose import jwk, jws
from jose.backends.base import Key

from app.auth.tokens import Principal, Role
from app.errors import Unauthenticated

_SEEK_SECONDS = 10
_SKEW_SECONDS = 60
_END_OF_TIME_S = 253_402_300_800  # the year 10000
_SHORTEST_RSA_BITS = 2048
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_BITS_PER_LETTER = 6  # of base64
_LONGEST_NAME = 200

log = structlog.get_logger(__name__)


class KeysUnusable(Exception):
    """The key set cannot be read, or holds no key that fits; the text says why."""


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
        if algorithm in _CURVES:
            return self.kty == "EC" and self.crv == _CURVES[algorithm]
        return self.kty == "RSA" and len(self.n) * _BITS_PER_LETTER >= _SHORTEST_RSA_BITS

    def key(self, algorithm: str) -> Key:
        parts = {"kty": self.kty, "n": self.n, "e": self.e, "crv": self.crv, "x": self.x, "y": self.y}
        return jwk.construct({name: part for name, part in parts.items() if part}, algorithm)


class _JwkSet(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str | None = None
    crit: msgspec.Raw | None = None


_decode_set = msgspec.json.Decoder(_JwkSet).decode
_decode_key = msgspec.json.Decoder(_Jwk).decode
_decode_header = msgspec.json.Decoder(_Header).decode
_decode_claims = msgspec.json.Decoder(dict[str, object]).decode


class KeyFile:
    """The keys of a file. It is looked at once a second at most, and read again when it has changed.

    Args:
        path: the key set.
        algorithm: the one that keys must fit.

    Raises:
        KeysUnusable: there is no key to begin with.

    Attributes:
        generation: grows when a key was taken away or replaced.
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

    def find(self, kid: str, *, at_s: int) -> Key | None:
        """A key by its name. One that is unknown may be newer than the last look, so now and then this reads again."""
        self.look(at_s)
        if kid not in self._known and not 0 <= at_s - self._sought_s < _SEEK_SECONDS:
            self._sought_s = at_s
            self._load()
        found = self._known.get(kid)
        return None if found is None else found[1]

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
        if any(kid not in known or known[kid][0] != shown for kid, (shown, _) in self._known.items()):
            self.generation += 1
        self._known = known

    def _read(self) -> dict[str, tuple[_Jwk, Key]]:
        try:
            shown = [_key_or_none(raw) for raw in _decode_set(self._path.read_bytes()).keys]
        except OSError as error:
            raise KeysUnusable(f"cannot be read: {error.strerror}") from None
        except msgspec.MsgspecError:
            raise KeysUnusable("is no key set") from None
        try:
            fitting = [key for key in shown if key is not None and key.fits(self._algorithm)]
            return {key.kid: (key, key.key(self._algorithm)) for key in fitting}
        except Exception:  # noqa: BLE001  whatever a damaged key provokes in the libraries below
            raise KeysUnusable("holds a damaged key") from None


def _key_or_none(raw: msgspec.Raw) -> _Jwk | None:
    """A key set may hold what others use: keys without a name, of other kinds."""
    try:
        return _decode_key(raw)
    except msgspec.ValidationError:
        return None


class OutsideTokens:
    """Verifies the tokens of the identity service.

    Args:
        keys: its keys.
        algorithm: the one it signs with, e.g. RS256.
        issuer: its ``iss``.
        audience: what ``aud`` must be or hold.
        account_claim: the claim that holds the account's id, or a service's name.
        role_claim: the claim that holds the role; where it is absent, the token is a household's.
    """

    def __init__(
        self,
        keys: KeyFile,
        *,
        algorithm: str,
        issuer: str,
        audience: str,
        account_claim: str = "sub",
        role_claim: str | None = None,
    ) -> None:
        self._keys = keys
        self._algorithm = algorithm
        self._issuer = issuer
        self._audience = audience
        self._account_claim = account_claim
        self._role_claim = role_claim

    def generation(self, at_s: int) -> int:
        """What was verified under another number must be verified again."""
        self._keys.look(at_s)
        return self._keys.generation

    def principal_of(self, token: str, *, at_s: int) -> Principal | None:
        """Whom a token speaks for; None: it is not signed with the algorithm of this service.

        Raises:
            Exception: it is not valid.
        """
        header = _decode_header(_decoded(token.partition(".")[0]))
        if header.alg != self._algorithm:
            return None
        key = None if header.kid is None else self._keys.find(header.kid, at_s=at_s)
        if key is None or header.crit is not None:
            raise Unauthenticated
        return self._principal(_decode_claims(jws.verify(token, key, [self._algorithm])), at_s)

    def _principal(self, claims: dict[str, object], at_s: int) -> Principal:
        audience, expires_s, begins_s = claims.get("aud"), _instant(claims.get("exp")), claims.get("nbf")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self._issuer or self._audience not in audiences or expires_s <= at_s:
            raise Unauthenticated
        if begins_s is not None and _instant(begins_s) > at_s + _SKEW_SECONDS:
            raise Unauthenticated
        role_text = None if self._role_claim is None else claims.get(self._role_claim)
        role = Role.HOUSEHOLD if role_text is None else Role(str(role_text))
        return Principal(_account(claims.get(self._account_claim), role), role, expires_s)


def _account(value: object, role: Role) -> str:
    """An account has one spelling, since caches go by it; services and operators have names."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        raise Unauthenticated
    return str(UUID(value)) if role in {Role.HOUSEHOLD, Role.PARENT} else value


def _instant(value: object) -> int:
    """A NumericDate (RFC 7519), which may have a fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _END_OF_TIME_S:
        raise Unauthenticated
    return int(value)


def _decoded(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
