"""Markets and enforcement modes through the API, with the markets file changing while it serves."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prometheus_client import REGISTRY

from app.auth.tokens import Role
from app.embedded.valkey import Valkey
from app.wiring.worker import open_worker
from tests.builders import settings_for
from tests.scenes.api import Api, SetClock, opened

MINUTE = 60_000
MARKETS = """
[markets.monday]
weekend_days = ["mon"]
weekday_limit_minutes = 30
weekend_limit_minutes = 45
[markets.trial]
enforcement = "shadow"
weekday_limit_minutes = 15
[markets.free]
enforcement = "off"
weekday_limit_minutes = 15
"""


@dataclasses.dataclass
class Deployment:
    api: Api
    file: Path

    def pass_time(self, ms: int) -> None:
        """Move every clock, that of the counters included."""
        self.api.set_clock(self.api.clock.at_ms + ms)

    async def rewrite(self, text: str) -> None:
        self.file.write_text(text, encoding="utf-8")
        await self.api.services.markets_file.look()


@pytest.fixture
async def deployment(database_url: str, valkey: Valkey, clock: SetClock, tmp_path: Path) -> AsyncIterator[Deployment]:
    file = tmp_path / "markets.toml"
    file.write_text(MARKETS, encoding="utf-8")
    settings = settings_for(
        database_url=database_url, redis_url=valkey.url, database_pool=5, redis_timeout_seconds=5, markets_file=file
    )
    async with opened(settings, clock) as api:
        deployment = Deployment(api, file)
        deployment.pass_time(0)
        yield deployment


@dataclasses.dataclass
class Child:
    deployment: Deployment
    account: str
    account_id: str
    profile_id: str
    title: str = "moon-pirates"
    session_id: str | None = None

    @property
    def service(self) -> httpx.AsyncClient:
        return self.deployment.api.signed_in("provisioning", Role.SERVICE)

    @property
    def parent(self) -> httpx.AsyncClient:
        return self.deployment.api.signed_in(self.account_id)

    async def move_to(self, market: str | None) -> None:
        answer = await self.service.patch(f"/accounts/{self.account}", json={"market": market})
        assert (answer.status_code, answer.json()["market"]) == (200, market)

    async def beat(self) -> dict[str, object]:
        beat = {"profile_id": self.profile_id, "title_id": self.title, "device_id": "tv", "session_id": self.session_id}
        answer = await self.parent.post("/viewing-time/heartbeat", json=beat)
        assert answer.status_code == 200, answer.text
        self.session_id = answer.json()["session_id"]
        return dict(answer.json())

    async def why(self) -> dict[str, object]:
        return dict((await self.parent.get(f"/viewing-time/why/{self.profile_id}")).json())


async def _child(deployment: Deployment, market: str | None = None) -> Child:
    service = deployment.api.signed_in("provisioning", Role.SERVICE)
    title = [{"id": "moon-pirates", "name": "Moon Pirates", "is_educational": False}]
    await service.put("/catalog/titles", json=title)
    account = f"account-{uuid4()}"
    made = await service.put(f"/platform/accounts/{account}", json={"timezone": "UTC", "market": market})
    assert made.status_code == 201, made.text
    profile = await service.put(f"/platform/accounts/{account}/profiles/kid", json={"name": "Ada", "is_kids": True})
    return Child(deployment, account, made.json()["account_id"], profile.json()["profile_id"])


async def test_a_new_child_gets_the_defaults_of_its_market(deployment: Deployment) -> None:
    child = await _child(deployment, "monday")
    found = (await child.parent.get(f"/parental-controls/profiles/{child.profile_id}/viewing-time")).json()
    assert (found["weekday_limit_minutes"], found["weekend_limit_minutes"], found["market"]) == (30, 45, "monday")
    why = await child.why()
    assert (why["market"], why["enforcement_mode"]) == ("monday", "enforce")


async def test_moving_an_account_changes_its_weekend_at_once(deployment: Deployment) -> None:
    child = await _child(deployment)
    assert (await child.beat())["remaining_seconds"] == 120 * 60  # a Monday
    await child.move_to("monday")
    assert (await child.beat())["remaining_seconds"] == pytest.approx(180 * 60)
    await child.move_to(None)
    assert (await child.beat())["remaining_seconds"] == pytest.approx(120 * 60)


async def test_a_changed_file_is_in_force_for_children_who_watch_and_a_wrong_one_is_not(
    deployment: Deployment,
) -> None:
    child = await _child(deployment, "monday")
    assert (await child.beat())["remaining_seconds"] == 45 * 60
    await deployment.rewrite("[markets.monday]\nweekend_days = ['fri']")
    assert (await child.beat())["remaining_seconds"] == pytest.approx(30 * 60)
    await deployment.rewrite("[markets.monday]\nweekend_days = ['someday']")
    assert (await child.beat())["remaining_seconds"] == pytest.approx(30 * 60)
    assert (await child.why())["market"] == "monday"


async def test_an_unknown_market_or_account_is_refused(deployment: Deployment) -> None:
    child = await _child(deployment)
    refused = await child.service.patch(f"/accounts/{child.account}", json={"market": "atlantis"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/market"
    assert (await child.service.patch(f"/accounts/{uuid4()}", json={"market": "trial"})).status_code == 404
    assert (await child.parent.patch(f"/accounts/{child.account}", json={"market": "free"})).status_code == 403
    mode = {"enforcement": "perhaps"}
    assert (await child.service.patch(f"/accounts/{child.account}/profiles/kid", json=mode)).status_code == 422
    unknown = f"/accounts/{child.account}/profiles/unknown"
    assert (await child.service.patch(unknown, json={"enforcement": "off"})).status_code == 404


async def _use_up(child: Child) -> None:
    """Watch for twenty minutes, more than the limit of fifteen."""
    for _ in range(5):
        await child.beat()
        child.deployment.pass_time(5 * MINUTE)


async def test_shadow_says_allowed_and_what_it_would_be(deployment: Deployment) -> None:
    child = await _child(deployment, "trial")
    await _use_up(child)
    for answer in (await child.beat(), (await child.parent.get(f"/viewing-time/balance/{child.profile_id}")).json()):
        assert (answer["enforcement"], answer["would_be"], answer["remaining_seconds"]) == ("allowed", "blocked", None)
        assert answer["used_seconds"] == 15 * 60
    eligible = (await child.parent.get(f"/viewing-time/playback-eligible/{child.profile_id}")).json()
    assert (eligible["eligible"], eligible["reason"], eligible["would_be"]) == (True, "not_enforced", "blocked")
    why = await child.why()
    assert (why["enforcement"], why["enforcement_mode"], why["would_be"]) == ("allowed", "shadow", "blocked")


async def test_a_profile_may_have_another_mode_than_its_market(deployment: Deployment) -> None:
    child = await _child(deployment, "trial")
    await _use_up(child)
    for mode, enforcement, would_be in (
        ("enforce", "blocked", None),
        ("off", "allowed", None),
        ("shadow", "allowed", "blocked"),
        ("enforce", "blocked", None),
        (None, "allowed", "blocked"),
    ):
        changed = await child.service.patch(f"/accounts/{child.account}/profiles/kid", json={"enforcement": mode})
        assert (changed.status_code, changed.json()["enforcement"]) == (200, mode)
        answer = await child.beat()
        assert (answer["enforcement"], answer.get("would_be")) == (enforcement, would_be)
        assert (answer["stop_at"] is None) == (enforcement == "allowed")


async def test_a_market_turns_enforcement_on_for_children_who_watch(deployment: Deployment) -> None:
    child = await _child(deployment, "trial")
    await _use_up(child)
    assert (await child.beat())["enforcement"] == "allowed"
    await deployment.rewrite(MARKETS.replace("shadow", "enforce"))
    assert (await child.beat())["enforcement"] == "blocked"


async def test_the_shadow_report_says_whom_it_would_have_blocked_and_for_how_long(
    deployment: Deployment, clock: SetClock
) -> None:
    children = [await _child(deployment, market) for market in ("trial", "trial", "monday", "free")]
    for child in children:
        for _ in range(5):
            await child.beat()
        await _use_up(child)
        deployment.pass_time(10 * MINUTE)
    settings = deployment.api.services.settings.model_copy(update={"flush_age_seconds": 0.0})
    async with open_worker(settings, clock=clock) as worker:
        await worker.make_partitions()
        await worker.flusher.drain()
    days = {"from_date": "2026-03-02", "to_date": "2026-03-02"}
    mine = {child.profile_id for child in children}
    for role in (Role.SERVICE, Role.ADMIN):
        report = await deployment.api.signed_in("reader", role).get("/platform/shadow-report", params=days)
        assert report.status_code == 200, report.text
        found = {
            day["profile_id"]: day["blocked_seconds"] for day in report.json()["days"] if day["profile_id"] in mine
        }
        assert found == {children[0].profile_id: 300.0, children[1].profile_id: 300.0}  # 20 minutes less the 15 allowed
    await _check_noted(children)
    first = await children[0].service.get("/platform/shadow-report", params={**days, "limit": 1})
    second = await children[0].service.get(
        "/platform/shadow-report", params={**days, "limit": 1000, "cursor": first.json()["next_cursor"]}
    )
    seen = [day["profile_id"] for page in (first, second) for day in page.json()["days"]]
    assert seen == sorted(set(seen))
    for wrong in ({"cursor": "x"}, {"to_date": "2026-06-02"}, {"to_date": "2026-03-01"}):
        assert (await children[0].service.get("/platform/shadow-report", params={**days, **wrong})).status_code == 422
    assert (await children[0].parent.get("/platform/shadow-report", params=days)).status_code == 403


async def _check_noted(children: Sequence[Child]) -> None:
    """Both readings are in the audit log of each child that was read, and in no other."""
    for child in children:
        entries = (await child.parent.get("/account/audit")).json()["entries"]
        noted = [
            (entry["actor"], entry["profile_id"], entry["detail"])
            for entry in entries
            if entry["action"] == "shadow_report_read"
        ]
        is_read = child in children[:2]
        assert noted == ([(f"{role}:reader", child.profile_id, {"days": 1}) for role in ("admin", "service")] * is_read)


async def test_provisioning_makes_policies_old_only_where_the_market_changes(deployment: Deployment) -> None:
    child = await _child(deployment, "monday")
    seen = []
    for market, zone in (("monday", "UTC"), ("monday", "Europe/Oslo"), ("free", "Europe/Oslo"), (None, "Europe/Oslo")):
        facts = {"timezone": zone, "market": market}
        assert (await child.service.put(f"/platform/accounts/{child.account}", json=facts)).status_code == 200
        [policy] = await deployment.api.services.postgres_policies.load([child.profile_id])
        assert policy is not None
        seen.append((policy.market, policy.version))
    first = seen[0][1]
    assert seen == [("monday", first), ("monday", first), ("free", first + 1), (None, first + 2)]


async def test_a_process_finds_a_changed_file_by_itself(deployment: Deployment) -> None:
    child = await _child(deployment, "trial")
    assert (await child.why())["enforcement_mode"] == "shadow"
    deployment.file.write_text(MARKETS.replace("shadow", "off"), encoding="utf-8")
    async with asyncio.timeout(10):
        while (await child.why())["enforcement_mode"] != "off":  # noqa: ASYNC110  nothing tells a client
            await asyncio.sleep(0.05)  # the file is looked at once a second


async def test_what_is_not_enforced_is_counted_by_what_it_would_be(deployment: Deployment) -> None:
    def counted(would_be: str) -> float:
        labels = {"market": "trial", "mode": "shadow", "would_be": would_be}
        return REGISTRY.get_sample_value("hourglass_not_enforced_decisions_total", labels) or 0.0

    child = await _child(deployment, "trial")
    before = {would_be: counted(would_be) for would_be in ("allowed", "warning", "blocked")}
    await _use_up(child)  # beats with 15, 10, 5, 0 and 0 minutes left
    assert {would_be: counted(would_be) - before[would_be] for would_be in before} == {
        "allowed": 0,
        "warning": 3,
        "blocked": 2,
    }
