"""An identity service's keys: they sign tokens, and are shown as a key set shows them."""

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jose import jwk, jws

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _new_key(algorithm: str) -> PrivateKey:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm.startswith("ES"):
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65_537, 2048)


class Signer:
    """A key of the identity service, and the claims that it signs unless told otherwise."""

    def __init__(
        self, kid: str, claims: dict[str, Any], algorithm: str = "RS256", key: PrivateKey | None = None
    ) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self._claims = claims
        self._key = key or _new_key(algorithm)
        self.private_pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._public = self._key.public_key()
        self.public_pem = self._public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def shown(self, **fields: object) -> dict[str, Any]:
        """The key as a key set shows it."""
        if isinstance(self._public, ed25519.Ed25519PublicKey):
            parts = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": segment(self._public.public_bytes_raw())}
        else:
            parts = jwk.construct(self.public_pem, self.algorithm).to_dict()
        return parts | {"kid": self.kid, "use": "sig"} | fields

    def sign(self, claims: object = ..., *, kid: str | None = None, **header: object) -> str:
        headers: dict[str, Any] = {"kid": kid or self.kid, **header}
        payload = json.dumps(self._claims if claims is ... else claims).encode()
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            head = json.dumps({"alg": "EdDSA", "typ": "JWT", **headers}).encode()
            signed = f"{segment(head)}.{segment(payload)}"
            return f"{signed}.{segment(self._key.sign(signed.encode()))}"
        return jws.sign(payload, self.private_pem.decode(), headers=headers, algorithm=self.algorithm)
