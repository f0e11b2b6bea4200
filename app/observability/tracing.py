"""CopyEraser by OpenTelemetry, for a share of the requests. Off by default, and then it costs a comparison.

The SDK is an extra (``pip install hourglass[otel]``) and reads its own variables (``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_SERVICE_NAME``, ``OTEL_RESOURCE_ATTRIBUTES`` …). ``OTEL_TRACES_SAMPLER`` and ``…_ARG`` say which share of
requests is recorded: 1 % unless they say otherwise, and each one that the client's ``traceparent`` marks as sampled.

Whether a request is recorded is decided once, where it arrives. A heartbeat that is recorded is answered through ASGI
like any other request, so that the fast path knows nothing of traces. Spans are made only inside a recorded request.
"""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

DEFAULT_SHARE = 0.01
STOP_SECONDS = 3.0
_NOTHING: AbstractContextManager[None] = nullcontext()
_SAMPLED = "01"


class TracingUnavailable(Exception):
    """CopyEraser are asked for, and the libraries are not there; or a variable of theirs is wrong."""


class _Tracing:
    """What is set up in a process that records traces."""

    def __init__(self, tracer: "Tracer", *, share: float, heeds_parent: bool) -> None:
        self.tracer = tracer
        self._share = share
        self._heeds_parent = heeds_parent

    def chooses(self, traceparent: str | None) -> bool:
        if self._heeds_parent and traceparent is not None:
            return traceparent.endswith(_SAMPLED)
        return random.random() < self._share  # noqa: S311  nothing secret


_tracing: _Tracing | None = None


def start(environ: Mapping[str, str]) -> Callable[[], None]:
    """Record traces of this process from now on; what is returned ends it and sends the last, for a few seconds.

    Raises:
        TracingUnavailable: with what to do about it.
    """
    global _tracing  # noqa: PLW0603  one per process, as the SDK has it
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  likewise
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  likewise
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  likewise
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415  likewise
    except ImportError as error:
        raise TracingUnavailable("install the extra that records traces: pip install 'hourglass[otel]'") from error
    share, heeds_parent = share_of(environ)
    own_name = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": "hourglass"}
    provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(own_name), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracing = _Tracing(provider.get_tracer("hourglass"), share=share, heeds_parent=heeds_parent)

    def stop() -> None:
        global _tracing  # noqa: PLW0603  likewise
        _tracing = None
        # In a thread that nobody waits for at the end of the process: the SDK tries an absent collector for long.
        sending = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
        sending.start()
        sending.join(STOP_SECONDS)

    return stop


def share_of(environ: Mapping[str, str]) -> tuple[float, bool]:
    """Which share ``OTEL_TRACES_SAMPLER`` and ``…_ARG`` ask for, and whether the client's decision counts.

    Raises:
        TracingUnavailable: they ask for something else.
    """
    sampler = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_traceidratio"
    heeds_parent, kind = sampler.startswith("parentbased_"), sampler.removeprefix("parentbased_")
    if kind in {"always_on", "always_off"}:
        return float(kind == "always_on"), heeds_parent
    if kind != "traceidratio":
        raise TracingUnavailable("OTEL_TRACES_SAMPLER: must be always_on, always_off, traceidratio or parentbased_ one")
    given = environ.get("OTEL_TRACES_SAMPLER_ARG") or str(DEFAULT_SHARE)
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise TracingUnavailable("OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1")
    return share, heeds_parent


def is_on() -> bool:
    return _tracing is not None


def chooses(traceparent: str | None) -> bool:
    """Whether a request that arrives with this ``traceparent`` is recorded."""
    return _tracing is not None and _tracing.chooses(traceparent)


@contextmanager
def request_span(name: str, *, traceparent: str | None) -> "Iterator[Span]":
    """The span of a request that was chosen, below the client's if it sent one."""
    assert _tracing is not None  # noqa: S101  nothing is chosen otherwise
    from opentelemetry.trace import SpanKind  # noqa: PLC0415  it is there, for tracing is on
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415  likewise

    carrier = {"traceparent": traceparent} if traceparent else {}
    parent = TraceContextTextMapPropagator().extract(carrier)
    with _tracing.tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER) as span:
        yield span


def traceparent_of(span: "Span") -> tuple[str, str]:
    """The header that calls inside a span carry, and the id of the trace."""
    context = span.get_span_context()
    trace_id = f"{context.trace_id:032x}"
    return f"00-{trace_id}-{context.span_id:016x}-{_SAMPLED}", trace_id


def span(name: str, **attributes: str | int) -> AbstractContextManager[object]:
    """A span below the one that is being recorded; nothing where none is. Attributes hold nothing personal."""
    if _tracing is None:
        return _NOTHING
    from opentelemetry.trace import get_current_span  # noqa: PLC0415  likewise

    if not get_current_span().is_recording():
        return _NOTHING
    return _tracing.tracer.start_as_current_span(name, attributes=_named(attributes))


def begin_span(name: str, **attributes: str | int) -> "Span | None":
    """As ``span``, for those who are told apart of the beginning and of the end: they end it themselves."""
    if _tracing is None:
        return None
    from opentelemetry.trace import get_current_span  # noqa: PLC0415  likewise

    if not get_current_span().is_recording():
        return None
    return _tracing.tracer.start_span(name, attributes=_named(attributes))


def job_span(name: str, **attributes: str | int) -> AbstractContextManager[object]:
    """A span of its own, for work that no request asked for; recorded for the same share."""
    if _tracing is None or not _tracing.chooses(None):
        return _NOTHING
    return _tracing.tracer.start_as_current_span(name, attributes=_named(attributes))


def _named(attributes: Mapping[str, str | int]) -> dict[str, Any]:
    """Attributes by their names in the semantic conventions, which have dots."""
    return {name.replace("__", "."): value for name, value in attributes.items()}
