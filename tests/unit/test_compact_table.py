"""The compact table behaves like a dict."""

from random import Random

import pytest

from app.kit.compact_table import DIGEST_BYTES, CompactTable

USUAL_BYTES = 40
RANDOM = Random(1)  # noqa: S311  nothing is secret here


def digest() -> bytes:
    return RANDOM.randbytes(DIGEST_BYTES)


@pytest.mark.parametrize("size", [0, 1, 10_000])
@pytest.mark.parametrize("usual_bytes", [0, 1, USUAL_BYTES])
def test_it_answers_as_a_dict_would(size: int, usual_bytes: int) -> None:
    lengths = [*[usual_bytes] * 8, usual_bytes + 1, 2]
    entries = {digest(): RANDOM.randbytes(RANDOM.choice(lengths)) for _ in range(500)}
    table = CompactTable(size, usual_bytes=usual_bytes)
    for key, value in entries.items():
        table.add(key, value)
    assert {key: table.get(key) for key in entries} == entries
    assert [table.get(digest()) for _ in range(100)] == [None] * 100
    assert len(table) == len(entries)


@pytest.mark.parametrize("starts", range(USUAL_BYTES - DIGEST_BYTES + 1))
def test_a_digest_within_a_value_is_none(starts: int) -> None:
    """A caller that chooses a value, e.g. a service its name, must not influence another digest."""
    wanted = digest()
    value = b"x" * starts + wanted + b"y" * (USUAL_BYTES - DIGEST_BYTES - starts)
    table = CompactTable(0, usual_bytes=USUAL_BYTES)
    table.add(digest(), value)
    assert table.get(wanted) is None
    table.add(wanted, b"its own".ljust(USUAL_BYTES))
    table.add(digest(), value)
    assert table.get(wanted) == b"its own".ljust(USUAL_BYTES)


def test_a_digest_across_two_records_is_none() -> None:
    second = digest()
    table = CompactTable(0, usual_bytes=USUAL_BYTES)
    table.add(digest(), b"z" * USUAL_BYTES)
    table.add(second, b"z" * USUAL_BYTES)
    assert table.get(b"z" * 8 + second[:8]) is None
