"""Every setting, read from the environment once, here and nowhere else.

Names are ``HOURGLASS_<FIELD>``; ``DATABASE_URL`` and ``REDIS_URL`` are also accepted without the prefix. A
secret may come from a file: ``HOURGLASS_JWT_SECRET_FILE=/run/secrets/jwt`` fills ``jwt_secret``. An empty
variable counts as absent.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.redis_address import parse_redis_url, without_secrets

PREFIX = "HOURGLASS_"
SERVER_URLS = ("database_url", "redis_url")
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


def _split(value: object) -> object:
    """Accept ``15,5`` as well as a real sequence."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _are_weekdays(value: tuple[int, ...]) -> tuple[int, ...]:
    if not set(value) <= set(range(7)):
        raise ValueError("must hold numbers from 0 (Monday) to 6 (Sunday)")
    return value


def _are_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_ORIGIN.fullmatch(origin) for origin in value):
        raise ValueError("must hold origins as browsers send them, e.g. https://tv.example.org, no slash at the end")
    return value


def _is_redis_url(value: SecretStr) -> SecretStr:
    parse_redis_url(value.get_secret_value())
    return value


IntList = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split)]
StrList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class SettingsError(Exception):
    """The environment does not describe a valid configuration; the text names each variable."""


class Settings(BaseSettings):
    """The effective settings. Durations carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    # --- servers
    database_url: SecretStr = Field(
        validation_alias=AliasChoices("DATABASE_URL", "HOURGLASS_DATABASE_URL", "database_url"),
        description="PostgreSQL, e.g. postgresql://user@host/db",
    )
    redis_url: Annotated[SecretStr, AfterValidator(_is_redis_url)] = Field(
        validation_alias=AliasChoices("REDIS_URL", "HOURGLASS_REDIS_URL", "redis_url"),
        description="Redis or Valkey: redis://host:6379/0, unix:///path.sock, redis+sentinel://host,host/service or"
        " redis+cluster://host,host (docs/deployment.md)",
    )

    # --- secrets
    jwt_secret: SecretStr = Field(min_length=32, description="signs our own tokens (HS256)")
    session_secret: SecretStr = Field(min_length=32, description="binds session ids to their profile")
    pin_pepper: SecretStr = Field(min_length=32, description="mixed into passwords and PINs before bcrypt")

    # --- identity
    jwt_issuer: str = Field("hourglass", description="`iss` of every token, ours and the identity service's")
    jwt_audience: str = Field("hourglass", description="`aud` of every token, ours and the identity service's")
    jwt_jwks_file: Path | None = Field(None, description="key set of an outside identity service that signs tokens")
    jwt_algorithm: str = Field(
        "RS256",
        pattern="^(RS|ES)(256|384|512)$",
        description="the one algorithm accepted from that service",
    )
    jwt_account_claim: str = Field("sub", description="claim of its tokens that holds the account's id")
    jwt_role_claim: str | None = Field(
        None, description="claim of its tokens that holds the role; without it they are the household's"
    )
    access_token_seconds: int = Field(3600, ge=60, le=86_400, description="life of an access token")
    refresh_token_seconds: int = Field(30 * 86_400, ge=3600, description="life of a refresh token")
    bcrypt_cost: int = Field(12, ge=4, le=16, description="bcrypt work factor")
    bcrypt_workers: int = Field(1, ge=1, le=32, description="processes that hash, for each API process")
    bcrypt_queue: int = Field(64, ge=1, description="hashes that may wait, per process; beyond: 429")
    max_profiles: int = Field(20, ge=1, le=100, description="profiles an account may have")

    # --- rules
    weekend_days: Annotated[IntList, AfterValidator(_are_weekdays)] = Field(
        (5, 6), description="weekdays that count as weekend, Monday = 0"
    )
    default_weekday_limit_minutes: int = Field(120, ge=15, le=480, description="limit of a new child, weekdays")
    default_weekend_limit_minutes: int = Field(180, ge=15, le=480, description="limit of a new child, weekends")
    default_reset_hour: int = Field(6, ge=0, le=23, description="hour at which a new child's day begins")
    default_warning_minutes: IntList = Field((15, 5), description="warning thresholds of a new child")
    max_gap_seconds: int = Field(300, ge=30, le=3600, description="longest silence that still counts as watching")
    pause_grace_seconds: int = Field(300, ge=0, le=3600, description="part of each pause that counts")
    beat_interval_seconds: int = Field(30, ge=5, le=120, description="interval between heartbeats")
    max_beats_per_second: int = Field(10, ge=0, le=1000, description="heartbeats of one child per second; 0: no limit")
    lease_seconds: int = Field(300, ge=30, le=3600, description="how long a player may go on without an answer")

    track_adults: bool = Field(
        default=False,
        description="adults' running sessions are kept, in Redis only, for the view of what an account plays",
    )

    # --- caches
    policy_ttl_seconds: int = Field(60, ge=1, le=60, description="age at which a cached policy must be confirmed")
    policy_stale_seconds: int = Field(
        3600, ge=60, description="how long a cached policy serves while PostgreSQL is away"
    )
    policy_cache_size: int = Field(600_000, ge=1, description="policies a process remembers")
    title_ttl_seconds: int = Field(300, ge=1, description="life of a cached title")
    token_cache_size: int = Field(600_000, ge=1, description="verified tokens a process remembers")
    shared_policy_ttl_seconds: int = Field(86_400, ge=60, description="life of the shared policy copy in Redis")

    # --- Redis
    buckets: int = Field(64, ge=1, le=16_384, description="hash tags that profiles spread over; fixed per deployment")
    redis_timeout_seconds: float = Field(0.5, gt=0, le=10, description="time budget of one Redis call")
    redis_connections: int = Field(16, ge=1, description="connections per process")
    live_ttl_seconds: int = Field(48 * 3600, ge=3600, description="life of a flushed, idle child's counters")
    max_calls_in_flight: int = Field(1, ge=1, description="script calls at once per process, on a single server")
    max_batch: int = Field(256, ge=1, le=1000, description="heartbeats in one script call")

    # --- PostgreSQL
    database_pool: int = Field(5, ge=1, description="connections per process")
    database_timeout_seconds: float = Field(5.0, gt=0, description="statement timeout of a request")
    database_pgbouncer: bool = Field(default=False, description="PgBouncer in transaction mode stands in front")

    # --- flush
    flush_cycle_seconds: float = Field(5.0, gt=0, description="pause between flush cycles")
    flush_age_seconds: float = Field(50.0, ge=0, description="age at which a dirty child is flushed")
    flush_batch: int = Field(2000, ge=1, le=5000, description="children in one statement")
    policy_sweep_seconds: float = Field(10.0, gt=0, description="how often changed policies are put into Redis again")

    # --- privacy
    session_days: int = Field(90, ge=90, le=3650, description="days for which sessions are kept")
    balance_days: int = Field(
        365, ge=90, le=3650, description="days for which sums of days and weekly reports are kept"
    )
    record_days: int = Field(
        365, ge=90, le=3650, description="days for which grants, requests and the audit log are kept"
    )

    # --- HTTP
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    workers: int = Field(2, ge=1, le=64, description="API processes")
    account_requests_per_minute: int = Field(
        1200, ge=0, description="requests of an account, beats and ends aside; 0: no limit"
    )
    token_requests_per_minute: int = Field(
        600, ge=0, description="requests of one token, beats and ends aside; 0: no limit"
    )
    body_limit_bytes: int = Field(64 * 1024, ge=1024, description="largest request body")
    bulk_body_limit_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="largest batch or catalogue body")
    body_timeout_seconds: float = Field(10.0, gt=0, description="deadline for a request body to arrive")
    max_event_streams: int = Field(10_000, ge=1, description="event streams open at once per process")
    drain_seconds: float = Field(15.0, ge=0, description="grace for requests in flight at shutdown")
    cors_origins: Annotated[StrList, AfterValidator(_are_origins)] = Field(
        (), description="origins of web pages that may call, e.g. https://tv.example.org"
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least severe line logged")
    metrics_dir: Path | None = Field(None, description="folder in which API processes share their metrics")

    def masked(self) -> dict[str, object]:
        """Every setting by its environment variable, secrets and the credentials inside addresses hidden."""
        values = {variable_of(name): getattr(self, name) for name in type(self).model_fields}
        return values | {
            variable_of(name): without_secrets(getattr(self, name).get_secret_value()) for name in SERVER_URLS
        }


def variable_of(field: str) -> str:
    """The environment variable that fills a field, e.g. ``HOURGLASS_JWT_SECRET``."""
    return field.upper() if field in SERVER_URLS else PREFIX + field.upper()


def _secret_fields() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


def _names_of(field: str) -> tuple[str, ...]:
    """Every variable that is read for a secret: addresses go with and without the prefix."""
    prefixed = PREFIX + field.upper()
    return (field.upper(), prefixed) if field in SERVER_URLS else (prefixed,)


def _secrets_from_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Values of ``<SECRET>_FILE`` variables by field. A secret given twice is refused, not guessed at."""
    found: dict[str, str] = {}
    for field in _secret_fields():
        for variable in _names_of(field):
            path = environ.get(f"{variable}_FILE")
            if not path:
                continue
            if any(environ.get(name) for name in _names_of(field)):
                raise SettingsError(f"{variable}_FILE: {variable} is set as well; keep one of the two")
            try:
                found[field] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
                raise SettingsError(f"{variable}_FILE: cannot read {path}: {reason}") from error
    return found


