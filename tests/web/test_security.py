"""Nobody can act in a parent's name or see data of another household."""

import re
from collections.abc import Awaitable, Callable
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from app.auth.tokens import Role
from app.timestamps import utc
from app.web import security
from app.web.security import local_path
from tests.web.conftest import ORIGIN, PASSWORD, PIN, Browser, Site, VisitingFamily, family_of, forms_of

SCRIPT = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


def cookies_of(site_answer: list[str], name: str) -> list[str]:
    return [line for line in site_answer if line.startswith(f"{name}=")]


# --- cookies and sessions


async def test_the_session_cookie_on_this_machine_is_http_only_and_lax(site: Site) -> None:
    family = await family_of(site)
    browser = site.browser()
    await browser.open("/sign-in")
    answer = await browser.post("/sign-in", browser.form("/sign-in") | {"email": family.email, "password": PASSWORD})
    [cookie] = cookies_of(answer.headers.get_list("set-cookie"), "hourglass")
    assert re.fullmatch(r"hourglass=[\w-]{43}; HttpOnly; Path=/; SameSite=lax", cookie)


@pytest.mark.parametrize("base_url", ["https://tv.example.org", "http://tv.example.org", "https://localhost"])
async def test_elsewhere_it_is_secure_and_bound_to_the_host(site: Site, base_url: str) -> None:
    family = await family_of(site)
    browser = site.browser(base_url=base_url)
    page = await browser.http.get("/sign-in")
    [form_cookie] = cookies_of(page.headers.get_list("set-cookie"), "__Host-hourglass-form")
    browser.page = page
    fields = browser.form("/sign-in") | {"email": family.email, "password": PASSWORD}
    answer = await browser.post("/sign-in", fields, {"origin": base_url, "cookie": form_cookie.partition(";")[0]})
    [cookie] = cookies_of(answer.headers.get_list("set-cookie"), "__Host-hourglass")
    assert re.fullmatch(r"__Host-hourglass=[\w-]{43}; HttpOnly; Path=/; SameSite=lax; Secure", cookie)


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("127.4.5.6", True),
        ("[::1]:8000", True),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("192.168.0.2:8000", False),
        ("", False),
    ],
)
def test_only_this_very_machine_is_loopback(host: str, is_loopback: bool) -> None:
    connection = HTTPConnection(
        {"type": "http", "scheme": "http", "path": "/", "headers": [(b"host", host.encode())], "server": ("h", 80)}
    )
    assert security.is_plain_loopback(connection) is is_loopback


async def test_signing_in_changes_the_session_whatever_the_browser_came_with(site: Site) -> None:
    family = await family_of(site)
    browser = site.browser()
    browser.http.cookies.set("hourglass", "chosen-by-an-attacker", domain="localhost.local")
    await browser.open("/sign-in")
    await browser.send("/sign-in", email=family.email, password=PASSWORD)
    first = browser.http.cookies["hourglass"]
    assert first != "chosen-by-an-attacker"
    attacker = site.browser()
    attacker.http.cookies.set("hourglass", "chosen-by-an-attacker", domain="localhost.local")
    assert str((await attacker.open("/")).url).endswith("/sign-in")


async def test_signing_in_again_ends_the_session_before(site: Site) -> None:
    """A session that was planted on a browser is not the one that its owner then works in."""
    planted = (await family_of(site)).browser.http.cookies["hourglass"]
    victim = await family_of(site)
    browser = site.browser()
    browser.http.cookies.set("hourglass", planted, domain="localhost.local")
    await browser.open("/household/pin/forgotten")
    csrf = browser.form("/household/pin/forgotten")["csrf"]
    await browser.post("/sign-in", {"csrf": csrf, "email": victim.email, "password": PASSWORD})
    attacker = site.browser()
    attacker.http.cookies.set("hourglass", planted, domain="localhost.local")
    assert str((await attacker.open("/")).url).endswith("/sign-in")


async def test_after_signing_out_the_old_cookie_opens_nothing(family: VisitingFamily) -> None:
    kept = family.browser.http.cookies["hourglass"]
    await family.browser.open("/")
    page = await family.browser.send("/sign-out")
    assert str(page.url).endswith("/sign-in")
    thief = family.site.browser()
    thief.http.cookies.set("hourglass", kept, domain="localhost.local")
    assert str((await thief.open("/household")).url).partition("?")[0].endswith("/sign-in")


