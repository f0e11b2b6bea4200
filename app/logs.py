"""Structured logs: one JSON object per line on standard error; nothing personal, no tokens, no bodies."""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

_ROW_VALUES = re.compile(r"DETAIL:.*?(?=\n\[SQL:|\n\nThe above exception|\n\nDuring handling|\Z)", re.DOTALL)


def configure_logs(level: str) -> None:
    """Set up logging of this process; ``level`` is a name such as INFO."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_row_values,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def _without_row_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """PostgreSQL tells in the detail of an error which row it refused, names and notes included."""
    if "exception" in event:
        event["exception"] = _ROW_VALUES.sub("DETAIL: not logged", event["exception"])
    return event
