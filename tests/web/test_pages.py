"""The actions of parents with forms alone, without scripts."""

import re
from datetime import datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest

from app.auth.tokens import Role
from app.domain.config import Config
from app.domain.grants import GrantEntry
from app.main import create_app
from app.postgres_store.partitions import make_partitions
from app.timestamps import rfc3339, utc
from tests.rows import start_of
from tests.web.conftest import ORIGIN, PASSWORD, PIN, Site, VisitingFamily, family_of

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


async def test_a_parent_begins_with_nothing_and_ends_with_a_child_that_has_limits(site: Site) -> None:
    browser, email = site.browser(), f"{uuid4().hex}@example.org"
    assert str((await browser.open("/")).url) == f"{ORIGIN}/sign-in"
    await browser.open("/register")
    page = await browser.send("/register", email=email, password="short", timezone="Mars/Olympus")
    assert page.status_code == 422
    assert "Use at least 10 characters." in page.text
    assert "Choose a time zone from the list." in page.text
    assert f'value="{email}"' in page.text, "what was entered is kept"
    page = await browser.send("/register", email=email, password=PASSWORD, timezone="Europe/Oslo")
    assert str(page.url) == f"{ORIGIN}/household/pin"
    page = await browser.send("/household/pin", password="not it", new_pin="12")
    assert "Choose exactly four digits." in page.text
    page = await browser.send("/household/pin", password="not it at all", new_pin=PIN)
    assert "That password is not right." in page.text
    page = await browser.send("/household/pin", password=PASSWORD, new_pin=PIN)
    assert "The PIN is set." in page.text
    assert "No children yet" in page.text
    await browser.open("/household")
    page = await browser.send("/household/profiles", name=" ", kind="child")
    assert "Enter a name of at most 100 characters." in page.text
    page = await browser.send("/household/profiles", name="Ada", kind="child")
    assert "Ada is part of the household." in page.text
    assert "These are the limits every new child begins with." in page.text
    path = page.url.path
    page = await browser.send(path, **settings_of(page.text), weekday_limit_minutes="90")
    assert "The settings of Ada are saved and in force." in page.text
    page = await browser.open("/")
    assert "of 1 h 30 min" in page.text
    assert "Check the limits" not in page.text


def settings_of(html: str) -> dict[str, str]:
    """What a browser would send of the form as it stands, but for the hidden fields and the weekday's limit."""
    selects = {
        name: (re.search(r'<option value="([^"]*)" selected>', body) or ["", ""])[1]
        for name, body in re.findall(r'<select id="(\w+)" name="\w+"[^>]*>(.*?)</select>', html, re.DOTALL)
        if name != "weekday_limit_minutes"
    }
    texts = dict(re.findall(r'<input id="\w+" name="(\w+)" type="text" value="([^"]*)"', html))
    boxes = dict(re.findall(r'<input type="checkbox" id="\w+" name="(\w+)" value="(1)" checked>', html))
    return selects | texts | boxes


# --- extra time


async def test_a_tap_gives_time_and_undo_takes_it_back(family: VisitingFamily) -> None:
    child = f"/children/{family.child}"
    await family.browser.open("/")
    page = await family.browser.send(f"{child}/grants", minutes="15")
    assert str(page.url) == f"{ORIGIN}/"
    assert "Ada has 15 min more today." in page.text
    undo = next(action for action in re.findall(r'action="([^"]*/revoke)"', page.text) if family.child in action)
    page = await family.browser.send(undo)
    assert "The 15 min for Ada are taken back." in page.text
    assert "Undo" not in page.text
    assert "taken back" not in (await family.browser.open("/")).text, "it is said once"


async def test_a_form_that_is_sent_twice_acts_once(family: VisitingFamily) -> None:
    await family.browser.open("/")
    action = f"/children/{family.child}/grants"
    fields = family.browser.form(action) | {"minutes": "15"}
    first = await family.browser.post(action, fields)
    again = await family.browser.post(action, fields)
    assert (first.status_code, first.headers["location"]) == (again.status_code, again.headers["location"])
    assert [entry.minutes for entry in await grants(family)] == [15]


async def test_each_of_two_forms_acts(family: VisitingFamily) -> None:
    action = f"/children/{family.child}/grants"
    for _ in range(2):
        await family.browser.open("/")
        await family.browser.send(action, minutes="15")
    assert [entry.minutes for entry in await grants(family)] == [15, 15]


async def test_adding_a_child_twice_with_one_form_adds_one(family: VisitingFamily) -> None:
    await family.browser.open("/household")
    fields = family.browser.form("/household/profiles") | {"name": "Cleo", "kind": "child"}
    for _ in range(2):
        assert (await family.browser.post("/household/profiles", fields)).status_code == 303
    names = [profile.name for profile in await family.site.services.members.of_account(family.account_id)]
    assert sorted(names) == ["Ada", "Ben", "Cleo"]


