"""docs/reference/settings.md equals the generated table."""

from scripts.references import SETTINGS, settings_table


def test_every_setting_is_documented_as_it_is() -> None:
    assert settings_table() in SETTINGS.read_text(encoding="utf-8"), "run scripts/documents"
