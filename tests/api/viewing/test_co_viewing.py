"""Children who watch together: each is charged once, the strictest decides, each learns of its own time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from typing import Any

import pytest
from pydantic import SecretStr

from app.auth.lease_keys import new_lease_key
from app.auth.tokens import Role
from app.clock import now_ms
from app.domain.counters import Beat, Outcome
from app.errors import CountersUnavailable
from app.settings.settings import Settings
from app.viewing.beat_recorder import BeatRecorder
from app.wiring.worker import open_worker
from tests.scenes.api import Api, running
from tests.scenes.households import Household, registered_at_noon
from tests.unit.test_leases import verified

MINUTE_MS = 60_000


def utc_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


class Together:
    """Children in front of one television. The counters' clock stands still until ``later``."""

    def __init__(self, api: Api, home: Household, title: str, children: list[str]) -> None:
        self.api = api
        self.home = home
        self.title = title
        self.children = children
        self.sessions: dict[str, str] = {}

    @classmethod
    async def of(cls, api: Api, *limits: int | None) -> "Together":
        """One child for each limit in minutes."""
        home = await registered_at_noon(api)
        children = [await home.child(name=f"Child {place}") for place in range(len(limits))]
        for child, minutes in zip(children, limits, strict=True):
            changed = await home.set_limits(child, weekday_limit_minutes=minutes, weekend_limit_minutes=minutes)
            assert changed.status_code == 200, changed.text
        return cls(api, home, await api.add_title(), children)

    def later(self, ms: int) -> None:
        self.api.services.counters.at_ms += ms

    def named(self, child: str, **fields: object) -> dict[str, object]:
        return {"profile_id": child, "session_id": self.sessions.get(child)} | fields

    async def send(self, owner: str, *others: str | dict[str, object], **fields: Any) -> Any:
        """Send a beat and keep the sessions that its answer names."""
        co_viewers = [self.named(other) if isinstance(other, str) else other for other in others]
        answer = await self.home.beat(
            owner, self.title, session_id=self.sessions.get(owner), co_viewers=co_viewers, **fields
        )
        if answer.status_code == 200:
            told = answer.json()
            self.sessions[owner] = told["session_id"]
            for one in told.get("co_viewers", ()):
                if "session_id" in one:
                    self.sessions[one["profile_id"]] = one["session_id"]
        return answer

    async def beat(self, *children: str | dict[str, object]) -> dict[str, Any]:
        answer = await self.send(*(children or self.children))
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def used(self) -> list[float]:
        """The seconds of each child, by its own balance."""
        balances = await asyncio.gather(
            *(
                self.api.http.get(f"/viewing-time/balance/{child}", headers=self.home.as_player)
                for child in self.children
            )
        )
        return [balance.json()["used_seconds"] + balance.json()["overrun_seconds"] for balance in balances]


@pytest.fixture(autouse=True)
async def standing_clock(api: Api) -> AsyncIterator[None]:
    api.services.counters.at_ms = now_ms()
    yield
    api.services.counters.at_ms = 0


async def test_each_child_is_charged_once_and_the_strictest_decides(api: Api) -> None:
    group = await Together.of(api, 120, 30, None)
    ann, ben, eva = group.children
    opened = await group.beat()
    assert len({group.sessions[child] for child in group.children}) == 3
    assert opened["stop_at"] == opened["co_viewers"][0]["stop_at"]
    group.later(4 * MINUTE_MS)
    told = await group.beat()
    assert (told["enforcement"], told["decided_by"], told["remaining_seconds"]) == ("allowed", ben, 116 * 60)
    assert [(one["profile_id"], one["remaining_seconds"]) for one in told["co_viewers"]] == [
        (ben, 26 * 60),
        (eva, None),
    ]
    for _ in range(7):
        group.later(4 * MINUTE_MS)
        told = await group.beat()
    assert (told["enforcement"], told["decided_by"], told["lease_seconds"]) == ("blocked", ben, 0)
    assert [one["enforcement"] for one in told["co_viewers"]] == ["blocked", "allowed"]
    assert (told["remaining_seconds"], told["used_seconds"]) == (88 * 60, 32 * 60)
    assert await group.used() == [1920, 1920, 1920]
    alone = await group.beat(ann)
    assert (alone["enforcement"], "co_viewers" in alone, "decided_by" in alone) == ("allowed", False, False)


