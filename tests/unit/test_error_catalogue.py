"""docs/reference/errors.md is made from code, and every code has its place in it and in the OpenAPI document."""

import json
import re
from pathlib import Path

from app.errors import HourglassError, InvalidInput
from app.http.requests import at_pointer
from app.server.error_catalogue import CATALOGUE, OWN, codes_of, example, kinds, page
from scripts.references import openapi_text

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "reference" / "errors.md"


def test_the_committed_page_is_the_one_that_code_makes() -> None:
    assert page() == DOCUMENT.read_text(encoding="utf-8"), "run scripts/documents"


def test_every_code_is_explained_and_no_other() -> None:
    assert set(CATALOGUE) == set(kinds())
    written = {
        code
        for path in (ROOT / "app").rglob("*.py")
        for code in re.findall(r'^    code = "(\w+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert written == set(CATALOGUE)


def test_a_code_has_one_status() -> None:
    statuses: dict[str, set[int]] = {}
    waiting: list[type[HourglassError]] = [HourglassError]
    while waiting:
        kind = waiting.pop()
        statuses.setdefault(kind.code, set()).add(kind.status)
        waiting += kind.__subclasses__()
    assert all(len(found) == 1 for found in statuses.values()), statuses


def test_sentences_are_short_and_complete() -> None:
    for code, entry in CATALOGUE.items():
        for text in (entry.when, entry.client):
            assert text.endswith("."), code
            assert all(len(sentence.split()) <= 24 for sentence in re.split(r"(?<=[.:]) ", text)), code


def test_codes_of_operations_are_of_operations() -> None:
    document = json.loads(openapi_text())
    identifiers = {
        operation["operationId"] for operations in document["paths"].values() for operation in operations.values()
    }
    assert set(OWN) <= identifiers
    assert {code for codes in OWN.values() for code in codes} <= set(CATALOGUE)


def test_the_shape_of_an_operation_says_what_it_may_refuse() -> None:
    bare = codes_of("x", needs_token=False, needs_parent=False, has_body=False, has_input=False, names_profile=False)
    assert bare == {503: ["database_unavailable"]}
    full = codes_of("x", needs_token=True, needs_parent=True, has_body=True, has_input=True, names_profile=True)
    assert full[403] == ["forbidden", "pin_required", "profile_access_denied"]
    assert full[401] == ["unauthenticated"]


def test_an_example_is_what_is_answered() -> None:
    for code, kind in kinds().items():
        if kind is InvalidInput or kind.__init__ is HourglassError.__init__:
            shown = {name: value for name, value in example(code).items() if name != "errors"}
            assert shown == kind().problem()


def test_no_pointer_is_empty() -> None:
    assert at_pointer("", "is odd") == {"detail": "is odd"}
    assert at_pointer("/name", "is odd") == {"pointer": "/name", "detail": "is odd"}
