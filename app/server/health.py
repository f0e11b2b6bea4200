"""Whether this process lives, has started, and can do its work; what it counts; and the keys of its leases."""

import asyncio
from collections.abc import Awaitable, Collection
from typing import TYPE_CHECKING, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from redis.asyncio import Redis

from app.observability import metrics
from app.redis_store.durability import BLOCKING, examine

if TYPE_CHECKING:
    from app.viewing.leases import PlaybackLeases

_BUDGET_SECONDS = 1.0
_KEYS_FRESH_SECONDS = 300
State = Literal["up", "degraded", "down"]

router = APIRouter(tags=["operations"])


class Readiness(msgspec.Struct):
    """PostgreSQL away is degraded: known children go on, and are flushed when it is back.

    ``concerns`` names what is wrong with Redis; with some of it heartbeats cannot be counted safely.
    So is a cluster of which some masters answer: the children of the others go on. ``is_draining`` tells that the
    process is about to end and still answers: send it nothing new.
    """

    status: State
    is_draining: bool
    redis: State
    postgresql: State
    invalidations: State
    concerns: list[str]


@router.get("/health/live", summary="The event loop answers.")
async def live() -> dict[str, str]:
    return {"status": "up"}


_READINESS = {"application/json": {"schema": msgspec.json.schema_components([Readiness])[1]["Readiness"]}}
_NOT_READY = {"description": "Heartbeats cannot be counted, or the process is about to end.", "content": _READINESS}


@router.get(
    "/health/startup",
    summary="Connections are open.",
    responses={200: {"content": _READINESS}, 503: _NOT_READY},
)
@router.get(
    "/health/ready",
    summary="Heartbeats can be answered.",
    responses={200: {"content": _READINESS}, 503: _NOT_READY},
)
async def ready(request: Request) -> Response:
    services = request.app.state.services
    (redis, concerns), postgresql = await asyncio.gather(_redis_state(services.redis), _state(services.ping_database()))
    is_draining = getattr(request.app.state, "is_draining", False)
    is_down = redis == "down" or is_draining
    readiness = Readiness(
        status="down" if is_down else "degraded" if redis != "up" or postgresql == "down" else "up",
        is_draining=is_draining,
        redis=redis,
        postgresql=postgresql,
        invalidations="up" if services.viewing.invalidations.subscribed.is_set() else "down",
        concerns=sorted(concerns),
    )
    return Response(
        msgspec.json.encode(readiness),
        status_code=503 if is_down else 200,
        media_type="application/json",
    )


@router.get("/metrics", summary="Prometheus text, all processes summed.", response_class=Response)
async def prometheus(request: Request) -> Response:
    is_shared = request.app.state.services.settings.metrics_dir is not None
    return Response(metrics.render(shared=is_shared), media_type="text/plain; version=0.0.4")


@router.get(
    "/.well-known/jwks.json",
    name="lease_keys",
    summary="The public keys of playback leases (RFC 7517).",
)
async def lease_keys(request: Request) -> Response:
    """Verifiers may keep it for five minutes. A key is published before it signs."""
    leases: PlaybackLeases = request.app.state.services.viewing.leases
    return Response(
        msgspec.json.encode(leases.published),
        media_type="application/json",
        headers={"Cache-Control": f"public, max-age={_KEYS_FRESH_SECONDS}"},
    )


async def _redis_state(redis: Redis) -> tuple[State, Collection[str]]:
    try:
        async with asyncio.timeout(_BUDGET_SECONDS):
            concerns = await examine(redis)
    except Exception:  # noqa: BLE001  likewise
        return "down", ()
    return "down" if concerns & BLOCKING else "degraded" if concerns else "up", concerns


async def _state(probe: Awaitable[object]) -> State:
    try:
        async with asyncio.timeout(_BUDGET_SECONDS):
            await probe
    except Exception:  # noqa: BLE001  a probe that fails in any way means down
        return "down"
    return "up"