async def test_an_account_that_is_opened_twice_with_one_form_is_one(site: Site) -> None:
    browser, email = site.browser(), f"{uuid4().hex}@example.org"
    await browser.open("/register")
    fields = browser.form("/register") | {"email": email, "password": PASSWORD, "timezone": "Europe/Oslo"}
    for _ in range(2):
        answer = await browser.post("/register", fields)
        assert answer.headers.get("location") == "/household/pin", answer.text
    other = site.browser()
    await other.open("/register")
    page = await other.send("/register", email=email, password="another password", timezone="Europe/Oslo")
    assert "There is an account with this address." in page.text


@pytest.mark.parametrize("minutes", ["0", "-15", "16", "1e3", "", "²", "15 "])
async def test_only_what_is_offered_can_be_given(family: VisitingFamily, minutes: str) -> None:
    await family.browser.open("/")
    page = await family.browser.send(f"/children/{family.child}/grants", minutes=minutes)
    assert page.status_code == 404
    assert await grants(family) == []


async def test_no_limit_today_is_said_and_can_be_undone(family: VisitingFamily) -> None:
    child = f"/children/{family.child}"
    await family.browser.open(child)
    page = await family.browser.send(f"{child}/grants", minutes="unlimited")
    assert "Ada has no limit until the day ends." in page.text
    assert "Ada may watch without a limit until" in page.text
    undo = re.findall(r'action="([^"]*/revoke)"', page.text)[0]
    page = await family.browser.send(undo)
    assert "The limit of Ada is in force again." in page.text


# --- pauses


async def test_a_pause_begins_in_one_tap_and_undo_lifts_it(family: VisitingFamily) -> None:
    await family.browser.open("/")
    page = await family.browser.send(f"/children/{family.child}/pause", minutes="30")
    assert str(page.url) == f"{ORIGIN}/"
    assert re.search(r"Ada is paused until \d\d:\d\d\.", page.text)
    assert "Paused by a parent" in page.text
    assert page.text.count("Lift the pause<") == 1, "Ben goes on"
    assert "Nothing plays until then." in (await family.browser.open(f"/children/{family.child}")).text
    page = await family.browser.send(f"/children/{family.child}/pause/lift")
    assert "The pause of Ada is lifted." in page.text
    assert "Nothing plays until then." not in page.text


async def test_everybody_pauses_for_the_rest_of_the_day_and_goes_on(family: VisitingFamily) -> None:
    await family.browser.open("/")
    page = await family.browser.send("/pause", minutes="day")
    assert "Everybody is paused for the rest of today." in page.text
    assert page.text.count("Lift the pause<") == 2
    page = await family.browser.send("/pause/lift")
    assert "Every pause is lifted." in page.text
    assert "Lift" not in page.text


async def test_a_pause_form_that_is_sent_twice_pauses_once(family: VisitingFamily) -> None:
    await family.browser.open("/")
    action = f"/children/{family.child}/pause"
    fields = family.browser.form(action) | {"minutes": "30"}
    first, again = [await family.browser.post(action, fields) for _ in range(2)]
    assert (first.status_code, first.headers["location"]) == (again.status_code, again.headers["location"])
    audit = (await family.site.api(family.account_id, Role.PARENT).get("/account/audit")).json()["entries"]
    assert [entry["action"] for entry in audit].count("viewing_paused") == 1


@pytest.mark.parametrize("minutes", ["0", "-15", "1441", "1e3", "", "²", "all"])
async def test_only_a_duration_pauses(family: VisitingFamily, minutes: str) -> None:
    await family.browser.open("/")
    page = await family.browser.send(f"/children/{family.child}/pause", minutes=minutes)
    assert page.status_code == 404
    assert "Lift the pause" not in (await family.browser.open("/")).text


# --- caregivers


async def test_a_caregiver_is_added_seen_and_revoked(family: VisitingFamily) -> None:
    await family.browser.open("/household")
    page = await family.browser.send("/household/caregivers", name=" ", daily_grant_minutes="30", pin="12")
    assert page.status_code == 422
    assert "Enter a name of at most 100 characters." in page.text
    page = await family.browser.send("/household/caregivers", name="Grandma", daily_grant_minutes="30", pin=PIN)
    token = re.search(r'<code class="token">[^<#]+#([^<]+)</code>', page.text)
    assert token is not None
    assert "gave 0 min of 30 min today" in page.text
    grandma = httpx.AsyncClient(
        transport=httpx.ASGITransport(family.site.app.front),
        base_url=f"{ORIGIN}/api/v1",
        headers={"Authorization": f"Bearer {token[1]}"},
    )
    path = f"/parental-controls/profiles/{family.child}/viewing-time/grant"
    assert (await grandma.post(path, json={"minutes": 15})).status_code == 201
    page = await family.browser.open("/household")
    assert "gave 15 min of 30 min today" in page.text
    assert token[1] not in page.text, "it is shown once"
    [revoke] = re.findall(r'action="(/household/devices/[^"]*/revoke)"', page.text)
    await family.browser.send(revoke)
    assert (await grandma.post(path, json={"minutes": 15})).status_code == 401


