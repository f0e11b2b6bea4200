"""The page of a caregiver: its link, what it shows and does, and everything that it does not open."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, update

from app.auth.tokens import Role
from app.domain.grants import GrantEntry
from app.main import create_app
from app.postgres_store.tables import devices
from tests.web.conftest import ORIGIN, PASSWORD, PIN, Browser, Site, VisitingFamily, family_of, forms_of

COOKIE = "hourglass-caregiver"


@dataclass
class Grandma:
    """A caregiver with a browser of her own, in which her link has been opened."""

    family: VisitingFamily
    browser: Browser
    link: str

    @property
    def token(self) -> str:
        return self.link.partition("#")[2]

    @property
    def device_id(self) -> str:
        claims = self.family.site.services.token_cache.principal_of(b"Bearer " + self.token.encode())
        assert claims.device_id is not None
        return claims.device_id

    def gives(self, child: str | None = None) -> str:
        return f"/care/children/{child or self.family.child}/grants"

    async def grants(self) -> list[GrantEntry]:
        return await self.family.site.services.parents.grants.entries(
            account_id=self.family.account_id, profile_id=self.family.child, day=None, most=10
        )


async def link_of(family: VisitingFamily, *, minutes: int = 30, name: str = "Grandma") -> str:
    """The link that a parent gets when adding a caregiver."""
    await family.browser.open("/household")
    await family.browser.send("/household/caregivers", name=name, daily_grant_minutes=str(minutes), pin=PIN)
    [link] = re.findall(r'<code class="token">([^<]+)</code>', family.browser.text)
    assert isinstance(link, str)
    return link


async def opened(site: Site, link: str) -> Browser:
    browser = site.browser()
    await browser.open("/care")
    await browser.send("/care/link", token=link)
    return browser


async def grandma_of(family: VisitingFamily, *, minutes: int = 30) -> Grandma:
    link = await link_of(family, minutes=minutes)
    return Grandma(family, await opened(family.site, link), link)


@pytest.fixture
async def grandma(family: VisitingFamily) -> Grandma:
    return await grandma_of(family)


async def ask(family: VisitingFamily, minutes: int = 15) -> str:
    path = f"/parental-controls/profiles/{family.child}/requests"
    answer = await family.site.api(family.account_id).post(path, json={"minutes": minutes, "note": "a secret"})
    assert answer.status_code == 201, answer.text
    return f"/care/children/{family.child}/requests/{answer.json()['request_id']}/approve"


# --- the link


async def test_a_parent_gets_the_link_once(family: VisitingFamily) -> None:
    link = await link_of(family)
    assert re.fullmatch(re.escape(f"{ORIGIN}/care#") + r"[\w-]+\.[\w-]+\.[\w-]+", link)
    assert link not in (await family.browser.open("/household")).text, "it is shown once"


async def test_a_link_names_the_host_and_scheme_that_the_parent_sees(site: Site) -> None:
    """A proxy in front has ended TLS: the service itself was asked over http."""
    family = await family_of(site)
    await family.browser.open("/household")
    fields = family.browser.form("/household/caregivers") | {"name": "Oma", "pin": PIN, "daily_grant_minutes": "30"}
    answer = await family.browser.post("/household/caregivers", fields, {"origin": ORIGIN.replace("http", "https")})
    assert 'class="token">https://localhost/care#' in answer.text


async def test_its_token_is_sent_as_a_form_and_never_in_an_address(grandma: Grandma) -> None:
    """A browser sends what follows the # to nobody, so no log of an address holds it."""
    assert grandma.browser.page is not None
    assert str(grandma.browser.page.url) == f"{ORIGIN}/care"
    assert grandma.token not in grandma.browser.page.text
    assert "Hello, Grandma" in grandma.browser.text


@pytest.mark.parametrize("form", ["{link}", "  {link} ", "{token}"])
async def test_a_link_may_be_pasted_where_scripts_are_off(family: VisitingFamily, form: str) -> None:
    link = await link_of(family)
    browser = await opened(family.site, form.format(link=link, token=link.partition("#")[2]))
    assert "Hello, Grandma" in browser.text