async def test_signing_out_everywhere_ends_every_browser(site: Site) -> None:
    family = await family_of(site)
    other = site.browser()
    await other.open("/sign-in")
    await other.send("/sign-in", email=family.email, password=PASSWORD)
    stranger = await family_of(site)
    await family.browser.open("/")
    await family.browser.send("/sign-out-everywhere")
    assert str((await other.open("/")).url).endswith("/sign-in")
    assert str((await stranger.browser.open("/")).url) == f"{ORIGIN}/"


async def _is_signed_in(browser: Browser) -> bool:
    return str((await browser.open("/")).url) == f"{ORIGIN}/"


async def _logs_out_everywhere(api: httpx.AsyncClient) -> httpx.Response:
    return await api.post("/auth/logout-everywhere")


async def _changes_the_password(api: httpx.AsyncClient) -> httpx.Response:
    new_password = "a new password of many words"
    return await api.put("/account/password", json={"current_password": PASSWORD, "new_password": new_password})


async def _ends_every_sign_in(api: httpx.AsyncClient) -> httpx.Response:
    answer = await api.get("/auth/sign-ins")
    for sign_in in answer.json():
        answer = await api.delete(f"/auth/sign-ins/{sign_in['id']}")
    return answer


@pytest.mark.parametrize("end", [_logs_out_everywhere, _changes_the_password, _ends_every_sign_in])
async def test_what_ends_sign_ins_elsewhere_ends_the_browsers(
    site: Site, end: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
) -> None:
    family, stranger = await family_of(site), await family_of(site)
    assert await _is_signed_in(family.browser)
    answer = await end(site.api(family.account_id, Role.PARENT))
    assert answer.is_success, answer.text
    assert not await _is_signed_in(family.browser)
    assert await _is_signed_in(stranger.browser)


async def test_signing_out_ends_the_sign_in_and_the_tokens_of_the_childs_page(family: VisitingFamily) -> None:
    token = (await family.browser.open("/play/token")).json()["token"]
    api = family.site.api(family.account_id)
    api.headers["Authorization"] = f"Bearer {token}"
    assert (await api.get("/profiles")).status_code == 200
    await family.browser.open("/")
    await family.browser.send("/sign-out")
    assert (await api.get("/profiles")).status_code == 401


async def test_a_session_ends_with_its_account(site: Site) -> None:
    family = await family_of(site, "Ada")
    await site.services.privacy.erasure.account(family.account_id, password=PASSWORD)
    assert str((await family.browser.open("/")).url).endswith("/sign-in")


async def test_an_erased_account_leaves_no_session_in_redis(site: Site) -> None:
    family = await family_of(site, "Ada")
    redis = site.services.redis
    assert [key async for key in redis.scan_iter("hg:*") if await belongs_to(redis, key, family.email)]
    await site.services.privacy.erasure.account(family.account_id, password=PASSWORD)
    left = [key async for key in redis.scan_iter("hg:*") if await belongs_to(redis, key, family.email)]
    assert not left
    assert not await redis.exists(f"hg:{{a:{family.account_id}}}:web")


async def test_nothing_private_is_kept_by_browsers(family: VisitingFamily) -> None:
    for path in ("/", f"/children/{family.child}", "/household", "/sign-in", f"/children/{family.child}/export"):
        answer = await family.browser.open(path)
        assert answer.headers["cache-control"] == "no-store", path


# --- forms


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "", "referer": "https://evil.example/"},
        {"origin": "", "referer": "", "sec-fetch-site": "cross-site"},
        {"origin": "", "referer": ""},
        {"origin": "http://["},
        {"origin": "", "referer": "http://["},
    ],
)
async def test_a_form_from_elsewhere_is_refused_even_with_a_right_token(
    family: VisitingFamily, headers: dict[str, str]
) -> None:
    await family.browser.open("/")
    action = f"/children/{family.child}/grants"
    fields = family.browser.form(action) | {"minutes": "15"}
    answer = await family.browser.post(action, fields, headers)
    assert answer.status_code == 403
    assert await given_minutes(family) == []


