"""The pictures of the documents show the pages as they are."""

import json

import pytest

from tests.web.pictures import IMAGES, RECORD, SHOWN, STATIC, TEMPLATES, digest_of, sources_of


@pytest.mark.parametrize("group", SHOWN)
def test_a_picture_is_as_new_as_what_it_shows(group: str) -> None:
    taken = json.loads(RECORD.read_text(encoding="utf-8"))
    assert taken.get(group) == digest_of(group), f"{group} is older than its page: run scripts/screenshots"


@pytest.mark.parametrize("group", SHOWN)
def test_a_group_has_pictures(group: str) -> None:
    assert list(IMAGES.glob(f"{group}*"))


def test_every_picture_has_a_group() -> None:
    pictures = {path.name for path in IMAGES.iterdir() if path.suffix in {".png", ".jpg"}}
    assert {name for name in pictures if not name.startswith(tuple(SHOWN))} == set()


def test_parts_and_looks_of_a_page_belong_to_what_a_picture_shows() -> None:
    sources = sources_of("console-today")
    assert {TEMPLATES / "_live.html", TEMPLATES / "base.html", STATIC / "console.css"} <= set(sources)