async def test_the_owner_may_be_the_strictest_and_nobody_need_be(api: Api) -> None:
    group = await Together.of(api, 15, 60)
    assert (await group.beat())["decided_by"] == group.children[0]
    unlimited = await Together.of(api, None, None)
    told = await unlimited.beat()
    assert (told["stop_at"], "decided_by" in told) == (None, False)


async def test_a_child_joins_and_leaves_and_pays_for_the_time_in_between(api: Api) -> None:
    group = await Together.of(api, None, None)
    ann, ben = group.children
    await group.beat(ann)
    group.later(2 * MINUTE_MS)
    await group.beat(ann, ben)
    group.later(3 * MINUTE_MS)
    left = await group.beat(ann, group.named(ben, has_left=True))
    assert left["co_viewers"][0]["used_seconds"] == 180
    session_id = group.sessions.pop(ben)
    group.later(4 * MINUTE_MS)
    await group.beat(ann)
    other = await group.home.beat(ben, group.title, device_id="tablet")
    assert other.json()["used_seconds"] == 180, "he did not watch in between"
    assert await group.used() == [540, 180]
    again = await group.send(ann, {"profile_id": ben, "session_id": session_id, "has_left": True})
    assert again.json()["co_viewers"][0]["problem"]["code"] in {"session_ended", "session_superseded"}
    assert (await group.used())[1] == 180


async def test_a_child_that_is_no_longer_named_is_charged_no_more(api: Api) -> None:
    group = await Together.of(api, None, None)
    ann, ben = group.children
    await group.beat()
    for _ in range(3):
        group.later(2 * MINUTE_MS)
        await group.beat(ann)
    await group.home.beat(ben, group.title, device_id="tablet")
    assert await group.used() == [360, 0]


async def test_a_co_viewer_that_watches_elsewhere_stops_nobody(api: Api) -> None:
    group = await Together.of(api, None, None, None)
    ann, ben, eva = group.children
    await group.beat()
    group.later(MINUTE_MS)
    await group.home.beat(ben, group.title, device_id="tablet", device_type="tablet")
    group.later(MINUTE_MS)
    told = await group.beat()
    taken, kept = told["co_viewers"]
    assert (taken["problem"]["code"], taken["problem"]["by"]) == ("session_superseded", {"device_type": "tablet"})
    assert set(taken) == {"profile_id", "problem"}
    assert (told["enforcement"], kept["used_seconds"]) == ("allowed", 120)
    assert await group.used() == [120, 60, 120]
    assert (ann, eva) == (group.children[0], kept["profile_id"])


async def test_a_taken_over_owner_stops_the_playback_and_a_co_viewer_can_go_on_with_its_session(api: Api) -> None:
    group = await Together.of(api, None, None)
    ann, ben = group.children
    await group.beat()
    await group.home.beat(ann, group.title, device_id="tablet", device_type="tablet")
    group.later(MINUTE_MS)
    refused = await group.send(ann, ben)
    assert (refused.status_code, refused.json()["code"]) == (409, "session_superseded")
    group.later(MINUTE_MS)
    session_id = group.sessions[ben]
    assert (await group.beat(ben))["session_id"] == session_id
    assert await group.used() == [0, 120]


async def test_an_opening_beat_takes_over_every_child(api: Api) -> None:
    group = await Together.of(api, None, None)
    ann, ben = group.children
    alone = (await group.home.beat(ben, group.title, device_id="tablet")).json()
    group.later(MINUTE_MS)
    await group.beat(ann, ben)
    late = await group.home.beat(ben, group.title, session_id=alone["session_id"], device_id="tablet")
    assert late.json()["code"] == "session_superseded"
    assert await group.used() == [0, 60]


async def test_a_repeated_beat_adds_nothing(api: Api) -> None:
    group = await Together.of(api, None, None)
    await group.beat()
    group.later(MINUTE_MS)
    first = await group.beat()
    assert (await group.beat())["used_seconds"] == first["used_seconds"] == 60
    assert await group.used() == [60, 60]


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("was_counted", [False, True])
async def test_a_beat_that_fails_half_way_and_is_repeated_charges_each_child_once(
    api: Api, monkeypatch: pytest.MonkeyPatch, lost: int, was_counted: bool
) -> None:
    """One child's call fails, before or after it was counted. All are told to come again."""
    group = await Together.of(api, None, None)
    await group.beat()
    group.later(MINUTE_MS)
    submit = BeatRecorder.submit

    def failing(self: BeatRecorder, profile_id: str, beat: Beat) -> Awaitable[Outcome]:
        async def fail() -> Outcome:
            if was_counted:
                await submit(self, profile_id, beat)
            raise CountersUnavailable

        return fail() if profile_id == group.children[lost] else submit(self, profile_id, beat)

    with monkeypatch.context() as patched:
        patched.setattr(BeatRecorder, "submit", failing)
        refused = await group.send(*group.children)
    assert (refused.status_code, refused.json()["code"]) == (503, "counters_unavailable")
    assert "Retry-After" in refused.headers
    group.later(MINUTE_MS)
    await group.beat()
    assert await group.used() == [120, 120]


