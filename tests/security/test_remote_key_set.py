"""The identity service's keys at an address: a real server, and all that it may do to us."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from structlog.testing import capture_logs

from app.auth import refusals, remote_key_set
from app.auth.external_idp import ExternalTokens
from app.auth.remote_key_set import STALE_SECONDS, JwksFetcher, RemoteKeySet
from app.auth.tokens import TokenCache, Tokens
from app.errors import IdentityUnavailable, Unauthenticated
from app.timestamps import utc
from tests.security.key_server import KeyServer, running_key_server
from tests.security.signers import Signer

ACCOUNT = "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"
NOW_S = 1_772_452_800
ISSUER = "https://identity.example.org"
GOOD: dict[str, Any] = {"iss": ISSUER, "aud": "hourglass", "sub": ACCOUNT, "exp": NOW_S + 600}
FIRST, SECOND, CURVE = Signer("first", GOOD), Signer("second", GOOD), Signer("curve", GOOD, "ES256")
EDWARDS = Signer("edwards", GOOD, "EdDSA")


class Monotonic:
    at_ms = 1_000_000

    def __call__(self) -> int:
        return self.at_ms


class Service:
    """What verifies tokens, with the keys of a server."""

    def __init__(self, keys: RemoteKeySet, clock: Monotonic, algorithm: str) -> None:
        self.keys = keys
        self.clock = clock
        outside = ExternalTokens(keys, algorithm=algorithm, issuer=ISSUER, audience="hourglass")
        tokens = Tokens(secret=b"x" * 32, issuer="hourglass", audience="hourglass", outside=outside)
        self.cache = TokenCache(tokens, size=1000, clock=lambda: NOW_S * 1000)

    async def accepts(self, token: str) -> bool:
        try:
            return (await self.cache.authenticate(b"Bearer " + token.encode())).account_id == ACCOUNT
        except Unauthenticated:
            return False


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with running_key_server() as running:
        running.behave("keys", FIRST.shown())
        yield running


@asynccontextmanager
async def opened(url: str, *, algorithm: str = "RS256", ca_file: Path | None = None) -> AsyncIterator[Service]:
    clock, fetch = Monotonic(), JwksFetcher(url, ca_file=ca_file)
    keys = RemoteKeySet(fetch, algorithm=algorithm, monotonic=clock)
    async with keys.kept_fresh():
        yield Service(keys, clock, algorithm)
    await fetch.close()


@pytest.mark.parametrize("signer", [FIRST, CURVE, EDWARDS], ids=lambda signer: signer.algorithm)
async def test_tokens_are_verified_with_the_keys_at_the_address(server: KeyServer, signer: Signer) -> None:
    server.behave("keys", FIRST.shown(), CURVE.shown(), EDWARDS.shown())
    async with opened(server.url, algorithm=signer.algorithm) as service:
        assert await service.accepts(signer.sign())
        assert not await service.accepts(SECOND.sign(kid=signer.kid))
        assert not await service.accepts(Signer(signer.kid, GOOD, signer.algorithm).sign())


async def test_a_new_key_is_fetched_when_its_first_token_comes(server: KeyServer) -> None:
    async with opened(server.url) as service:
        server.behave("keys", FIRST.shown(), SECOND.shown())
        asked = server.seen()["asked"]
        tokens = [SECOND.sign({**GOOD, "jti": number}) for number in range(50)]
        assert all(await asyncio.gather(*map(service.accepts, tokens)))
        assert server.seen()["asked"] == asked + 1, "one fetch for all who wait"
        assert await service.accepts(FIRST.sign())


async def test_an_unknown_key_is_asked_for_once_in_ten_seconds(server: KeyServer) -> None:
    async with opened(server.url) as service:
        asked = server.seen()["asked"]
        for second in range(21):
            service.clock.at_ms = Monotonic.at_ms + second * 1000
            for number in range(5):
                assert not await service.accepts(SECOND.sign({**GOOD, "jti": number}, kid=f"{second}"))
        assert server.seen()["asked"] == asked + 3


async def test_a_key_that_was_taken_away_opens_nothing_any_more(server: KeyServer) -> None:
    async with opened(server.url) as service:
        assert await service.accepts(FIRST.sign())
        server.behave("keys", SECOND.shown())
        assert await service.accepts(SECOND.sign()), "which makes us look"
        assert service.cache.has_lost_keys()
        assert not await service.accepts(FIRST.sign())


_LIES: dict[str, tuple[str, tuple[object, ...]]] = {
    "html": ("html", ()),
    "error": ("error", (SECOND.shown(),)),
    "compressed": ("compressed", (SECOND.shown(),)),
    "hundred megabytes": ("huge", ()),
    "circle": ("circle", ()),
    "no keys": ("keys", ()),
    "wrong kty": ("keys", (SECOND.shown(kty="oct", k="AAAA"), CURVE.shown())),
    "two keys of one name": ("keys", (FIRST.shown(), SECOND.shown(kid="first"))),
    "damaged": ("keys", (SECOND.shown(n="!" * 400),)),
    "too many": ("keys", tuple(SECOND.shown(kid=str(number)) for number in range(101))),
}


@pytest.mark.parametrize("lie", _LIES)
async def test_what_is_no_key_set_changes_nothing(server: KeyServer, lie: str) -> None:
    async with opened(server.url) as service:
        mode, keys = _LIES[lie]
        server.behave(mode, *keys)
        with capture_logs() as logs:
            assert not await service.accepts(SECOND.sign())
        assert [entry["event"] for entry in logs if entry["event"].startswith("key_set")] == ["key_set_unusable"]
        assert server.seen()["sent_bytes"] < 8 * 1024 * 1024
        assert await service.accepts(FIRST.sign())
        assert not service.cache.has_lost_keys()
        server.behave("keys", FIRST.shown(), SECOND.shown())
        service.clock.at_ms += 10_000
        assert await service.accepts(SECOND.sign()), "and heals"


@pytest.mark.parametrize("mode", ["silent", "slow"])
async def test_a_server_that_stalls_is_waited_for_so_long(
    server: KeyServer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server.url) as service:
        monkeypatch.setattr(remote_key_set, "FETCH_SECONDS", 0.5)
        server.behave(mode, SECOND.shown())
        began = asyncio.get_running_loop().time()
        assert not await service.accepts(SECOND.sign())
        assert asyncio.get_running_loop().time() - began < 5
        began = asyncio.get_running_loop().time()
        assert await service.accepts(FIRST.sign({**GOOD, "jti": "another"}))
        assert asyncio.get_running_loop().time() - began < 0.5, "nobody else waits"


async def test_a_redirect_is_followed_on_the_same_host_only(server: KeyServer) -> None:
    with running_key_server() as other:
        other.behave("keys", SECOND.shown())
        async with opened(server.url) as service:
            server.behave("elsewhere", location=other.url)
            assert not await service.accepts(SECOND.sign())
            assert other.seen()["asked"] == 0
            server.behave("nearby", SECOND.shown())
            service.clock.at_ms += 10_000
            assert await service.accepts(SECOND.sign())


async def test_keys_serve_for_a_day_after_the_server_has_died(server: KeyServer) -> None:
    async with opened(server.url) as service:
        token = FIRST.sign()
        assert await service.accepts(token)
        server.die()
        service.clock.at_ms += STALE_SECONDS * 1000
        assert await service.accepts(FIRST.sign({**GOOD, "jti": "another"}))
        assert await service.accepts(token)
        service.clock.at_ms += 1
        assert service.cache.has_lost_keys()
        with pytest.raises(IdentityUnavailable):
            await service.cache.authenticate(b"Bearer " + token.encode())
        with running_key_server(port=server.port) as again:
            again.behave("keys", FIRST.shown())
            service.clock.at_ms += 10_000
            assert await service.accepts(token)


async def test_a_start_does_not_wait_for_the_server() -> None:
    with running_key_server() as server:
        port = server.port
    async with opened(f"http://localhost:{port}/jwks") as service:
        header = b"Bearer " + FIRST.sign().encode()
        for _ in range(3):
            with pytest.raises(IdentityUnavailable) as refusal:
                await service.cache.authenticate(header)
            assert refusal.value.status == 503
        with running_key_server(port=port) as server:
            server.behave("keys", FIRST.shown())
            service.clock.at_ms += 10_000
            assert await service.accepts(FIRST.sign())


# --- TLS


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certified(folder: Path, host: str) -> tuple[Path, Path]:
    """A certificate with its key, for a host, and that of the authority which has signed it."""
    begins = utc(1_700_000_000_000)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    common: Any = {"not_valid_before": begins, "not_valid_after": begins + dt.timedelta(days=9999)}

    def signed(subject: str, public: Any, *extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name("authority"))
        builder = builder.public_key(public).serial_number(x509.random_serial_number())
        for name, value in common.items():
            builder = getattr(builder, name)(value)
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(authority, hashes.SHA256())

    purposes = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    purposes += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    usage = x509.KeyUsage(**{purpose: purpose in {"key_cert_sign", "crl_sign"} for purpose in purposes})
    root = signed(
        "authority",
        authority.public_key(),
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), False),
    )
    leaf = signed(
        host,
        key.public_key(),
        (x509.SubjectAlternativeName([x509.DNSName(host)]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), False),
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + leaf.public_bytes(pem))
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    return folder / "server.pem", folder / "ca.pem"


async def test_a_certificate_is_verified(tmp_path: Path) -> None:
    certificate, ca = _certified(tmp_path, "localhost")
    with running_key_server(certificate=certificate, ca=ca) as server:
        server.behave("keys", FIRST.shown())
        async with opened(server.url, ca_file=ca) as service:
            assert await service.accepts(FIRST.sign())
        async with opened(server.url) as service:
            with pytest.raises(IdentityUnavailable):
                await service.accepts(FIRST.sign())
        async with opened(server.url.replace("localhost", "127.0.0.1"), ca_file=ca) as service:
            with pytest.raises(IdentityUnavailable):
                await service.accepts(FIRST.sign())


# --- what operators learn


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (FIRST.sign({**GOOD, "exp": NOW_S}), "expired"),
        (FIRST.sign({**GOOD, "iss": "https://other.example.org"}), "issuer"),
        (FIRST.sign({**GOOD, "aud": "others"}), "audience"),
        (FIRST.sign({**GOOD, "nbf": NOW_S + 600}), "not_yet_valid"),
        (FIRST.sign({**GOOD, "sub": ""}), "account"),
        (FIRST.sign({**GOOD, "sub": "auth0|secret-kim"}), "account_unknown"),
        (FIRST.sign({**GOOD, "exp": None}), "claims"),
        (FIRST.sign([]), "claims"),
        (SECOND.sign(kid="first"), "signature"),
        (SECOND.sign(), "key_unknown"),
        (CURVE.sign(), "algorithm"),
        (FIRST.sign(crit=["b64"]), "header"),
        ("x" * 5000, "header"),
        ("x.y.z", "malformed"),
    ],
)
async def test_a_refusal_is_logged_with_its_reason_and_nothing_of_the_token(
    server: KeyServer, token: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "_REFUSALS", refusals.RefusalLog())
    async with opened(server.url) as service:
        with capture_logs() as logs:
            assert not await service.accepts(token)
    [said] = [entry for entry in logs if entry["event"] == "token_refused"]
    assert said == {"event": "token_refused", "log_level": "warning", "reason": reason, "count": 1}


def test_a_flood_of_refusals_is_logged_once_in_ten_seconds() -> None:
    clock = Monotonic()
    refused = refusals.RefusalLog(clock)
    with capture_logs() as logs:
        for second in range(25):
            clock.at_ms = Monotonic.at_ms + second * 1000
            for _ in range(100):
                refused.add("expired")
    assert [entry["count"] for entry in logs] == [1, 1000, 1000]
