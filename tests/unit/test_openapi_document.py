"""docs/openapi.json is made from the application; this says when it no longer is."""

import json
from pathlib import Path

import pytest

from app.main import create_app
from tests.builders import settings_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def current() -> str:
    front = create_app(settings_for(database_url="postgresql://nowhere/x", redis_url="redis://nowhere"))
    return json.dumps(front.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def test_the_committed_document_is_the_one_that_is_served() -> None:
    assert current() == DOCUMENT.read_text(encoding="utf-8"), "run scripts/documents"


@pytest.mark.parametrize("path", ["/api/v1/viewing-time/heartbeat", "/api/v1/viewing-time/heartbeats"])
def test_the_fast_routes_are_documented_too(path: str) -> None:
    operation = json.loads(current())["paths"][path]["post"]
    assert "example" in operation["requestBody"]["content"]["application/json"]
    assert "application/problem+json" in operation["responses"]["default"]["content"]
