"""Which request is being answered, for its logs, its problems and the calls it makes.

The id is the client's ``X-Request-ID`` where that is sound, else made here. The trace is the client's ``traceparent``
(W3C Trace Context), passed on whether or not this service records it.
"""

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

REQUEST_ID_HEADER = b"x-request-id"
TRACEPARENT_HEADER = b"traceparent"

_SOUND_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,64}")
_TRACEPARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class RequestContext:
    """One request while it is answered. ``account_id`` and ``code`` are filled in when they are known.

    ``traceparent`` is what calls made for this request carry: the client's, or that of our own span.
    """

    request_id: str
    traceparent: str | None = None
    trace_id: str | None = None
    account_id: str | None = None
    code: str | None = None
    is_named: bool = False
    """Whether the id is the client's."""

    def members(self) -> dict[str, object]:
        """What a problem says of it."""
        named: dict[str, object] = {"request_id": self.request_id}
        if self.trace_id is not None:
            named["trace_id"] = self.trace_id
        return named

    def outgoing_headers(self) -> dict[str, str]:
        """What a call to another service carries, so that its logs and traces can be joined with ours."""
        headers = {"X-Request-ID": self.request_id}
        if self.traceparent is not None:
            headers["traceparent"] = self.traceparent
        return headers


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def current() -> RequestContext | None:
    """The request that this code runs for; None in jobs and in batches that serve many requests."""
    return _current.get()


def enter(context: RequestContext) -> None:
    """From now on this task, and those it makes, work for a request."""
    _current.set(context)


def note_account(account_id: str) -> None:
    """The caller is known: its account stands in the logs from now on."""
    context = _current.get()
    if context is not None:
        context.account_id = account_id
        structlog.contextvars.bind_contextvars(account_id=account_id)


def is_sound_id(value: bytes) -> bool:
    """Whether an id that a client sent may stand in logs and answers."""
    return _SOUND_ID.fullmatch(value) is not None


def identify(headers: Iterable[tuple[bytes, bytes]]) -> RequestContext:
    """The context of a request that arrived with these headers (names in lower case)."""
    request_id = traceparent = None
    for name, value in headers:
        if name == REQUEST_ID_HEADER and is_sound_id(value):
            request_id = value.decode("ascii")
        elif name == TRACEPARENT_HEADER:
            traceparent = _TRACEPARENT.fullmatch(value)
    return RequestContext(
        request_id=request_id or secrets.token_hex(8),
        traceparent=traceparent[0].decode("ascii") if traceparent else None,
        trace_id=traceparent[1].decode("ascii") if traceparent else None,
        is_named=request_id is not None,
    )
