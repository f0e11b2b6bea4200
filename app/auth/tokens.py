"""Tokens: issued here, and verified in one place.

python-jose accepts more than it should (no algorithm list, no expiry, ``exp: null``) and breaks on some of what it
refuses (a deeply nested header is a RecursionError). So only its signature check is used, behind a size cap and with
one pinned algorithm; the claims are decoded into a strict type; and every failure is the same 401.
"""

import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Protocol
from uuid import UUID

import msgspec
from jose import jws
from msgspec import Meta

from app.clock import Clock
from app.digests import DIGEST_BYTES, DigestTable
from app.errors import Unauthenticated

ALGORITHM = "HS256"
LONGEST_TOKEN = 4096
_LONGEST_JOSE_HEADER = 512  # too short to nest deeper than the library's JSON parser can go
_END_OF_TIME_S = 253_402_300_800  # the year 10000
_LOOK_MS = 1000
_URL_SAFE, _STANDARD = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")  # alphabets of base64
_LONGEST_HEADER = LONGEST_TOKEN + len("Bearer ")


class Role(StrEnum):
    HOUSEHOLD = "household"
    PARENT = "parent"
    SERVICE = "service"
    ADMIN = "admin"


class Kind(StrEnum):
    """The ``typ`` claim: what a token may be used for."""

    ACCESS = "access"
    REFRESH = "refresh"


