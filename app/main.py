"""The API of one process: beats and ends of sessions as plain ASGI callables, everything else as FastAPI."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app import __version__, health, problems
from app.accounts.router import router as accounts_router
from app.auth.pin_router import router as pin_router
from app.auth.router import router as auth_router
from app.catalogue.router import router as catalogue_router
from app.logs import configure_logs
from app.openapi import document, page
from app.parents.router import router as parents_router
from app.privacy.router import router as privacy_router
from app.reports.router import router as reports_router
from app.requests import API_PREFIX, Receive
from app.settings import Settings, load_settings
from app.viewing.endpoint import Begin, HeartbeatEndpoint
from app.viewing.router import router as viewing_router
from app.wiring import Viewing, open_services

HEARTBEAT_PATH = f"{API_PREFIX}/viewing-time/heartbeat"
BATCH_PATH = f"{API_PREFIX}/viewing-time/heartbeats"
OFFLINE_PATH = f"{API_PREFIX}/viewing-time/offline-sync"
CATALOGUE_PATH = f"{API_PREFIX}/catalog/titles"

_END_PATH = re.compile(f"{API_PREFIX}/viewing-time/session/[^/]+/end")
_END_URL = re.compile(f"{API_PREFIX}/viewing-time/session/([0-9a-f-]{{36}})/end".encode())
_ROUTERS = (
    viewing_router,
    reports_router,
    parents_router,
    accounts_router,
    auth_router,
    pin_router,
    catalogue_router,
    privacy_router,
    health.router,
)
"""Those asked most often first: the routes of all of them lie in one list, which is gone through for each request.

``include_router`` would put lists into lists, and FastAPI goes through these three times.
"""

_CORS: Mapping[str, Any] = {
    "allow_methods": ("GET", "POST", "PUT", "PATCH", "DELETE"),
    "allow_headers": ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID", "X-PIN-Token"),
    "expose_headers": ("ETag", "RateLimit", "RateLimit-Policy", "Retry-After"),
    "max_age": 600,
}


class Front:
    """Hands beats and ends of sessions to their endpoints and anything else to FastAPI.

    Args:
        api: the rest.
        cors: what the middleware is told when there are origins to allow; without them a beat costs nothing more.
    """

    def __init__(self, api: FastAPI, *, cors: Mapping[str, Any] | None = None) -> None:
        self._api = api
        self._fast: problems.App = self._beat if cors is None else CORSMiddleware(self._beat, **cors)
        self.state = api.state

    def short_ways(self) -> Callable[[bytes], Begin | None]:
        """For a server that goes them: who begins to answer a POST to an address; None for the way of all others."""
        viewing: Viewing = self._api.state.services.viewing
        heartbeat, end, url_of_heartbeat = viewing.heartbeat.begin, viewing.end, HEARTBEAT_PATH.encode()

        def begin_at(url: bytes) -> Begin | None:
            if url == url_of_heartbeat:
                return heartbeat
            ending = _END_URL.fullmatch(url)
            return end.begin_for(ending[1].decode()) if ending else None

        return begin_at

    @property
    def body_limit_bytes(self) -> int:
        """The largest body on the short ways."""
        limit: int = self._api.state.services.viewing.heartbeat.body_limit_bytes
        return limit

    def lifespan(self) -> AbstractAsyncContextManager[object]:
        """Open and close the application outside a server, for tests."""
        return self._api.router.lifespan_context(self._api)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return document(self._api, prefix=API_PREFIX)

    async def __call__(self, scope: problems.Scope, receive: Receive, send: problems.Send) -> None:
        if scope["type"] == "http" and self._endpoint_at(scope["path"]) is not None:
            await self._fast(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    async def _beat(self, scope: problems.Scope, receive: Receive, send: problems.Send) -> None:
        endpoint = self._endpoint_at(scope["path"])
        assert endpoint is not None  # noqa: S101  nothing else is sent here
        await endpoint(scope, receive, send)

    def _endpoint_at(self, path: str) -> HeartbeatEndpoint | None:
        """Who answers a path without the framework; None for all others."""
        viewing: Viewing = self._api.state.services.viewing
        if path == HEARTBEAT_PATH:
            return viewing.heartbeat
        if path == BATCH_PATH:
            return viewing.heartbeats
        return viewing.end if _END_PATH.fullmatch(path) else None


def create_app(settings: Settings | None = None) -> Front:
    """The ASGI application. Connections open in its lifespan, as ``app.state.services``."""
    settings = settings or load_settings()
    configure_logs(settings.log_level)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_services(settings) as services:
            app.state.services = services
            app.state.draining = services.viewing.wakes
            yield

    api = FastAPI(
        title="Hourglass",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API_PREFIX}/openapi.json",
    )
    for router in _ROUTERS:
        api.router.routes.extend(router.routes)
    api.add_api_route(f"{API_PREFIX}/docs", lambda: page(str(api.openapi_url)), include_in_schema=False)
    api.openapi = lambda: document(api, prefix=API_PREFIX)  # type: ignore[method-assign]
    problems.install(
        api,
        body_limit_bytes=settings.body_limit_bytes,
        body_timeout_seconds=settings.body_timeout_seconds,
        self_reading=(CATALOGUE_PATH, OFFLINE_PATH),
    )
    if not settings.cors_origins:
        return Front(api)
    cors = {"allow_origins": settings.cors_origins, **_CORS}
    api.add_middleware(CORSMiddleware, **cors)  # outermost: refusals of the guard are for the browser to read, too
    return Front(api, cors=cors)
