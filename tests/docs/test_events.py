"""The reference of events is true: examples fit their schemas, and both come from the code that sends."""

import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from app.domain.feed import KINDS, TYPE_PREFIX
from app.domain.webhooks import MAX_BODY_BYTES, secret_text, signature
from app.feed import document
from app.feed.document import EXAMPLES, asyncapi, event_schema, example

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "howto" / "receive-events.md").read_text(encoding="utf-8")
PAGE = (DOCS / "reference" / "events.md").read_text(encoding="utf-8")
SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.schema.json.gz")
"""Of the AsyncAPI Initiative (package @asyncapi/specs, Apache-2.0), compressed."""


def test_the_document_is_asyncapi_3() -> None:
    schema = json.loads(gzip.decompress(SCHEMA.read_bytes()))
    written = json.loads((DOCS / "asyncapi.json").read_text(encoding="utf-8"))
    jsonschema_rs.validate(schema, written)
    assert written == json.loads(json.dumps(asyncapi()))
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, written | {"operations": {"deliver": {"action": "shout"}}})


def test_every_kind_has_an_example_that_is_its_own() -> None:
    assert set(EXAMPLES) == set(KINDS)
    assert all(type(EXAMPLES[kind]) is facts for kind, facts in KINDS.items())


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_fits_its_schema_and_no_other_does(kind: str) -> None:
    event, schema = example(kind), event_schema(KINDS[kind])
    jsonschema_rs.validate(schema, event, validate_formats=True)
    for name in event:
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(schema, {key: value for key, value in event.items() if key != name})
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, event | {"type": "hourglass.other.kind"})
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, event | {"data": {}})


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_describes_each_field_of_each_kind(kind: str) -> None:
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    [found] = [part for part in section if part.startswith(TYPE_PREFIX + kind + "\n")]
    fields = KINDS[kind].__struct_fields__
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \|$", found, re.MULTILINE))
    assert set(rows) == set(fields)
    assert all(meaning.strip() for meaning in rows.values()), rows
    [shown] = re.findall(r"```json\n(.*?)```", found, re.DOTALL)
    assert json.loads(shown) == example(kind)


def test_no_event_has_a_field_for_a_name_or_a_note() -> None:
    fields = {name for facts in KINDS.values() for name in facts.__struct_fields__}
    assert not {"name", "note", "title_name", "profile_name", "device_id", "device_name", "email"} & fields


def test_the_largest_event_is_far_below_the_limit_of_a_body() -> None:
    assert all(len(json.dumps(example(kind))) + 4 * 255 * 6 < MAX_BODY_BYTES / 4 for kind in KINDS)


def test_the_receiver_of_the_guide_verifies_what_is_sent() -> None:
    [code] = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  our own guide
    verify, old, new, now = names["verify"], b"o" * 32, b"n" * 32, int(time.time())  # noqa: TID251  the guide's clock
    body = json.dumps(example("grant.given")).encode()

    def headers(*secrets: bytes, at_s: int) -> dict[str, str]:
        signed = signature(secrets, event_id="e", at_s=at_s, body=body)
        return {"webhook-id": "e", "webhook-timestamp": str(at_s), "webhook-signature": signed}

    assert verify(headers(new, at_s=now), body, secret_text(new))
    assert verify(headers(new, old, at_s=now), body, secret_text(old))
    assert not verify(headers(new, at_s=now), body, secret_text(old))
    assert not verify(headers(new, at_s=now), body + b" ", secret_text(new))
    assert not verify(headers(new, at_s=now - 301), body, secret_text(new))


def test_meanings_name_fields_that_exist() -> None:
    fields = {name for facts in KINDS.values() for name in facts.__struct_fields__}
    assert set(document._MEANINGS) <= fields
