"""Valid and invalid tokens for ``verify``."""

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose import jws, jwt

from app.auth.tokens import ALGORITHM, MAX_TOKEN, Principal, Role, TokenCache, TokenKind, Tokens
from app.errors import Unauthenticated

SECRET = b"only-the-tests-know-this-secret!!"
ACCOUNT = "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"
NOW_S = 1_772_452_800
TOKENS = Tokens(secret=SECRET, issuer="hourglass", audience="players")
GOOD: dict[str, Any] = {
    "iss": "hourglass",
    "aud": "players",
    "sub": ACCOUNT,
    "typ": "access",
    "role": "household",
    "exp": NOW_S + 60,
}


def _signed(claims: object, *, secret: bytes = SECRET, algorithm: str = ALGORITHM) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jws.sign(payload, secret, algorithm=algorithm)


def _segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != claim}


def _refused(token: str, *, kind: TokenKind = TokenKind.ACCESS) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        TOKENS.verify(token, kind=kind, at_s=NOW_S)
    assert refusal.value.problem() == Unauthenticated().problem(), "all refusals look the same"


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("kind", list(TokenKind))
def test_what_was_issued_is_verified(role: Role, kind: TokenKind) -> None:
    token = TOKENS.issue(account_id=ACCOUNT, role=role, kind=kind, at_s=NOW_S, life_seconds=60, device_id="tablet")
    assert TOKENS.verify(token, kind=kind, at_s=NOW_S) == Principal(ACCOUNT, role, NOW_S + 60, "tablet")
    assert TOKENS.verify(token, kind=kind, at_s=NOW_S + 59).role is role
    with pytest.raises(Unauthenticated):
        TOKENS.verify(token, kind=kind, at_s=NOW_S + 60)


def test_claims_that_we_do_not_know_do_no_harm() -> None:
    assert TOKENS.verify(_signed(GOOD | {"name": "Kim", "nbf": None}), at_s=NOW_S).account_id == ACCOUNT


_NOT_AN_END: tuple[object, ...] = (None, "soon", 1e400, -1, 0, NOW_S, NOW_S + 0.5, True, 10**400, [], {})
_NOT_A_NAME: tuple[object, ...] = (None, 7, [], "")


@pytest.mark.parametrize(
    "claims",
    [
        *(_without(claim) for claim in GOOD),
        *(GOOD | {"exp": value} for value in _NOT_AN_END),
        *(GOOD | {claim: value} for claim in ("iss", "aud", "sub", "typ", "role") for value in _NOT_A_NAME),
        *(GOOD | {claim: "other"} for claim in ("iss", "aud", "typ", "role")),
        GOOD | {"aud": ["players"]},
        GOOD | {"typ": "refresh"},
        GOOD | {"typ": "pin"},
        GOOD | {"did": 5},
        [],
        "text",
        7,
        None,
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 1000,
        json.dumps(GOOD).encode("utf-16"),
    ],
)
def test_claims_are_required_and_of_their_type(claims: object) -> None:
    _refused(_signed(claims))


def test_a_token_for_one_use_is_not_good_for_the_other() -> None:
    _refused(TOKENS.issue(account_id=ACCOUNT, role=Role.HOUSEHOLD, at_s=NOW_S, life_seconds=9), kind=TokenKind.REFRESH)
    refresh = TOKENS.issue(account_id=ACCOUNT, role=Role.HOUSEHOLD, kind=TokenKind.REFRESH, at_s=NOW_S, life_seconds=9)
    _refused(refresh)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_one_algorithm_is_pinned(algorithm: str) -> None:
    _refused(_signed(GOOD, algorithm=algorithm))


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "None"},
        {"alg": None},
        {"alg": ["HS256"]},
        {"alg": {}},
        {"alg": "RS256"},
        {"alg": "HS256 "},
        {},
        [],
        "HS256",
        {"alg": "HS256", "jwk": {"kty": "oct", "k": _segment(SECRET)}},
        {"alg": "HS256", "kid": "../../dev/null", "jku": "http://example.org"},
    ],
)
@pytest.mark.parametrize("signature", ["", "AA", "!"])
def test_a_header_proves_nothing(header: object, signature: str) -> None:
    token = f"{_segment(json.dumps(header).encode())}.{_segment(json.dumps(GOOD).encode())}.{signature}"
    _refused(token)


def test_another_secret_is_not_ours() -> None:
    _refused(_signed(GOOD, secret=b"another-secret-of-the-same-length"))


def test_a_valid_signature_does_not_carry_over() -> None:
    mine, richer = _signed(GOOD), _signed(GOOD | {"role": "parent"}, secret=b"x" * 32)
    header, _, signature = mine.split(".")
    _refused(f"{header}.{richer.split('.')[1]}.{signature}")


def test_tokens_of_the_library_without_our_claims_are_refused() -> None:
    _refused(jwt.encode({"sub": ACCOUNT}, SECRET.decode(), algorithm=ALGORITHM))


def _seconds_to_refuse(token: str) -> float:
    began = time.thread_time()
    _refused(token)
    return time.thread_time() - began