@pytest.mark.parametrize("csrf", ["", "00", "zz" * 64, "00" * 64, "é"])
async def test_a_form_without_its_token_is_refused(family: VisitingFamily, csrf: str) -> None:
    action = f"/children/{family.child}/grants"
    answer = await family.browser.post(action, {"minutes": "15", "csrf": csrf})
    assert answer.status_code == 403
    assert await given_minutes(family) == []


async def test_the_token_of_another_browser_is_refused(family: VisitingFamily) -> None:
    other = await family_of(family.site, "Zoe")
    await other.browser.open("/")
    fields = other.browser.form(f"/children/{other.child}/grants") | {"minutes": "15"}
    answer = await family.browser.post(f"/children/{family.child}/grants", fields)
    assert answer.status_code == 403
    assert await given_minutes(family) == []


async def test_signing_in_needs_the_token_of_this_browser(site: Site) -> None:
    """Else somebody could sign a parent in to an account that is not theirs."""
    family = await family_of(site)
    attacker = site.browser()
    await attacker.open("/sign-in")
    fields = attacker.form("/sign-in") | {"email": family.email, "password": PASSWORD}
    answer = await site.browser().post("/sign-in", fields)
    assert answer.status_code == 403
    assert not cookies_of(answer.headers.get_list("set-cookie"), "hourglass")


async def test_every_form_of_every_page_carries_its_token_and_key(family: VisitingFamily) -> None:
    for path in await pages_of(family):
        page = await family.browser.open(path)
        for action, fields in forms_of(page.text):
            assert len(fields["csrf"]) == 128, (path, action)
            assert re.fullmatch("[0-9a-f]{32}", fields["once"]), (path, action)


async def test_two_tokens_for_one_browser_have_nothing_in_common(family: VisitingFamily) -> None:
    one, other = [family.site.services.console.sessions.csrf_token("cookie") for _ in range(2)]
    pairs = zip(re.findall("..", one), re.findall("..", other), strict=True)
    assert sum(a == b for a, b in pairs) < 8  # of 64 bytes, by chance


@pytest.mark.parametrize("referer", ["http://[", "http://[::1", "//["])
async def test_a_referer_that_is_no_address_leads_to_the_overview(family: VisitingFamily, referer: str) -> None:
    await family.browser.open("/")
    fields = family.browser.form("/lock")
    answer = await family.browser.post("/lock", fields, {"referer": referer})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    stranger = await family.site.browser().post("/lock", fields, {"referer": referer})
    assert (stranger.status_code, stranger.headers["location"]) == (303, "/sign-in?expired=1&next=/")


@pytest.mark.parametrize("minutes", ["9" * 5000, "٣٠", "²", "-15", ""])
async def test_numbers_that_no_form_offers_are_refused(family: VisitingFamily, minutes: str) -> None:
    await family.browser.open("/household")
    fields = family.browser.form("/household/caregivers") | {"name": "Oma", "pin": PIN}
    answer = await family.browser.post("/household/caregivers", fields | {"daily_grant_minutes": minutes})
    assert answer.status_code == 422
    await family.browser.open("/")
    for action in ("/pause", f"/children/{family.child}/pause", f"/children/{family.child}/grants"):
        answer = await family.browser.post(action, family.browser.form(action) | {"minutes": minutes})
        assert answer.status_code == 404, action
    assert await given_minutes(family) == []


async def test_bodies_that_are_no_forms_are_refused(family: VisitingFamily) -> None:
    http, path = family.browser.http, "/sign-in"
    headers = {"origin": ORIGIN}
    assert (await http.post(path, json={"email": "x"}, headers=headers)).status_code == 415
    form = headers | {"content-type": "application/x-www-form-urlencoded"}
    assert (await http.post(path, content=b"a=\xff", headers=form)).status_code == 400
    assert (await http.post(path, content=b"a=%00", headers=form)).status_code == 400
    assert (await http.post(path, content=b"a=%ff", headers=form)).status_code == 400
    assert (await http.post(path, content=b"a=" + b"x" * 70_000, headers=form)).status_code == 413
    assert (await http.post(path, content=b"&".join([b"a=1"] * 500), headers=form)).status_code == 400


# --- framing, redirects, scripts


