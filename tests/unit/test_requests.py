"""Accepted and refused request bodies."""

import asyncio
import json
from collections.abc import MutableMapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BodyTimeout, HourglassError, InvalidInput, Malformed, TooLarge
from app.http.requests import MAX_DEPTH, ClientGone, Receive, check_json, read_body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"1e999",
        b"[-1e999]",
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
        b'{"a": 1, "a": 2}',
        b'[{"b": {"a": 1, "a": 1}}]',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": 1} {}',
        b"{'a': 1}",
        b'"line\nbreak"',
    ],
)
def test_what_is_no_sound_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        check_json(body)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (rb'{"name": "\ud800"}', "/name"),
        (rb'{"name": "a\u0000b"}', "/name"),
        (rb'{"a": [1, {"b": "\udfff"}]}', "/a/1/b"),
        (rb'{"\u0000": 1}', ""),
        (rb'"\udead\ud800"', ""),
    ],
)
def test_texts_that_no_database_takes_are_pointed_at(body: bytes, pointer: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_json(body)
    assert [error.get("pointer", "") for error in refusal.value.errors] == [pointer]


def test_pairs_of_surrogates_are_letters() -> None:
    check_json(rb'{"name": "\ud83d\ude00"}')


_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(_texts, children, max_size=4),
    max_leaves=20,
)


@given(_json)
def test_sound_json_passes(value: object) -> None:
    check_json(json.dumps(value).encode())
    check_json(json.dumps(value, ensure_ascii=False).encode())


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    try:
        check_json(body)
    except HourglassError as error:
        assert error.status in {400, 422}  # noqa: PT017  either is an answer


def _arriving(chunks: Sequence[bytes | None]) -> Receive:
    """Chunks one by one; None closes the connection, and the last chunk is followed by silence."""
    waiting = list(chunks)

    async def receive() -> MutableMapping[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        chunk = waiting.pop(0)
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": chunk != b"end"}

    return receive


async def test_a_body_is_put_together() -> None:
    assert await read_body(_arriving([b"be", b"", b"gin-", b"end"]), limit_bytes=9, timeout_seconds=1) == b"begin-end"


@pytest.mark.parametrize(
    ("chunks", "refusal"),
    [
        ([b"1234567", b"end"], TooLarge),
        ([b"x" * 5] * 2, TooLarge),
        ([b"slow"], BodyTimeout),
        ([], BodyTimeout),
        ([b"half", None], ClientGone),
    ],
)
async def test_a_body_is_bounded_in_size_and_time(chunks: list[bytes | None], refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        await read_body(_arriving(chunks), limit_bytes=9, timeout_seconds=0.02)
