"""The keys of playback leases: one signs (ES256, RFC 7518), and all are published as a key set (RFC 7517)."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

ALGORITHM = "ES256"
LEASE_TYPE = "playback-lease+jwt"
"""The ``typ`` of a lease: no other token has it (RFC 8725, 3.11)."""
_NUMBER_BYTES = 32
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----", re.DOTALL)

_encode = msgspec.json.Encoder().encode


class LeaseKeyUnusable(Exception):
    """A key cannot be used; the text says why."""


class PublicJwk(msgspec.Struct, frozen=True):
    """A public key of the curve P-256. ``kid`` is its thumbprint (RFC 7638), so a key has one name everywhere."""

    kty: str
    crv: str
    x: str
    y: str
    kid: str
    use: str
    alg: str


class PublicKeySet(msgspec.Struct, frozen=True):
    keys: list[PublicJwk]


class LeaseKeys:
    """The key that signs, and what is published.

    Args:
        signing: the private key.
        others: keys that are published as well: the next one, or one whose leases are still in use.
    """

    def __init__(self, signing: EllipticCurvePrivateKey, others: Sequence[EllipticCurvePublicKey] = ()) -> None:
        self._signing = signing
        shown = [_shown(key) for key in (signing.public_key(), *others)]
        self.kid = shown[0].kid
        self.published = PublicKeySet(list({key.kid: key for key in shown}.values()))
        self._head = _base64url(_encode({"alg": ALGORITHM, "kid": self.kid, "typ": LEASE_TYPE})) + b"."

    @classmethod
    def read(cls, signing: str, others: str = "") -> "LeaseKeys":
        """Keys in PEM. ``others`` may hold several, private or public ones.

        Raises:
            LeaseKeyUnusable: there is not exactly one key to sign with, or a key is no key for ES256.
        """
        [first, *more] = _blocks(signing) or [""]
        if not first or more:
            raise LeaseKeyUnusable("must hold one private key in PEM")
        key = _loaded(first)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise LeaseKeyUnusable("must hold a private key: a public one signs nothing")
        return cls(key, published_keys(others))

    def sign(self, payloads: Sequence[bytes]) -> list[str]:
        """A compact JWS of each payload (RFC 7515)."""
        return [self._signed(payload) for payload in payloads]

    def _signed(self, payload: bytes) -> str:
        text = self._head + _base64url(payload)
        r, s = decode_dss_signature(self._signing.sign(text, ECDSA(hashes.SHA256())))
        signature = r.to_bytes(_NUMBER_BYTES, "big") + s.to_bytes(_NUMBER_BYTES, "big")
        return (text + b"." + _base64url(signature)).decode("ascii")


def published_keys(text: str) -> list[EllipticCurvePublicKey]:
    """The public keys of a text of PEM blocks. Raises LeaseKeyUnusable."""
    blocks = _blocks(text)
    if text.strip() and not blocks:
        raise LeaseKeyUnusable("must hold keys in PEM")
    keys = [_loaded(block) for block in blocks]
    return [key.public_key() if isinstance(key, EllipticCurvePrivateKey) else key for key in keys]


def new_lease_key() -> str:
    """A new private key in PEM."""
    key = generate_private_key(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _blocks(text: str) -> list[str]:
    """PEM blocks. A variable of the environment may write its line ends as a backslash and an n."""
    found = _BLOCK.finditer(text.replace("\\n", "\n"))
    return [block[0] for block in found if block[1] != "EC PARAMETERS"]  # of a file that openssl wrote


def _loaded(block: str) -> EllipticCurvePrivateKey | EllipticCurvePublicKey:
    raw = block.encode()
    try:
        key = load_pem_public_key(raw) if "-BEGIN PUBLIC" in block else load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise LeaseKeyUnusable("holds a damaged key, or one with a password") from None
    is_fitting = isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey) and key.curve.name == SECP256R1.name
    if not isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey) or not is_fitting:
        raise LeaseKeyUnusable("holds a key of another kind; ES256 takes keys of the curve P-256")
    return key


def _shown(key: EllipticCurvePublicKey) -> PublicJwk:
    numbers = key.public_numbers()
    x, y = (_base64url(number.to_bytes(_NUMBER_BYTES, "big")).decode() for number in (numbers.x, numbers.y))
    canonical = _encode({"crv": "P-256", "kty": "EC", "x": x, "y": y})
    kid = _base64url(sha256(canonical).digest()).decode()
    return PublicJwk(kty="EC", crv="P-256", x=x, y=y, kid=kid, use="sig", alg=ALGORITHM)


def _base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
