"""Rules of webhooks: addresses, signatures and pauses."""

import base64
from pathlib import Path

import pytest

from app.domain.webhooks import is_public, pause_ms, secret_text, signature, url_problem
from app.kit.sealing import SecretSeal, SecretUnreadable
from app.settings.settings import SettingsError
from app.wiring.feed_worker import webhook_sender
from tests.builders import settings_for


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.8.8.8", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::10.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:a00:1::1", "2001:db8::1", "", "localhost",
        "2130706433", "0x7f.1", "127.1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/hook", "ftp://example.org", "//example.org", "https://", "https:///x", "example.org",
        "https://user@example.org", "https://user:password@example.org", "https://example.org/#part",
        "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest",
        "https://example.org:99999/", "https://example.org:x/", "https://example.org:0/", "https://[::1",
        "https://[v1.a]/", "https://ex ample", "https://example.org/\r\nHost: x", "https://exämple.org/",
        "javascript:alert(1)", "file:///etc/passwd", "",
    ],
)  # fmt: skip
def test_such_an_address_is_refused(url: str) -> None:
    assert url_problem(url, private_allowed=False)


def test_private_receivers_are_a_setting() -> None:
    for url in ("http://127.0.0.1:8080/x", "https://10.0.0.1/", "http://receiver.internal/"):
        assert url_problem(url, private_allowed=True) is None
    assert url_problem("https://example.org:8443/hook?tenant=1", private_allowed=False) is None


def test_a_signature_is_that_of_standard_webhooks() -> None:
    """The example of the specification's own libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature([secret], event_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at_s=1614265330, body=b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert secret_text(secret) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert len(signature([secret, b"x"], event_id="m", at_s=1, body=b"").split(" ")) == 2


def test_pauses_grow_to_an_hour_and_differ() -> None:
    assert [pause_ms(failures, random=0.5) for failures in (1, 2, 3, 10, 11, 500)] == [
        5_000,
        10_000,
        20_000,
        2_560_000,
        3_600_000,
        3_600_000,
    ]
    assert (pause_ms(1, random=0), pause_ms(1, random=1)) == (4_000, 6_000)


def test_a_sealed_secret_is_opened_by_its_key_alone() -> None:
    seal = SecretSeal([b"a" * 32, b"b" * 32])
    sealed, older = seal.sealed(b"secret"), SecretSeal([b"b" * 32]).sealed(b"secret")
    assert b"secret" not in sealed
    assert sealed != seal.sealed(b"secret")
    assert (seal.opened(sealed), seal.opened(older)) == ((b"secret", True), (b"secret", False))
    for wrong in (SecretSeal([b"c" * 32]).sealed(b"secret"), sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(SecretUnreadable):
            seal.opened(wrong)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_certificates_that_cannot_be_read_are_refused_with_the_name_of_their_variable(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)
    settings = settings_for(database_url="x", redis_url="redis://x", event_ca_file=file)
    with pytest.raises(SettingsError, match=r"^HOURGLASS_EVENT_CA_FILE: cannot be read: [^\n]+$"):
        webhook_sender(settings)
