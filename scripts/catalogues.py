"""Brings the console's catalogues of texts up to date with its sources; what is not translated yet is left empty."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from app.web.i18n import FOLDER, LANGUAGES, SOURCE

WEB = FOLDER.parent
OTHERS = [language for language in LANGUAGES if language != SOURCE]
_METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
_KEYWORDS = {"_": None, "N_": None, "t": None, "_t": None, "gettext": None, "ngettext": (1, 2)}
_OPTIONS = {"templates/**.html": {"newstyle_gettext": "true", "trimmed": "true"}}

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""In place of when a catalogue was written, which git knows."""

Message = str | tuple[str, ...]


def messages() -> Iterator[Message]:
    """Every text that is shown to parents; one with a plural is a pair."""
    found = extract_from_dir(WEB, method_map=_METHODS, options_map=_OPTIONS, keywords=_KEYWORDS)
    for _, _, message, _, _ in found:
        yield message


def path_of(language: str) -> Path:
    return FOLDER / f"{language}.po"


def catalogue(language: str) -> Catalog:
    with path_of(language).open("rb") as source:
        return read_po(source, locale=language)


def update(language: str) -> None:
    """Bring a catalogue up to date: what is new stands there untranslated, what is gone is left out."""
    template = Catalog()
    for message in messages():
        template.add(message)
    known = catalogue(language)
    known.update(template, no_fuzzy_matching=True)
    known.project, known.version, known.header_comment = "Hourglass", "console", ""
    known.msgid_bugs_address = known.last_translator = known.language_team = "Hourglass"
    known.creation_date = known.revision_date = EPOCH
    with path_of(language).open("wb") as target:
        write_po(target, known, sort_output=True, ignore_obsolete=True, no_location=True, omit_header=False, width=120)
