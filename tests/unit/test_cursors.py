"""Cursors of a history."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.reports.cursors import CursorPosition, Cursors

PLACE = CursorPosition(
    date(2026, 2, 1), date(2026, 3, 2), date(2026, 2, 9), 1_772_452_800_123, "5d2f3d7e-1c5b-4f4e-9d0a-0f3b"
)
CURSORS = Cursors(b"secret" * 8)


def test_a_place_is_found_again() -> None:
    assert CURSORS.read("child", CURSORS.write("child", PLACE)) == PLACE


def test_a_place_belongs_to_one_profile_and_one_deployment() -> None:
    cursor = CURSORS.write("child", PLACE)
    for cursors, profile_id in ((CURSORS, "other"), (Cursors(b"another" * 8), "child")):
        with pytest.raises(InvalidInput):
            cursors.read(profile_id, cursor)


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_anything_else_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput):
        CURSORS.read("child", cursor)
