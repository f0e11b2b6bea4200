"""A family in two zones during the weeks of both clock changes, from heartbeats to reports.

The expected numbers are calculated by hand; they are in the tables below. Ada lives in Oslo. Her reset is at 02:00,
and on 25 October 2026 her clock goes from 03:00 back to 02:00. Bo lives in New York. His reset is at 06:00, and on
1 November his clock goes from 02:00 back to 01:00.

    Ada's days, in UTC                                     Bo's days, in UTC
    Sat 24 Oct  24 00:00 to 25 00:00  24 h                 Sat 24 Oct  24 10:00 to 25 10:00  24 h
    Sun 25 Oct  25 00:00 to 26 01:00  25 h, and 02:00      Sun 25 Oct  25 10:00 to 26 10:00  24 h
                comes twice: the first one is the reset    Mon 26 Oct  26 10:00 to 27 10:00  24 h
    Mon 26 Oct  26 01:00 to 27 01:00  24 h                 Sat 31 Oct  31 10:00 to  1 11:00  25 h
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.auth.tokens import Role
from app.embedded.valkey import Valkey
from app.postgres_store.partitions import make_partitions
from app.wiring.worker import open_worker
from tests.scenes.api import Api
from tests.servers import running_valkey

MINUTE = 60_000
BETWEEN_BEATS = 5 * MINUTE  # the longest gap that counts whole


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """Of our own: everything in it is flushed into the database of this module."""
    with running_valkey() as server:
        yield server


def ms(day: str, time: str) -> int:
    """An instant of 2026 by day and time in UTC."""
    return round(datetime.fromisoformat(f"2026-{day}T{time}:00").replace(tzinfo=UTC).timestamp()) * 1000


@dataclass
class WatchingFamily:
    api: Api
    ada: str
    bo: str
    players: httpx.AsyncClient
    parent: httpx.AsyncClient

    async def watch(self, child: str, day: str, time: str, minutes: int) -> None:
        """A session that begins at a time in UTC."""
        at_ms = ms(day, time)
        ends_ms = at_ms + minutes * MINUTE
        session_id: str | None = None
        while at_ms <= ends_ms:
            self._at(at_ms)
            beat = {"profile_id": child, "title_id": "moon-pirates", "device_id": "tv-1", "session_id": session_id}
            answer = await self.players.post("/viewing-time/heartbeat", json=beat)
            assert answer.status_code == 200, answer.text
            session_id = answer.json()["session_id"]
            at_ms += BETWEEN_BEATS
        assert (await self.players.post(f"/viewing-time/session/{session_id}/end", json={})).status_code == 200

    async def report(self, day: str, time: str) -> dict[str, Any]:
        """What the parents read at an instant, everything being flushed."""
        self._at(ms(day, time))
        async with open_worker(self.api.services.settings, clock=self.api.clock) as worker:
            await worker.flusher.drain()
        report: dict[str, Any] = (await self.parent.get("/parental-controls/weekly-report")).json()
        return report

    async def history(self, child: str, day: str) -> dict[str, Any]:
        """One viewing day."""
        params = {"from_date": f"2026-{day}", "to_date": f"2026-{day}"}
        answer = await self.parent.get(f"/parental-controls/profiles/{child}/history", params=params)
        [shown] = answer.json()["days"]
        found: dict[str, Any] = shown
        return found

    def _at(self, at_ms: int) -> None:
        self.api.set_clock(at_ms)


@pytest.fixture
async def family(api: Api) -> WatchingFamily:
    since_ms = ms("09-01", "12:00")
    await make_partitions(api.services.engine, at_ms=ms("10-15", "12:00"))
    account = await api.rows.account()
    ada = await api.rows.child(
        account, at_ms=since_ms, name="Ada", timezone="Europe/Oslo", reset_hour=2, weekday=120, weekend=180
    )
    bo = await api.rows.child(
        account, at_ms=since_ms + 1, name="Bo", timezone="America/New_York", reset_hour=6, weekday=60, weekend=90
    )
    await api.rows.title("moon-pirates", "Moon Pirates")
    return WatchingFamily(api, ada, bo, api.signed_in(account, Role.HOUSEHOLD), api.signed_in(account))


def minutes_of(days: list[dict[str, Any]], field: str) -> list[float]:
    return [day[field] / 60 for day in days]


def parts_of(day: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Sessions of a day, the oldest first: from when to when in UTC, and minutes."""
    return [
        (part["started_at"][5:16], part["ended_at"][5:16], part["total_seconds"] / 60)
        for part in reversed(day["sessions"])
    ]


