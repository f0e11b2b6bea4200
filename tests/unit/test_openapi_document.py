"""docs/openapi.json is made from the application; this says when it no longer is, and what it lacks."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from app.examples import EXAMPLES
from app.main import create_app
from app.requests import API_PREFIX
from tests.builders import settings_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
JSON, PROBLEM = "application/json", "application/problem+json"


def current() -> str:
    front = create_app(settings_for(database_url="postgresql://nowhere/x", redis_url="redis://nowhere"))
    return json.dumps(front.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


COMMITTED: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
OPERATIONS = [(method, path) for path, operations in COMMITTED["paths"].items() for method in operations]


def _misfits(schema: dict[str, Any], example: object) -> list[str]:
    whole = schema | {"components": COMMITTED["components"]}
    return [error.message for error in jsonschema_rs.validator_for(whole).iter_errors(example)]


def test_the_committed_document_is_the_one_that_is_served() -> None:
    assert current() == DOCUMENT.read_text(encoding="utf-8"), "run scripts/documents"


def test_it_follows_the_specification() -> None:
    assert COMMITTED["openapi"] == "3.1.0"
    names = COMMITTED["components"]["schemas"]
    references = [line.split('"')[3] for line in DOCUMENT.read_text().splitlines() if '"$ref"' in line]
    headers = {f"#/components/headers/{name}" for name in COMMITTED["components"]["headers"]}
    assert set(references) <= headers | {f"#/components/schemas/{name}" for name in names}
    identifiers = [COMMITTED["paths"][path][method]["operationId"] for method, path in OPERATIONS]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[" ".join(operation) for operation in OPERATIONS])
def test_every_operation_is_shown_by_examples_that_fit(method: str, path: str) -> None:
    operation = COMMITTED["paths"][path][method]
    assert operation["summary"]
    if "requestBody" in operation:
        sent = operation["requestBody"]["content"][JSON]
        assert "example" in sent, "add one to app/examples.py"
        assert _misfits(sent["schema"], sent["example"]) == []
    [(_, success)] = [(status, answer) for status, answer in operation["responses"].items() if status.startswith("2")]
    shown = [content for content in success.get("content", {}).values() if "example" in content]
    assert shown or "content" not in success, "add one to app/examples.py"
    for content in shown:
        assert content["schema"], "an answer has a shape"
        assert _misfits(content["schema"], content["example"]) == []
    refusal = operation["responses"]["default"]["content"][PROBLEM]
    assert _misfits(refusal["schema"], refusal["example"]) == []


def test_no_example_is_of_a_call_that_is_not_there() -> None:
    assert {(method, path.removeprefix(API_PREFIX)) for method, path in OPERATIONS} >= set(EXAMPLES)