async def test_no_page_may_be_framed_or_run_foreign_scripts(family: VisitingFamily) -> None:
    for path in await pages_of(family):
        headers = (await family.browser.open(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["frame-ancestors"] == "'none'"
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"


async def test_no_page_holds_inline_scripts_or_styles(family: VisitingFamily) -> None:
    for path in await pages_of(family):
        html = (await family.browser.open(path)).text
        assert not re.search(r"<script(?![^>]*\ssrc=)", html), path
        assert not re.search(r"\s(?:style|on[a-z]+)=\"", html), path
        assert "<style" not in html, path


async def test_scripts_and_styles_are_pinned_to_their_content(family: VisitingFamily) -> None:
    html = (await family.browser.open("/")).text
    for tag in re.findall(r"<(?:script|link rel=\"stylesheet\")[^>]*>", html):
        assert re.search(r'integrity="sha384-[\w+/=]{64}"', tag), tag


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/%5C..//evil.example\\x",
        "javascript:alert(1)",
        "\\\\evil.example",
        "/a\nSet-Cookie: x=1",
        "/é",
        "/api/v1/account",
        "/" + "x" * 600,
        "",
        None,
    ],
)
def test_nobody_is_led_elsewhere(path: str | None) -> None:
    assert local_path(path) == "/" or (path or "").startswith("/%5C")


