"""Tokens: issued here, and verified in one place.

python-jose accepts more than it should (no algorithm list, no expiry, ``exp: null``) and breaks on some of what it
refuses (a deeply nested header is a RecursionError). So only its signature check is used, behind a size cap and with
one pinned algorithm; the claims are decoded into a strict type; and every failure is the same 401.
"""

import contextlib
import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec
from jose import JWSError, jws
from jose.exceptions import JOSEError
from msgspec import Meta

from app.auth.refusals import refused
from app.clock import Clock
from app.errors import HourglassError, IdentityUnavailable, Unauthenticated
from app.kit.compact_table import DIGEST_BYTES, CompactTable

ALGORITHM = "HS256"
MAX_TOKEN = 4096
_MAX_JOSE_HEADER = 512  # too short to nest deeper than the library's JSON parser can go
_END_OF_TIME_S = 253_402_300_800  # the year 10000
_LOOK_MS = 1000
_URL_SAFE, _STANDARD = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")  # alphabets of base64
_MAX_HEADER = MAX_TOKEN + len("Bearer ")
_ROUNDS = 3
_OTHER_ALGORITHM = "alg value is not allowed"
"""The library's word for a token of an algorithm that was not asked for."""


class Role(StrEnum):
    HOUSEHOLD = "household"
    PARENT = "parent"
    CAREGIVER = "caregiver"
    SERVICE = "service"
    ADMIN = "admin"


class TokenKind(StrEnum):
    """The ``typ`` claim: what a token may be used for."""

    ACCESS = "access"
    REFRESH = "refresh"


class Principal(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who calls.

    ``device_id`` names the device that the token was issued to, ``sign_in_id`` the sign-in, if there is one.
    For household, parent and caregiver tokens ``account_id`` is an account; for the others it names a service or an
    operator.
    """

    account_id: str
    role: Role
    expires_s: int
    device_id: str | None = None
    sign_in_id: str | None = None

    @property
    def actor(self) -> str:
        """For ledgers and the audit log."""
        return f"device:{self.device_id}" if self.device_id else self.role.value


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True):
    """A refresh token that is genuine and has not expired.

    Attributes:
        sign_in_id: its sign-in; made of the token itself where it is from before there were sign-ins.
        serial: its number among those of the sign-in.
        is_older: it is from before there were sign-ins.
    """

    account_id: str
    sign_in_id: str
    serial: int
    issued_at_ms: int
    expires_at_ms: int
    is_older: bool


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The rights of a caller while an answer goes on, as an event stream does.

    Attributes:
        principal: who calls.
        authorization: the header that says so; None where a ticket stands for a token.
        generation: that of the keys by which the token was verified.
    """

    principal: Principal
    authorization: bytes | None
    generation: int


class _Claims(msgspec.Struct, frozen=True):
    """What a token must say; anything else in it is ignored."""

    iss: str
    aud: str
    sub: str
    typ: TokenKind
    role: Role
    exp: Annotated[int, Meta(gt=0, lt=_END_OF_TIME_S)]
    did: str | None = None
    sid: str | None = None
    seq: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    iat: Annotated[int, Meta(ge=0, lt=_END_OF_TIME_S)] = 0


_decode_claims = msgspec.json.Decoder(_Claims).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Principal).decode
_UUID_TEXT = str(UUID(int=0))
_HOUSEHOLD_BYTES = len(_pack(Principal(_UUID_TEXT, Role.HOUSEHOLD, 2**31)))
_SIGNED_IN_BYTES = len(_pack(Principal(_UUID_TEXT, Role.HOUSEHOLD, 2**31, None, _UUID_TEXT)))


class Pending(Unauthenticated):
    """A look-up must come first: a new key must be fetched, or the account of an external id must be found.

    A caller that cannot wait treats it as a refusal.

    Attributes:
        settle: does the look-up. Returns the principal, or None when the token must be verified again. Raises
            Unauthenticated, IdentityUnavailable, DatabaseUnavailable.
    """

    def __init__(self, settle: Callable[[], Awaitable[Principal | None]]) -> None:
        super().__init__()
        self.settle = settle


