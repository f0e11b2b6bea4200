"""Every route of the document, in all phases of Schemathesis.

`scripts/fuzz` runs it longer, with other seeds.
"""

import pytest

from app.embedded.valkey import Valkey
from tests.fuzz.api import fuzz, running_api

ROUTES = 39
EXAMPLES = 2
"""Of each operation, in addition to some thousand requests that the phase of coverage makes of the document."""


def test_row_50_nothing_made_from_the_document_is_a_defect(database_url: str, valkey: Valkey) -> None:
    with running_api(database_url=database_url, redis_url=valkey.url) as target:
        run = fuzz(target, seed=50, examples=EXAMPLES)
        log = target.log.read_text()
    if not run.is_good:
        pytest.fail(run.report)
    assert run.requests > ROUTES * 10
    assert "unexpected_error" not in log
    assert "Traceback" not in log
