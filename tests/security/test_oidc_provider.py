"""A person signs in at a real OpenID provider, and Hourglass takes the token it gives.

The provider (npm ``oidc-provider``, certified by the OpenID Foundation) is fetched when the test runs.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.auth.external_idp import ExternalTokens
from app.auth.remote_key_set import JwksFetcher, RemoteKeySet
from app.auth.tokens import Role, TokenCache, Tokens
from app.clock import monotonic_ms, now_ms
from app.errors import Unauthenticated

PROVIDER = Path(__file__).with_name("oidc_provider.mjs")
PACKAGE = "oidc-provider@9.13.3"
REDIRECT = "http://127.0.0.1/signed-in"
RESOURCE = "https://hourglass.example.org"
_VERIFIER = "v" * 64


def _is_fetched(npm: str, folder: Path) -> bool:
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
    try:
        fetched = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=folder)  # noqa: S603
    except subprocess.TimeoutExpired:
        return False
    return fetched.returncode == 0


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a provider that runs."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("SKIPPED LOUDLY: npm is not installed, so no real OpenID provider was tried")
    folder = tmp_path_factory.mktemp("provider")
    if not _is_fetched(npm, folder):
        pytest.skip(f"SKIPPED LOUDLY: npm cannot fetch {PACKAGE}, so no real OpenID provider was tried")
    log = (folder / "log").open("w")
    with (
        log,
        subprocess.Popen(  # noqa: S603  the provider
            [node, str(PROVIDER)], cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
        ) as run,
    ):
        assert run.stdout is not None
        try:
            port = run.stdout.readline().strip()
            assert port.isdecimal(), (folder / "log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            run.kill()


def _signed_in(issuer: str, login: str) -> str:
    """The access token of a person who signs in and consents, as a browser would (code flow with PKCE)."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(_VERIFIER.encode()).digest()).rstrip(b"=").decode()
    wanted = {
        "client_id": "app",
        "response_type": "code",
        "redirect_uri": REDIRECT,
        "scope": "openid watch",
        "resource": RESOURCE,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "state": "s" * 16,
    }
    with httpx.Client(base_url=issuer, trust_env=False, timeout=20) as browser:
        answer = browser.get("/auth", params=wanted)
        forms = iter(({"prompt": "login", "login": login, "password": "any"}, {"prompt": "consent"}))
        while not answer.headers.get("location", "").startswith(REDIRECT):
            if answer.is_redirect:
                answer = browser.get(answer.headers["location"])
            else:
                answer = browser.post(answer.url, data=next(forms))
        [code] = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["location"]).query)["code"]
        exchanged = browser.post(
            "/token",
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": REDIRECT,
                "code_verifier": _VERIFIER,
                "resource": RESOURCE,
            },
            auth=("app", "only-the-tests-know-it"),
        )
        token: str = exchanged.json()["access_token"]
        return token


class _Accounts:
    """One account, known by the provider's name for it."""

    def peek_account(self, given: str) -> str | None:
        return None if given != "kim" else "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"

    async def account_of_token(self, given: str, *, signed_in_s: int | None, timezone: str) -> str | None:
        return self.peek_account(given)

    def has_market(self, account_id: str, market: str) -> bool:
        raise AssertionError(account_id, market)  # no claim tells a market

    async def assign_market(self, account_id: str, market: str) -> None:
        raise AssertionError(account_id, market)


@pytest.fixture(scope="module")
def configuration(issuer: str) -> dict[str, str]:
    """What the provider says of itself."""
    found: dict[str, str] = httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).json()
    return found


async def test_a_person_who_signed_in_at_an_openid_provider_is_known(
    issuer: str, configuration: dict[str, str]
) -> None:
    fetch = JwksFetcher(configuration["jwks_uri"])
    keys = RemoteKeySet(fetch, algorithm="RS256", monotonic=monotonic_ms)
    outside = ExternalTokens(
        keys, algorithm="RS256", issuer=configuration["issuer"], audience="hourglass", accounts=_Accounts()
    )
    tokens = Tokens(secret=b"x" * 32, issuer="hourglass", audience="hourglass", outside=outside)
    cache = TokenCache(tokens, size=10, clock=now_ms)
    async with keys.kept_fresh():
        header = b"Bearer " + _signed_in(issuer, "kim").encode()
        principal = await cache.authenticate(header)
        assert (principal.account_id, principal.role) == ("5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a", Role.HOUSEHOLD)
        signed_in_s = cache.signed_in_s(header)
        assert signed_in_s is not None
        assert 0 <= now_ms() // 1000 - signed_in_s <= 60
        with pytest.raises(Unauthenticated):
            await cache.authenticate(b"Bearer " + _signed_in(issuer, "somebody else").encode())
        head, payload, signature = header.decode().split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        forged = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "kim", "role": "admin"}).encode()).rstrip(b"=")
        with pytest.raises(Unauthenticated):
            await cache.authenticate(f"{head}.{forged.decode()}.{signature}".encode())
    await fetch.close()
