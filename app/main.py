"""The API of one process: beats and ends of sessions as plain ASGI callables, everything else as FastAPI."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app import __version__
from app.admin.router import router as admin_router
from app.auth.external_ids import SLASH
from app.auth.pin_router import router as pin_router
from app.auth.router import account_router
from app.auth.router import router as auth_router
from app.catalogue.router import router as catalogue_router
from app.errors import Unauthenticated
from app.feed.router import router as feed_router
from app.http import problems
from app.http.requests import API_PREFIX, Receive
from app.observability.access_log import AccessLog
from app.observability.logs import configure_logs
from app.observability.requests import Choice, RequestObserver
from app.parents.router import router as parents_router
from app.platform.router import accounts_router as platform_accounts_router
from app.platform.router import router as platform_router
from app.privacy.router import router as privacy_router
from app.profiles.router import router as accounts_router
from app.reports.router import router as reports_router
from app.sdk.router import router as sdk_router
from app.server import health
from app.server.docs_page import add_docs_page
from app.server.openapi import document
from app.settings.settings import Settings, load_settings
from app.viewing.endpoint import END_ROUTE, HEARTBEAT_PATH, Begin, HeartbeatEndpoint, Take
from app.viewing.router import router as viewing_router
from app.web.app import ConsoleApp
from app.wiring.api import open_services
from app.wiring.process import traced

if TYPE_CHECKING:
    from app.wiring.viewing import Viewing

BATCH_PATH = f"{API_PREFIX}/viewing-time/heartbeats"
OFFLINE_PATH = f"{API_PREFIX}/viewing-time/offline-sync"
CATALOGUE_PATH = f"{API_PREFIX}/catalog/titles"
ACCOUNTS_PATH = f"{API_PREFIX}/platform/accounts"

_BEAT_ROUTES = frozenset({HEARTBEAT_PATH, BATCH_PATH, END_ROUTE})
_QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/health/startup", "/metrics"})
_END_PATH = re.compile(f"{API_PREFIX}/viewing-time/session/[^/]+/end")
_END_URL = re.compile(f"{API_PREFIX}/viewing-time/session/([0-9a-f-]{{36}})/end".encode())
_ENCODED_SLASH = re.compile(b"%2[Ff]")
_ROUTERS = (
    viewing_router,
    reports_router,
    parents_router,
    accounts_router,
    auth_router,
    account_router,
    pin_router,
    catalogue_router,
    platform_router,
    platform_accounts_router,
    feed_router,
    privacy_router,
    admin_router,
    health.router,
    sdk_router,
)
"""Those asked most often first: the routes of all of them lie in one list, which is gone through for each request.