async def test_a_budget_is_one_of_those_offered(family: VisitingFamily) -> None:
    await family.browser.open("/household")
    page = await family.browser.send("/household/caregivers", name="Grandma", daily_grant_minutes="7", pin=PIN)
    assert page.status_code == 422
    assert "Choose one of the times offered." in page.text


# --- the week


async def _save_week(family: VisitingFamily, **fields: str) -> httpx.Response:
    path = f"/children/{family.child}/settings"
    page = await family.browser.open(path)
    return await family.browser.send(path, **settings_of(page.text) | {"weekday_limit_minutes": "60"} | fields)


async def test_a_week_of_limits_times_and_holidays_is_saved_and_shown(family: VisitingFamily) -> None:
    week = {"daily": "1", "limit-mon": "90", "holiday-0-first": "2026-12-24", "holiday-0-last": "2027-01-02"}
    week |= {f"window-0-{day}": "1" for day in ("mon", "tue", "wed", "thu", "fri")}
    page = await _save_week(family, **week, **{"window-0-from": "15:00", "window-0-until": "19:30"})
    assert "are saved and in force." in page.text
    assert "Mon\N{EN DASH}Fri 15:00\N{EN DASH}19:30" in page.text
    assert "Thu 24 Dec \N{EN DASH} Sat 2 Jan" in page.text
    assert '<rect class="week__open" x="900" y="2" width="270" height="20"/>' in page.text
    found = (await family.site.api(family.account_id, Role.PARENT).get(_viewing_time(family))).json()
    assert found["daily_limits"]["mon"] == 90
    assert found["windows"] == [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "15:00", "until": "19:30"}]
    page = await _save_week(family, **{"window-0-from": "", "window-0-until": ""})
    assert "Films may play" not in page.text, "an emptied form takes the week away"
    assert (await family.site.api(family.account_id, Role.PARENT).get(_viewing_time(family))).json()["windows"] == []


def _viewing_time(family: VisitingFamily) -> str:
    return f"/parental-controls/profiles/{family.child}/viewing-time"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"window-0-mon": "1", "window-0-from": "15:00"}, "Each time needs at least one day"),
        ({"window-0-from": "15:00", "window-0-until": "16:00"}, "Each time needs at least one day"),
        ({"window-0-mon": "1", "window-0-from": "15:03", "window-0-until": "16:00"}, "in steps of 5 minutes"),
        ({"holiday-0-first": "2026-12-24", "holiday-0-last": "2026-12-01"}, "cannot be before the first one"),
        ({"holiday-0-first": "tomorrow"}, "Each holiday needs a first day"),
        ({"holiday-0-last": "2026-12-24"}, "Each holiday needs a first day"),
        ({"daily": "1", "limit-mon": "7"}, "Choose 15 minutes to 8 hours"),
        (
            {f"window-{n}-{k}": v for n in range(22) for k, v in (("mon", "1"), ("from", "15:00"), ("until", "16:00"))},
            "At most 21 times are possible.",
        ),
        ({f"holiday-{number}-first": "2026-12-24" for number in range(51)}, "At most 50 holidays are possible."),
    ],
)
async def test_a_wrong_week_is_said_and_kept(family: VisitingFamily, fields: dict[str, str], said: str) -> None:
    page = await _save_week(family, **fields)
    assert page.status_code == 422
    assert said in page.text
    for value in fields.values():
        assert f'value="{value}"' in page.text or value == "7"


async def test_outside_of_its_times_a_child_is_told_when_films_play_again(family: VisitingFamily) -> None:
    """It is Monday 13:00 in Oslo."""
    await _save_week(family, **{"window-0-mon": "1", "window-0-from": "18:00", "window-0-until": "19:00"})
    page = await family.browser.open("/")
    assert "Films do not play at this time. Ada may watch again from 18:00 on." in page.text
    assert "Not at this time" in page.text


# --- the whole week, breaks, and the end of a film


async def test_the_rules_of_the_week_breaks_and_films_are_saved_and_shown(family: VisitingFamily) -> None:
    rules = {"weekly_limit_minutes": "420", "break_after_minutes": "45", "break_minutes": "20"}
    page = await _save_week(family, **rules, finish_title_minutes="15")
    assert "are saved and in force." in page.text
    in_force = page.text[: page.text.index("Change the limits")]
    for said in ("7 h", "20 min after 45 min", "up to 15 min later"):
        assert said in in_force, said
    api = family.site.api(family.account_id, Role.PARENT)
    found = (await api.get(_viewing_time(family))).json()
    assert {name: found[name] for name in rules} == {name: int(minutes) for name, minutes in rules.items()}
    assert found["finish_title_minutes"] == 15
    fields = settings_of(page.text)
    assert {name: fields[name] for name in rules} == rules, "the form shows what is in force"
    nothing = dict.fromkeys(("weekly_limit_minutes", "break_after_minutes", "finish_title_minutes"), "")
    await _save_week(family, **nothing)
    found = (await api.get(_viewing_time(family))).json()
    assert [found[name] for name in (*rules, "finish_title_minutes")] == [None] * 4


