"""Grants are stored in the ledger and can be revoked; repetitions change nothing."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from app.auth.tokens import Role
from app.domain.counters import cold
from app.domain.policy import Grant, Policy, terms_of
from app.domain.viewing_day import day_number_of
from app.errors import CountersUnavailable
from app.postgres_store import tables
from tests.rows import DAY_MS
from tests.scenes.api import NOON, Api

pytestmark = pytest.mark.usefixtures("partitions")

MINUTE = 60_000
HOUR = 60 * MINUTE
TODAY = date(2026, 3, 2)


@dataclass
class Scene:
    api: Api
    account: str
    child: str
    adult: str
    parent: httpx.AsyncClient

    async def give(self, minutes: Any = 15, *, to: str | None = None, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"/parental-controls/profiles/{to or self.child}/viewing-time/grant"
        return await self.parent.post(path, json={"minutes": minutes}, headers=headers)

    async def given(self, minutes: int | None) -> dict[str, Any]:
        answer = await self.give(minutes)
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def revoke(self, grant_id: str) -> httpx.Response:
        return await self.parent.delete(f"/parental-controls/profiles/{self.child}/grants/{grant_id}")

    async def ledger(self, **params: Any) -> list[dict[str, Any]]:
        answer = await self.parent.get(f"/parental-controls/profiles/{self.child}/grants", params=params)
        assert answer.status_code == 200, answer.text
        grants: list[dict[str, Any]] = answer.json()["grants"]
        return grants

    async def policy(self) -> Policy:
        """As every process is told."""
        (policy,) = await self.api.services.shared_policies.load([self.child])
        assert policy is not None
        assert (await self.api.services.postgres_policies.load([self.child])) == [policy]
        return policy


@pytest.fixture
async def family(api: Api) -> Scene:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 24 * HOUR)
    return Scene(api, account, child, await api.rows.adult(account), api.signed_in(account))


async def test_a_grant_adds_to_what_is_left(family: Scene) -> None:
    await family.api.rows.balance(family.child, TODAY, used_ms=100 * MINUTE + 1500)
    first = await family.given(15)
    assert first == {
        "grant_id": first["grant_id"],
        "granted_minutes": 15,
        "covered_seconds": 0,
        "day": "2026-03-02",
        "remaining_seconds": 35 * 60 - 1.5,
        "remaining_minutes": 34.98,
        "is_unlimited_override": False,
        "server_time": "2026-03-02T12:00:00.000Z",
    }
    family.api.clock.at_ms += 1
    second = await family.given(60)
    assert (second["granted_minutes"], second["remaining_seconds"]) == (60, 95 * 60 - 1.5)
    policy = await family.policy()
    today = day_number_of(TODAY)
    assert policy.version == 3
    assert policy.grants == (Grant(today, 15), Grant(today, 60))


async def test_a_child_over_its_limit_gets_all_of_a_grant(family: Scene) -> None:
    await family.api.rows.balance(family.child, TODAY, used_ms=120 * MINUTE, overrun_ms=HOUR)
    assert (await family.given(15))["remaining_minutes"] == 15


async def _seed(family: Scene, *, used_ms: int) -> None:
    """Use that Redis has and PostgreSQL has not."""
    policy = (await family.api.services.postgres_policies.load([family.child]))[0]
    assert policy is not None
    assert policy.calendar is not None
    terms = terms_of(policy, policy.calendar.day_at(NOON), weekend_days=(5, 6))
    counters = cold(terms=terms, policy_version=policy.version, at_ms=NOON)
    counters.used_ms = used_ms
    await family.api.services.counters.seed([(family.child, counters)])


async def _limit(family: Scene, minutes: int) -> None:
    body = {"weekday_limit_minutes": minutes, "weekend_limit_minutes": minutes}
    path = f"/parental-controls/profiles/{family.child}/viewing-time"
    answer = await family.parent.put(path, json=body, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("is_flushed", [True, False])
async def test_a_grant_after_the_limit_was_lowered_gives_its_minutes(family: Scene, *, is_flushed: bool) -> None:
    """60 minutes, 40 of them used, then 15."""
    await _limit(family, 60)
    if is_flushed:
        await family.api.rows.balance(family.child, TODAY, used_ms=40 * MINUTE)
    else:
        await _seed(family, used_ms=40 * MINUTE)
    await _limit(family, 15)
    given = await family.given(15)
    assert (given["remaining_seconds"], given["covered_seconds"]) == (900, 25 * 60)
    assert [(entry["minutes"], entry["covered_seconds"]) for entry in await family.ledger()] == [(15, 25 * 60)]
    more = await family.given(30)
    assert (more["remaining_seconds"], more["covered_seconds"]) == (45 * 60, 0)
    revoked = (await family.revoke(given["grant_id"])).json()
    assert revoked["remaining_seconds"] == 5 * 60, "15 + 30 less 40: the cover went with its grant"
    assert [grant.covered_ms for grant in (await family.policy()).grants] == [0]


async def test_a_grant_after_a_lifted_limit_was_put_back_gives_its_minutes(family: Scene) -> None:
    await _limit(family, 15)
    lifted = await family.given(None)
    await family.api.rows.balance(family.child, TODAY, used_ms=40 * MINUTE)
    assert (await family.revoke(lifted["grant_id"])).json()["remaining_seconds"] == 0
    assert (await family.given(15))["remaining_seconds"] == 900


async def test_grants_at_once_cover_once(family: Scene) -> None:
    await family.api.rows.balance(family.child, TODAY, used_ms=140 * MINUTE)
    answers = await asyncio.gather(*(family.given(15) for _ in range(4)))
    assert sorted(answer["covered_seconds"] for answer in answers) == [0, 0, 0, 20 * 60]
    assert max(answer["remaining_seconds"] for answer in answers) == 60 * 60


async def test_offline_use_beyond_the_limit_is_covered(family: Scene) -> None:
    await family.api.rows.balance(family.child, TODAY, used_ms=100 * MINUTE, offline_used_ms=50 * MINUTE)
    given = await family.given(15)
    assert (given["remaining_seconds"], given["covered_seconds"]) == (900, 30 * 60)


async def test_what_redis_cannot_tell_is_covered_as_it_was_flushed(family: Scene, monkeypatch: Any) -> None:
    await family.api.rows.balance(family.child, TODAY, used_ms=140 * MINUTE)

    async def away(*_: object) -> None:
        raise CountersUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(family.api.services.counters, "read", away)
        given = await family.given(15)
    assert (given["remaining_seconds"], given["covered_seconds"]) == (None, 20 * 60)
    assert (await family.given(15))["remaining_seconds"] == 30 * 60


async def test_a_repeat_tells_of_the_same_cover(family: Scene) -> None:
    await family.api.rows.balance(family.child, TODAY, used_ms=140 * MINUTE)
    first = (await family.give(15, key="k")).json()
    assert first["covered_seconds"] == 20 * 60
    assert (await family.give(15, key="k")).json() == first
    assert len(await family.ledger()) == 1


async def test_null_lifts_the_limit_until_the_day_ends(family: Scene) -> None:
    lifted = await family.given(None)
    assert (lifted["granted_minutes"], lifted["remaining_seconds"], lifted["remaining_minutes"]) == (None, None, None)
    assert lifted["is_unlimited_override"] is True
    family.api.clock.at_ms = NOON + 17 * HOUR
    tomorrow = await family.given(15)
    assert (tomorrow["day"], tomorrow["remaining_minutes"]) == ("2026-03-03", 135)


async def test_a_grant_belongs_to_the_running_viewing_day(family: Scene) -> None:
    family.api.clock.at_ms = NOON + 17 * HOUR - 1
    assert (await family.given(30))["day"] == "2026-03-02"
    family.api.clock.at_ms += 1
    assert (await family.given(30))["day"] == "2026-03-03"


async def test_a_revoked_grant_stays_in_the_ledger(family: Scene) -> None:
    await family.api.rows.balance(family.child, TODAY, used_ms=130 * MINUTE)
    grant_id = (await family.given(30))["grant_id"]
    family.api.clock.at_ms += MINUTE
    await family.given(15)
    revoked = await family.revoke(grant_id)
    assert revoked.status_code == 200
    assert (revoked.json()["grant_id"], revoked.json()["granted_minutes"]) == (grant_id, 30)
    assert revoked.json()["remaining_seconds"] == 300
    policy = await family.policy()
    assert (policy.version, policy.grants) == (4, (Grant(day_number_of(TODAY), 15),))
    newest, oldest = await family.ledger()
    assert (newest["minutes"], newest["revoked_at"]) == (15, None)
    assert oldest == {
        "grant_id": grant_id,
        "minutes": 30,
        "covered_seconds": 600,
        "day": "2026-03-02",
        "granted_by": "parent",
        "is_remote": True,
        "granted_at": "2026-03-02T12:00:00.000Z",
        "revoked_at": "2026-03-02T12:01:00.000Z",
    }
    family.api.clock.at_ms += MINUTE
    again = await family.revoke(grant_id)
    assert again.json() == revoked.json() | {"server_time": "2026-03-02T12:02:00.000Z"}
    assert (await family.policy()).version == 4
    assert (await family.ledger())[1] == oldest


async def test_the_limit_acts_again_when_a_grant_without_limit_is_revoked(family: Scene) -> None:
    grant_id = (await family.given(None))["grant_id"]
    revoked = (await family.revoke(grant_id)).json()
    assert (revoked["is_unlimited_override"], revoked["remaining_minutes"]) == (False, 120)


async def test_the_ledger_can_be_read_by_day(family: Scene) -> None:
    for minutes in (15, 30, 60):
        await family.given(minutes)
        family.api.clock.at_ms += DAY_MS
    assert [grant["minutes"] for grant in await family.ledger()] == [60, 30, 15]
    assert [grant["minutes"] for grant in await family.ledger(day="2026-03-03")] == [30]
    assert [grant["minutes"] for grant in await family.ledger(limit=2)] == [60, 30]


async def test_everything_is_in_the_audit_log(family: Scene) -> None:
    grant_id = (await family.given(30))["grant_id"]
    await family.revoke(grant_id)
    log = tables.audit_log.c
    async with family.api.services.engine.connect() as database:
        found = await database.execute(
            select(log.actor, log.action, log.detail).where(log.profile_id == family.child).order_by(log.id)
        )
        assert list(found) == [
            ("parent", "time_granted", {"grant_id": grant_id, "minutes": 30}),
            ("parent", "grant_revoked", {"grant_id": grant_id}),
        ]


async def test_a_parent_device_is_named_in_the_ledger(family: Scene) -> None:
    family.parent = family.api.signed_in(family.account, device_id=(device := str(uuid4())))
    await family.given(15)
    assert [grant["granted_by"] for grant in await family.ledger()] == [f"device:{device}"]


async def test_a_repeat_gets_the_first_answer(family: Scene) -> None:
    first = await family.give(15, key="tap-1")
    family.api.clock.at_ms += HOUR
    await family.give(60)
    family.api.clock.at_ms += 23 * HOUR - 1
    repeat = await family.give(15, key="tap-1")
    assert (repeat.status_code, repeat.json()) == (201, first.json())
    assert [grant["minutes"] for grant in await family.ledger()] == [60, 15]
    assert (await family.policy()).version == 3


async def test_a_key_is_forgotten_after_a_day(family: Scene) -> None:
    first = await family.give(15, key="tap-1")
    family.api.clock.at_ms += 24 * HOUR
    later = await family.give(30, key="tap-1")
    assert later.status_code == 201
    assert later.json()["grant_id"] != first.json()["grant_id"]
    assert (await family.give(30, key="tap-1")).json() == later.json()


async def test_a_key_stands_for_one_request(family: Scene) -> None:
    assert (await family.give(15, key="tap-1")).status_code == 201
    other_child = await family.api.rows.child(family.account, at_ms=NOON)
    for refused in (await family.give(30, key="tap-1"), await family.give(15, key="tap-1", to=other_child)):
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(await family.ledger()) == 1


async def test_keys_of_accounts_do_not_meet(api: Api, family: Scene) -> None:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON)
    others = Scene(api, account, child, "", api.signed_in(account))
    answers = [await home.give(15, key="tap-1") for home in (family, others)]
    assert [answer.status_code for answer in answers] == [201, 201]


async def test_a_request_that_failed_leaves_its_key_free(family: Scene) -> None:
    assert (await family.give(15, key="tap-1", to=family.adult)).status_code == 404
    assert (await family.give(15, key="tap-1")).status_code == 201


async def test_repeats_at_the_same_time_have_one_effect(family: Scene) -> None:
    answers = await asyncio.gather(*(family.give(15, key="tap-1") for _ in range(12)))
    granted = [answer.json() for answer in answers if answer.status_code == 201]
    early = [answer for answer in answers if answer.status_code != 201]
    assert granted
    assert all(answer == granted[0] for answer in granted)
    assert {(answer.status_code, answer.json()["code"]) for answer in early} <= {(409, "still_running")}
    assert all(answer.headers["Retry-After"] == "1" for answer in early)
    assert len(await family.ledger()) == 1


async def test_a_repeat_before_the_first_has_an_answer_is_told_so(family: Scene) -> None:
    """Whichever comes first is held up by a lock on the profile; the other does not wait for it."""
    async with family.api.services.engine.begin() as other:
        await other.execute(select(tables.profiles.c.id).where(tables.profiles.c.id == family.child).with_for_update())
        both = [asyncio.create_task(family.give(15, key="tap-1")) for _ in range(2)]
        (answered,), (waiting,) = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert (answered.result().status_code, answered.result().json()["code"]) == (409, "still_running")
    assert (await waiting).status_code == 201
    assert len(await family.ledger()) == 1


async def test_grants_at_the_same_time_all_count(family: Scene) -> None:
    answers = await asyncio.gather(*(family.give(15) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [201] * 8
    remaining = sorted(answer.json()["remaining_minutes"] for answer in answers)
    assert remaining == [120 + 15 * count for count in range(1, 9)]
    assert (await family.policy()).version == 9


@pytest.mark.parametrize("minutes", [0, -15, 20, 45, 61, "15", 15.5, True, [15], 2**63])
async def test_only_what_is_offered_can_be_given(family: Scene, minutes: Any) -> None:
    answer = await family.give(minutes)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/minutes"]
    assert await family.ledger() == []


async def test_minutes_must_be_said(family: Scene) -> None:
    path = f"/parental-controls/profiles/{family.child}/viewing-time/grant"
    for body in ({}, {"minutes": 15, "day": "2026-03-05"}):
        assert (await family.parent.post(path, json=body)).status_code == 422


@pytest.mark.parametrize("key", ["", "x" * 101, "two words", "å".encode(), b"\x80"])
async def test_a_key_is_a_short_word(family: Scene, key: Any) -> None:
    path = f"/parental-controls/profiles/{family.child}/viewing-time/grant"
    answer = await family.parent.post(path, json={"minutes": 15}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert await family.ledger() == []


async def test_adults_and_strangers_get_nothing(api: Api, family: Scene) -> None:
    assert (await family.give(15, to=family.adult)).status_code == 404
    for nobody in (str(uuid4()), "nobody", "%00"):
        assert (await family.give(15, to=nobody)).status_code == 403
    account = await api.rows.account()
    stranger = Scene(api, account, family.child, "", api.signed_in(account))
    grant_id = (await family.given(15))["grant_id"]
    assert (await stranger.give(15)).status_code == 403
    assert (await stranger.revoke(grant_id)).status_code == 403
    own = await api.rows.child(account, at_ms=NOON)
    stranger.child = own
    assert (await stranger.revoke(grant_id)).status_code == 404
    for unknown in (str(uuid4()), "x", "%00"):
        assert (await family.revoke(unknown)).status_code == 404
    assert [grant["revoked_at"] for grant in await family.ledger()] == [None]


async def test_only_parents_may(api: Api, family: Scene) -> None:
    grant_id = (await family.given(15))["grant_id"]
    for role in (Role.HOUSEHOLD, Role.SERVICE, Role.ADMIN):
        other = Scene(api, family.account, family.child, family.adult, api.signed_in(family.account, role))
        assert (await other.give(15)).status_code == 403
        assert (await other.revoke(grant_id)).status_code == 403
        path = f"/parental-controls/profiles/{family.child}/grants"
        assert (await other.parent.get(path)).status_code == 403
