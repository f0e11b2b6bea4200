"""docs/openapi.json equals the generated document and is complete."""

import json
from typing import Any

import jsonschema_rs
import pytest

from app.domain.enforcement import DAILY_LIMIT, WEEKLY_LIMIT
from app.domain.opening_hours import PARENT_PAUSE, WINDOW
from app.http.requests import API_PREFIX
from app.server.openapi_examples import EXAMPLES
from scripts.references import OPENAPI, openapi_text

JSON, PROBLEM = "application/json", "application/problem+json"


COMMITTED: dict[str, Any] = json.loads(OPENAPI.read_text(encoding="utf-8"))
OPERATIONS = [(method, path) for path, operations in COMMITTED["paths"].items() for method in operations]


def _misfits(schema: dict[str, Any], example: object) -> list[str]:
    whole = schema | {"components": COMMITTED["components"]}
    return [error.message for error in jsonschema_rs.validator_for(whole).iter_errors(example)]


def test_the_committed_document_is_the_one_that_is_served() -> None:
    assert openapi_text() == OPENAPI.read_text(encoding="utf-8"), "run scripts/documents"


def test_it_follows_the_specification() -> None:
    assert COMMITTED["openapi"] == "3.1.0"
    names = COMMITTED["components"]["schemas"]
    references = [line.split('"')[3] for line in OPENAPI.read_text().splitlines() if '"$ref"' in line]
    shared = {f"#/components/{kind}/{name}" for kind, named in COMMITTED["components"].items() for name in named}
    assert set(references) <= shared
    assert names
    identifiers = [COMMITTED["paths"][path][method]["operationId"] for method, path in OPERATIONS]
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[" ".join(operation) for operation in OPERATIONS])
def test_every_operation_is_shown_by_examples_that_fit(method: str, path: str) -> None:
    operation = COMMITTED["paths"][path][method]
    assert operation["summary"]
    if "requestBody" in operation:
        sent = operation["requestBody"]["content"][JSON]
        assert "example" in sent, "add one to app/server/openapi_examples.py"
        assert _misfits(sent["schema"], sent["example"]) == []
    successes = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    contents = [list(success.get("content", {}).values()) for success in successes]
    assert all(any("example" in each for each in content) for content in contents if content), "add one"
    for content in (each for of_one in contents for each in of_one if "example" in each):
        assert content["schema"], "an answer has a shape"
        assert _misfits(content["schema"], content["example"]) == []
    default = COMMITTED["components"]["responses"][operation["responses"]["default"]["$ref"].rpartition("/")[2]]
    refusal = default["content"][PROBLEM]
    assert _misfits(refusal["schema"], refusal["example"]) == []


def test_no_example_is_of_a_call_that_is_not_there() -> None:
    assert {(method, path.removeprefix(API_PREFIX)) for method, path in OPERATIONS} >= set(EXAMPLES)


@pytest.mark.parametrize("answer", ["HeartbeatAnswer", "BalanceAnswer", "EligibilityAnswer", "WhyAnswer"])
def test_an_answer_names_every_rule_that_ends_playback(answer: str) -> None:
    reason = COMMITTED["components"]["schemas"][answer]["properties"]["reason"]
    [text] = [each for each in reason.get("anyOf", [reason]) if each["type"] == "string"]
    assert {DAILY_LIMIT, WEEKLY_LIMIT, WINDOW, PARENT_PAUSE} <= set(text["x-extensible-enum"])