async def test_a_value_that_the_form_does_not_offer_is_kept(family: VisitingFamily) -> None:
    api = family.site.api(family.account_id, Role.PARENT)
    etag = (await api.get(_viewing_time(family))).headers["etag"]
    odd = {"weekly_limit_minutes": 435, "break_after_minutes": 55, "break_minutes": 25, "finish_title_minutes": 7}
    assert (await api.put(_viewing_time(family), json=odd, headers={"if-match": etag})).status_code == 200
    await _save_week(family)
    found = (await api.get(_viewing_time(family))).json()
    assert {name: found[name] for name in odd} == odd


async def test_a_form_of_an_older_version_leaves_the_rules_as_they_are(family: VisitingFamily) -> None:
    rules = {"weekly_limit_minutes": "420", "break_after_minutes": "45", "break_minutes": "20"}
    page = await _save_week(family, **rules, finish_title_minutes="15")
    known = {*rules, "finish_title_minutes"}
    older = {name: value for name, value in settings_of(page.text).items() if name not in known}
    path = f"/children/{family.child}/settings"
    await family.browser.open(path)
    answer = await family.browser.send(path, **older | {"weekday_limit_minutes": "90"})
    assert "are saved and in force." in answer.text
    found = (await family.site.api(family.account_id, Role.PARENT).get(_viewing_time(family))).json()
    assert {name: found[name] for name in known} == {name: int(m) for name, m in rules.items()} | {
        "finish_title_minutes": 15
    }


@pytest.mark.parametrize(
    "field", ["weekly_limit_minutes", "break_after_minutes", "break_minutes", "finish_title_minutes"]
)
@pytest.mark.parametrize("value", ["7.5", "soon", "99999", "-15", "9" * 5000])
async def test_a_rule_that_is_not_accepted_is_named_beside_its_field(
    family: VisitingFamily, field: str, value: str
) -> None:
    fields = {"break_after_minutes": "45", "break_minutes": "20"} | {field: value}
    page = await _save_week(family, **fields)
    assert page.status_code == 422
    assert f'id="{field}-error">Choose one of the times offered.' in page.text
    assert (await config(family)).version == 1


async def test_the_preview_takes_the_rules_of_the_form(family: VisitingFamily) -> None:
    path = f"/children/{family.child}/settings"
    page = await family.browser.open(path)
    fields = family.browser.form(path) | settings_of(page.text) | {"weekday_limit_minutes": "60"}
    rules = {"weekly_limit_minutes": "60", "break_after_minutes": "45", "break_minutes": "20"}
    answer = await family.browser.post(f"{path}/preview", fields | rules)
    assert "None of these days would have been cut short." in answer.text
    answer = await family.browser.post(f"{path}/preview", fields | rules | {"break_minutes": ""})
    assert answer.status_code == 422
    assert (await config(family)).version == 1


async def test_what_is_left_of_the_week_is_shown(site: Site) -> None:
    family = await family_of(site, "Ada")
    await _save_week(family, weekly_limit_minutes="120")
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    await use_up(site, family, title, minutes=25)
    for path in ("/", f"/children/{family.child}"):
        page = await family.browser.open(path)
        assert re.search(r"<dt>Left of the week</dt><dd>1 h 3\d min</dd>", page.text), path


async def test_a_break_says_until_when_and_then_is_over(site: Site) -> None:
    family = await family_of(site, "Ada")
    await _save_week(family, break_after_minutes="15", break_minutes="30", weekday_limit_minutes="120")
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    await use_up(site, family, title, minutes=5)
    for path in ("/", f"/children/{family.child}"):
        assert "until a break" in (await family.browser.open(path)).text, path
    await use_up(site, family, title, minutes=20)
    balance = (await site.api(family.account_id).get(f"/viewing-time/balance/{family.child}")).json()
    assert balance["reason"] == "break"
    ends = datetime.fromisoformat(balance["available_again_at"]).astimezone(ZoneInfo("Europe/Oslo"))
    for path in ("/", f"/children/{family.child}"):
        page = await family.browser.open(path)
        assert f"Break until {ends:%H:%M}" in page.text, path
        assert "Time is up" not in page.text, path
    page = await family.browser.open(f"/children/{family.child}")
    assert f"Ada has watched for so long that a break is due. Ada may watch again from {ends:%H:%M} on." in page.text
    site.set_forward(30 * MINUTE_MS)
    assert "Break until" not in (await family.browser.open("/")).text


