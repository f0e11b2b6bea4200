"""Every text exists in every language, and each browser gets its own language."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import Environment

from app.web import i18n
from app.web.words import Words
from scripts.catalogues import OTHERS, WEB, catalogue, messages
from tests.web.conftest import VisitingFamily, family_of

TEMPLATES = sorted((WEB / "templates").glob("*.html"))
LETTERS = re.compile(r"[^\W\d_]{2,}")
SAME_EVERYWHERE = {"Hourglass", "UTC"}
ATTRIBUTES = re.compile(r"{% block (?:main_class|live) %}.*?{% endblock %}")
"""Blocks that stand inside a tag."""
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_translated(language: str) -> None:
    known = catalogue(language)
    missing = []
    for message in set(messages()):
        found = known.get(message if isinstance(message, str) else message[0])
        if found is None or found.fuzzy or not all(_texts(found.string)):
            missing.append(message)
    assert not missing, f"{len(missing)} texts of {language} are missing; see scripts/messages"


@pytest.mark.parametrize("language", OTHERS)
def test_translations_name_the_same_values(language: str) -> None:
    for message in catalogue(language):
        for source, text in zip(_texts(message.id), _texts(message.string), strict=True):
            if source:
                assert set(PLACEHOLDER.findall(source)) == set(PLACEHOLDER.findall(text)), source


def _texts(text: object) -> Sequence[str]:
    """One text, or those of singular and plural."""
    return [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else [""]


class Texts(HTMLParser):
    """What of a template is shown or read out as it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        shown = {"alt", "aria-label", "placeholder", "title"}
        self.found += [value or "" for name, value in attributes if name in shown]


@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.name != "style.html"], ids=lambda path: path.name)
def test_a_template_shows_no_text_that_is_not_looked_up(path: Path) -> None:
    source = ATTRIBUTES.sub("", path.read_text(encoding="utf-8"))
    tokens = Environment(extensions=["jinja2.ext.i18n"], autoescape=True).lex(source)
    markup, depth = "", 0
    for _, kind, text in tokens:
        depth += kind in {"block_begin", "variable_begin", "comment_begin"}
        markup += text if kind == "data" else "" if depth else text
        depth -= kind in {"block_end", "variable_end", "comment_end"}
    parser = Texts()
    parser.feed(markup)
    words = {word for text in parser.found for word in LETTERS.findall(text)} - SAME_EVERYWHERE
    assert not words, f"{path.name} shows {words} in every language"


def test_the_check_of_templates_finds_a_text(tmp_path: Path) -> None:
    template = tmp_path / "bad.html"
    template.write_text('{% if a %}<p class="x">{{ _("fine") }} Hello</p>{% endif %}', encoding="utf-8")
    with pytest.raises(AssertionError, match="Hello"):
        test_a_template_shows_no_text_that_is_not_looked_up(template)


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "nb-NO,nb;q=0.9,en;q=0.8", "nb"),
        (None, "no", "nb"),
        (None, "nn-NO", "nb"),
        (None, "de,en;q=0.5,nb;q=0.9", "nb"),
        (None, "fr-FR, fr;q=0.9", "en"),
        (None, "en;q=0.1, nb;q=0", "en"),
        (None, "*", "en"),
        (None, ";;;,q=1,nb;q=x", "en"),
        (None, "nb;q=" + "9" * 10_000, "en"),
        ("nb", "en", "nb"),
        ("en", "nb", "en"),
        ("../../etc", "nb", "nb"),
        ("de", "en", "en"),
    ],
)
def test_a_choice_wins_over_what_the_browser_likes(chosen: str | None, accepted: str, language: str) -> None:
    assert i18n.choose(chosen, accepted) == language


async def test_a_browser_gets_its_language_and_may_choose_another(family: VisitingFamily) -> None:
    browser = family.browser
    browser.http.headers["accept-language"] = "nb-NO"
    page = await browser.open("/")
    assert '<html lang="nb">' in page.text
    assert "Ser ikke på noe" in page.text
    page = await browser.send("/language", language="en")
    assert '<html lang="en">' in page.text
    assert "Not watching" in page.text
    page = await browser.send("/language", language="xx")
    assert '<html lang="en">' in page.text


async def test_a_norwegian_page_holds_no_english_text(family: VisitingFamily) -> None:
    """What is the same in both languages, or part of a name, is left out by its length."""
    browser = family.browser
    browser.http.headers["accept-language"] = "nb"
    child = f"/children/{family.child}"
    english = {
        text.partition("%(")[0].strip()
        for message in messages()
        for text in ([message] if isinstance(message, str) else message)
    }
    english = {text for text in english if len(text) > 12}
    paths = (
        "/",
        child,
        f"{child}/settings",
        f"{child}/history",
        f"{child}/week",
        f"{child}/data",
        "/household",
        "/household/pin",
        "/household/pin/forgotten",
        "/nothing-here",
    )
    for path in paths[:-1]:
        text = (await browser.open(path)).text
        found = {phrase for phrase in english if phrase in text}
        assert not found, (path, found)


@pytest.mark.parametrize(
    ("seconds", "english", "norwegian"),
    [
        (0, "0 min", "0 min"),
        (0.9, "0 min", "0 min"),
        (59.9, "59 s", "59 s"),
        (60, "1 min", "1 min"),
        (3599, "59 min", "59 min"),
        (3600, "1 h", "1 t"),
        (4800, "1 h 20 min", "1 t 20 min"),
        (-5, "0 min", "0 min"),
    ],
)
def test_durations_are_words(seconds: float, english: str, norwegian: str) -> None:
    said = [Words(i18n.translations(tag), i18n.locale_of(tag)).duration(seconds) for tag in ("en", "nb")]
    assert said == [english, norwegian]


async def test_times_stand_in_the_childs_zone(family: VisitingFamily) -> None:
    page = await family.browser.open(f"/children/{family.child}")
    assert "06:00" in page.text
    far = await family_of(family.site)
    await family.site.services.members.add(
        far.account_id, name="Kenji", is_kids=True, timezone="Asia/Tokyo", actor="test"
    )
    page = await far.browser.open("/")
    assert "06:00" in page.text, "the reset of its own zone"
