"""Rules of webhooks: addresses, signatures after Standard Webhooks, and when an attempt is repeated."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import msgspec

from app.domain.feed import KeptEvent

SECRET_PREFIX = "whsec_"  # noqa: S105  the prefix of every secret
SECRET_BYTES = 32
MAX_URL = 2000
MAX_BODY_BYTES = 64 * 1024
GIVE_UP_MS = 3 * 86_400_000
ROTATION_MS = 86_400_000
"""How long the secret before signs beside the current one."""
_FIRST_PAUSE_MS = 5_000
_MAX_PAUSE_MS = 3_600_000
_JITTER = 0.2
_MAX_DOUBLINGS = 20
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet. IPv4 inside of IPv6 is judged as IPv4."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = _inner(found)
        if inner is not None:
            found = inner
        elif found.teredo is not None or found.is_site_local:
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None


def url_problem(url: str, *, private_allowed: bool) -> str | None:
    """Why an address cannot be a receiver; None if it can. A name is checked again at each connection."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must be an address"
    if not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url) or not parts.hostname:
        return "must be an address in ASCII, with a host"
    if "[" in parts.netloc and not _is_literal(parts.hostname):
        return "must be an address"
    if parts.username is not None or parts.password is not None or parts.fragment or port == 0:
        return "must have no user, no fragment and no port 0"
    if parts.scheme != "https" and not (parts.scheme == "http" and private_allowed):
        return "must begin with https://"
    if not private_allowed and _is_literal(parts.hostname) and not is_public(parts.hostname):
        return "must not be a private address"
    return None


def _is_literal(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def secret_text(secret: bytes) -> str:
    """The secret as its receiver keeps it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def signature(secrets: Sequence[bytes], *, event_id: str, at_s: int, body: bytes) -> str:
    """The header ``webhook-signature``: one signature for each secret, separated by spaces."""
    content = f"{event_id}.{at_s}.".encode() + body
    digests = (hmac.new(secret, content, hashlib.sha256).digest() for secret in secrets)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def pause_ms(failures: int, *, random: float) -> int:
    """The pause after so many failed attempts: from 5 s, doubled up to an hour, with 20 % jitter.

    ``random`` is from 0 to 1.
    """
    whole = min(_MAX_PAUSE_MS, _FIRST_PAUSE_MS << min(max(0, failures - 1), _MAX_DOUBLINGS))
    return int(whole * (1 + _JITTER * (2 * random - 1)))


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an attempt. ``error`` is None if the receiver accepted the event."""

    error: str | None = None
    is_gone: bool = False
    retry_after_ms: int | None = None


class WebhookReceiver(msgspec.Struct, frozen=True, kw_only=True):
    """An address that events are delivered to. ``position`` is how far it has read the feed.

    ``kinds`` None stands for all. ``failing_since_ms`` is None while deliveries succeed. ``disabled_reason`` is
    ``gone`` after a 410, and None while it is enabled.
    """

    receiver_id: str
    url: str
    kinds: tuple[str, ...] | None
    secret: bytes
    previous_secret: bytes | None
    previous_until_ms: int
    position: int
    is_enabled: bool
    disabled_reason: str | None
    failing_since_ms: int | None
    created_ms: int
    waiting: int = 0
    dead_letters: int = 0
    behind: int = 0

    def secrets_at(self, at_ms: int) -> tuple[bytes, ...]:
        """The secrets that sign at an instant, the current one first."""
        if self.previous_secret is None or at_ms >= self.previous_until_ms:
            return (self.secret,)
        return (self.secret, self.previous_secret)


class WaitingDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a receiver has not accepted yet. ``first_ms`` is the instant from which the three days count."""

    event: KeptEvent
    first_ms: int
    attempts: int = 0
    next_ms: int = 0
    error: str | None = None


class DeliveryRound(msgspec.Struct, frozen=True, kw_only=True):
    """What a round of deliveries has done. It is kept in one transaction.

    Attributes:
        position: how far the receiver has read now.
        delivered: events that were accepted.
        waiting: events to be tried again.
        dead: events that were tried for three days.
        is_gone: the receiver answered 410.
        is_failing: the last attempt failed.
    """

    position: int
    delivered: tuple[str, ...] = ()
    waiting: tuple[WaitingDelivery, ...] = ()
    dead: tuple[WaitingDelivery, ...] = ()
    is_gone: bool = False
    is_failing: bool = False