``include_router`` would put lists into lists, and FastAPI goes through these three times.
"""

_CORS_HEADERS = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "X-PIN-Token",
)
"""What the API itself reads of what pages send; a setting adds what the platform's own libraries send."""
_CORS: Mapping[str, Any] = {
    "allow_methods": ("GET", "POST", "PUT", "PATCH", "DELETE"),
    "expose_headers": ("Date", "ETag", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-ID"),
    "max_age": 600,
}


class Dispatcher:
    """Hands beats and ends of sessions to their endpoints, pages to the console and anything else to FastAPI.

    Args:
        api: the rest.
        access_log: where requests get their lines.
        console: serves the pages; without one there are none.
        cors: what the middleware is told when there are origins to allow; without them a beat costs nothing more.
    """

    def __init__(
        self,
        api: FastAPI,
        *,
        access_log: AccessLog,
        console: ConsoleApp | None = None,
        cors: Mapping[str, Any] | None = None,
    ) -> None:
        self._api = api
        self._console = console
        self._fast: problems.App = self._beat if cors is None else CORSMiddleware(self._beat, **cors)
        self.state = api.state
        self.access_log = access_log
        self._observer = RequestObserver(
            self._answer,
            access_log=access_log,
            route_of=self._route_of,
            beat_routes=_BEAT_ROUTES,
            quiet_routes=_QUIET_ROUTES,
        )

    def beat_choice(self) -> Callable[[Sequence[tuple[bytes, bytes]]], Choice | None] | None:
        """For a server that goes short ways: which beats go the way of all others, to be seen; None: none do."""
        return self._observer.choose_beat if self._observer.chooses_beats else None

    def account_of(self, authorization: bytes | None) -> str | None:
        """The account that a header speaks for, for the log; None where it speaks for none."""
        if authorization is None:
            return None
        try:
            account_id: str = self._api.state.services.token_cache.principal_of(authorization).account_id
        except Unauthenticated:
            return None
        return account_id

    def fast_path(self) -> Callable[[bytes], Begin | None]:
        """For a server that goes them: who begins to answer a POST to an address; None for the way of all others."""
        viewing: Viewing = self._api.state.services.viewing
        heartbeat, end, url_of_heartbeat = viewing.heartbeat.begin, viewing.end, HEARTBEAT_PATH.encode()

        def begin_at(url: bytes) -> Begin | None:
            if url == url_of_heartbeat:
                return heartbeat
            ending = _END_URL.fullmatch(url)
            return end.begin_for(ending[1].decode()) if ending else None

        return begin_at

    def take_beat(self) -> Take | None:
        """For a server that goes short ways: the native module's reader of heartbeats; None without it."""
        viewing: Viewing = self._api.state.services.viewing
        return viewing.heartbeat.take

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
        await self._observer(scope, receive, send)

    async def _answer(self, scope: problems.Scope, receive: Receive, send: problems.Send) -> None:
        if scope["type"] == "http" and self._endpoint_at(scope["path"]) is not None:
            await self._fast(scope, receive, send)
        elif self._console is not None and scope["type"] == "http" and self._console.owns(scope["path"]):
            await self._console(scope, receive, send)
        else:
            await self._api(_with_slashes_kept(scope), receive, send)

    async def _beat(self, scope: problems.Scope, receive: Receive, send: problems.Send) -> None:
        endpoint = self._endpoint_at(scope["path"])
        assert endpoint is not None  # noqa: S101  nothing else is sent here
        await endpoint(scope, receive, send)

    def _route_of(self, scope: problems.Scope) -> str | None:
        """The template of a path that was answered."""
        path = scope["path"]
        if path in _BEAT_ROUTES:
            return str(path)
        if _END_PATH.fullmatch(path):
            return END_ROUTE
        return getattr(scope.get("route"), "path", None)

    def _endpoint_at(self, path: str) -> HeartbeatEndpoint | None:
        """Who answers a path without the framework; None for all others."""
        viewing: Viewing = self._api.state.services.viewing
        if path == HEARTBEAT_PATH:
            return viewing.heartbeat
        if path == BATCH_PATH:
            return viewing.heartbeats
        return viewing.end if _END_PATH.fullmatch(path) else None


def _with_slashes_kept(scope: problems.Scope) -> problems.Scope:
    """A slash that was sent encoded belongs to an id of the platform, and separates nothing."""
    raw_path = scope.get("raw_path") or b""
    if SLASH in scope["path"]:  # it stands for a slash only where we have put it
        return {**scope, "path": scope["path"].replace(SLASH, "\0")}
    if b"%2F" not in raw_path.upper():
        return scope
    kept = _ENCODED_SLASH.sub(quote(SLASH).encode(), raw_path.partition(b"?")[0])
    return {**scope, "path": unquote(kept.decode("ascii", errors="replace"))}


def create_app(settings: Settings | None = None) -> Dispatcher:
    """The ASGI application. Connections open in its lifespan, as ``app.state.services``."""
    settings = settings or load_settings()
    configure_logs(settings.log_level, settings.log_format)
    access_log = AccessLog(share=settings.access_log, beat_share=settings.access_log_beats)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with traced(settings), open_services(settings) as services:
            app.state.services = services
            app.state.draining = services.viewing.notifier
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
    add_docs_page(api, path=f"{API_PREFIX}/docs", openapi_url=f"{API_PREFIX}/openapi.json")
    api.openapi = lambda: document(api, prefix=API_PREFIX)  # type: ignore[method-assign]
    problems.install(
        api,
        body_limit_bytes=settings.body_limit_bytes,
        body_timeout_seconds=settings.body_timeout_seconds,
        streaming_paths=(CATALOGUE_PATH, OFFLINE_PATH, ACCOUNTS_PATH),
    )
    console = ConsoleApp(api.state, has_style_page=settings.console_style_page) if settings.console else None
    if not settings.cors_origins:
        return Dispatcher(api, access_log=access_log, console=console)
    cors = {"allow_origins": settings.cors_origins, "allow_headers": (*_CORS_HEADERS, *settings.cors_headers), **_CORS}
    api.add_middleware(CORSMiddleware, **cors)  # outermost: refusals of the guard are for the browser to read, too
    return Dispatcher(api, access_log=access_log, console=console, cors=cors)