async def finish_a_film(site: Site, family: VisitingFamily) -> None:
    """With a limit of 15 minutes, watch a film of 18 minutes to its end."""
    await _save_week(family, weekday_limit_minutes="15", weekend_limit_minutes="15", finish_title_minutes="10")
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    api = site.api(family.account_id)
    beat = {"profile_id": family.child, "title_id": title, "device_id": "tv"}
    for left_minutes in (18, 14, 10, 6, 2, 0):
        body = beat | {"title_remaining_seconds": left_minutes * 60}
        answer = await api.post("/viewing-time/heartbeat", json=body)
        assert answer.status_code == 200, answer.text
        beat["session_id"] = answer.json()["session_id"]
        site.set_forward(min(4, left_minutes) * MINUTE_MS)


async def test_a_film_that_was_finished_is_told_today_and_on_the_next_day(site: Site) -> None:
    family = await family_of(site, "Ada")
    await finish_a_film(site, family)
    child = f"/children/{family.child}"
    for path in ("/", child):
        page = await family.browser.open(path)
        assert "<dt>Borrowed from the next day</dt><dd>3 min</dd>" in page.text, path
        assert "more than the" not in page.text, path
    page = await family.browser.open(child)
    assert "A film was finished beyond the limit: the next day has 3 min less." in page.text
    site.set_forward(24 * HOUR_MS)
    for path in ("/", child):
        page = await family.browser.open(path)
        assert "<dt>Taken off for a finished film</dt><dd>3 min</dd>" in page.text, path
        assert "of 12 min" in page.text, path
        assert "Borrowed" not in page.text, path
    page = await family.browser.open(child)
    assert "3 min are taken off today: they finished a film the day before." in page.text


# --- requests


async def ask(family: VisitingFamily, *, minutes: int = 30, note: str = "please") -> str:
    api = family.site.api(family.account_id)
    path = f"/parental-controls/profiles/{family.child}/requests"
    answer = await api.post(path, json={"minutes": minutes, "note": note})
    assert answer.status_code == 201, answer.text
    return f"/children/{family.child}/requests/{answer.json()['request_id']}"


async def test_a_request_is_on_top_and_approved_in_one_tap(family: VisitingFamily) -> None:
    request = await ask(family, note="the film is nearly over")
    page = await family.browser.open("/")
    assert page.text.index("Ada asks for 30 min more") < page.text.index('class="cards"')
    assert "the film is nearly over" in page.text
    page = await family.browser.send(f"{request}/approve")
    assert "Ada has 30 min more today." in page.text
    assert "asks for" not in page.text
    assert [entry.minutes for entry in await grants(family)] == [30]


async def test_a_request_is_denied_in_one_tap(family: VisitingFamily) -> None:
    request = await ask(family)
    await family.browser.open("/")
    page = await family.browser.send(f"{request}/deny")
    assert "The request of Ada is denied." in page.text
    assert "asks for" not in page.text
    assert await grants(family) == []


async def test_the_second_of_two_parents_is_told_that_it_was_answered(family: VisitingFamily) -> None:
    request = await ask(family)
    await family.browser.open("/")
    other = family.site.browser()
    await other.open("/sign-in")
    await other.send("/sign-in", email=family.email, password=PASSWORD)
    await other.open("/unlock")
    await other.send("/unlock", pin=PIN)
    await other.open("/")
    await family.browser.send(f"{request}/deny")
    page = await other.send(f"{request}/approve")
    assert "This request was answered before, or its day is over." in page.text
    assert await grants(family) == []


# --- settings


async def test_two_parents_who_change_the_limits_do_not_overwrite_each_other(family: VisitingFamily) -> None:
    path = f"/children/{family.child}/settings"
    page = await family.browser.open(path)
    seen = family.browser.form(path) | settings_of(page.text)
    await family.browser.post(path, seen | {"weekday_limit_minutes": "60", "once": uuid4().hex})
    answer = await family.browser.post(path, seen | {"weekday_limit_minutes": "240", "once": uuid4().hex})
    assert answer.status_code == 422
    assert "Somebody else has changed these settings meanwhile." in answer.text
    assert 'value="240" selected' in answer.text, "what was entered is kept"
    assert (await config(family)).weekday_limit_minutes == 60


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"weekday_limit_minutes": "20"}, "Choose 15 minutes to 8 hours in steps of 15 minutes."),
        ({"weekday_limit_minutes": "99999999999999999999"}, "Choose 15 minutes to 8 hours in steps of 15 minutes."),
        ({"weekday_limit_minutes": ""}, "Set both limits, or leave both without a limit."),
        ({"weekday_limit_minutes": "60", "warning_minutes": "15, 15"}, "Enter up to five different numbers"),
        ({"weekday_limit_minutes": "60", "warning_minutes": "soon"}, "Enter up to five different numbers"),
        ({"weekday_limit_minutes": "60", "reset_hour": "24"}, "Choose an hour from 0 to 23."),
        ({"weekday_limit_minutes": "60", "timezone": "../etc/passwd"}, "Choose a time zone from the list."),
    ],
)
async def test_a_value_that_is_not_accepted_is_named_beside_its_field(
    family: VisitingFamily, fields: dict[str, str], error: str
) -> None:
    path = f"/children/{family.child}/settings"
    page = await family.browser.open(path)
    values = settings_of(page.text) | fields
    answer = await family.browser.send(path, **values)
    assert answer.status_code == 422
    assert error in answer.text or "reset_hour" in fields
    assert (await config(family)).version == 1


