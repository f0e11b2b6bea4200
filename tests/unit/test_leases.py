"""Signed playback leases: their keys, how long they hold, and when one is given again."""

import json
import threading
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jose import JWSError, jws
from pydantic import SecretStr

from app.auth.lease_keys import LeaseKeys, LeaseKeyUnusable, new_lease_key
from app.domain.enforcement import ALLOWED, BLOCKED, Decision, lease_end_s
from app.settings.settings import SettingsError
from app.viewing.leases import PlaybackLeases
from app.wiring.viewing import playback_leases
from tests.builders import settings_for

NOON = 1_772_452_800_000
MINUTE = 60_000
FULL = Decision(ALLOWED, None, None, 30_000, 5 * MINUTE)


def stopping(remaining_ms: int, *, at_ms: int = NOON) -> Decision:
    return Decision(ALLOWED, remaining_ms, at_ms + remaining_ms, 30_000, min(remaining_ms, 5 * MINUTE))


def parts(lease: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    assert lease is not None
    head, claims, _ = lease.split(".")
    return json.loads(urlsafe_b64decode(head + "==")), json.loads(urlsafe_b64decode(claims + "=="))


def verified(leases: PlaybackLeases, lease: str | None) -> dict[str, Any]:
    """The claims, by a library of others and what is published."""
    assert lease is not None
    head, _ = parts(lease)
    [key] = [key for key in leases.published.keys if key.kid == head["kid"]]
    jwk = {"kty": key.kty, "crv": key.crv, "x": key.x, "y": key.y}
    claims: dict[str, Any] = json.loads(jws.verify(lease, jwk, ["ES256"]))
    return claims


def made(**overrides: Any) -> PlaybackLeases:
    keys = LeaseKeys.read(new_lease_key())
    return PlaybackLeases(keys, **({"issuer": "hourglass", "audience": "playback"} | overrides))


async def lease(leases: PlaybackLeases, decision: Decision, *, at_ms: int = NOON, session: str = "s") -> str | None:
    return await leases.lease("child", session, decision, at_ms=at_ms)


async def test_a_lease_names_child_session_and_end_and_is_verified_by_what_is_published() -> None:
    leases = made()
    given = await lease(leases, FULL)
    assert parts(given)[0] == {"alg": "ES256", "kid": leases.published.keys[0].kid, "typ": "playback-lease+jwt"}
    assert verified(leases, given) == {
        "iss": "hourglass",
        "aud": "playback",
        "sub": "child",
        "sid": "s",
        "iat": NOON // 1000,
        "exp": NOON // 1000 + 300,
    }


async def test_a_lease_with_a_changed_claim_has_no_valid_signature() -> None:
    leases = made()
    head, claims, signature = str(await lease(leases, FULL)).split(".")
    _, other, _ = str(await lease(leases, stopping(60_000), session="other")).split(".")
    assert claims != other
    with pytest.raises(JWSError):
        verified(leases, f"{head}.{other}.{signature}")


@pytest.mark.parametrize("remaining_ms", [1000, 1001, 1999, 59_999, 299_999, 300_000, 300_001, 7_200_000])
@pytest.mark.parametrize("at_ms", [NOON, NOON + 1, NOON + 999])
def test_a_lease_ends_within_the_answers_lease_and_before_the_stop(remaining_ms: int, at_ms: int) -> None:
    decision = stopping(remaining_ms, at_ms=at_ms)
    ends_s = lease_end_s(decision, at_ms=at_ms)
    assert ends_s is not None
    assert at_ms < ends_s * 1000 <= min(at_ms + decision.lease_ms, at_ms + remaining_ms)
    assert ends_s * 1000 > min(at_ms + decision.lease_ms, at_ms + remaining_ms) - 1000


def test_there_is_no_lease_where_playback_must_not_go_on_or_stops_within_the_second() -> None:
    assert lease_end_s(Decision(BLOCKED, 0, NOON, 30_000, 0), at_ms=NOON) is None
    assert lease_end_s(Decision(BLOCKED, 0, NOON, 30_000, 5 * MINUTE), at_ms=NOON) is None
    assert lease_end_s(stopping(999), at_ms=NOON) is None


async def test_a_lease_is_given_again_until_half_its_life() -> None:
    leases = made()
    first = await lease(leases, FULL)
    assert await lease(leases, FULL, at_ms=NOON + 149_000) == first
    second = await lease(leases, FULL, at_ms=NOON + 150_000)
    assert second != first
    assert verified(leases, second)["exp"] == NOON // 1000 + 450
    assert await lease(leases, FULL, session="other") not in {first, second}


async def test_a_lease_that_reaches_the_stop_is_not_signed_anew() -> None:
    leases = made()
    first = await lease(leases, stopping(100_000))
    assert await lease(leases, stopping(10_000, at_ms=NOON + 90_000), at_ms=NOON + 90_000) == first


async def test_a_lease_beyond_a_stop_that_came_nearer_is_not_given_again() -> None:
    leases = made()
    await lease(leases, FULL)
    nearer = await lease(leases, stopping(60_000))
    assert verified(leases, nearer)["exp"] == NOON // 1000 + 60


async def test_leases_that_have_ended_and_those_beyond_the_bound_are_forgotten() -> None:
    leases = made(size=3)
    for number in range(5):
        await lease(leases, FULL, session=f"s{number}")
    assert list(leases._kept) == ["s2", "s3", "s4"]
    await lease(leases, FULL, session="late", at_ms=NOON + 300_000)
    assert list(leases._kept) == ["late"]


async def test_without_a_key_there_is_no_lease_and_an_empty_key_set() -> None:
    leases = PlaybackLeases(None, issuer="hourglass", audience="playback")
    assert await lease(leases, FULL) is None
    assert leases.published.keys == []


async def test_leases_are_signed_in_a_thread_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, sign = [], LeaseKeys.sign

    def watched(self: LeaseKeys, payloads: Sequence[bytes]) -> list[str]:
        threads.append(threading.current_thread())
        return sign(self, payloads)

    monkeypatch.setattr(LeaseKeys, "sign", watched)
    leases = made()
    await lease(leases, FULL)
    assert threads
    assert threading.current_thread() not in threads
    leases.close()


# --- keys


def pem(key: ec.EllipticCurvePrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def test_keys_may_be_of_any_pem_and_private_or_public() -> None:
    signing, following, before = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    public = before.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    one_line = pem(signing, PrivateFormat.TraditionalOpenSSL).replace("\n", "\\n")
    keys = LeaseKeys.read(parameters + one_line, pem(following) + public + pem(signing))
    names = [LeaseKeys(key).kid for key in (signing, following, before)]
    assert [key.kid for key in keys.published.keys] == names  # each once
    assert keys.kid == names[0]


def test_a_published_key_has_no_private_part() -> None:
    keys = LeaseKeys.read(new_lease_key())
    assert set(keys.published.keys[0].__struct_fields__) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


DAMAGED = new_lease_key().replace("MIG", "MIH")
OTHER_CURVE = pem(ec.generate_private_key(ec.SECP384R1()))
PUBLIC = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


@pytest.mark.parametrize("text", ["", "secret", DAMAGED, OTHER_CURVE, PUBLIC, new_lease_key() + new_lease_key()])
def test_what_cannot_sign_is_refused_with_the_name_of_its_variable(text: str) -> None:
    with pytest.raises(LeaseKeyUnusable):
        LeaseKeys.read(text)
    if text:
        settings = settings_for(database_url="x", redis_url="redis://x", lease_key=SecretStr(text))
        with pytest.raises(SettingsError, match="HOURGLASS_LEASE_KEY: "):
            playback_leases(settings)


@pytest.mark.parametrize("text", ["secret", DAMAGED, OTHER_CURVE])
def test_what_cannot_be_published_is_refused_with_the_name_of_its_variable(text: str) -> None:
    settings = settings_for(
        database_url="x",
        redis_url="redis://x",
        lease_key=SecretStr(new_lease_key()),
        lease_key_previous=SecretStr(text),
    )
    with pytest.raises(SettingsError, match="HOURGLASS_LEASE_KEY_PREVIOUS: "):
        playback_leases(settings)