async def test_two_weeks_of_two_children(family: WatchingFamily) -> None:
    ada, bo = family.ada, family.bo
    # What they watch, in UTC               local time                what of it belongs to which day
    await family.watch(ada, "10-24", "23:40", 60)  # from 01:40 to 02:40 CEST   Sat 20, Sun 40
    await family.watch(ada, "10-25", "00:50", 30)  # from 02:50 CEST to 02:20 CET  Sun 30, no second reset
    await family.watch(bo, "10-25", "22:00", 100)  # from 18:00 to 19:40 EDT    Sun 90, and 10 beyond the limit of 90
    await family.watch(ada, "10-26", "00:50", 20)  # from 01:50 to 02:10 CET    Sun 10, Mon 10
    await family.watch(bo, "10-26", "09:50", 20)  # from 05:50 to 06:10 EDT     Sun 10 beyond the limit, Mon 10

    first = await family.report("10-26", "10:20")

    assert (first["week_start"], first["week_end"]) == ("2026-10-19", "2026-10-25")
    assert first["as_of"] == "2026-10-26T10:20:00.000Z"
    of_ada, of_bo = first["profiles"]
    #                                                     Mon Tue Wed Thu Fri Sat Sun
    assert minutes_of(of_ada["daily"], "counted_seconds") == [0, 0, 0, 0, 0, 20, 80]
    assert minutes_of(of_bo["daily"], "counted_seconds") == [0, 0, 0, 0, 0, 0, 90]
    assert minutes_of(of_bo["daily"], "overrun_seconds") == [0, 0, 0, 0, 0, 0, 20]
    assert [day["limit_minutes"] for day in of_ada["daily"]] == [120, 120, 120, 120, 120, 180, 180]
    assert [day["limit_minutes"] for day in of_bo["daily"]] == [60, 60, 60, 60, 60, 90, 90]
    assert (of_ada["total_seconds"], of_bo["total_seconds"]) == (100 * 60, 110 * 60)
    assert (of_ada["average_daily_seconds"], of_bo["average_daily_seconds"]) == (857.143, 942.857)
    assert of_ada["limit_usage_percent"] == 10.42  # 100 of 5 x 120 + 2 x 180 = 960 minutes
    assert of_bo["limit_usage_percent"] == 18.75  # 90 of 5 x 60 + 2 x 90 = 480 minutes
    assert (of_ada["change_percent"], of_bo["change_percent"]) == (None, None)
    assert of_ada["top_titles"] == [
        {"title_id": "moon-pirates", "title_name": "Moon Pirates", "total_seconds": 100 * 60}
    ]
    assert parts_of(await family.history(ada, "10-24")) == [("10-24T23:40", "10-25T00:00", 20)]
    assert parts_of(await family.history(ada, "10-25")) == [
        ("10-25T00:00", "10-25T00:40", 40),
        ("10-25T00:50", "10-25T01:20", 30),
        ("10-26T00:50", "10-26T01:00", 10),
    ]
    assert parts_of(await family.history(ada, "10-26")) == [("10-26T01:00", "10-26T01:10", 10)]
    assert parts_of(await family.history(bo, "10-25")) == [
        ("10-25T22:00", "10-25T23:40", 100),
        ("10-26T09:50", "10-26T10:00", 10),
    ]

    await family.watch(bo, "11-01", "10:40", 40)  # from 05:40 to 06:20 EST     Sat 20, Sun 20
    before_it_ended = await family.report("11-02", "10:59")
    assert before_it_ended["week_end"] == "2026-10-31"  # Bo's Sunday lasts until 06:00 EST, which is 11:00
    second = await family.report("11-02", "11:00")

    assert (second["week_start"], second["week_end"]) == ("2026-10-26", "2026-11-01")
    of_ada, of_bo = second["profiles"]
    assert minutes_of(of_ada["daily"], "counted_seconds") == [10, 0, 0, 0, 0, 0, 0]
    assert minutes_of(of_bo["daily"], "counted_seconds") == [10, 0, 0, 0, 0, 20, 20]
    assert of_ada["change_percent"] == -90  # 10 after 100 minutes
    assert of_bo["change_percent"] == -54.55  # 50 after 110 minutes
    assert of_ada["limit_usage_percent"] == 1.04  # 10 of 960
    assert of_bo["limit_usage_percent"] == 10.42  # 50 of 480
