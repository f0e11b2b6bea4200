"""The child's page as the server makes it, without a browser."""

import json
import re
from html import unescape

import pytest
from jose import jwt

from app.web.play_texts import _LANGUAGES
from app.web.views.play import TOKEN_SECONDS
from tests.web.conftest import Site, VisitingFamily, family_of

_PLACE = re.compile(r"%\((\w+)\)s")


@pytest.mark.parametrize("language", sorted(set(_LANGUAGES) - {"en"}))
def test_every_text_is_there_in_every_language_with_the_same_places(language: str) -> None:
    english, other = _LANGUAGES["en"], _LANGUAGES[language]
    assert other.keys() == english.keys()
    for name, text in english.items():
        translated = other[name]
        assert type(translated) is type(text), name
        if isinstance(text, str):
            assert isinstance(translated, str)
            assert sorted(_PLACE.findall(translated)) == sorted(_PLACE.findall(text)), name
        elif isinstance(text, dict):
            assert isinstance(translated, dict)
            assert translated.keys() == text.keys()


async def test_it_carries_the_household_and_nobody_else(site: Site, family: VisitingFamily) -> None:
    other = await family_of(site, "Mallory")
    page = await family.browser.open("/play")
    assert page.status_code == 200
    found = re.search(r"data-facts='([^']*)'", page.text)
    assert found is not None
    facts = json.loads(unescape(found[1]))
    assert {profile["id"] for profile in facts["profiles"]} == set(family.children.values())
    assert other.child not in page.text
    assert facts["sdk"].startswith("/sdk/v1/")


async def test_a_name_cannot_break_out_of_the_page(site: Site) -> None:
    name = "</body>'\"><script>alert(1)</script>"
    family = await family_of(site, name)
    page = await family.browser.open("/play")
    assert "<script>alert" not in page.text
    found = re.search(r"data-facts='([^']*)'", page.text)
    assert found is not None
    assert [profile["name"] for profile in json.loads(unescape(found[1]))["profiles"]] == [name]


async def test_its_policy_lets_a_film_and_a_worker_run_and_no_script_of_others(family: VisitingFamily) -> None:
    policy = (await family.browser.open("/play")).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert "worker-src 'self' blob:" in policy
    assert "frame-ancestors 'none'" in policy
    assert "blob:" not in (await family.browser.open("/")).headers["content-security-policy"]


async def test_its_token_is_the_households_and_short(family: VisitingFamily, site: Site) -> None:
    answer = await family.browser.http.get("/play/token")
    assert answer.headers["cache-control"] == "no-store"
    claims = jwt.get_unverified_claims(answer.json()["token"])
    assert claims["sub"] == family.account_id
    assert claims["exp"] * 1000 == site.clock() + TOKEN_SECONDS * 1000
    bearer = {"Authorization": f"Bearer {answer.json()['token']}"}
    settings = f"/api/v1/parental-controls/profiles/{family.child}/viewing-time"
    refused = await family.browser.http.get(settings, headers=bearer)
    assert (refused.status_code, refused.json()["code"]) == (403, "pin_required")
    balance = await family.browser.http.get(f"/api/v1/viewing-time/balance/{family.child}", headers=bearer)
    assert balance.status_code == 200


@pytest.mark.parametrize("site_of_page", ["cross-site", "same-site", "none"])
async def test_another_page_gets_no_token(family: VisitingFamily, site_of_page: str) -> None:
    answer = await family.browser.http.get("/play/token", headers={"Sec-Fetch-Site": site_of_page})
    assert answer.status_code == 403
    assert "ey" not in answer.text


async def test_a_stranger_is_sent_to_sign_in(site: Site) -> None:
    browser = site.browser()
    assert (await browser.http.get("/play/token")).status_code == 401
    page = await browser.open("/play")
    assert page.url.path == "/sign-in"
    assert page.url.params["next"] == "/play"