@pytest.mark.parametrize("is_flushed", [False, True])
async def test_the_loss_of_redis_between_two_beats_charges_each_child_once(
    api: Api, prepared: Settings, is_flushed: bool
) -> None:
    group = await Together.of(api, 60, 90, None)
    await group.beat()
    for _ in range(2):
        group.later(2 * MINUTE_MS)
        await group.beat()
    if is_flushed:
        async with open_worker(prepared) as worker:
            await worker.flusher.drain()
    await api.services.redis.flushall()
    group.later(MINUTE_MS)
    sessions = dict(group.sessions)
    told = await group.beat()
    assert group.sessions == sessions
    used = await group.used()
    assert used == pytest.approx([300] * 3, abs=5), "sessions that were lost are taken up from their start"
    assert max(used) <= 300
    assert told["decided_by"] == group.children[0]


async def test_each_child_has_a_day_of_its_own(api: Api) -> None:
    """Other zones and other reset hours: the day of one child ends between two beats, those of the others go on."""
    home = await registered_at_noon(api)
    children = []
    for zone in ("Etc/GMT-9", "Etc/GMT+3", "Etc/GMT+3"):
        fields = {"name": zone, "is_kids": True, "timezone": zone}
        made = await api.http.post("/profiles", json=fields, headers=home.as_parent)
        children.append(made.json()["id"])
    group = Together(api, home, await api.add_title(), children)
    no_limits = {"weekday_limit_minutes": None, "weekend_limit_minutes": None}
    for child, reset_hour in zip(children, (0, 0, 4), strict=True):
        await home.set_limits(child, reset_hour=reset_hour, **no_limits)
    await group.beat()
    group.sessions.clear()
    group.later(48 * 60 * MINUTE_MS)  # changes of the reset hour hold from the next day on
    told = await group.beat()
    ends = [told["next_reset_at"], *(one["next_reset_at"] for one in told["co_viewers"])]
    assert len(set(ends)) == 3
    for first_ended in sorted(ends):
        group.later(utc_ms(first_ended) - api.services.counters.at_ms - MINUTE_MS)
        group.sessions.clear()
        await group.beat()
        before = await group.used()
        group.later(3 * MINUTE_MS)
        await group.beat()
        crossed = ends.index(first_ended)
        expected = [120 if child == crossed else used + 180 for child, used in enumerate(before)]
        assert await group.used() == expected


async def test_a_batch_counts_co_viewers_among_the_beats_of_a_child(api: Api) -> None:
    group = await Together.of(api, None, None, None)
    ann, ben, eva = group.children

    def beat(owner: str, *others: str, device_id: str) -> dict[str, Any]:
        co_viewers = [{"profile_id": other} for other in others]
        return {"profile_id": owner, "title_id": group.title, "device_id": device_id, "co_viewers": co_viewers}

    beats = [beat(ann, ben, device_id="tv"), beat(eva, device_id="phone"), beat(ben, device_id="tablet")]
    answer = await api.http.post("/viewing-time/heartbeats", json={"beats": beats}, headers=group.home.as_player)
    television, phone, tablet = answer.json()["results"]
    assert "co_viewers" not in phone
    group.sessions = {ann: television["session_id"], ben: television["co_viewers"][0]["session_id"]}
    told = await group.beat(ann, ben)
    assert told["co_viewers"][0]["problem"]["code"] == "session_superseded", "the tablet came after the television"
    late = await group.home.beat(ben, group.title, session_id=tablet["session_id"], device_id="tablet")
    assert late.status_code == 200