@pytest.mark.parametrize("token", ["", "#", "junk", "a.b.c", "é" * 50, "x" * 5000, f"{ORIGIN}/care#"])
async def test_what_is_no_link_opens_nothing(site: Site, token: str) -> None:
    browser = await opened(site, token)
    assert browser.page is not None
    assert browser.page.status_code == 422
    assert "This link opens nothing any more." in browser.text
    assert COOKIE not in browser.http.cookies


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.CAREGIVER])
async def test_a_token_of_another_role_opens_nothing(family: VisitingFamily, role: Role) -> None:
    token = family.site.services.tokens.issue(
        account_id=family.account_id, role=role, at_s=family.site.clock() // 1000, life_seconds=3600, device_id="d"
    )
    browser = await opened(family.site, token)
    assert "This link opens nothing any more." in browser.text
    assert COOKIE not in browser.http.cookies


async def test_a_token_of_a_device_that_never_was_opens_nothing(family: VisitingFamily) -> None:
    token = family.site.services.tokens.issue(
        account_id=family.account_id,
        role=Role.CAREGIVER,
        at_s=family.site.clock() // 1000,
        life_seconds=3600,
        device_id=str(uuid4()),
    )
    assert "This link opens nothing any more." in (await opened(family.site, token)).text


async def test_opening_another_link_takes_the_place_of_the_session_before(grandma: Grandma) -> None:
    kept = grandma.browser.http.cookies[COOKIE]
    other = await family_of(grandma.family.site, "Zoe")
    link = await link_of(other, name="Sitter")
    page = await grandma.browser.send("/care/link", token=link)
    assert "Hello, Sitter" in page.text
    assert "Zoe" in page.text
    thief = grandma.family.site.browser()
    thief.http.cookies.set(COOKIE, kept, domain="localhost.local")
    assert "paste it here" in (await thief.open("/care")).text


# --- what it shows and does


async def test_a_caregiver_sees_what_is_left_and_gives_within_the_budget(grandma: Grandma) -> None:
    assert "You may give 30 min more today" in grandma.browser.text
    for name in grandma.family.children:
        assert f">{name}</h2>" in grandma.browser.text
    page = await grandma.browser.send(grandma.gives(), minutes="15")
    assert "Ada has 15 min more today." in page.text
    assert "You may give 15 min more today" in page.text
    assert 'value="30"' not in page.text, "what the budget has not is not offered"
    page = await grandma.browser.send(grandma.gives(), minutes="15")
    assert "You have given all that you may give today." in page.text
    assert "/grants" not in page.text
    entries = await grandma.grants()
    assert [(entry.minutes, entry.granted_by) for entry in entries] == [(15, f"device:{grandma.device_id}")] * 2


async def test_two_pages_at_once_cannot_give_more_than_the_budget(grandma: Grandma) -> None:
    forms = []
    for _ in range(2):
        await grandma.browser.open("/care")
        forms.append(grandma.browser.form(grandma.gives()) | {"minutes": "30"})
    answers = [await grandma.browser.post(grandma.gives(), form, follow=True) for form in forms]
    assert "Ada has 30 min more today." in answers[0].text
    assert "That is more than you may still give today." in answers[1].text
    assert [entry.minutes for entry in await grandma.grants()] == [30]


async def test_a_form_that_is_sent_twice_gives_once(grandma: Grandma) -> None:
    fields = grandma.browser.form(grandma.gives()) | {"minutes": "15"}
    answers = [await grandma.browser.post(grandma.gives(), fields) for _ in range(2)]
    assert [(answer.status_code, answer.headers["location"]) for answer in answers] == [(303, "/care")] * 2
    assert [entry.minutes for entry in await grandma.grants()] == [15]


