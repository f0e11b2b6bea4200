"""Errors that an operator can correct. They are shown as one line, never as a traceback."""

import errno
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

_OF_FILES = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR})
_CORRECTIONS = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EROFS: "choose a folder that can be written, with --data-dir or HOURGLASS_METRICS_DIR",
}
_OTHER_CORRECTION = "give this user the right to it, or choose another folder"


class CommandError(Exception):
    """A command failed. The text gives the reason and, if known, the correction."""


def expected_message(error: BaseException) -> str | None:
    """The text of an expected error; None for a defect, which needs its traceback."""
    if isinstance(error, ExceptionGroup):  # one error of concurrent tasks is enough
        return expected_message(error.exceptions[0])
    from app.embedded.account import SystemUserError  # noqa: PLC0415  only a failing command pays for these
    from app.embedded.deployment import DeploymentError  # noqa: PLC0415
    from app.embedded.server import ServerFailed  # noqa: PLC0415
    from app.settings.settings import SettingsError  # noqa: PLC0415

    if isinstance(error, (CommandError, SettingsError)):
        return str(error)
    if isinstance(error, (DeploymentError, ServerFailed, SystemUserError)):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _OF_FILES and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}; {_CORRECTIONS.get(error.errno, _OTHER_CORRECTION)}"
    return None


def show_failure(text: str) -> None:
    """Report why a command failed: as text, or as a log line if this process is a service."""
    for line in text.splitlines():
        if is_service():
            from app.clock import now_ms  # noqa: PLC0415  as above
            from app.timestamps import rfc3339  # noqa: PLC0415

            event = {"reason": line, "event": "cannot_start", "level": "error", "timestamp": rfc3339(now_ms())}
            print(json.dumps(event), file=sys.stderr)
        else:
            print(f"hourglass: {line}", file=sys.stderr)


_output = SimpleNamespace(is_json=False)


def is_service() -> bool:
    """Whether machines read the output of this process."""
    return bool(_output.is_json)


def configure_output(*, service: bool) -> None:
    """Mark this command as a service. Its output is JSON unless a setting asks for text."""
    from app.settings.settings import environment  # noqa: PLC0415  as above

    _output.is_json = service and environment().get("HOURGLASS_LOG_FORMAT") != "console"


@contextmanager
def using_lab() -> Iterator[None]:
    """Explain a missing lab: the production image and the wheel leave it out."""
    try:
        yield
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("app.lab"):
            raise
        raise CommandError(
            "the lab (bench, chaos) is not part of this installation; in a checkout: pip install -e '.[lab]'"
        ) from error


@contextmanager
def translate_connection_errors(server: str, variable: str) -> Iterator[None]:
    """Translate connection errors of a server into CommandError.

    Args:
        server: its name, e.g. PostgreSQL.
        variable: the setting with its address.
    """
    from asyncpg import InterfaceError, PostgresError  # noqa: PLC0415  as above
    from redis.exceptions import RedisError  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from app.postgres_store.compatibility import SchemaMisfit  # noqa: PLC0415

    try:
        yield
    except (
        OSError,
        TimeoutError,
        PostgresError,
        InterfaceError,
        RedisError,
        SQLAlchemyError,
        SchemaMisfit,
        ValueError,
    ) as error:
        raise CommandError(f"cannot use {server} ({variable}): {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The server's own message, without the library's text, and the correction if known."""
    from app.deployment.preflight import correction_for  # noqa: PLC0415  as above

    told: Any = getattr(error, "orig", None) or error
    told = getattr(told, "__cause__", None) if hasattr(told, "pgcode") and told.__cause__ is not None else told
    text = str(told).strip()
    return (text.splitlines()[0] if text else type(told).__name__) + correction_for(
        str(getattr(told, "sqlstate", "") or "")
    )
