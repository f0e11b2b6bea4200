"""Whether this process lives, has started, and can do its work; and what it counts."""

import asyncio
from collections.abc import Awaitable
from typing import Literal

import msgspec
from fastapi import APIRouter, Request, Response

from app import metrics

_BUDGET_SECONDS = 1.0
State = Literal["up", "degraded", "down"]

router = APIRouter(tags=["operations"])


class Readiness(msgspec.Struct):
    """PostgreSQL away is degraded: known children go on, and are flushed when it is back."""

    status: State
    redis: State
    postgresql: State
    invalidations: State


@router.get("/health/live", summary="The event loop answers.")
async def live() -> dict[str, str]:
    return {"status": "up"}


@router.get("/health/startup", summary="Connections are open.")
@router.get("/health/ready", summary="Heartbeats can be answered.")
async def ready(request: Request) -> Response:
    services = request.app.state.services
    redis, postgresql = await asyncio.gather(_state(services.redis.ping()), _state(services.ping_database()))
    readiness = Readiness(
        status="down" if redis == "down" else "degraded" if postgresql == "down" else "up",
        redis=redis,
        postgresql=postgresql,
        invalidations="up" if services.viewing.invalidations.subscribed.is_set() else "down",
    )
    return Response(
        msgspec.json.encode(readiness),
        status_code=503 if redis == "down" else 200,
        media_type="application/json",
    )


@router.get("/metrics", summary="Prometheus text, all processes summed.")
async def prometheus(request: Request) -> Response:
    is_shared = request.app.state.services.settings.metrics_dir is not None
    return Response(metrics.render(shared=is_shared), media_type="text/plain; version=0.0.4")


async def _state(probe: Awaitable[object]) -> State:
    try:
        async with asyncio.timeout(_BUDGET_SECONDS):
            await probe
    except Exception:  # noqa: BLE001  a probe that fails in any way means down
        return "down"
    return "up"
