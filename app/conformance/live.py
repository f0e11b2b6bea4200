"""Replays scenarios in real time, all at once, against a service whose clock may differ from ours."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

from app.clock import Clock
from app.conformance.acts import DAILY, FILM
from app.conformance.document import Body, Scenario
from app.conformance.replay import Caller, Service, Verdict, add_child, remove_child, replay, require
from app.instants import ms_of

TOLERANCE_MS = 500
"""By how much measured time and instants may be off: the way to the service and back, and a busy machine."""
_HOUR_MS = 3_600_000
_PROBES = 4


async def replay_live(
    assigned: Sequence[tuple[Scenario, Service]],
    *,
    clock: Clock,
    tolerance_ms: int,
    done: Callable[[Verdict], None],
) -> list[Verdict]:
    """Replay scenarios, each on the household that a service speaks for. Their children are erased in the end.

    Args:
        assigned: at least one, all of them live.
        clock: ours.
        tolerance_ms: by how much measured time and instants may be off.
        done: called with each verdict as it is reached.

    Raises:
        SetupFailed: the service refuses what comes before a scenario.
    """
    zone = quiet_zone(clock())
    async with AsyncExitStack() as children:
        ahead_ms = await _clock_ahead_ms(assigned[0][1], clock=clock, zone=zone)
        profiles = [
            await children.enter_async_context(_child(scenario, service, zone=zone)) for scenario, service in assigned
        ]

        async def one(scenario: Scenario, service: Service, profile_id: str) -> Verdict:
            loop = asyncio.get_running_loop()
            began, starts_ms = loop.time(), clock() + ahead_ms

            async def reach(at_ms: int) -> None:
                await asyncio.sleep(began + at_ms / 1000 - loop.time())

            verdict = await replay(
                scenario,
                service=service,
                profile_id=profile_id,
                starts_ms=starts_ms,
                reach=reach,
                tolerance_ms=tolerance_ms,
            )
            done(verdict)
            return verdict

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(scenario, service, profile_id))
                for (scenario, service), profile_id in zip(assigned, profiles, strict=True)
            ]
    return [task.result() for task in tasks]


def quiet_zone(at_ms: int) -> str:
    """A zone in which it is about noon: far from every reset, whatever the hour at which a new child's day begins."""
    ahead = 12 - at_ms // _HOUR_MS % 24
    return f"Etc/GMT{-ahead:+d}"  # the signs of these names are those of POSIX


@asynccontextmanager
async def _child(scenario: Scenario, service: Service, *, zone: str) -> AsyncIterator[str]:
    profile_id = await add_child(service, scenario.child, name=scenario.name, timezone=zone)
    try:
        yield profile_id
    finally:
        await remove_child(service, profile_id)


async def _clock_ahead_ms(service: Service, *, clock: Clock, zone: str) -> int:
    """By how much the service's clock is ahead of ours: a limit that runs tells it. The quickest answer is believed."""
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
