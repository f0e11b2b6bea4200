"""docs/settings.md is made from the settings; this says when it no longer is."""

from pathlib import Path

from app.settings import Settings, variable_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def table() -> str:
    rows = [
        f"| `{variable_of(name)}` | {_default(field.default, required=field.is_required())} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *rows])


def _default(value: object, *, required: bool) -> str:
    if required:
        return "required"
    return f"`{','.join(map(str, value))}`" if isinstance(value, tuple) else f"`{value}`"


def test_every_setting_is_documented_as_it_is() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8"), "run scripts/documents"
