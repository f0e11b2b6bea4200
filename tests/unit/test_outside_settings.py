"""How the platform's identity service is set up, under the names of today and of before."""

import json
from pathlib import Path

import pytest

from app.auth.tokens import Role
from app.settings.settings import SettingsError, load_settings, old_variables, unknown_variables
from app.wiring.external_identity import tokens_of
from tests.security.signers import Signer

NOW_S = 1_772_452_800
ACCOUNT = "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"
KEY = Signer("one", {"iss": "us", "aud": "hourglass", "sub": ACCOUNT, "exp": NOW_S + 60})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """What every deployment has, and a key set for whoever names it."""
    variables = {"DATABASE_URL": "postgresql://x/x", "REDIS_URL": "redis://x"}
    variables |= {f"HOURGLASS_{name}": "x" * 32 for name in ("JWT_SECRET", "SESSION_SECRET", "PIN_PEPPER")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [KEY.shown()]}))
    return {"path": str(path)}


def test_the_names_of_before_go_on(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_JWT_JWKS_FILE", environment["path"])
    monkeypatch.setenv("HOURGLASS_JWT_ISSUER", "us")
    monkeypatch.setenv("HOURGLASS_JWT_ROLE_CLAIM", "role")
    monkeypatch.setenv("HOURGLASS_JWT_ACCOUNT_CLAIM", "household")
    monkeypatch.setenv("HOURGLASS_JWT_ALGORITHM", "RS256")
    tokens = tokens_of(load_settings())
    claims = {"iss": "us", "aud": "hourglass", "exp": NOW_S + 60, "household": ACCOUNT, "role": "parent"}
    assert tokens.verify(KEY.sign(claims), at_s=NOW_S).role is Role.PARENT
    assert unknown_variables() == []
    assert old_variables() == {
        "HOURGLASS_JWT_JWKS_FILE": "HOURGLASS_OUTSIDE_JWKS_FILE",
        "HOURGLASS_JWT_ALGORITHM": "HOURGLASS_OUTSIDE_ALGORITHM",
        "HOURGLASS_JWT_ACCOUNT_CLAIM": "HOURGLASS_OUTSIDE_ACCOUNT_CLAIM",
        "HOURGLASS_JWT_ROLE_CLAIM": "HOURGLASS_OUTSIDE_ROLE_CLAIM",
    }


def test_the_name_of_today_wins(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_JWT_JWKS_FILE", "/nowhere")
    monkeypatch.setenv("HOURGLASS_OUTSIDE_JWKS_FILE", environment["path"])
    assert str(load_settings().outside_jwks_file) == environment["path"]


def test_its_issuer_is_not_ours(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_OUTSIDE_JWKS_FILE", environment["path"])
    with pytest.raises(SettingsError, match=r"^HOURGLASS_OUTSIDE_ISSUER: "):
        tokens_of(load_settings())
    monkeypatch.setenv("HOURGLASS_OUTSIDE_ISSUER", "us")
    tokens = tokens_of(load_settings())
    assert tokens.verify(KEY.sign(), at_s=NOW_S).account_id == ACCOUNT
    own = tokens.issue(account_id=ACCOUNT, role=Role.HOUSEHOLD, at_s=NOW_S, life_seconds=60)
    assert tokens.verify(own, at_s=NOW_S).account_id == ACCOUNT


def test_roles_are_told_in_the_platforms_words(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_OUTSIDE_JWKS_FILE", environment["path"])
    monkeypatch.setenv("HOURGLASS_OUTSIDE_ISSUER", "us")
    monkeypatch.setenv("HOURGLASS_OUTSIDE_ROLE_CLAIM", "https://example.org/role")
    monkeypatch.setenv("HOURGLASS_OUTSIDE_ROLES", "head of family=parent, a=b=household")
    tokens = tokens_of(load_settings())
    for said, role in (("head of family", Role.PARENT), ("a=b", Role.HOUSEHOLD), ("service", Role.SERVICE)):
        claims = {"iss": "us", "aud": "hourglass", "sub": ACCOUNT, "exp": NOW_S + 60, "https://example.org/role": said}
        assert tokens.verify(KEY.sign(claims), at_s=NOW_S).role is role


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JWKS_URL", "http://identity.example.org/jwks"),
        ("JWKS_URL", "http://localhost.example.org/jwks"),
        ("JWKS_URL", "http://user@localhost/jwks"),
        ("JWKS_URL", "ftp://localhost/jwks"),
        ("JWKS_URL", "file:///etc/passwd"),
        ("JWKS_URL", "https://"),
        ("JWKS_URL", "jwks.json"),
        ("ALGORITHM", "HS256"),
        ("ALGORITHM", "none"),
        ("ROLES", "guardian"),
        ("ROLES", "guardian=king"),
        ("ROLES", "=parent"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_what_would_weaken_it_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"HOURGLASS_OUTSIDE_{variable}", value)
    with pytest.raises(SettingsError, match=rf"^HOURGLASS_OUTSIDE_{variable}: "):
        load_settings()


@pytest.mark.parametrize("url", ["https://identity.example.org/jwks?tenant=7", "http://127.0.0.1:9000/jwks"])
@pytest.mark.usefixtures("environment")
def test_an_address_of_keys_is_https_or_on_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HOURGLASS_OUTSIDE_JWKS_URL", url)
    assert load_settings().outside_jwks_url == url


def test_one_source_of_keys_is_enough(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_OUTSIDE_JWKS_FILE", environment["path"])
    monkeypatch.setenv("HOURGLASS_OUTSIDE_JWKS_URL", "https://identity.example.org/jwks")
    with pytest.raises(SettingsError, match=r"^HOURGLASS_OUTSIDE_JWKS_URL: "):
        tokens_of(load_settings())
