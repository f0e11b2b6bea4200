"""Pages of reference are made from code, and a settings page says when to change each setting."""

from pathlib import Path

import pytest

from app.settings.advice import WHEN_TO_CHANGE
from app.settings.settings import Settings
from scripts import references


@pytest.mark.parametrize(("path", "text"), list(references.files()), ids=lambda value: getattr(value, "name", "text"))
def test_a_reference_is_as_the_code_is(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run scripts/documents"


def test_every_setting_says_when_to_change_it() -> None:
    """A new setting needs a line in app/settings/advice.py; a setting that is gone leaves it."""
    assert set(WHEN_TO_CHANGE) == set(Settings.model_fields)