async def test_a_change_of_the_reset_hour_is_shown_as_pending(family: VisitingFamily) -> None:
    path = f"/children/{family.child}/settings"
    page = await family.browser.open(path)
    await family.browser.send(path, **settings_of(page.text) | {"weekday_limit_minutes": "60", "reset_hour": "4"})
    assert "From tomorrow 06:00 on the day begins at 04:00 (Europe/Oslo)." in family.browser.text


async def test_a_preview_saves_nothing(family: VisitingFamily) -> None:
    path = f"/children/{family.child}/settings"
    page = await family.browser.open(path)
    fields = family.browser.form(path) | settings_of(page.text) | {"weekday_limit_minutes": "15"}
    answer = await family.browser.post(f"{path}/preview", fields)
    assert "None of these days would have been cut short." in answer.text
    assert 'value="15" selected' in answer.text, "the form keeps what is tried"
    assert (await config(family)).version == 1


# --- people and devices


async def test_people_are_renamed_made_adults_and_erased_with_a_receipt(family: VisitingFamily) -> None:
    path = f"/household/profiles/{family.child}"
    await family.browser.open("/household")
    page = await family.browser.send(path, name="Adele", kind="adult")
    assert "Adele is saved." in page.text
    assert "Adele" not in (await family.browser.open("/")).text, "adults have no limits to watch"
    await family.browser.open("/household")
    page = await family.browser.send(f"{path}/erase", confirmation="adele")
    assert "Type the name exactly as it is written above." in page.text
    page = await family.browser.send(f"{path}/erase", confirmation="Adele")
    assert str(page.url) == f"{ORIGIN}/household/receipt"
    assert "profiles" in page.text
    names = [profile.name for profile in await family.site.services.members.of_account(family.account_id)]
    assert names == ["Ben"]


async def test_a_child_is_erased_with_a_receipt(family: VisitingFamily) -> None:
    path = f"/children/{family.child}"
    await family.browser.open(f"{path}/data")
    page = await family.browser.send(f"{path}/erase", confirmation="Ada")
    assert str(page.url) == f"{ORIGIN}/household/receipt"
    assert (await family.browser.open(path)).status_code == 403


