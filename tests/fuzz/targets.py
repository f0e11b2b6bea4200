"""Decoders of untrusted bytes, for fuzzers. A target may refuse its input, and any other exception is a defect."""

import json
from collections.abc import Callable, Mapping

import msgspec
from jose import jws

from app.auth.tokens import ALGORITHM, TokenCache, Tokens
from app.catalogue.schemas import titles_of
from app.domain.external_ids import MAX_EXTERNAL_ID
from app.errors import HourglassError
from app.http.requests import check_json
from app.viewing.endpoint import decode_beat, decode_beats, decoded
from app.viewing.schemas import RawBatch

NOW_S = 1_772_452_800
SECRET = b"s" * 32
_PROFILE = "6f2c8b0e-5f0e-4c39-9d4e-6a3f2f9a1b11"
CLAIMS = {
    "iss": "hourglass",
    "aud": "hourglass",
    "sub": _PROFILE,
    "typ": "access",
    "role": "parent",
    "exp": NOW_S + 60,
}
_split_batch = msgspec.json.Decoder(RawBatch).decode
_TOKENS = Tokens(secret=SECRET, issuer="hourglass", audience="hourglass")
_CACHE = TokenCache(_TOKENS, size=100, clock=lambda: NOW_S * 1000)
_BEAT = {
    "profile_id": _PROFILE,
    "title_id": "moon-pirates",
    "device_id": "tv",
    "device_type": "tv",
    "session_id": None,
    "is_paused": False,
    "watched_seconds": 612.4,
}


def _signed(claims: bytes) -> bytes:
    """A token with whatever claims, so that what is behind the signature is reached as well."""
    return jws.sign(claims, SECRET, algorithm=ALGORITHM).encode()


def token(data: bytes) -> None:
    """An ``Authorization`` header as it arrives; and the same bytes as the claims of a well-signed token."""
    for header in (data, b"Bearer " + data, b"Bearer " + _signed(data)):
        try:
            principal = _CACHE.principal_of(header)
        except HourglassError:
            continue
        assert principal.expires_s > NOW_S
        assert principal.account_id


def beat(data: bytes) -> None:
    try:
        heartbeat = decode_beat(data)
    except HourglassError:
        return
    assert 0 < len(heartbeat.profile_id) <= MAX_EXTERNAL_ID
    assert heartbeat.title_id.isprintable()
    assert heartbeat.device_id.isprintable()


def batch(data: bytes) -> None:
    """Decoded in one go, or one by one: each beat comes out as it would alone."""
    try:
        beats = decode_beats(data)
    except HourglassError:
        return
    for found, raw in zip(beats, decoded(_split_batch, data).beats, strict=True):
        beat(bytes(raw))
        assert _alone(raw) == (found.problem() if isinstance(found, HourglassError) else found)


def _alone(raw: msgspec.Raw) -> object:
    try:
        return decode_beat(raw)
    except HourglassError as refusal:
        return refusal.problem()


def body(data: bytes) -> None:
    """Any other body: what passes must be JSON to the framework as well."""
    try:
        check_json(data)
    except HourglassError:
        return
    json.loads(data)


def titles(data: bytes) -> None:
    for is_ndjson in (False, True):
        try:
            titles_of(data, is_ndjson=is_ndjson)
        except HourglassError:
            continue


_beat, _title = json.dumps(_BEAT).encode(), b'{"id": "a", "name": "A", "is_educational": true}'
_claims = json.dumps(CLAIMS).encode()
TARGETS: Mapping[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "token": (token, (_claims, _signed(_claims), b"Bearer " + _signed(_claims), b'{"exp": null}')),
    "beat": (beat, (_beat, _beat.replace(b"612.4", b"1e400"), _beat.replace(b"tv", rb"\ud800"))),
    "batch": (batch, (b'{"beats": [%b]}' % _beat, b'{"beats": [1, %b, null]}' % _beat)),
    "body": (body, (_beat, b'{"a": [1, 2.5e3, "\xc3\xa9", null, true, {"b": []}]}', b"[" * 40 + b"]" * 40)),
    "titles": (titles, (b"[%b]" % _title, _title + b"\n" + _title)),
}
"""Each with sound and less sound input to begin from."""