def load_settings(**overrides: object) -> Settings:
    """Read and validate the environment.

    Args:
        overrides: field values that win over the environment.

    Raises:
        SettingsError: variables are missing or invalid; the message has one line for each and names it.
    """
    values = {**_secrets_from_files(environment()), **overrides}
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(_problems(error))) from None


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        field = str(problem["loc"][0]).lower().removeprefix(PREFIX.lower())
        match problem["type"]:
            case "missing":
                message = "is not set"
            case "too_short":
                message = f"must have at least {problem['ctx']['min_length']} characters"
            case _:
                message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{variable_of(field)}: {message}")
    return lines


def is_given(field: str) -> bool:
    """Whether the environment fills this field, directly or (secrets) through a file."""
    environ = environment()
    names = _names_of(field)
    return any(environ.get(name) or environ.get(f"{name}_FILE") for name in names)


def unknown_variables() -> list[str]:
    """Variables with our prefix that no setting reads: most likely misspelt."""
    known = {variable_of(name) for name in Settings.model_fields}
    known |= {name for field in _secret_fields() for name in _names_of(field)}
    known |= {f"{name}_FILE" for field in _secret_fields() for name in _names_of(field)}
    return sorted(name for name in environment() if name.startswith(PREFIX) and name not in known)


def environment() -> dict[str, str]:
    """A copy of the environment, for starting other processes with it."""
    return dict(os.environ)  # noqa: TID251  this module is the one reader


def export(variables: Mapping[str, str]) -> None:
    """Put variables into this process's environment, before anything reads its settings."""
    os.environ.update(variables)  # noqa: TID251  this module is the one reader
