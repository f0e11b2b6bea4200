"""Structured logs on standard error; nothing personal, no tokens, no bodies.

As JSON every line is one object, whatever its source: own events, libraries, warnings, uncaught errors. For a
person at a terminal there is a readable form.
"""

import logging
import re
import sys
import threading
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["json", "console"]

_HANDLER = "hourglass"
_ROW_VALUES = re.compile(r"DETAIL:.*?(?=\n\[SQL:|\n\nThe above exception|\n\nDuring handling|\Z)", re.DOTALL)


def configure_logs(level: str, log_format: LogFormat | None = None) -> None:
    """Set up logging of this process.

    Args:
        level: the least severe level of our own events, such as INFO. Libraries speak from WARNING on.
        log_format: how a line looks; JSON when it is not given.
    """
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_row_values,
    ]
    render: Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if log_format == "console"
        else structlog.processors.JSONRenderer(default=str)
    )
    processors = structlog.get_config()["processors"]
    processors[:] = [*common, render]  # the same list: a logger that has spoken before keeps the list it knew
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder(), _with_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    handler.set_name(_HANDLER)
    root = logging.getLogger()
    root.handlers = [kept for kept in root.handlers if kept.name != _HANDLER]
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def _without_row_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """PostgreSQL tells in the detail of an error which row it refused, names and notes included."""
    if "exception" in event:
        event["exception"] = _ROW_VALUES.sub("DETAIL: not logged", event["exception"])
    return event


def _with_logger_name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Name the library that speaks."""
    record = event.get("_record")
    if record is not None:
        event["logger"] = record.name
    return event


def log_the_uncaught() -> None:
    """Let warnings, exceptions that end a process or a thread, and those Python cannot raise, be log lines as well."""
    logging.captureWarnings(capture=True)
    log = structlog.get_logger(__name__)

    def of_process(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.critical("uncaught_exception", exc_info=(kind, error, traceback))

    def of_thread(caught: threading.ExceptHookArgs) -> None:
        if caught.exc_value is not None:
            name = caught.thread.name if caught.thread else None
            log.critical(
                "uncaught_exception", thread=name, exc_info=(caught.exc_type, caught.exc_value, caught.exc_traceback)
            )

    def unraisable(caught: Any) -> None:  # noqa: ANN401  its type is known to type checkers alone
        log.error(
            "unraisable_exception",
            reason=caught.err_msg,
            exc_info=(caught.exc_type, caught.exc_value, caught.exc_traceback),
        )

    sys.excepthook = of_process
    threading.excepthook = of_thread
    sys.unraisablehook = unraisable