@pytest.mark.parametrize(
    "token",
    [
        _segment(b'{"a":' * 600) + ".e30.AA",
        _segment(b"[" * 3000) + ".e30.AA",
        _segment(b'{"alg":"HS256"}') + "." + _segment(b"[" * 2000) + ".AA",
        "x" * 100_000,
        "a.b.c" * 20_000,
        "." * 4096,
        "",
        ".",
        "..",
        "\ud800.\ud800.\ud800",
        "é.é.é",
        "\0",
    ],
)
def test_what_would_break_the_library_is_refused_at_once(token: str) -> None:
    assert min(_seconds_to_refuse(token) for _ in range(20)) < 0.001, "a made-up token may not cost a millisecond"


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_text_is_anything_but_refused(token: str) -> None:
    _refused(token)


@given(st.integers(0, 300), st.integers(0, 255))
def test_no_byte_may_change(place: int, byte: int) -> None:
    token = _signed(GOOD)
    at = place % len(token)
    # The last character of a segment carries bits that base64 ignores, so it may have twins.
    changed = token[:at] + chr(byte) + token[at + 1 :]
    try:
        principal = TOKENS.verify(changed, at_s=NOW_S)
    except Unauthenticated:
        return
    assert principal == TOKENS.verify(token, at_s=NOW_S)


class _Clock:
    def __init__(self) -> None:
        self.at_ms = NOW_S * 1000

    def __call__(self) -> int:
        return self.at_ms


class _CountingTokens(Tokens):
    def __init__(self) -> None:
        super().__init__(secret=SECRET, issuer="hourglass", audience="players")
        self.verified = 0

    def verify(self, token: str, *, kind: TokenKind = TokenKind.ACCESS, at_s: int) -> Principal:
        self.verified += 1
        return super().verify(token, kind=kind, at_s=at_s)


def _header(account: str = ACCOUNT, *, life_seconds: int = 60, device_id: str | None = None) -> bytes:
    token = TOKENS.issue(
        account_id=account, role=Role.HOUSEHOLD, at_s=NOW_S, life_seconds=life_seconds, device_id=device_id
    )
    return f"Bearer {token}".encode()


def test_a_token_is_verified_once_until_it_ends() -> None:
    tokens, clock = _CountingTokens(), _Clock()
    cache = TokenCache(tokens, size=10, clock=clock)
    header = _header()
    assert cache.principal_of(header) == cache.principal_of(header) == TOKENS.verify(header[7:].decode(), at_s=NOW_S)
    assert tokens.verified == 1
    clock.at_ms += 60_000
    with pytest.raises(Unauthenticated):
        cache.principal_of(header)


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    tokens, clock = _CountingTokens(), _Clock()
    cache = TokenCache(tokens, size=50, clock=clock)
    favourite = _header("favourite")
    for number in range(1000):
        cache.principal_of(favourite)
        cache.principal_of(_header(f"passer-by-{number}"))
    assert len(cache) <= 100
    assert tokens.verified == 1001, "the favourite was verified once"


def test_the_last_size_tokens_are_always_remembered() -> None:
    tokens, clock = _CountingTokens(), _Clock()
    cache = TokenCache(tokens, size=50, clock=clock)
    headers = [_header(f"viewer-{number}") for number in range(50)]
    for _ in range(5):
        for header in headers:
            cache.principal_of(header)
    assert tokens.verified == 50


def test_a_revoked_device_is_refused_although_remembered() -> None:
    revoked: set[str] = set()
    cache = TokenCache(TOKENS, size=10, clock=_Clock(), is_revoked=revoked.__contains__)
    header = _header(device_id="tablet")
    assert cache.principal_of(header).device_id == "tablet"
    revoked.add("tablet")
    with pytest.raises(Unauthenticated):
        cache.principal_of(header)


def test_the_tokens_of_an_erased_account_are_refused_although_remembered() -> None:
    revoked: set[str] = set()
    cache = TokenCache(TOKENS, size=10, clock=_Clock(), is_revoked=revoked.__contains__)
    header, other = _header("erased"), _header("other")
    assert cache.principal_of(header).account_id == "erased"
    revoked.add("erased")
    with pytest.raises(Unauthenticated):
        cache.principal_of(header)
    assert cache.principal_of(other).account_id == "other"


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", b"Basic abc", b"Bearer \xff", b"bearer\ta.b.c", b"Bearer " + b"x" * MAX_TOKEN * 2],
)
def test_a_header_that_is_no_bearer_token_is_refused_and_not_remembered(header: bytes) -> None:
    cache = TokenCache(TOKENS, size=10, clock=_Clock())
    with pytest.raises(Unauthenticated):
        cache.principal_of(header)
    assert len(cache) == 0


def test_the_scheme_is_read_without_regard_to_case() -> None:
    cache = TokenCache(TOKENS, size=10, clock=_Clock())
    assert cache.principal_of(_header().replace(b"Bearer", b"bEARER")).account_id == ACCOUNT


def test_an_access_lasts_as_long_as_its_token() -> None:
    revoked: set[str] = set()
    clock = _Clock()
    cache = TokenCache(TOKENS, size=10, clock=clock, is_revoked=revoked.__contains__)
    header = _header(device_id="tablet")
    principal = cache.principal_of(header)
    accesses = [cache.access(principal, header), cache.access(principal)]
    expected_ms = principal.expires_s * 1000 - clock()
    assert [cache.remaining_ms(access) for access in accesses] == [expected_ms] * 2
    for holder in ("tablet", principal.account_id):
        revoked.add(holder)
        assert [cache.remaining_ms(access) for access in accesses] == [0, 0]
        revoked.clear()
    clock.at_ms = principal.expires_s * 1000
    assert [cache.remaining_ms(access) for access in accesses] == [0, 0]
