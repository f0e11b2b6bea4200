"""The languages of the console: English in the sources, all others in ``locale/<language>.po``.

A catalogue is read when the process starts, so there is nothing to compile.
"""

import re
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

from babel import Locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

FOLDER = Path(__file__).parent / "locale"
SOURCE = "en"
LANGUAGES = {"en": "English", "nb": "Norsk bokmål"}
"""By tag, each named in itself."""

_ALIASES = {"no": "nb", "nn": "nb"}
_MAX_HEADER = 500
_RANGE = re.compile(r"\s*([a-zA-Z]{1,8}|\*)(?:-[a-zA-Z0-9-]+)?\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?\s*")


def N_(text: str) -> str:  # noqa: N802  the name that extractors of messages know
    """Mark a text for the catalogue; it is translated where it is shown."""
    return text


@cache
def translations(language: str) -> NullTranslations:
    if language == SOURCE:
        return NullTranslations()
    with (FOLDER / f"{language}.po").open("rb") as source:
        catalogue = read_po(source, locale=language)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


@cache
def locale_of(language: str) -> Locale:
    """For dates and numbers. English ones are written as in Britain: a 24 hours' clock suits a household's day."""
    return Locale.parse("en_GB" if language == SOURCE else language)


def choose(chosen: str | None, accept_language: str) -> str:
    """The language that was chosen, else the one that the browser likes best, else English."""
    if chosen in LANGUAGES:
        return str(chosen)
    for tag in _preferred(accept_language[:_MAX_HEADER]):
        language = _ALIASES.get(tag, tag)
        if language in LANGUAGES:
            return language
    return SOURCE


def _preferred(header: str) -> Sequence[str]:
    weighed = []
    for place, part in enumerate(header.split(",")):
        match = _RANGE.fullmatch(part)
        if match is not None and (weight := float(match[2] or 1)) > 0:
            weighed.append((-weight, place, match[1].lower()))
    return [tag for _, _, tag in sorted(weighed)]
