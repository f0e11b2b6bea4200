"""Replay scenarios in real time, all at once, against a service with another clock."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

from app.clock import Clock
from app.conformance.acts import DAILY, FILM
from app.conformance.document import Body, Scenario
from app.conformance.replay import Caller, ReplayResult, Service, add_child, remove_child, replay, require
from app.timestamps import ms_of

TOLERANCE_MS = 500
"""Default deviation of measured times and instants: covers the network and a busy machine."""
_HOUR_MS = 3_600_000
_PROBES = 4


async def replay_live(
    assigned: Sequence[tuple[Scenario, Service]],
    *,
    clock: Clock,
    tolerance_ms: int,
    done: Callable[[ReplayResult], None],
) -> list[ReplayResult]:
    """Replay scenarios, each with its own household. The children are erased at the end.

    Args:
        assigned: at least one scenario; all of them live.
        clock: the local clock.
        tolerance_ms: allowed deviation of measured times and instants.
        done: called with each verdict at once.

    Raises:
        SetupFailed: the service refuses the setup of a scenario.
    """
    zone = noon_zone(clock())
    async with AsyncExitStack() as children:
        ahead_ms = await _clock_ahead_ms(assigned[0][1], clock=clock, zone=zone)
        profiles = [
            await children.enter_async_context(_household(scenario, service, zone=zone))
            for scenario, service in assigned
        ]

        async def one(scenario: Scenario, service: Service, profile_id: str, siblings: Sequence[str]) -> ReplayResult:
            loop = asyncio.get_running_loop()
            began, starts_ms = loop.time(), clock() + ahead_ms

            async def reach(at_ms: int) -> None:
                await asyncio.sleep(began + at_ms / 1000 - loop.time())

            verdict = await replay(
                scenario,
                service=service,
                profile_id=profile_id,
                siblings=siblings,
                starts_ms=starts_ms,
                reach=reach,
                tolerance_ms=tolerance_ms,
            )
            done(verdict)
            return verdict

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(scenario, service, profile_id, siblings))
                for (scenario, service), (profile_id, *siblings) in zip(assigned, profiles, strict=True)
            ]
    return [task.result() for task in tasks]


def noon_zone(at_ms: int) -> str:
    """A zone in which it is about noon, far from every reset of a new child."""
    ahead = 12 - at_ms // _HOUR_MS % 24
    return f"Etc/GMT{-ahead:+d}"  # POSIX zone names have the opposite sign


@asynccontextmanager
async def _household(scenario: Scenario, service: Service, *, zone: str) -> AsyncIterator[list[str]]:
    profile_ids: list[str] = []
    try:
        for child in (scenario.child, *scenario.siblings):
            made = await add_child(service, child, name=scenario.name, timezone=zone)
            profile_ids.append(made)
        yield profile_ids
    finally:
        for profile_id in profile_ids:
            await remove_child(service, profile_id)


async def _clock_ahead_ms(service: Service, *, clock: Clock, zone: str) -> int:
    """The offset of the service's clock, derived from a running limit. The fastest answer is used."""
    profile_id = await add_child(service, DAILY, name="Clock", timezone=zone)
    beat: Body = {"profile_id": profile_id, "title_id": FILM, "device_id": "clock"}
    measured: list[tuple[int, int]] = []
    for _ in range(_PROBES):
        sent_ms = clock()
        answer = await service.call(Caller.PLAYER, "POST", "/viewing-time/heartbeat", body=beat)
        took_ms = clock() - sent_ms
        body = require("beat", answer)
        at_ms = ms_of(datetime.fromisoformat(body["stop_at"])) - round(body["remaining_seconds"] * 1000)
        measured.append((took_ms, at_ms - sent_ms - took_ms // 2))
    await remove_child(service, profile_id)
    return min(measured)[1]
