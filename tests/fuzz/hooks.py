"""Existing ids and suitable tokens for Schemathesis. Loaded by `tests/fuzz/api.py`.

The generated ids determine which of them are replaced by real ones, so that a seed repeats its run.
"""

import json
import os
from typing import Any
from zlib import crc32

import schemathesis

_TARGET = json.loads(os.environ["HOURGLASS_FUZZ_TARGET"])  # noqa: TID251  the only way into Schemathesis's process
_OF_SERVICES = {("PUT", "/api/v1/catalog/titles"), ("GET", "/api/v1/viewing-time/streams/{account_id}")}


@schemathesis.serializer("application/x-ndjson")
def lines(_: object, value: Any) -> bytes:
    """Whatever was made up, as it is: a body of lines is only text to the document."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: "schemathesis.Case[Any]", kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    if list(case.path_parameters) == ["profile_id"]:
        case.path_parameters["profile_id"] = _profile(case.path_parameters["profile_id"])
    if isinstance(case.body, dict):
        for beat in (case.body, *_dicts(case.body.get("beats"))):
            if "profile_id" in beat:
                beat["profile_id"] = _profile(beat["profile_id"])
            if beat.get("title_id") and crc32(repr(beat).encode()) % 2:
                beat["title_id"] = _TARGET["title"]
    if (case.method, case.path) in _OF_SERVICES and "Authorization" in case.headers:
        case.headers["Authorization"] = f"Bearer {_TARGET['service']}"


def _profile(made_up: object) -> object:
    chance = crc32(repr(made_up).encode())
    profiles = _TARGET["profiles"]
    return profiles[chance % len(profiles)] if chance % 4 else made_up


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