class Principal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who calls. ``device_id`` names the parent device that the token was issued to, if there is one.

    For household and parent tokens ``account_id`` is an account; for the others it names a service or an operator.
    """

    account_id: str
    role: Role
    expires_s: int
    device_id: str | None = None

    @property
    def actor(self) -> str:
        """For ledgers and the audit log."""
        return f"device:{self.device_id}" if self.device_id else self.role.value


class _Claims(msgspec.Struct, frozen=True):
    """What a token must say; anything else in it is ignored."""

    iss: str
    aud: str
    sub: str
    typ: Kind
    role: Role
    exp: Annotated[int, Meta(gt=0, lt=_END_OF_TIME_S)]
    did: str | None = None


_decode_claims = msgspec.json.Decoder(_Claims).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Principal).decode
_HOUSEHOLD_BYTES = len(_pack(Principal(str(UUID(int=0)), Role.HOUSEHOLD, 2**31)))


class Outside(Protocol):
    """An identity service whose tokens are accepted beside our own."""

    def generation(self, at_s: int) -> int:
        """What was verified under another number must be verified again."""
        ...

    def principal_of(self, token: str, *, at_s: int) -> Principal | None:
        """Whom an access token speaks for; None: its algorithm is not that of the service. Raises anything."""
        ...


class Tokens:
    """Issues and verifies tokens with one secret, HS256; and verifies access tokens of an identity service.

    Which of the two a token is tried as follows from its algorithm, and each knows keys of its own algorithm only.
    """

    def __init__(self, *, secret: bytes, issuer: str, audience: str, outside: Outside | None = None) -> None:
        self._outside = outside
        self._secret = secret
        self._issuer = issuer
        self._audience = audience
        self._own_header = jws.sign({}, secret, algorithm=ALGORITHM).partition(".")[0] + "."

    def issue(
        self,
        *,
        account_id: str,
        role: Role,
        kind: Kind = Kind.ACCESS,
        at_s: int,
        life_seconds: int,
        device_id: str | None = None,
    ) -> str:
        """A signed token that is valid from ``at_s`` (UTC seconds) for ``life_seconds``."""
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": account_id,
            "typ": kind,
            "role": role,
            "iat": at_s,
            "exp": at_s + life_seconds,
        }
        if device_id is not None:
            claims["did"] = device_id
        return jws.sign(claims, self._secret, algorithm=ALGORITHM)

    def verify(self, token: str, *, kind: Kind = Kind.ACCESS, at_s: int) -> Principal:
        """Whom a token speaks for.

        Raises:
            Unauthenticated: it is not ours, damaged, expired, or of another kind. All look the same.
        """
        try:
            principal = self._outsider(token, at_s) if kind is Kind.ACCESS else None
            if principal is not None:
                return principal
            claims = self._claims(token)
        except Exception:  # noqa: BLE001  whatever a made-up token provokes in the libraries below
            raise Unauthenticated from None
        is_meant_for_us = (claims.iss, claims.aud, claims.typ) == (self._issuer, self._audience, kind)
        if not is_meant_for_us or claims.exp <= at_s or not claims.sub:
            raise Unauthenticated
        return Principal(claims.sub, claims.role, claims.exp, claims.did)

    def generation(self, at_s: int) -> int:
        """What was verified under another number must be verified again: a key was taken away."""
        return 0 if self._outside is None else self._outside.generation(at_s)

    def _outsider(self, token: str, at_s: int) -> Principal | None:
        if self._outside is None or token.startswith(self._own_header):
            return None
        _check_size(token)
        return self._outside.principal_of(token, at_s=at_s)

    def _claims(self, token: str) -> _Claims:
        _check_size(token)
        if token.startswith(self._own_header):
            return _decode_claims(self._own_payload(token))
        return _decode_claims(jws.verify(token, self._secret, [ALGORITHM]))

    def _own_payload(self, token: str) -> bytes:
        """The payload of a token whose header is exactly the one we write.

        The same check as the library's, without what only other headers need: twenty times faster, which decides how
        soon a process that has just started knows half a million players.
        """
        signed, _, signature = token.encode("ascii").rpartition(b".")
        expected = b2a_base64(hmac.digest(self._secret, signed, "sha256"), newline=False).translate(_URL_SAFE, b"=")
        if not hmac.compare_digest(signature, expected):
            raise Unauthenticated
        payload = signed.partition(b".")[2]
        return a2b_base64(payload.translate(_STANDARD) + b"=" * (-len(payload) % 4))


def _check_size(token: str) -> None:
    if len(token) > LONGEST_TOKEN or token.find(".") not in range(_LONGEST_JOSE_HEADER):
        raise Unauthenticated


class TokenCache:
    """Verified tokens by the digest of their header, so that a heartbeat does not verify a signature again.

    Two generations bound it: at most ``size`` of the tokens used last are certain to be here, and never more than twice
    as many. Those of the older generation are added to the younger when they are used; it leaves as a whole.

    When the identity service has taken a key away, everything is forgotten within a second: rare, and simpler than
    telling whose tokens are whose.
    """

    def __init__(
        self, tokens: Tokens, *, size: int, clock: Clock, is_revoked: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._tokens = tokens
        self._size = size
        self._clock = clock
        self._is_revoked = is_revoked
        self._generation = 0
        self._looked_ms = 0
        self._young, self._old = self._empty(), self._empty()

    def principal_of(self, authorization: bytes) -> Principal:
        """Whom the value of an ``Authorization`` header speaks for.

        Raises:
            Unauthenticated: it is no bearer token of ours, or expired, or its device was revoked or its account erased.
        """
        at_ms = self._clock()
        if not 0 <= at_ms - self._looked_ms < _LOOK_MS:
            self._look(at_ms)
        digest = sha256(authorization).digest()[:DIGEST_BYTES]
        packed = self._young.get(digest)
        if packed is None:
            packed = self._old.get(digest) or _pack(self._verified(authorization, at_ms))
            self._remember(digest, packed)
        principal = _unpack(packed)
        if principal.expires_s * 1000 <= at_ms:
            raise Unauthenticated
        if principal.device_id is not None and self._is_revoked(principal.device_id):
            raise Unauthenticated
        if self._is_revoked(principal.account_id):
            raise Unauthenticated
        return principal

    def _look(self, at_ms: int) -> None:
        self._looked_ms = at_ms
        generation = self._tokens.generation(at_ms // 1000)
        if generation != self._generation:
            self._generation = generation
            self.clear()

    def clear(self) -> None:
        self._young, self._old = self._empty(), self._empty()

    def _empty(self) -> DigestTable:
        return DigestTable(self._size, usual_bytes=_HOUSEHOLD_BYTES)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _verified(self, authorization: bytes, at_ms: int) -> Principal:
        scheme, _, token = authorization.partition(b" ")
        if len(authorization) > _LONGEST_HEADER or scheme.lower() != b"bearer" or not token.isascii():
            raise Unauthenticated
        return self._tokens.verify(token.decode("ascii"), at_s=at_ms // 1000)

    def _remember(self, digest: bytes, packed: bytes) -> None:
        if len(self._young) >= self._size:
            self._young, self._old = self._empty(), self._young
        self._young.add(digest, packed)
