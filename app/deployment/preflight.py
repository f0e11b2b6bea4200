"""Checks before a process starts its work: access to the servers, and a suitable schema.

An error in the configuration ends the start with one line. The process waits for a server that is merely away, and logs
that at once and at intervals.
"""

import asyncio
from enum import StrEnum
from typing import Any

import asyncpg
import structlog
from redis.exceptions import AuthenticationError, NoPermissionError

from app.deployment.errors import CommandError
from app.errors import CountersUnavailable
from app.observability.outages import Outages
from app.postgres_store.compatibility import SchemaMisfit, require_schema
from app.redis_store.client import create_client
from app.redis_store.durability import examine
from app.settings.settings import Settings

CONNECT_SECONDS = 5.0
PAUSE_SECONDS = 0.5
log = structlog.get_logger(__name__)

_AWAY_STATES = ("08", "53", "57")
"""SQLSTATE classes: connection failures, too many connections, a server that starts or stops."""


class ServiceRole(StrEnum):
    """The kind of process, which determines the rights it needs."""

    API = "api"
    WORKER = "worker"
    READER = "reader"


_NEEDED = {
    ServiceRole.API: ("profiles", "SELECT, INSERT"),
    ServiceRole.WORKER: ("viewing_time_balances", "SELECT, INSERT, UPDATE"),
    ServiceRole.READER: ("viewing_time_balances", "SELECT"),
}


class _ServerAway(Exception):
    """A server does not answer, but may do so later."""


async def preflight(settings: Settings, *, role: ServiceRole, waits: bool = True) -> None:
    """Check both servers before anything is opened.

    A missing Redis does not prevent the start: heartbeats receive 503 until it is back.

    Args:
        settings: the addresses of the servers.
        role: the kind of process.
        waits: whether to wait for a PostgreSQL that is away.

    Raises:
        CommandError: a server refuses access, the schema is unsuitable, or PostgreSQL is away and ``waits`` is false.
    """
    outages = Outages()
    while True:
        try:
            await examine_database(settings.database_url.get_secret_value(), role=role)
        except _ServerAway as away:
            if not waits:
                raise CommandError(f"PostgreSQL (DATABASE_URL) does not answer: {away}") from away
            outages.away("PostgreSQL", str(away))
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            outages.back("PostgreSQL")
            break
    try:
        await examine_redis(settings)
    except _ServerAway as away:
        if not waits:
            raise CommandError(f"Redis (REDIS_URL) does not answer: {away}") from away


async def examine_database(database_url: str, *, role: ServiceRole) -> None:
    """Connect to PostgreSQL and check schema and rights.

    Raises:
        CommandError: the operator must correct something.
        _ServerAway: the server does not answer.
    """
    try:
        plain = database_url.replace("postgresql+asyncpg://", "postgresql://", 1)
        connection = await asyncpg.connect(plain, timeout=CONNECT_SECONDS, statement_cache_size=0)
    except asyncpg.PostgresError as error:
        raise _explained(error) from error
    except (OSError, TimeoutError) as error:
        raise _ServerAway(_reason(error)) from error
    except (ValueError, asyncpg.InterfaceError) as error:
        raise CommandError(f"DATABASE_URL is not an address of PostgreSQL: {_reason(error)}") from error
    try:
        await require_schema(connection)
        await _require_rights(connection, *_NEEDED[role])
    except SchemaMisfit as error:
        raise CommandError(f"PostgreSQL (DATABASE_URL): {error}") from error
    except asyncpg.PostgresError as error:
        raise _explained(error) from error
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise _ServerAway(_reason(error)) from error
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def examine_redis(settings: Settings) -> None:
    """Check that Redis accepts the credentials.

    Raises:
        CommandError: Redis refuses access.
        _ServerAway: the server does not answer.
    """
    redis = create_client(settings.redis_url.get_secret_value(), timeout_seconds=CONNECT_SECONDS, connections=1)
    try:
        await examine(redis)
    except NoPermissionError as error:
        raise CommandError(
            f"Redis (REDIS_URL) forbids a required command: {_reason(error)}; extend the user's ACL"
        ) from error
    except CountersUnavailable as error:
        cause = _refusal_behind(error)
        if cause is not None:
            raise CommandError(
                f"Redis (REDIS_URL) refuses user or password: {_reason(cause)}; correct them in REDIS_URL"
            ) from error
        raise _ServerAway(_reason(error.__cause__ or error)) from error
    finally:
        await redis.aclose()


def _refusal_behind(error: BaseException | None) -> AuthenticationError | None:
    """The password error among the causes of an error; None for another cause."""
    while error is not None and not isinstance(error, AuthenticationError):
        error = error.__cause__ or error.__context__
    return error


async def _require_rights(connection: "asyncpg.Connection[Any]", table: str, rights: str) -> None:
    for right in rights.split(", "):
        if not await connection.fetchval("SELECT has_table_privilege($1, $2)", table, right):
            user = await connection.fetchval("SELECT current_user")
            raise CommandError(
                f"PostgreSQL (DATABASE_URL): user {user} may not {right} on table {table}; "
                f"GRANT the rights on all tables to it, or connect as their owner"
            )


def _explained(error: asyncpg.PostgresError) -> Exception:
    """The error of PostgreSQL as a message for the operator."""
    state = str(error.sqlstate or "")
    reason = _reason(error)
    if state.startswith(_AWAY_STATES):
        return _ServerAway(reason)
    return CommandError(f"PostgreSQL (DATABASE_URL): {reason}{correction_for(state)}")


def correction_for(state: str) -> str:
    """The correction for a SQLSTATE, as the end of a sentence; empty if unknown."""
    if state.startswith("28"):
        return "; correct user and password in DATABASE_URL, or pg_hba.conf of the server"
    if state == "3D000":
        return "; create it (createdb), or correct the name in DATABASE_URL"
    if state == "42501":
        return "; GRANT the right to this user, or connect as the owner of the database"
    if state == "53100":
        return "; free space on the disk of the server"
    return ""


def _reason(error: BaseException) -> str:
    """The first line of an error message."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