async def test_the_end_of_a_session_ends_those_of_its_co_viewers(api: Api) -> None:
    group = await Together.of(api, None, None)
    ann, ben = group.children
    await group.beat()
    group.later(MINUTE_MS)
    path = f"/viewing-time/session/{group.sessions[ann]}/end"
    body = {"co_viewers": [{"session_id": group.sessions[ben]}]}
    ended = await api.http.post(path, json=body, headers=group.home.as_player)
    assert ended.status_code == 200, ended.text
    [of_ben] = ended.json()["co_viewers"]
    assert (ended.json()["total_seconds"], of_ben["total_seconds"]) == (60, 60)
    group.later(MINUTE_MS)
    assert (await api.http.post(path, json=body, headers=group.home.as_player)).json() == ended.json()
    assert (await group.send(ann, ben)).json()["code"] == "session_ended"
    assert await group.used() == [60, 60]


async def test_adults_watch_along_and_limit_nobody(api: Api) -> None:
    group = await Together.of(api, 60)
    [child] = group.children
    adult = await group.home.adult()
    told = await group.beat(adult, child)
    assert (told["decided_by"], told["remaining_seconds"]) == (child, None)
    group.later(MINUTE_MS)
    told = await group.beat(child, adult)
    assert (told["remaining_seconds"], told["co_viewers"][0]["enforcement"]) == (59 * 60, "allowed")
    left = await group.beat(child, group.named(adult, has_left=True))
    assert left["co_viewers"][0]["session_id"] == group.sessions[adult]


async def test_an_educational_title_is_judged_for_each_child(api: Api) -> None:
    group = await Together.of(api, 15, 15)
    ann, ben = group.children
    group.title = await api.add_title(is_educational=True)
    await group.home.set_limits(ann, educational_exempt=True, weekday_limit_minutes=15, weekend_limit_minutes=15)
    await group.home.set_limits(ben, educational_exempt=False, weekday_limit_minutes=15, weekend_limit_minutes=15)
    await group.beat()
    group.later(4 * MINUTE_MS)
    told = await group.beat()
    assert (told["used_seconds"], told["co_viewers"][0]["used_seconds"], told["decided_by"]) == (0, 240, ben)


async def test_a_signed_lease_ends_when_the_first_child_must_stop(prepared: Settings) -> None:
    values = {"lease_key": SecretStr(new_lease_key())}
    async with running(prepared.model_copy(update=values)) as signing:
        signing.services.counters.at_ms = now_ms()
        group = await Together.of(signing, None, 15)
        told = (await group.send(*group.children, lease=True)).json()
        for left in (11, 7, 3, 0):
            group.later(4 * MINUTE_MS)
            told = (await group.send(*group.children, lease=True)).json()
            if not left:
                assert told["playback_lease"] is None
                break
            claims = verified(signing.services.viewing.leases, told["playback_lease"])
            assert (claims["sub"], claims["sid"]) == (group.children[0], told["session_id"])
            assert claims["exp"] <= signing.services.counters.at_ms / 1000 + 60 * min(5, left)
        assert "playback_lease" not in await group.beat()


async def test_each_child_is_asked_for_its_own_quota_of_beats(prepared: Settings) -> None:
    async with running(prepared.model_copy(update={"max_beats_per_second": 10})) as limited:
        limited.services.counters.at_ms = now_ms()
        group = await Together.of(limited, None, None, None)
        ann, ben, eva = group.children
        told = [(await group.beat(owner, ben))["co_viewers"][0] for owner in (ann, eva) * 6]
        assert not any("problem" in one for one in told[:10])
        assert [one["problem"]["code"] for one in told[10:]] == ["too_many_requests"] * 2


# --- who may name whom


@pytest.mark.parametrize("role", [Role.HOUSEHOLD, Role.SERVICE])
async def test_no_other_account_can_be_joined(api: Api, role: Role) -> None:
    group, others = await Together.of(api, None), await Together.of(api, None)
    [own], [foreign] = group.children, others.children
    co_viewers = [{"profile_id": foreign}, {"profile_id": "00000000-0000-4000-8000-000000000000"}]
    beat = {"profile_id": own, "title_id": group.title, "device_id": "tv", "co_viewers": co_viewers}
    headers = group.home.as_player if role is Role.HOUSEHOLD else api.as_role("gateway", role)
    answer = await api.http.post("/viewing-time/heartbeats", json={"beats": [beat]}, headers=headers)
    [told] = answer.json()["results"]
    refused, unknown = (one["problem"] for one in told["co_viewers"])
    assert refused == unknown, "nobody learns which profiles there are"
    assert refused["code"] == "profile_access_denied"
    streams = await api.http.get(f"/viewing-time/streams/{others.home.id}", headers=api.as_role("g", Role.SERVICE))
    assert streams.json()["streams"] == []