@pytest.mark.parametrize("minutes", ["unlimited", "0", "-15", "45", "480", "1e3", "", "²", "9" * 5000])
async def test_nothing_else_can_be_given(grandma: Grandma, minutes: str) -> None:
    page = await grandma.browser.send(grandma.gives(), minutes=minutes)
    assert page.status_code == 404
    assert await grandma.grants() == []


async def test_a_request_is_approved_within_the_budget_and_its_note_stays_with_the_parents(grandma: Grandma) -> None:
    small, large = await ask(grandma.family, 15), await ask(grandma.family, 60)
    page = await grandma.browser.open("/care")
    assert page.text.count("Ada asks for") == 2
    assert "a secret" not in page.text
    actions = [action for action, _ in forms_of(page.text)]
    assert small in actions
    assert large not in actions, "it is more than the budget"
    csrf = grandma.browser.form(small)
    answer = await grandma.browser.post(large, csrf | {"once": uuid4().hex}, follow=True)
    assert "That is more than you may still give today." in answer.text
    await grandma.browser.open("/care")
    page = await grandma.browser.send(small)
    assert "Ada has 15 min more today." in page.text
    assert [entry.minutes for entry in await grandma.grants()] == [15]


async def test_a_request_that_a_parent_answered_first_is_said(grandma: Grandma) -> None:
    path = await ask(grandma.family)
    await grandma.browser.open("/care")
    request_id = path.split("/")[-2]
    account, child = grandma.family.account_id, grandma.family.child
    parent = grandma.family.site.api(account, Role.PARENT)
    denied = await parent.post(f"/parental-controls/profiles/{child}/requests/{request_id}/deny")
    assert denied.status_code == 200
    page = await grandma.browser.send(path)
    assert "This request was answered before, or its day is over." in page.text
    assert await grandma.grants() == []


async def test_a_pause_of_the_parents_is_explained(grandma: Grandma) -> None:
    parent = grandma.family.site.api(grandma.family.account_id, Role.PARENT)
    path = f"/parental-controls/profiles/{grandma.family.child}/viewing-time/pause"
    assert (await parent.post(path, json={"minutes": 30})).status_code == 200
    page = await grandma.browser.open("/care")
    assert "A parent paused Ada until" in page.text


async def test_it_speaks_the_language_that_is_chosen(grandma: Grandma) -> None:
    page = await grandma.browser.send("/care/language", language="nb")
    assert '<html lang="nb">' in page.text
    assert "Hei, Grandma" in page.text


async def test_a_form_that_names_no_page_leads_to_the_caregivers_own(grandma: Grandma) -> None:
    page = await grandma.browser.send("/care/language", language="en", next="https://elsewhere.example/")
    assert page.url.path == "/care"
    assert "Hello, Grandma" in page.text


# --- what it does not open


async def test_nothing_of_the_console_opens_with_it(grandma: Grandma) -> None:
    child = f"/children/{grandma.family.child}"
    for path in (
        "/",
        child,
        *(f"{child}/{page}" for page in ("settings", "history", "week", "data", "export")),
        "/household",
        "/household/pin",
        "/household/pin/forgotten",
        "/unlock",
        "/play",
        "/week.csv",
    ):
        answer = await grandma.browser.http.get(path)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
    for path in ("/live", "/session", "/play/token"):
        assert (await grandma.browser.http.get(path)).status_code == 401, path


async def test_no_form_of_the_console_is_taken_from_it(grandma: Grandma) -> None:
    fields = grandma.browser.form(grandma.gives()) | {"minutes": "15", "name": "x", "pin": PIN, "password": PASSWORD}
    child = f"/children/{grandma.family.child}"
    for path in (f"{child}/grants", f"{child}/pause", "/pause", f"{child}/settings", "/household/devices", "/unlock"):
        answer = await grandma.browser.post(path, fields)
        assert answer.status_code in {303, 403}, path
        assert answer.headers.get("location", "/sign-in").startswith("/sign-in"), path
    assert await grandma.grants() == []


