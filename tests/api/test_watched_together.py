"""Reports say what was watched together."""

from datetime import date, timedelta
from typing import Any

import pytest

from app.postgres_store import tables
from app.postgres_store.partitions import make_partitions
from tests.rows import DAY_MS, start_of
from tests.scenes.api import NOON, Api

MINUTE = 60_000
DAY = date(2026, 3, 1)
EVENING = start_of(DAY, 18)


@pytest.fixture(autouse=True)
async def _partitions(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON, days_back=60)


class Siblings:
    def __init__(self, api: Api, account: str, children: dict[str, str]) -> None:
        self.api = api
        self.parent = api.signed_in(account)
        self.children = children

    @classmethod
    async def of(cls, api: Api, *names: str) -> "Siblings":
        account = await api.rows.account()
        children = {
            name: await api.rows.child(account, at_ms=NOON - (300 - place) * DAY_MS, name=name)
            for place, name in enumerate(names)
        }
        for child in children.values():
            await api.rows.balance(child, DAY, used_ms=60 * MINUTE)
        return cls(api, account, children)

    async def watch(self, name: str, from_minute: int, until_minute: int, **fields: Any) -> None:
        started_ms, used_ms = EVENING + from_minute * MINUTE, (until_minute - from_minute) * MINUTE
        await self.api.rows.session(self.children[name], DAY, started_ms=started_ms, used_ms=used_ms, **fields)

    async def history(self, name: str) -> list[dict[str, Any]]:
        answer = await self.parent.get(f"/parental-controls/profiles/{self.children[name]}/history")
        assert answer.status_code == 200, answer.text
        return [session for day in answer.json()["days"] for session in day["sessions"]]

    async def together(self, name: str) -> list[tuple[list[str], float] | None]:
        """For each session, newest first, who watched along and for how many minutes."""
        return [
            ([each["profile_name"] for each in session["co_viewers"]], session["together_seconds"] / 60)
            if "co_viewers" in session
            else None
            for session in await self.history(name)
        ]

    async def weekly(self) -> dict[str, float]:
        answer = await self.parent.get("/parental-controls/weekly-report", params={"week_ending": str(DAY)})
        return {child["profile_name"]: child["together_seconds"] / 60 for child in answer.json()["profiles"]}


async def test_sessions_on_one_device_with_one_title_at_one_time_were_watched_together(api: Api) -> None:
    family = await Siblings.of(api, "Ann", "Ben", "Eva")
    await family.watch("Ann", 0, 60)
    await family.watch("Ben", 10, 40)
    await family.watch("Eva", 30, 90)
    assert await family.together("Ann") == [(["Ben", "Eva"], 50)], "time with both counts once"
    assert await family.together("Ben") == [(["Ann", "Eva"], 30)]
    assert await family.together("Eva") == [(["Ann", "Ben"], 30)]
    assert await family.weekly() == {"Ann": 50, "Ben": 30, "Eva": 30}


async def test_one_after_the_other_is_not_together(api: Api) -> None:
    family = await Siblings.of(api, "Ann", "Ben")
    await family.watch("Ann", 0, 30)
    await family.watch("Ben", 30, 60)
    assert [await family.together(name) for name in ("Ann", "Ben")] == [[None], [None]]
    assert await family.weekly() == {"Ann": 0, "Ben": 0}


async def test_another_title_or_device_is_not_together(api: Api) -> None:
    family = await Siblings.of(api, "Ann", "Ben", "Eva")
    await family.watch("Ann", 0, 30)
    await family.watch("Ben", 0, 30, title_id="another")
    await family.watch("Eva", 0, 30)
    async with api.services.engine.begin() as database:
        sessions = tables.viewing_sessions
        eva = sessions.c.profile_id == family.children["Eva"]
        await database.execute(sessions.update().where(eva).values(device_id="tablet"))
    assert await family.together("Ann") == [None]


async def test_another_account_with_the_same_device_is_not_together(api: Api) -> None:
    family, others = await Siblings.of(api, "Ann", "Ben"), await Siblings.of(api, "Kim", "Lea")
    await family.watch("Ann", 0, 30)
    await others.watch("Kim", 0, 30)
    assert await family.together("Ann") == await others.together("Kim") == [None]


async def test_what_was_not_counted_was_not_watched_together(api: Api) -> None:
    family = await Siblings.of(api, "Ann", "Ben")
    await family.watch("Ann", 0, 60)
    await family.watch("Ben", 0, 60)
    async with api.services.engine.begin() as database:
        sessions = tables.viewing_sessions
        ben = sessions.c.profile_id == family.children["Ben"]
        pause = [EVENING + 10 * MINUTE, EVENING + 25 * MINUTE]
        await database.execute(sessions.update().where(ben).values(uncounted_ms=pause))
    assert await family.together("Ann") == [(["Ben"], 45)]


async def test_an_erased_child_is_named_no_longer(api: Api) -> None:
    family = await Siblings.of(api, "Ann", "Ben", "Eva")
    await family.watch("Ann", 0, 60)
    await family.watch("Ben", 0, 60)
    await family.watch("Eva", 0, 20)
    answer = await family.parent.delete(f"/profiles/{family.children['Ben']}")
    assert answer.status_code == 200, answer.text
    assert await family.together("Ann") == [(["Eva"], 20)]


async def test_pages_of_history_say_it_of_their_own_sessions(api: Api) -> None:
    family = await Siblings.of(api, "Ann", "Ben")
    for minute in range(0, 50, 10):
        await family.watch("Ann", minute, minute + 10)
    await family.watch("Ben", 5, 25)
    path = f"/parental-controls/profiles/{family.children['Ann']}/history"
    page = (await family.parent.get(path, params={"limit": 2})).json()
    told = []
    while True:
        told += [part.get("together_seconds") for day in page["days"] for part in day["sessions"]]
        if page["next_cursor"] is None:
            break
        page = (await family.parent.get(path, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert told == [None, None, 300, 600, 300]


async def test_a_session_across_a_reset_says_it_of_each_day(api: Api) -> None:
    family = await Siblings.of(api, "Ann", "Ben")
    before = DAY - timedelta(days=1)
    for name in ("Ann", "Ben"):
        child = family.children[name]
        await api.rows.balance(child, before, used_ms=60 * MINUTE)
        reset_ms = start_of(DAY, 5)
        one = await api.rows.session(child, before, started_ms=reset_ms - 20 * MINUTE, used_ms=20 * MINUTE)
        await api.rows.session(child, DAY, started_ms=reset_ms, used_ms=5 * MINUTE, session_id=one)
    assert await family.together("Ann") == [(["Ben"], 5), (["Ben"], 20)]
