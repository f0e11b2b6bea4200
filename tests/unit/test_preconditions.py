"""If-Match."""

import pytest

from app.errors import PreconditionFailed, PreconditionRequired
from app.parents.preconditions import Precondition, etag_of


@pytest.mark.parametrize(
    "fields", [['"3"'], ['"1", "3"'], ['"1"', '"3"'], ['"1","3"'], [' "3" '], ["*"], [etag_of(3)], ['W/"1", "3"']]
)
def test_lets_a_named_version_be_replaced(fields: list[str]) -> None:
    Precondition(fields).check(3)


@pytest.mark.parametrize("fields", [['"4"'], ['W/"3"'], ["3"], ['"3'], ['"*"'], ['"03"'], ['*, "4"'], ["\x00"]])
def test_keeps_any_other_version(fields: list[str]) -> None:
    with pytest.raises(PreconditionFailed):
        Precondition(fields).check(3)


@pytest.mark.parametrize("fields", [[], [""], ["  "]])
def test_must_be_there(fields: list[str]) -> None:
    with pytest.raises(PreconditionRequired):
        Precondition(fields)