async def test_the_export_is_the_whole_profile(family: VisitingFamily) -> None:
    answer = await family.browser.open(f"/children/{family.child}/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="hourglass-export.json"'
    assert answer.json()["profile"]["name"] == "Ada"


async def test_a_device_is_added_shown_once_and_revoked(family: VisitingFamily) -> None:
    await family.browser.open("/household")
    page = await family.browser.send("/household/devices", name="phone", pin=PIN)
    [token] = re.findall(r'<code class="token">([^<]+)</code>', page.text)
    api = family.site.api(family.account_id)
    api.headers["authorization"] = f"Bearer {token}"
    assert (await api.get("/auth/devices")).status_code == 200
    page = await family.browser.open("/household")
    assert token not in page.text
    [revoke] = re.findall(r'action="(/household/devices/[^"]+/revoke)"', page.text)
    page = await family.browser.send(revoke)
    assert "The device is revoked" in page.text
    assert (await api.get("/auth/devices")).status_code == 401


async def test_the_account_is_erased_with_its_password_and_everybody_is_signed_out(site: Site) -> None:
    family = await family_of(site, "Ada")
    await family.browser.open("/household")
    page = await family.browser.send("/household/erase", password="not it at all")
    assert "That password is not right." in page.text
    page = await family.browser.send("/household/erase", password=PASSWORD)
    assert "The account is gone with everybody in it." in page.text
    assert str((await family.browser.open("/")).url).endswith("/sign-in")


# --- the rest


async def test_a_session_that_ended_in_mid_form_leads_to_signing_in_and_back(family: VisitingFamily) -> None:
    path = f"/children/{family.child}/settings"
    page = await family.browser.open(path)
    fields = settings_of(page.text)
    await family.site.services.console.sessions.end_all(family.account_id)
    page = await family.browser.send(path, **fields)
    assert "You had been signed out meanwhile, and nothing was saved." in page.text
    page = await family.browser.send("/sign-in", email=family.email, password=PASSWORD)
    assert page.url.params["next"] == path, "back to the form, by way of the PIN"
    page = await family.browser.send("/unlock", pin=PIN)
    assert str(page.url) == f"{ORIGIN}{path}"


async def limit_to(site: Site, family: VisitingFamily, minutes: int) -> None:
    api = site.api(family.account_id, Role.PARENT)
    path = f"/parental-controls/profiles/{family.child}/viewing-time"
    etag = (await api.get(path)).headers["etag"]
    limits = {"weekday_limit_minutes": minutes, "weekend_limit_minutes": minutes}
    assert (await api.put(path, json=limits, headers={"if-match": etag})).status_code == 200


async def test_why_a_child_is_blocked_is_one_sentence(site: Site) -> None:
    family = await family_of(site, "Ada")
    await limit_to(site, family, 15)
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    await use_up(site, family, title, minutes=15)
    page = await family.browser.open(f"/children/{family.child}")
    assert re.search(r"All 15 min of today are used up\. There is new time from .*06:00 on\.", page.text)
    assert "Time is up" in page.text


async def use_up(site: Site, family: VisitingFamily, title: str, *, minutes: int) -> None:
    """Watch, with a heartbeat every five minutes."""
    api = site.api(family.account_id)
    beat = {"profile_id": family.child, "title_id": title, "device_id": "tv"}
    for _ in range(0, minutes + 5, 5):
        answer = await api.post("/viewing-time/heartbeat", json=beat)
        assert answer.status_code == 200, answer.text
        beat["session_id"] = answer.json()["session_id"]
        site.set_forward(5 * MINUTE_MS)


JUNK = ["nothing", "00000000-0000-0000-0000-000000000000", "%00", "x" * 300, "..%2f..", "'--"]


@pytest.mark.parametrize("junk", JUNK)
async def test_made_up_addresses_are_refused_and_never_break(family: VisitingFamily, junk: str) -> None:
    browser, child = family.browser, f"/children/{family.child}"
    for path in (
        f"/children/{junk}",
        f"/children/{junk}/settings",
        f"/children/{junk}/history",
        f"{child}/{junk}",
        f"/children/{junk}/export",
        f"/live?child={junk}",
        f"{child}/week?ending={junk}",
        f"{child}/history?cursor={junk}",
        f"/week.csv?ending={junk}",
        f"/household/{junk}",
        f"/style/{junk}",
    ):
        answer = await browser.http.get(path)
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
    await browser.open("/")
    fields = browser.form(f"{child}/grants")
    for path in (
        f"/children/{junk}/grants",
        f"{child}/grants/{junk}/revoke",
        f"{child}/requests/{junk}/approve",
        f"{child}/requests/{junk}/deny",
        f"/household/profiles/{junk}",
        f"/household/profiles/{junk}/erase",
        f"/household/devices/{junk}/revoke",
        f"/children/{junk}/erase",
    ):
        answer = await browser.post(path, fields | {"minutes": "15", "name": "x", "once": uuid4().hex})
        assert 400 <= answer.status_code < 500, (path, answer.status_code)


async def test_a_page_over_an_insecure_connection_says_so(site: Site) -> None:
    page = await site.browser(base_url="http://tv.example.org").open("/sign-in")
    assert "This page came over an insecure connection." in page.text
    page = await site.browser(base_url="https://tv.example.org").open("/sign-in")
    assert "insecure" not in page.text


async def test_a_device_that_is_added_twice_with_one_form_is_one(family: VisitingFamily) -> None:
    await family.browser.open("/household")
    fields = family.browser.form("/household/devices") | {"name": "phone", "pin": PIN}
    answers = [await family.browser.post("/household/devices", fields) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 303]
    assert len(await family.site.services.devices.of_account(family.account_id)) == 1


async def test_static_files_are_kept_for_ever_by_their_content(site: Site) -> None:
    browser = site.browser()
    html = (await browser.open("/sign-in")).text
    for url in re.findall(r'(?:src|href)="(/static/[^"]+)"', html):
        answer = await browser.http.get(url)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (await browser.http.get("/static/console.css?v=old")).headers["cache-control"] == "no-cache"
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/vendor/htmx.LICENSE", "/static/"):
        assert (await browser.http.get(path)).status_code == 404, path


async def test_without_the_console_there_are_no_pages(site: Site) -> None:
    app = create_app(site.services.settings.model_copy(update={"console": False}))
    app.state.services = site.services
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        assert (await client.get("/sign-in")).status_code == 404


async def test_the_style_page_is_for_development(site: Site) -> None:
    app = create_app(site.services.settings.model_copy(update={"console_style_page": False}))
    app.state.services = site.services
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        assert (await client.get("/style")).status_code == 404


async def grants(family: VisitingFamily) -> list[GrantEntry]:
    return await family.site.services.parents.grants.entries(
        account_id=family.account_id, profile_id=family.child, day=None, most=10
    )


async def config(family: VisitingFamily) -> Config:
    settings = family.site.services.parents.settings
    found, _ = await settings.read(account_id=family.account_id, profile_id=family.child)
    return found


async def test_extra_time_that_made_up_for_too_much_says_so(site: Site) -> None:
    family = await family_of(site, "Ada")
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    await use_up(site, family, title, minutes=45)
    await limit_to(site, family, 15)
    page = await family.browser.open(f"/children/{family.child}")
    assert "Extra time also made up" not in page.text
    api = site.api(family.account_id, Role.PARENT)
    path = f"/parental-controls/profiles/{family.child}/viewing-time/grant"
    assert (await api.post(path, json={"minutes": 15})).status_code == 201
    page = await family.browser.open(f"/children/{family.child}")
    assert "data-left>15 min<" in page.text, "it counts from the grant on"
    assert "may watch" not in page.text, "a sentence would say another number than the running clock"
    assert "Extra time also made up for 30 min that were watched beyond the limit." in page.text


async def test_sessions_that_are_charged_are_explained(site: Site) -> None:
    family = await family_of(site, "Ada")
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    api = site.api(family.account_id)
    body = {"profile_id": family.child, "title_id": title, "device_id": "tv", "device_type": "tv"}
    said = []
    for _ in range(4):
        assert (await api.post("/viewing-time/heartbeat", json=body)).status_code == 200
        site.set_forward(6 * MINUTE_MS)
        page = await family.browser.open(f"/children/{family.child}")
        said.append("Films were started and left again and again" in page.text)
    assert said[0] is False
    assert said[-1] is True


async def test_time_that_is_taken_off_for_a_wrong_clock_is_shown(site: Site) -> None:
    family = await family_of(site, "Ada")
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    now = site.clock()
    interval = {
        "title_id": title,
        "started_at": rfc3339(now - 40 * HOUR_MS),
        "ended_at": rfc3339(now - HOUR_MS),
        "watched_seconds": 39 * 3600,
    }
    body = {
        "profile_id": family.child,
        "device_id": "tablet",
        "batch_id": uuid4().hex,
        "device_now": rfc3339(now - HOUR_MS),
        "last_server_time": rfc3339(now - 41 * HOUR_MS),
        "intervals": [interval],
    }
    answer = (await site.api(family.account_id).post("/viewing-time/offline-sync", json=body)).json()
    assert answer["tampered"] is True
    assert answer["balance"]["penalty_seconds"] > 60
    page = await family.browser.open(f"/children/{family.child}")
    assert "are taken off today: a device without a connection had a wrong clock." in page.text
    page = await family.browser.open(f"/children/{family.child}/history")
    assert "taken off for a wrong clock" in page.text


async def test_what_remains_counts_from_the_last_beat(site: Site) -> None:
    family = await family_of(site, "Ada")
    await limit_to(site, family, 60)
    await site.rows.title(title := f"film-{uuid4().hex[:8]}", "A film")
    body = {"profile_id": family.child, "title_id": title, "device_id": "tv"}
    answer = (await site.api(family.account_id).post("/viewing-time/heartbeat", json=body)).json()
    stops = []
    for seconds in (0, 20):
        site.set_forward(seconds * 1000)
        page = await family.browser.open("/")
        assert f'data-remaining="{3600.0 - seconds}"' in page.text
        stops.append(re.findall(r'Stops at</dt><dd><time datetime="([^"]+)"', page.text))
    assert stops[0] == stops[1], "a child that watches on stops at the same instant"
    assert stops[0][0][:16] == answer["stop_at"][:16]


async def test_what_was_watched_together_is_said_in_history_and_week(site: Site) -> None:
    family = await family_of(site, "Ada", "Ben & Jo")
    await make_partitions(site.services.engine, at_ms=site.clock(), days_back=30)
    sunday = utc(site.clock()).date() - timedelta(days=utc(site.clock()).isoweekday())
    started_ms = start_of(sunday, 12)
    for child, minutes in zip(family.children.values(), (60, 25), strict=True):
        await site.rows.balance(child, sunday, used_ms=minutes * MINUTE_MS)
        await site.rows.session(child, sunday, started_ms=started_ms, used_ms=minutes * MINUTE_MS)
    page = await family.browser.open(f"/children/{family.child}/history")
    assert "together with Ben &amp; Jo" in page.text
    week = await family.browser.open(f"/children/{family.child}/week?ending={sunday}")
    assert "<dt>Watched together</dt><dd>25 min</dd>" in week.text


async def test_what_was_borrowed_is_said_in_history_and_week(site: Site) -> None:
    family = await family_of(site, "Ada")
    await make_partitions(site.services.engine, at_ms=site.clock(), days_back=30)
    sunday = utc(site.clock()).date() - timedelta(days=utc(site.clock()).isoweekday())
    saturday = sunday - timedelta(days=1)
    await site.rows.balance(family.child, saturday, used_ms=125 * MINUTE_MS, borrowed_ms=5 * MINUTE_MS)
    await site.rows.balance(family.child, sunday, used_ms=60 * MINUTE_MS, owed_ms=5 * MINUTE_MS)
    page = await family.browser.open(f"/children/{family.child}/history")
    assert "5 min borrowed from the next day" in page.text
    assert "5 min taken off for a finished film" in page.text
    week = await family.browser.open(f"/children/{family.child}/week?ending={sunday}")
    assert "a film was finished, and 5 min were taken from the next day." in week.text
