"""Failures that a person at the terminal can act upon: shown as text, never as a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class CommandError(Exception):
    """A command cannot do what it was asked; the text says why and, where there is one, the way out."""


def explained(error: Exception) -> str | None:
    """The text for an expected failure; None for a fault of ours, whose traceback is wanted."""
    if isinstance(error, ExceptionGroup):  # of tasks that ran together: the first tells enough
        return explained(error.exceptions[0])
    from app.embedded.account import AccountError  # noqa: PLC0415  only a failing command pays for these
    from app.embedded.deployment import DeploymentError  # noqa: PLC0415
    from app.embedded.server import ServerFailed  # noqa: PLC0415
    from app.settings import SettingsError  # noqa: PLC0415

    expected = (CommandError, SettingsError, DeploymentError, ServerFailed, AccountError)
    return str(error) if isinstance(error, expected) else None


@contextmanager
def reaching(server: str, variable: str) -> Iterator[None]:
    """Explain every way in which a server cannot be reached.

    Args:
        server: its name, e.g. PostgreSQL.
        variable: the setting that says where it is.
    """
    from asyncpg import PostgresError  # noqa: PLC0415  as above
    from redis.exceptions import RedisError  # noqa: PLC0415

    try:
        yield
    except (OSError, TimeoutError, PostgresError, RedisError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CommandError(f"cannot use {server} ({variable}): {reason}") from error
