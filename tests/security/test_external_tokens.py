"""Tokens of the platform's identity service: real keys, rotation, and all invalid forms."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jose import jwk, jws

from app.auth.external_idp import ExternalTokens
from app.auth.key_sets import KeyFile, KeysUnusable
from app.auth.tokens import Role, TokenCache, TokenKind, Tokens
from app.errors import Unauthenticated
from app.settings.settings import SettingsError
from app.wiring.external_identity import tokens_of
from tests.builders import settings_for
from tests.security.signers import Signer, segment

SECRET = b"only-the-tests-know-this-secret!!"
ACCOUNT = "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"
NOW_S = 1_772_452_800
ISSUER, AUDIENCE = "https://identity.example.org", "hourglass"
GOOD: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": ACCOUNT, "exp": NOW_S + 600}

RSA, OTHER_RSA, EC = Signer("one", GOOD), Signer("two", GOOD), Signer("curve", GOOD, "ES256")
ED = Signer("edwards", GOOD, "EdDSA")


class KeySet:
    """A key set on disk. What is written is never older than what was there, as on a real disk."""

    def __init__(self, path: Path, *signers: Signer) -> None:
        self.path = path
        self._written = 0
        self.write(*signers)

    def write(self, *signers: Signer) -> None:
        self.write_text(json.dumps({"keys": [signer.shown() for signer in signers]}))

    def write_text(self, text: str) -> None:
        self._written += 1
        self.path.write_text(text)
        os.utime(self.path, ns=(self._written, self._written))

    def tokens(self, *, algorithm: str = "RS256", **mapping: Any) -> Tokens:
        keys = KeyFile(self.path, algorithm=algorithm)
        outside = ExternalTokens(keys, algorithm=algorithm, issuer=ISSUER, audience=AUDIENCE, **mapping)
        return Tokens(secret=SECRET, issuer="hourglass", audience="hourglass", outside=outside)


@pytest.fixture
def key_set(tmp_path: Path) -> KeySet:
    return KeySet(tmp_path / "jwks.json", RSA, EC, ED)


def _refused(tokens: Tokens, token: str, *, at_s: int = NOW_S, kind: TokenKind = TokenKind.ACCESS) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        tokens.verify(token, kind=kind, at_s=at_s)
    assert refusal.value.problem() == Unauthenticated().problem(), "all refusals look the same"


@pytest.mark.parametrize("signer", [RSA, EC, ED], ids=["RS256", "ES256", "EdDSA"])
def test_a_token_of_the_identity_service_is_the_households(key_set: KeySet, signer: Signer) -> None:
    tokens = key_set.tokens(algorithm=signer.algorithm)
    principal = tokens.verify(signer.sign(), at_s=NOW_S)
    assert (principal.account_id, principal.role, principal.expires_s) == (ACCOUNT, Role.HOUSEHOLD, NOW_S + 600)
    own = tokens.issue(account_id=ACCOUNT, role=Role.PARENT, at_s=NOW_S, life_seconds=60)
    assert tokens.verify(own, at_s=NOW_S).role is Role.PARENT, "our own are as good as before"


@pytest.mark.parametrize(
    "claims",
    [
        GOOD | {"aud": ["others", AUDIENCE]},
        GOOD | {"sub": ACCOUNT.upper()},
        GOOD | {"exp": NOW_S + 0.5 + 1},
        GOOD | {"nbf": NOW_S, "iat": NOW_S, "email": "kim@example.org", "role": "admin"},
    ],
)
def test_what_services_write_differently_is_understood(key_set: KeySet, claims: dict[str, Any]) -> None:
    principal = key_set.tokens().verify(RSA.sign(claims), at_s=NOW_S)
    assert (principal.account_id, principal.role) == (ACCOUNT, Role.HOUSEHOLD)


def test_settings_say_which_claims_hold_account_and_role(key_set: KeySet) -> None:
    tokens = key_set.tokens(account_claim="household", role_claim="hourglass_role")
    claims = GOOD | {"household": ACCOUNT, "sub": "kim"}
    assert tokens.verify(RSA.sign(claims), at_s=NOW_S).role is Role.HOUSEHOLD
    parent = tokens.verify(RSA.sign(claims | {"hourglass_role": "parent"}), at_s=NOW_S)
    assert (parent.account_id, parent.role) == (ACCOUNT, Role.PARENT)
    service = tokens.verify(RSA.sign({**claims, "household": "catalogue", "hourglass_role": "service"}), at_s=NOW_S)
    assert (service.account_id, service.role) == ("catalogue", Role.SERVICE)
    no_roles: tuple[object, ...] = ("guest", "", 7, ["parent"], {}, True)
    for role in no_roles:
        _refused(tokens, RSA.sign(claims | {"hourglass_role": role}))
    for account in (None, "", "catalogue", 7, [ACCOUNT], ACCOUNT + "0", "\0"):
        _refused(tokens, RSA.sign(claims | {"household": account}))


_NOT_AN_END: tuple[object, ...] = (NOW_S, NOW_S - 1, 0, -1, None, "soon", True, 10**30, [], 1e308)


@pytest.mark.parametrize(
    "claims",
    [
        *({name: value for name, value in GOOD.items() if name != claim} for claim in GOOD),
        *(GOOD | {"exp": end} for end in _NOT_AN_END),
        *(GOOD | {"aud": audience} for audience in ("other", ["other"], [], None, {AUDIENCE: 1}, AUDIENCE + " ")),
        *(GOOD | {"iss": issuer} for issuer in ("https://evil.example.org", "hourglass", ISSUER + "/", None, [ISSUER])),
        *(GOOD | {"nbf": begin} for begin in (NOW_S + 61, "now", -1)),
        [],
        "text",
        None,
    ],
)
def test_claims_must_fit(key_set: KeySet, claims: object) -> None:
    _refused(key_set.tokens(), RSA.sign(claims))


def test_it_ends_when_it_says(key_set: KeySet) -> None:
    tokens, token = key_set.tokens(), RSA.sign()
    assert tokens.verify(token, at_s=NOW_S + 599).account_id == ACCOUNT
    _refused(tokens, token, at_s=NOW_S + 600)


def test_it_refreshes_nothing(key_set: KeySet) -> None:
    _refused(key_set.tokens(), RSA.sign(GOOD | {"typ": "refresh"}), kind=TokenKind.REFRESH)


def test_only_keys_of_the_set_count(key_set: KeySet) -> None:
    tokens = key_set.tokens()
    _refused(tokens, OTHER_RSA.sign())
    _refused(tokens, OTHER_RSA.sign(kid="one"))
    _refused(tokens, RSA.sign(kid="curve"))
    _refused(tokens, RSA.sign(kid="../jwks.json"))
    _refused(tokens, OTHER_RSA.sign(kid="one", jwk=OTHER_RSA.shown(), jku="https://evil.example.org"))
    _refused(tokens, RSA.sign(crit=["b64"], b64=False))
    header, _, signature = RSA.sign().split(".")
    richer = OTHER_RSA.sign(GOOD | {"sub": "0" * 36}).split(".")[1]
    _refused(tokens, f"{header}.{richer}.{signature}")


def test_a_name_is_needed(key_set: KeySet) -> None:
    payload = json.dumps(GOOD).encode()
    _refused(key_set.tokens(), jws.sign(payload, RSA.private_pem.decode(), algorithm="RS256"))


def _made(header: dict[str, Any], signature: bytes = b"") -> str:
    return ".".join(segment(part) for part in (json.dumps(header).encode(), json.dumps(GOOD).encode(), signature))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "RS256 ", "rs256", None, ["RS256"]])
@pytest.mark.parametrize("signature", [b"", b"\0" * 256])
def test_an_algorithm_is_not_the_tokens_to_choose(key_set: KeySet, algorithm: object, signature: bytes) -> None:
    _refused(key_set.tokens(), _made({"alg": algorithm, "kid": "one"}, signature))


@pytest.mark.parametrize("signer", [RSA, EC, ED], ids=["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_no_secret(key_set: KeySet, signer: Signer) -> None:
    """The classic mix-up: HS256 with the public key as the secret, and its neighbours."""
    tokens = key_set.tokens(algorithm=signer.algorithm)
    claims = json.dumps(GOOD | {"typ": "access", "role": "admin"}).encode()
    secrets = [signer.public_pem, signer.public_pem.strip(), json.dumps(signer.shown()).encode(), b"", b"one"]
    secrets += [part.encode() for name in ("n", "e", "x", "y") if isinstance(part := signer.shown().get(name), str)]
    for secret in secrets:
        key = jwk.construct({"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode()}, "HS256")
        for algorithm in ("HS256", signer.algorithm):
            made = _made({"alg": algorithm, "kid": signer.kid})
            signed = made.rpartition(".")[0]
            mac = base64.urlsafe_b64encode(key.sign(signed.encode())).rstrip(b"=").decode()
            _refused(tokens, f"{signed}.{mac}")
        _refused(tokens, jws.sign(claims, key.to_dict(), algorithm="HS256", headers={"kid": signer.kid}))


def test_one_algorithm_is_pinned(key_set: KeySet) -> None:
    _refused(key_set.tokens(algorithm="RS256"), EC.sign())
    _refused(key_set.tokens(algorithm="ES256"), RSA.sign())
    longer = jws.sign(json.dumps(GOOD).encode(), RSA.private_pem.decode(), headers={"kid": "one"}, algorithm="RS512")
    _refused(key_set.tokens(), longer)


def test_without_a_key_set_only_our_own_are_good() -> None:
    _refused(Tokens(secret=SECRET, issuer=ISSUER, audience=AUDIENCE), RSA.sign())


@pytest.mark.parametrize(
    "shown",
    [
        RSA.shown(use="enc"),
        RSA.shown(alg="RS512"),
        RSA.shown(kty="oct", k="AAAA"),
        Signer("short", GOOD, key=rsa.generate_private_key(65_537, 1024)).shown(),  # noqa: S505  that is the point
        EC.shown(),
        {name: value for name, value in RSA.shown().items() if name != "kid"},
        RSA.shown(kid=7),
        7,
    ],
)
def test_keys_of_another_kind_are_not_taken(key_set: KeySet, shown: object) -> None:
    key_set.write_text(json.dumps({"keys": [shown]}))
    with pytest.raises(KeysUnusable, match="holds no key for RS256"):
        key_set.tokens()
    key_set.write_text(json.dumps({"keys": [shown, OTHER_RSA.shown()]}))
    assert key_set.tokens().verify(OTHER_RSA.sign(), at_s=NOW_S).account_id == ACCOUNT, "nor do they harm others"


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"keys": 7}', '{"keys": [{"kty": "RSA", "kid": "one", "n": "%s", "e": "!"}]}' % ("A" * 400)],
)
def test_a_start_without_keys_fails_and_names_the_variable(key_set: KeySet, text: str) -> None:
    key_set.write_text(text)
    settings = settings_for(
        database_url="postgresql://localhost/x",
        redis_url="redis://localhost",
        outside_jwks_file=key_set.path,
        outside_issuer=ISSUER,
    )
    with pytest.raises(SettingsError, match=r"^HOURGLASS_OUTSIDE_JWKS_FILE: "):
        tokens_of(settings)
    key_set.path.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        tokens_of(settings)


def test_settings_reach_the_verifier(key_set: KeySet) -> None:
    settings = settings_for(
        database_url="postgresql://localhost/x",
        redis_url="redis://localhost",
        outside_jwks_file=key_set.path,
        outside_algorithm="ES256",
        outside_issuer=ISSUER,
        outside_account_claim="household",
        outside_role_claim="role",
    )
    claims = GOOD | {"household": ACCOUNT, "role": "parent"}
    principal = tokens_of(settings).verify(EC.sign(claims), at_s=NOW_S)
    assert (principal.account_id, principal.role) == (ACCOUNT, Role.PARENT)


# --- rotation


def test_a_new_key_is_known_and_an_old_one_forgotten_within_a_second(key_set: KeySet) -> None:
    tokens = key_set.tokens()
    assert tokens.verify(RSA.sign(), at_s=NOW_S).account_id == ACCOUNT
    key_set.write(RSA, OTHER_RSA)
    assert tokens.verify(OTHER_RSA.sign(), at_s=NOW_S + 1).account_id == ACCOUNT
    assert tokens.verify(RSA.sign(), at_s=NOW_S + 1).account_id == ACCOUNT
    key_set.write(OTHER_RSA)
    _refused(tokens, RSA.sign(), at_s=NOW_S + 2)


def test_an_unknown_key_makes_us_read_once_in_ten_seconds(key_set: KeySet, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, read = key_set.tokens(), []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        read.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    for second in range(20):
        for _ in range(5):
            _refused(tokens, OTHER_RSA.sign(), at_s=NOW_S + second)
    assert len(read) == 2


def test_the_file_is_looked_at_once_a_second(key_set: KeySet, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, looked = key_set.tokens(), []
    stat = Path.stat

    def counted(path: Path, **options: Any) -> os.stat_result:
        looked.append(path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    token = RSA.sign()
    for tenth in range(30):
        tokens.verify(token, at_s=NOW_S + tenth // 10)
    assert len(looked) == 3


@pytest.mark.parametrize("text", ["", "{", '{"keys":', None])
def test_a_key_set_that_cannot_be_read_changes_nothing(key_set: KeySet, text: str | None) -> None:
    tokens = key_set.tokens()
    if text is None:
        key_set.path.unlink()
    else:
        key_set.write_text(text)
    assert tokens.verify(RSA.sign(), at_s=NOW_S + 1).account_id == ACCOUNT
    key_set.write(OTHER_RSA)
    assert tokens.verify(OTHER_RSA.sign(), at_s=NOW_S + 2).account_id == ACCOUNT
    _refused(tokens, RSA.sign(), at_s=NOW_S + 2)


class _Clock:
    at_ms = NOW_S * 1000

    def __call__(self) -> int:
        return self.at_ms


@pytest.mark.parametrize("instead", [[], [OTHER_RSA], [Signer("one", GOOD)]], ids=["none", "another", "same name"])
def test_a_remembered_token_does_not_outlive_its_key(key_set: KeySet, instead: list[Signer]) -> None:
    clock = _Clock()
    cache = TokenCache(key_set.tokens(), size=10, clock=clock)
    header = b"Bearer " + RSA.sign().encode()
    assert cache.principal_of(header).account_id == ACCOUNT
    key_set.write(*instead)
    clock.at_ms += 1000
    with pytest.raises(Unauthenticated):
        cache.principal_of(header)


def test_a_key_that_is_added_makes_nobody_forgotten(key_set: KeySet) -> None:
    clock = _Clock()
    cache = TokenCache(key_set.tokens(), size=10, clock=clock)
    cache.principal_of(b"Bearer " + RSA.sign().encode())
    key_set.write(RSA, OTHER_RSA)
    clock.at_ms += 1000
    cache.principal_of(b"Bearer " + OTHER_RSA.sign().encode())
    assert len(cache) == 2


@pytest.mark.parametrize("by_ticket", [False, True])
def test_an_open_stream_does_not_outlive_the_key_of_its_token(key_set: KeySet, by_ticket: bool) -> None:
    clock = _Clock()
    cache = TokenCache(key_set.tokens(), size=10, clock=clock)
    header = b"Bearer " + RSA.sign().encode()
    access = cache.access(cache.principal_of(header), None if by_ticket else header)
    assert cache.remaining_ms(access) > 0
    assert not cache.has_lost_keys()
    key_set.write(OTHER_RSA)
    clock.at_ms += 1000
    assert cache.has_lost_keys(), "so that streams are woken"
    assert not cache.has_lost_keys(), "once"
    assert cache.remaining_ms(access) == 0


def test_another_key_taken_away_ends_no_stream_of_a_token(key_set: KeySet) -> None:
    key_set.write(RSA, OTHER_RSA)
    clock = _Clock()
    cache = TokenCache(key_set.tokens(), size=10, clock=clock)
    header = b"Bearer " + RSA.sign().encode()
    access = cache.access(cache.principal_of(header), header)
    key_set.write(RSA)
    clock.at_ms += 1000
    assert cache.remaining_ms(access) > 0