async def test_a_session_of_another_child_is_refused(api: Api) -> None:
    group = await Together.of(api, None, None)
    ann, ben = group.children
    await group.beat(ann)
    told = await group.beat(ann, {"profile_id": ben, "session_id": group.sessions[ann]})
    assert told["co_viewers"][0]["problem"]["code"] == "profile_access_denied"
    path = f"/viewing-time/session/{group.sessions[ann]}/end"
    others = await Together.of(api, None)
    await others.beat()
    body = {"co_viewers": [{"session_id": others.sessions[others.children[0]]}]}
    ended = await api.http.post(path, json=body, headers=group.home.as_player)
    assert ended.json()["co_viewers"][0]["problem"]["code"] == "profile_access_denied"
    assert (await others.send(others.children[0])).status_code == 200


def _repeated(group: Together) -> Sequence[tuple[list[dict[str, object]], str]]:
    ann, ben, *_ = group.children
    return (
        ([{"profile_id": ann}], "/co_viewers/0/profile_id"),
        ([{"profile_id": ben}, {"profile_id": ben}], "/co_viewers/1/profile_id"),
        ([{"profile_id": ben, "has_left": True}], "/co_viewers/0/session_id"),
        ([{"profile_id": "a\x07bell"}], "/co_viewers/0/profile_id"),
        ([{"profile_id": ben, "session_id": "short"}], "/co_viewers/0/session_id"),
        ([{"profile_id": str(place)} for place in range(5)], "/co_viewers"),
    )


async def test_what_is_no_group_is_refused_and_nobody_is_charged(api: Api) -> None:
    group = await Together.of(api, None, None)
    await group.beat()
    group.later(MINUTE_MS)
    for co_viewers, pointer in _repeated(group):
        answer = await group.home.beat(
            group.children[0], group.title, session_id=group.sessions[group.children[0]], co_viewers=co_viewers
        )
        assert answer.status_code == 422, (co_viewers, answer.text)
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert await group.used() == [0, 0]


@pytest.mark.parametrize(
    "co_viewers",
    [
        [{"session_id": "short"}],
        [{"session_id": "\0" * 36}],
        [{"session_id": "../" * 12}],
        [{"session_id": 1}],
        [{}],
        [{"session_id": "0" * 36, "watched_seconds": -1}],
        [{"session_id": "0" * 36, "watched_seconds": 1e300}],
        [{"session_id": "0" * 36, "profile_id": "x"}],
        [{"session_id": "0" * 36}] * 5,
        "x",
        17,
    ],
)
async def test_nothing_else_ends_a_session(api: Api, co_viewers: Any) -> None:
    group = await Together.of(api, None)
    await group.beat()
    path = f"/viewing-time/session/{group.sessions[group.children[0]]}/end"
    answer = await api.http.post(path, json={"co_viewers": co_viewers}, headers=group.home.as_player)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert (await group.send(group.children[0])).status_code == 200, "it has not ended"


async def test_a_child_is_named_once_by_whichever_id(api: Api) -> None:
    platform, account = api.as_role("platform", Role.SERVICE), f"account-{now_ms()}"
    path = f"/platform/accounts/{account}"
    made = await api.http.put(path, json={"timezone": "Europe/Oslo"}, headers=platform)
    profiles = [
        await api.http.put(f"{path}/profiles/{name}", json={"name": name, "is_kids": True}, headers=platform)
        for name in ("ann", "ben")
    ]
    ann, ben = (profile.json()["profile_id"] for profile in profiles)
    player, title = api.as_role(made.json()["account_id"], Role.HOUSEHOLD), await api.add_title()

    async def beat(*co_viewers: str) -> Any:
        body = {
            "profile_id": "ann",
            "title_id": title,
            "device_id": "tv",
            "co_viewers": [{"profile_id": each} for each in co_viewers],
        }
        return await api.http.post("/viewing-time/heartbeat", json=body, headers=player)

    answer = await beat("ben")
    assert answer.json()["co_viewers"][0]["profile_id"] == "ben", "the id that was sent comes back"
    for again in (("ben", ben), (ann,)):
        assert (await beat(*again)).json()["code"] == "invalid_input"