async def test_its_cookie_is_no_session_of_the_console_nor_the_other_way_round(grandma: Grandma) -> None:
    browser = grandma.family.site.browser()
    browser.http.cookies.set("hourglass", grandma.browser.http.cookies[COOKIE], domain="localhost.local")
    assert str((await browser.open("/")).url).endswith("/sign-in")
    browser = grandma.family.site.browser()
    browser.http.cookies.set(COOKIE, grandma.family.browser.http.cookies["hourglass"], domain="localhost.local")
    assert "paste it here" in (await browser.open("/care")).text


async def test_a_parents_session_gives_nothing_on_the_caregivers_page(family: VisitingFamily) -> None:
    await family.browser.open("/")
    fields = family.browser.form(f"/children/{family.child}/grants") | {"minutes": "15"}
    answer = await family.browser.post(f"/care/children/{family.child}/grants", fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/care?ended=1")


async def test_another_households_children_are_refused(grandma: Grandma) -> None:
    other = await family_of(grandma.family.site, "Zoe")
    fields = grandma.browser.form(grandma.gives()) | {"minutes": "15"}
    answer = await grandma.browser.post(grandma.gives(other.child), fields)
    assert answer.status_code == 403
    assert "Zoe" not in answer.text
    request = await ask(other)
    answer = await grandma.browser.post(request, fields | {"once": uuid4().hex})
    assert answer.status_code == 403
    assert await Grandma(other, grandma.browser, grandma.link).grants() == []


@pytest.mark.parametrize("junk", ["nothing", "00000000-0000-0000-0000-000000000000", "%00", "x" * 300, "..%2f.."])
async def test_made_up_addresses_are_refused_and_never_break(grandma: Grandma, junk: str) -> None:
    fields = grandma.browser.form(grandma.gives()) | {"minutes": "15"}
    for path in (
        f"/care/children/{junk}/grants",
        f"/care/children/{junk}/requests/{junk}/approve",
        f"/care/children/{grandma.family.child}/requests/{junk}/approve",
        f"/care/children/{grandma.family.child}/requests/{junk}/deny",
        f"/care/{junk}",
    ):
        answer = await grandma.browser.post(path, fields | {"once": uuid4().hex})
        assert 400 <= answer.status_code < 500, (path, answer.status_code)


# --- how it ends


async def _revoke(grandma: Grandma) -> None:
    await grandma.family.browser.open("/household")
    await grandma.family.browser.send(f"/household/devices/{grandma.device_id}/revoke")


async def _revoke_on_another_process(grandma: Grandma) -> None:
    """This process has not heard of it yet: the database knows."""
    async with grandma.family.site.services.engine.begin() as database:
        await database.execute(update(devices).where(devices.c.id == grandma.device_id).values(revoked_at=func.now()))


async def _sign_out_everywhere(grandma: Grandma) -> None:
    await grandma.family.browser.open("/")
    await grandma.family.browser.send("/sign-out-everywhere")


async def _erase(grandma: Grandma) -> None:
    await grandma.family.site.services.privacy.erasure.account(grandma.family.account_id, password=PASSWORD)


@pytest.mark.parametrize("end", [_revoke, _revoke_on_another_process, _sign_out_everywhere, _erase])
async def test_it_ends_at_once_with_its_device(site: Site, end: Callable[[Grandma], Awaitable[None]]) -> None:
    grandma = await grandma_of(await family_of(site, "Ada"))
    await grandma.browser.open("/care")
    fields = grandma.browser.form(grandma.gives()) | {"minutes": "15"}
    await end(grandma)
    answer = await grandma.browser.post(grandma.gives(), fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/care?ended=1")
    page = await grandma.browser.open(answer.headers["location"])
    assert "You are signed out here." in page.text
    assert "Ada" not in page.text
    assert "This link opens nothing any more." in (await grandma.browser.send("/care/link", token=grandma.link)).text


async def test_signing_out_ends_the_session_and_the_link_opens_another(grandma: Grandma) -> None:
    kept = grandma.browser.http.cookies[COOKIE]
    page = await grandma.browser.send("/care/sign-out")
    assert "paste it here" in page.text
    thief = grandma.family.site.browser()
    thief.http.cookies.set(COOKIE, kept, domain="localhost.local")
    assert "paste it here" in (await thief.open("/care")).text
    assert "Hello, Grandma" in (await opened(grandma.family.site, grandma.link)).text


# --- forms, cookies, headers


async def test_its_cookie_is_http_only_and_lax_and_lasts_as_long_as_the_device(family: VisitingFamily) -> None:
    link = await link_of(family)
    browser = family.site.browser()
    await browser.open("/care")
    answer = await browser.post("/care/link", browser.form("/care/link") | {"token": link})
    [cookie] = [line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{COOKIE}=")]
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; HttpOnly; Max-Age={180 * 86_400}; Path=/; SameSite=lax", cookie)


async def test_elsewhere_its_cookie_is_secure_and_bound_to_the_host(family: VisitingFamily) -> None:
    link, base_url = await link_of(family), "https://tv.example.org"
    browser = family.site.browser(base_url=base_url)
    await browser.open("/care")
    answer = await browser.post("/care/link", browser.form("/care/link") | {"token": link}, {"origin": base_url})
    [cookie] = [line for line in answer.headers.get_list("set-cookie") if COOKIE in line]
    assert cookie.startswith(f"__Host-{COOKIE}=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= set(cookie.split("; "))


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "", "sec-fetch-site": "cross-site"}],
)
async def test_forms_from_elsewhere_are_refused(grandma: Grandma, headers: dict[str, str]) -> None:
    fields = grandma.browser.form(grandma.gives()) | {"minutes": "15"}
    assert (await grandma.browser.post(grandma.gives(), fields, headers)).status_code == 403
    browser = grandma.family.site.browser()
    await browser.open("/care")
    answer = await browser.post("/care/link", browser.form("/care/link") | {"token": grandma.link}, headers)
    assert answer.status_code == 403
    assert await grandma.grants() == []


async def test_a_form_needs_the_token_of_this_browser(grandma: Grandma) -> None:
    other = await opened(grandma.family.site, grandma.link)
    for csrf in ("", "00" * 64, other.form(grandma.gives())["csrf"]):
        answer = await grandma.browser.post(grandma.gives(), {"minutes": "15", "csrf": csrf, "once": uuid4().hex})
        assert answer.status_code == 403
    stranger = grandma.family.site.browser()
    await stranger.open("/care")
    fields = stranger.form("/care/link") | {"token": grandma.link}
    assert (await grandma.family.site.browser().post("/care/link", fields)).status_code == 403
    assert await grandma.grants() == []


async def test_its_pages_are_guarded_as_the_consoles_are(grandma: Grandma) -> None:
    for browser in (grandma.browser, grandma.family.site.browser()):
        page = await browser.open("/care")
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-frame-options"] == "DENY"
        policy = page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]*\ssrc=)", page.text)
        assert not re.search(r"\s(?:style|on[a-z]+)=\"", page.text)
        assert forms_of(page.text)
        for action, fields in forms_of(page.text):
            assert len(fields["csrf"]) == 128, action
            assert re.fullmatch("[0-9a-f]{32}", fields["once"]), action


async def test_redis_holds_no_secret_that_the_browser_sends(grandma: Grandma) -> None:
    redis = grandma.family.site.services.redis
    secrets = (grandma.browser.http.cookies[COOKIE].encode(), grandma.token.encode())
    async for key in redis.scan_iter("hg:*"):
        value = (await redis.get(key) or b"") if await redis.type(key) == b"string" else b""
        assert not any(secret in key or secret in value for secret in secrets)


async def test_it_is_not_there_without_the_console(site: Site) -> None:
    app = create_app(site.services.settings.model_copy(update={"console": False}))
    app.state.services = site.services
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        assert (await client.get("/care")).status_code == 404
