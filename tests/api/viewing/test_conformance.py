"""Replay of the published vectors over HTTP on real servers, at exactly their instants."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from app.auth.tokens import Role
from app.clock import now_ms
from app.conformance.document import Document, Scenario
from app.conformance.live import replay_live
from app.conformance.model import SETTLED_MS
from app.conformance.replay import Answer, Caller, add_child, fill_catalogue, replay
from app.conformance.vectors import starts_ms
from app.postgres_store.partitions import make_partitions
from app.settings.settings import Settings
from tests.scenes.api import Api, SetClock, opened, running
from tests.scenes.households import Household, registered_at_noon

VECTORS = Path(__file__).parents[3] / "docs" / "conformance" / "vectors.json"
PUBLISHED = msgspec.json.decode(VECTORS.read_bytes(), type=Document)
QUICKEST_MS = 4000
PATIENT_MS = 3000
SLOW_MS = 7_200_000
"""By how much the clock of the replaying machine is behind: the service's own is found out."""
ROLES = {Caller.PLAYER: Role.HOUSEHOLD, Caller.PARENT: Role.PARENT, Caller.CATALOGUE: Role.SERVICE}


@dataclass(frozen=True)
class OverAsgi:
    """The service in this process, speaking for one household."""

    home: Household

    async def call(
        self,
        caller: Caller,
        method: str,
        path: str,
        *,
        body: Any | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        token = self.home.api.as_role(self.home.id, ROLES[caller])
        answer = await self.home.api.http.request(method, path, json=body, headers=token | dict(headers or {}))
        return Answer(status=answer.status_code, headers=answer.headers, body=answer.json())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(prepared: Settings) -> AsyncIterator[Api]:
    clock = SetClock(starts_ms(PUBLISHED.scenarios[0]))
    async with opened(prepared, clock) as api:
        await make_partitions(api.services.engine, at_ms=clock())
        yield api


@pytest.mark.parametrize("scenario", PUBLISHED.scenarios, ids=lambda scenario: scenario.name)
async def test_the_service_answers_as_published(api: Api, scenario: Scenario) -> None:
    began_ms = starts_ms(scenario)
    api.set_clock(began_ms - SETTLED_MS)
    service = OverAsgi(await registered_at_noon(api))
    await fill_catalogue(service, PUBLISHED.titles)
    children = (scenario.child, *scenario.siblings)
    profile_id, *siblings = [await add_child(service, each, name="Kim", timezone=each.timezone) for each in children]

    async def reach(offset_ms: int) -> None:
        api.set_clock(began_ms + offset_ms)

    verdict = await replay(
        scenario, service=service, profile_id=profile_id, siblings=siblings, starts_ms=began_ms, reach=reach
    )
    told = "\n".join(map(str, verdict.differences))
    assert verdict.is_good, f"step {verdict.step} of {scenario.name}:\n{told}"


async def test_the_quickest_hold_in_real_time_and_leave_no_child_behind(prepared: Settings) -> None:
    live = [scenario for scenario in PUBLISHED.scenarios if scenario.live and scenario.steps[-1].at_ms <= QUICKEST_MS]
    done: list[str] = []
    async with running(prepared) as api:
        home, client = await registered_at_noon(api), api.http
        service = OverAsgi(home)
        await fill_catalogue(service, PUBLISHED.titles)
        verdicts = await replay_live(
            [(scenario, service) for scenario in live],
            clock=lambda: now_ms() - SLOW_MS,
            tolerance_ms=PATIENT_MS,
            done=lambda verdict: done.append(verdict.scenario.name),
        )
        profiles = await client.get("/profiles", headers=home.as_player)
    told = {verdict.scenario.name: (verdict.step, verdict.differences) for verdict in verdicts if not verdict.is_good}
    assert told == {}
    assert sorted(done) == sorted(scenario.name for scenario in live)
    assert {"unlimited", "adult", "offline-sync", "grant-unlimited"} <= set(done)
    assert profiles.json() == []
