"""The same mutations of the same seeds at every run, without a fuzzer."""

import random

import pytest

from tests.fuzz.targets import TARGETS

DAMAGES = 2000
_PIECES = (b"\0", b"\xff", b"{", b"[", b'"', b"\\", b"\\ud800", b"1e999", b"NaN", b".", b"9" * 30, b"null", b"\n", b"-")


def _damaged(chance: random.Random, seed: bytes) -> bytes:
    """A seed with up to five bytes changed, pieces put in, parts left out or doubled."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data) + 1)
        until = min(len(data), at + chance.randint(1, 12))
        match chance.randrange(4):
            case 0:
                data[at:at] = chance.choice(_PIECES)
            case 1:
                data[at:until] = b""
            case 2:
                data[at:at] = data[at:until]
            case _:
                data[at:until] = bytes(byte ^ (1 << chance.randrange(8)) for byte in data[at:until])
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_row_50_damaged_bytes_are_refused_and_nothing_else(name: str) -> None:
    target, seeds = TARGETS[name]
    chance = random.Random(50)  # noqa: S311
    for seed in seeds:
        target(seed)
        for _ in range(DAMAGES):
            target(_damaged(chance, seed))
