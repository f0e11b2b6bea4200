"""Observes every request that goes through ASGI: its time, its id, its line in the log, its span."""

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import structlog

from app.observability import context, metrics, tracing
from app.observability.access_log import AccessLog

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]

CHOICE = "hourglass.choice"
"""In the state of a request: what was decided about it before it got here."""
UNMATCHED = "unmatched"
_STREAM = b"text/event-stream"
_OK = 200


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether a request is written to the access log, and whether it is traced."""

    is_logged: bool
    is_traced: bool


class RequestObserver:
    """Stands around an application.

    Args:
        app: the application.
        access_log: where lines go.
        route_of: the template of the path of a request that was answered, from its scope; None: no route of ours.
        beat_routes: templates of what players send all the time.
        quiet_routes: templates that get no line, for probes ask them every few seconds.
    """

    def __init__(
        self,
        app: App,
        *,
        access_log: AccessLog,
        route_of: Callable[[Scope], str | None],
        beat_routes: frozenset[str],
        quiet_routes: frozenset[str],
    ) -> None:
        self._app = app
        self._log = access_log
        self._route_of = route_of
        self._beat_routes = beat_routes
        self._quiet_routes = quiet_routes

    @property
    def chooses_beats(self) -> bool:
        """Whether some heartbeats must come this way instead of the fast one."""
        return self._log.beat_share > 0 or tracing.is_on()

    def choose_beat(self, headers: Iterable[tuple[bytes, bytes]]) -> Choice | None:
        """Whether a heartbeat with these headers must come this way; None: it need not."""
        is_logged = self._log.chooses_beat()
        traceparent = next((value for name, value in headers if name == context.TRACEPARENT_HEADER), b"")
        is_traced = tracing.chooses(traceparent.decode("latin-1") or None)
        return Choice(is_logged, is_traced) if is_logged or is_traced else None

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:  # noqa: ANN401  the server's
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_seconds = time.perf_counter()
        request = context.identify(scope["headers"])
        choice = scope.get("state", {}).get(CHOICE) or self._chosen(request)
        with ExitStack() as stack:
            span = None
            if choice.is_traced and tracing.is_on():
                span = stack.enter_context(tracing.request_span(scope["method"], traceparent=request.traceparent))
                request.traceparent, request.trace_id = tracing.traceparent_of(span)
            context.enter(request)
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(**request.members())
            status, is_done = 0, False

            def conclude() -> None:
                nonlocal is_done
                if is_done or not status:
                    return
                is_done = True
                seconds, method = time.perf_counter() - began_seconds, scope["method"]
                route = self._route_of(scope) or UNMATCHED
                metrics.observe_request(method, route, status, seconds)
                if route in self._beat_routes:
                    is_logged = choice.is_logged and CHOICE in scope.get("state", {})
                    metrics.count_late(seconds)
                else:
                    is_logged = choice.is_logged and route not in self._quiet_routes
                self._log.answered(
                    request, method=method, route=route, status=status, seconds=seconds, is_chosen=is_logged
                )
                if span is not None:
                    span.update_name(f"{method} {route}")
                    span.set_attributes(
                        {"http.request.method": method, "http.route": route, "http.response.status_code": status}
                    )

            async def observed(message: Message) -> None:
                nonlocal status
                is_stream = False
                if message["type"] == "http.response.start":
                    status = message["status"]
                    headers = list(message.get("headers", ()))
                    is_stream = any(name == b"content-type" and value.startswith(_STREAM) for name, value in headers)
                    is_plain_beat = status == _OK and self._route_of(scope) in self._beat_routes
                    if request.is_named or not is_plain_beat:  # as on the fast path
                        headers.append((context.REQUEST_ID_HEADER, request.request_id.encode("ascii")))
                    message = {**message, "headers": headers}
                await send(message)
                if is_stream or (message["type"] == "http.response.body" and not message.get("more_body", False)):
                    conclude()

            await self._app(scope, receive, observed)

    def _chosen(self, request: context.RequestContext) -> Choice:
        return Choice(self._log.chooses(), tracing.chooses(request.traceparent))