class ExternalIdentity(Protocol):
    """An identity service whose tokens are accepted beside our own."""

    def generation(self, at_s: int) -> int:
        """What was verified under another number must be verified again."""
        ...

    def principal_of(self, token: str, *, at_s: int) -> Principal | None:
        """Whom an access token speaks for; None: its algorithm is not that of the service. Raises anything."""
        ...

    def signed_in_s(self, token: str, *, at_s: int) -> int | None:
        """When the holder of an access token signed in (UTC seconds), if it is one that says so. Raises anything."""
        ...


class Tokens:
    """Issues tokens with one secret, HS256, and verifies those of it, of ``previous`` ones and of an identity service.

    Which of the two a token is tried as follows from its algorithm, and each knows keys of its own algorithm only.
    """

    def __init__(
        self,
        *,
        secret: bytes,
        issuer: str,
        audience: str,
        previous: Sequence[bytes] = (),
        outside: ExternalIdentity | None = None,
    ) -> None:
        self._outside = outside
        self._secret = secret
        self._accepted = (secret, *previous)
        self._issuer = issuer
        self._audience = audience
        self._own_header = jws.sign({}, secret, algorithm=ALGORITHM).partition(".")[0] + "."

    def issue(
        self,
        *,
        account_id: str,
        role: Role,
        kind: TokenKind = TokenKind.ACCESS,
        at_s: int,
        life_seconds: int,
        device_id: str | None = None,
        sign_in_id: str | None = None,
        serial: int | None = None,
    ) -> str:
        """A signed token that is valid from ``at_s`` (UTC seconds) for ``life_seconds``.

        ``serial`` is the number of a refresh token among those of its sign-in.
        """
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
        if sign_in_id is not None:
            claims["sid"] = sign_in_id
        if serial is not None:
            claims["seq"] = serial
        return jws.sign(claims, self._secret, algorithm=ALGORITHM)

    def verify(self, token: str, *, kind: TokenKind = TokenKind.ACCESS, at_s: int) -> Principal:
        """Whom a token speaks for.

        Raises:
            Unauthenticated: it is not ours, damaged, expired, or of another kind. All look the same; the log knows why.
            Pending: a look-up must come first.
            IdentityUnavailable: no key is available.
        """
        try:
            principal = self._external_principal(token, at_s) if kind is TokenKind.ACCESS else None
            if principal is not None:
                return principal
            claims = self._claims(token)
        except HourglassError:
            raise
        except Exception as error:  # noqa: BLE001  whatever a made-up token provokes in the libraries below
            raise refused(_reason_of(error)) from None
        self._require_valid(claims, kind, at_s)
        return Principal(claims.sub, claims.role, claims.exp, claims.did, claims.sid)

    def verify_refresh(self, token: str, *, at_s: int) -> RefreshToken:
        """The sign-in that a refresh token belongs to. Raises Unauthenticated, as ``verify``."""
        try:
            claims = self._claims(token)
        except HourglassError:
            raise
        except Exception as error:  # noqa: BLE001  likewise
            raise refused(_reason_of(error)) from None
        self._require_valid(claims, TokenKind.REFRESH, at_s)
        if claims.role is not Role.HOUSEHOLD:
            raise refused("kind")
        signed = token.rpartition(".")[0]
        return RefreshToken(
            account_id=claims.sub,
            sign_in_id=claims.sid or str(uuid5(NAMESPACE_URL, f"refresh-token:{sha256(signed.encode()).hexdigest()}")),
            serial=claims.seq,
            issued_at_ms=claims.iat * 1000,
            expires_at_ms=claims.exp * 1000,
            is_older=claims.sid is None,
        )

    def _require_valid(self, claims: _Claims, kind: TokenKind, at_s: int) -> None:
        if claims.exp <= at_s:
            raise refused("expired")
        for name, is_right in (
            ("issuer", claims.iss == self._issuer),
            ("audience", claims.aud == self._audience),
            ("kind", claims.typ == kind),
            ("account", bool(claims.sub)),
        ):
            if not is_right:
                raise refused(name)

    def signed_in_s(self, token: str, *, at_s: int) -> int | None:
        """When the holder of an access token of the identity service signed in (UTC seconds), if it says so."""
        if self._outside is None or token.startswith(self._own_header):
            return None
        try:
            _check_size(token)
            return self._outside.signed_in_s(token, at_s=at_s)
        except Exception:  # noqa: BLE001  likewise
            return None

    def generation(self, at_s: int) -> int:
        """What was verified under another number must be verified again: a key was taken away."""
        return 0 if self._outside is None else self._outside.generation(at_s)

    def _external_principal(self, token: str, at_s: int) -> Principal | None:
        if self._outside is None or token.startswith(self._own_header):
            return None
        _check_size(token)
        return self._outside.principal_of(token, at_s=at_s)

    def _claims(self, token: str) -> _Claims:
        _check_size(token)
        if token.startswith(self._own_header):
            return _decode_claims(self._own_payload(token))
        for secret in self._accepted[:-1]:
            with contextlib.suppress(JWSError):
                return _decode_claims(jws.verify(token, secret, [ALGORITHM]))
        return _decode_claims(jws.verify(token, self._accepted[-1], [ALGORITHM]))

    def _own_payload(self, token: str) -> bytes:
        """The payload of a token whose header is exactly the one we write.

        The same check as the library's, without what only other headers need: twenty times faster, which decides how
        soon a process that has just started knows half a million players.
        """
        signed, _, signature = token.encode("ascii").rpartition(b".")
        for secret in self._accepted:
            expected = b2a_base64(hmac.digest(secret, signed, "sha256"), newline=False).translate(_URL_SAFE, b"=")
            if hmac.compare_digest(signature, expected):
                break
        else:
            raise refused("signature")
        payload = signed.partition(b".")[2]
        return a2b_base64(payload.translate(_STANDARD) + b"=" * (-len(payload) % 4))