def test_pages_of_our_own_are_led_to() -> None:
    assert local_path("/children/1/week?ending=2026-03-01") == "/children/1/week?ending=2026-03-01"


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example/", "/\\evil.example"])
async def test_signing_in_leads_to_our_own_pages_only(site: Site, path: str) -> None:
    family = await family_of(site)
    browser = site.browser()
    await browser.http.get("/sign-in", params={"next": path})
    await browser.open("/sign-in")
    fields = browser.form("/sign-in") | {"email": family.email, "password": PASSWORD, "next": path}
    answer = await browser.post("/sign-in", fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_names_and_notes_are_texts_not_markup(site: Site) -> None:
    family = await family_of(site, SCRIPT[:60])
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", SCRIPT)
    player = site.api(family.account_id)
    beat = {"profile_id": family.child, "title_id": title, "device_id": SCRIPT, "device_type": "tv"}
    assert (await player.post("/viewing-time/heartbeat", json=beat)).status_code == 200
    asked = await player.post(
        f"/parental-controls/profiles/{family.child}/requests", json={"minutes": 15, "note": SCRIPT}
    )
    assert asked.status_code == 201
    for path in await pages_of(family):
        html = (await family.browser.open(path)).text
        assert "<script>alert" not in html, path
        assert "<img" not in html, path
    await family.browser.open("/")
    assert family.browser.text.count(SCRIPT) >= 2  # the title that is watched, and the note of the request


async def test_a_spreadsheet_runs_nothing(site: Site) -> None:
    family = await family_of(site, "=HYPERLINK(1)", "@SUM(A1)", "+1", "-1")
    text = (await family.browser.open("/week.csv")).text
    names = {line.split(",")[1] for line in text.splitlines()[1:]}
    assert names == {"'=HYPERLINK(1)", "'@SUM(A1)", "'+1", "'-1"}


# --- rights


async def test_what_is_another_households_is_refused(family: VisitingFamily) -> None:
    other = await family_of(family.site, "Zoe")
    one = f"/children/{other.child}"
    for path in (
        one,
        f"{one}/settings",
        f"{one}/history",
        f"{one}/data",
        f"{one}/export",
        f"/live?child={other.child}",
    ):
        answer = await family.browser.open(path)
        assert answer.status_code == 403, path
        assert "Zoe" not in answer.text
    assert "was not part of" not in (await family.browser.open(f"{one}/week")).text
    await family.browser.open("/")
    fields = family.browser.form(f"/children/{family.child}/grants") | {"minutes": "15"}
    assert (await family.browser.post(f"{one}/grants", fields)).status_code == 403
    assert await given_minutes(other) == []


async def test_without_the_pin_nothing_of_parents_is_shown_or_done(site: Site) -> None:
    family = await family_of(site, "Ada", unlocked=False)
    one = f"/children/{family.child}"
    for path in (
        f"{one}/settings",
        f"{one}/history",
        f"{one}/week",
        f"{one}/data",
        f"{one}/export",
        "/household",
        "/week.csv",
    ):
        answer = await family.browser.http.get(path)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/unlock"), path
    await family.browser.open("/")
    page = await family.browser.send(f"{one}/grants", minutes="15")
    assert "Parents only" in page.text
    assert await given_minutes(family) == []


async def test_the_pin_unlocks_for_a_quarter_of_an_hour(family: VisitingFamily) -> None:
    assert (await family.browser.http.get("/household")).status_code == 200
    family.site.set_forward(15 * 60_000 - 1)
    assert (await family.browser.http.get("/household")).status_code == 200
    family.site.set_forward(1)
    assert (await family.browser.http.get("/household")).status_code == 303


async def test_a_form_that_meets_the_lock_is_done_after_the_pin_with_nothing_lost(site: Site) -> None:
    family = await family_of(site, "Ada", unlocked=False)
    await family.browser.open("/")
    action = f"/children/{family.child}/grants"
    await family.browser.send(action, minutes="30")
    page = await family.browser.send(action, pin="0000")
    assert "That PIN is not right." in page.text
    page = await family.browser.send(action, pin=PIN)
    assert "Ada has 30 min more today." in page.text
    assert await given_minutes(family) == [30]


async def test_five_wrong_pins_lock_and_the_page_says_until_when(site: Site) -> None:
    family = await family_of(site, "Ada", unlocked=False)
    await family.browser.open("/unlock")
    for _ in range(5):
        page = await family.browser.send("/unlock", pin="0000")
        assert "That PIN is not right." in page.text
    page = await family.browser.send("/unlock", pin=PIN)
    ends_at = utc(site.clock() + 30 * 60_000).astimezone(ZoneInfo("Europe/Oslo"))
    assert f"Too many wrong tries. Try again at {ends_at:%H:%M} (Europe/Oslo), in 30 min." in page.text
    assert (await family.browser.http.get("/household")).status_code == 303
    await family.browser.open("/household/pin/forgotten")
    page = await family.browser.send("/household/pin/forgotten", password=PASSWORD, new_pin="2222")
    assert "The new PIN is set." in page.text
    await family.browser.open("/unlock")
    await family.browser.send("/unlock", pin="2222")
    assert (await family.browser.http.get("/household")).status_code == 200


async def test_a_changed_pin_locks_every_other_browser(site: Site) -> None:
    family = await family_of(site, "Ada")
    await site.services.pins.choose(family.account_id, new_pin="1234", current_pin=PIN, password=None, actor="test")
    assert (await family.browser.http.get("/household")).status_code == 303


async def test_an_idle_session_lives_for_twelve_hours_and_each_request_renews_it(family: VisitingFamily) -> None:
    redis = family.site.services.redis
    [key] = [key async for key in redis.scan_iter("hg:{w:*") if await belongs_to(redis, key, family.email)]
    await redis.expire(key, 100)
    await family.browser.open("/")
    assert 43_100 < await redis.ttl(key) <= 43_200


async def test_a_session_holds_no_secret_that_the_browser_sends(family: VisitingFamily) -> None:
    """Whoever reads Redis cannot sign in with what is there."""
    token = family.browser.http.cookies["hourglass"].encode()
    redis = family.site.services.redis
    async for key in redis.scan_iter("hg:*"):
        assert token not in key
        if await redis.type(key) == b"string":
            assert token not in (await redis.get(key) or b"")


async def belongs_to(redis: Redis, key: bytes, email: str) -> bool:
    return await redis.type(key) == b"string" and email.encode() in (await redis.get(key) or b"")


async def given_minutes(family: VisitingFamily) -> list[int | None]:
    entries = await family.site.services.parents.grants.entries(
        account_id=family.account_id, profile_id=family.child, day=None, most=10
    )
    return [entry.minutes for entry in entries if entry.revoked_ms is None]


async def pages_of(family: VisitingFamily) -> list[str]:
    child = f"/children/{family.child}"
    return [
        "/",
        "/household",
        "/household/pin",
        "/household/pin/forgotten",
        child,
        *(f"{child}/{page}" for page in ("settings", "history", "week", "data")),
        "/style",
    ]