def _check_size(token: str) -> None:
    if len(token) > MAX_TOKEN or token.find(".") not in range(_MAX_JOSE_HEADER):
        raise refused("size")


def _reason_of(error: Exception) -> str:
    if isinstance(error, msgspec.MsgspecError):
        return "claims"
    if isinstance(error, JOSEError):
        return "algorithm" if _OTHER_ALGORITHM in str(error) else "signature"
    return "malformed"


class _TokenTable:
    """Packed principals by digest. Those with and without a sign-in have a length of their own each."""

    def __init__(self, size: int) -> None:
        self._signed_in = CompactTable(size, usual_bytes=_SIGNED_IN_BYTES)
        self._others = CompactTable(size, usual_bytes=_HOUSEHOLD_BYTES)

    def get(self, digest: bytes) -> bytes | None:
        return self._signed_in.get(digest) or self._others.get(digest)

    def add(self, digest: bytes, packed: bytes) -> None:
        (self._signed_in if len(packed) == _SIGNED_IN_BYTES else self._others).add(digest, packed)

    def __len__(self) -> int:
        return len(self._signed_in) + len(self._others)


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
        self._told_generation = 0
        self._looked_ms = 0
        self._young, self._old = self._empty(), self._empty()

    def principal_of(self, authorization: bytes) -> Principal:
        """Whom the value of an ``Authorization`` header speaks for.

        Raises:
            Unauthenticated: it is no bearer token of ours, or expired; or its device or sign-in has ended, or its
                account was erased.
            Pending, IdentityUnavailable: as for ``Tokens.verify``.
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
        if not self._is_current(principal, at_ms):
            return self._successor(principal, authorization, at_ms)
        return principal

    async def authenticate(self, authorization: bytes) -> Principal:
        """As ``principal_of``, but waits for look-ups.

        Raises:
            Unauthenticated, IdentityUnavailable, DatabaseUnavailable
        """
        for _ in range(_ROUNDS):
            try:
                return self.principal_of(authorization)
            except Pending as pending:
                found = await pending.settle()
            if found is not None:
                return self._admitted(found, authorization)
        raise refused("key_unknown")

    def signed_in_s(self, authorization: bytes) -> int | None:
        """When the holder of a token that has just been let in signed in (UTC seconds), if it says so."""
        token = authorization.partition(b" ")[2].decode("ascii", errors="replace")
        return self._tokens.signed_in_s(token, at_s=self._clock() // 1000)

    def _admitted(self, principal: Principal, authorization: bytes) -> Principal:
        """Remember the result of a look-up."""
        if not self._is_current(principal, self._clock()):
            raise refused("revoked")
        digest = sha256(authorization).digest()[:DIGEST_BYTES]
        if self._young.get(digest) is None and self._old.get(digest) is None:
            self._remember(digest, _pack(principal))
        return principal

    def _successor(self, principal: Principal, authorization: bytes, at_ms: int) -> Principal:
        """The principal of a remembered token that is no longer valid as remembered.

        The platform may have created an erased account again under the same external id. Its tokens then name the new
        account.
        """
        if principal.expires_s * 1000 <= at_ms:
            raise refused("expired")
        if principal.device_id is None:
            named = self._verified(authorization, at_ms)
            if named.account_id != principal.account_id and self._is_current(named, at_ms):
                return named
        raise refused("revoked")

    def access(self, principal: Principal, authorization: bytes | None = None) -> Access:
        """The rights of a caller that has just been let in, to be asked about again by ``remaining_ms``."""
        return Access(principal=principal, authorization=authorization, generation=self._generation)

    def remaining_ms(self, access: Access) -> int:
        """How long an access lasts; 0 once its token has expired, was revoked, or lost the key that signed it."""
        at_ms = self._clock()
        self._look(at_ms)
        try:
            if access.authorization is not None:
                self.principal_of(access.authorization)
            elif access.generation != self._generation or not self._is_current(access.principal, at_ms):
                return 0
        except (Unauthenticated, IdentityUnavailable):
            return 0
        return max(0, access.principal.expires_s * 1000 - at_ms)

    def _is_current(self, principal: Principal, at_ms: int) -> bool:
        if principal.expires_s * 1000 <= at_ms:
            return False
        if principal.device_id is not None and self._is_revoked(principal.device_id):
            return False
        if principal.sign_in_id is not None and self._is_revoked(principal.sign_in_id):
            return False
        return not self._is_revoked(principal.account_id)

    def has_lost_keys(self) -> bool:
        """Whether the identity service has taken a key away since the last call. Then everybody is verified anew."""
        self._look(self._clock())
        has_changed, self._told_generation = self._told_generation != self._generation, self._generation
        return has_changed

    def _look(self, at_ms: int) -> None:
        self._looked_ms = at_ms
        generation = self._tokens.generation(at_ms // 1000)
        if generation != self._generation:
            self._generation = generation
            self.clear()

    def clear(self) -> None:
        self._young, self._old = self._empty(), self._empty()

    def _empty(self) -> "_TokenTable":
        return _TokenTable(self._size)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _verified(self, authorization: bytes, at_ms: int) -> Principal:
        scheme, _, token = authorization.partition(b" ")
        if len(authorization) > _MAX_HEADER or scheme.lower() != b"bearer" or not token.isascii():
            raise refused("header")
        return self._tokens.verify(token.decode("ascii"), at_s=at_ms // 1000)

    def _remember(self, digest: bytes, packed: bytes) -> None:
        if len(self._young) >= self._size:
            self._young, self._old = self._empty(), self._young
        self._young.add(digest, packed)
