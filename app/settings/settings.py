"""All settings, read once from the environment. No other module reads it.

Names are ``HOURGLASS_<FIELD>``. ``DATABASE_URL`` and ``REDIS_URL`` are also accepted without the prefix. A secret may
come from a file: ``HOURGLASS_JWT_SECRET_FILE=/run/secrets/jwt`` sets ``jwt_secret``. An empty variable counts as
absent.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.settings.redis_url import parse_redis_url, without_secrets

PREFIX = "HOURGLASS_"
_MIN_SECRET = 32
_LIBRARY_METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"
SERVER_URLS = ("database_url", "redis_url")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_ROLES = ("household", "parent", "service", "admin")
RENAMED = {
    "jwt_jwks_file": "outside_jwks_file",
    "jwt_algorithm": "outside_algorithm",
    "jwt_account_claim": "outside_account_claim",
    "jwt_role_claim": "outside_role_claim",
}
"""Fields by the names that they had until now."""
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")


def _split(value: object) -> object:
    """Accept ``15,5`` as well as a sequence."""
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


def _are_header_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(_HEADER_NAME.fullmatch(name) for name in value):
        raise ValueError("must hold names of headers, e.g. X-Request-ID")
    return value


def _is_redis_url(value: SecretStr) -> SecretStr:
    parse_redis_url(value.get_secret_value())
    return value


def _is_https_url(value: str | None) -> str | None:
    if value is None:
        return None
    found = urlsplit(value)
    is_here = found.scheme == "http" and found.hostname in _THIS_MACHINE
    if not found.hostname or found.username or not (found.scheme == "https" or is_here):
        raise ValueError("must be an address that begins with https://, or with http:// on this machine")
    return value


def _are_roles(value: tuple[str, ...]) -> tuple[str, ...]:
    for pair in value:
        said, _, role = pair.rpartition("=")
        if not said or role not in _ROLES:
            raise ValueError("must hold pairs such as guardian=parent; roles are " + ", ".join(_ROLES))
    return value


def _renamed(field: str, old_field: str) -> AliasChoices:
    """A variable that had another name until now; that name goes on for a version, with a warning."""
    return AliasChoices(PREFIX + field.upper(), PREFIX + old_field.upper(), field)


IntList = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split)]
StrList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class SettingsError(Exception):
    """The environment is not a valid configuration; the text names each variable."""


def _are_secrets(value: SecretStr) -> SecretStr:
    if any(len(secret) < _MIN_SECRET for secret in value.get_secret_value().split()):
        raise ValueError(f"each must have at least {_MIN_SECRET} characters")
    return value


MoreSecrets = Annotated[SecretStr, AfterValidator(_are_secrets)]


class Settings(BaseSettings):
    """The effective settings. Durations have their unit in the name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    # --- servers
    database_url: SecretStr = Field(
        validation_alias=AliasChoices("DATABASE_URL", "HOURGLASS_DATABASE_URL", "database_url"),
        description="PostgreSQL, e.g. postgresql://user@host/db",
    )
    redis_url: Annotated[SecretStr, AfterValidator(_is_redis_url)] = Field(
        validation_alias=AliasChoices("REDIS_URL", "HOURGLASS_REDIS_URL", "redis_url"),
        description="Redis or Valkey: redis://host:6379/0, unix:///path.sock, redis+sentinel://host,host/service or"
        " redis+cluster://host,host (docs/howto/topologies.md)",
    )

    # --- secrets
    jwt_secret: SecretStr = Field(min_length=32, description="key that signs Hourglass tokens (HS256)")
    session_secret: SecretStr = Field(min_length=32, description="binds session ids to their profile")
    pin_pepper: SecretStr = Field(min_length=32, description="mixed into passwords and PINs before bcrypt")
    jwt_secret_previous: MoreSecrets = Field(
        SecretStr(""),
        description="previous secrets whose tokens are still accepted, separated by spaces or lines"
        " (docs/howto/rotate.md)",
    )
    session_secret_previous: MoreSecrets = Field(
        SecretStr(""), description="previous secrets of session ids and cursors"
    )
    pin_pepper_previous: MoreSecrets = Field(SecretStr(""), description="previous peppers of passwords and PINs")
    lease_key: SecretStr = Field(
        SecretStr(""),
        description="private key in PEM that signs playback leases (ES256: P-256); without it there are none"
        " (docs/howto/leases.md)",
    )
    lease_key_previous: SecretStr = Field(
        SecretStr(""), description="more keys in PEM that are published and sign nothing: the next one, previous ones"
    )

    # --- identity
    jwt_issuer: str = Field("hourglass", description="`iss` of our own tokens")
    jwt_audience: str = Field("hourglass", description="`aud` of our own tokens")
    lease_audience: str = Field("playback", min_length=1, description="`aud` of playback leases")
    outside_jwks_file: Path | None = Field(
        None,
        validation_alias=_renamed("outside_jwks_file", "jwt_jwks_file"),
        description="key set of the platform's identity service, as a file (docs/howto/identity.md)",
    )
    outside_jwks_url: Annotated[str | None, AfterValidator(_is_https_url)] = Field(
        None, description="the same by its address: https, or http on this machine"
    )
    outside_jwks_ca_file: Path | None = Field(
        None, description="certificates to trust at that address, instead of the system's"
    )
    outside_issuer: str | None = Field(
        None, description="`iss` of its tokens; needed with a key set, under the names of today"
    )
    outside_audience: str | None = Field(
        None, description="what `aud` of its tokens must be or hold; that of our own unless given"
    )
    outside_algorithm: str = Field(
        "RS256",
        pattern="^((RS|ES)(256|384|512)|EdDSA)$",
        validation_alias=_renamed("outside_algorithm", "jwt_algorithm"),
        description="the one algorithm accepted from it: RS256, ES256 or their longer kin, or EdDSA (Ed25519)",
    )
    outside_account_claim: str = Field(
        "sub",
        validation_alias=_renamed("outside_account_claim", "jwt_account_claim"),
        description="claim that holds the platform's id of the account; never one that its holder may choose",
    )
    outside_role_claim: str | None = Field(
        None,
        validation_alias=_renamed("outside_role_claim", "jwt_role_claim"),
        description="claim that holds the role; without it tokens are the household's",
    )
    outside_market_claim: str | None = Field(
        None, description="claim that holds the account's market (docs/howto/markets.md)"
    )
    outside_roles: Annotated[StrList, AfterValidator(_are_roles)] = Field(
        (), description="our roles for what that claim says, e.g. guardian=parent,member=household"
    )
    outside_provision: bool = Field(default=False, description="a valid token of an unknown account makes that account")
    outside_timezone: str = Field(
        "UTC", description="zone of an account so made, unless the claim `zoneinfo` names one"
    )
    jwt_account_claim: str = Field("sub", description="claim of its tokens with the account's id")
    jwt_role_claim: str | None = Field(None, description="claim of its tokens with the role; by default household")
    access_token_seconds: int = Field(3600, ge=60, le=86_400, description="life of an access token")
    refresh_token_seconds: int = Field(30 * 86_400, ge=3600, description="life of a refresh token")
    bcrypt_cost: int = Field(12, ge=4, le=16, description="bcrypt work factor")
    bcrypt_workers: int = Field(1, ge=1, le=32, description="API processes of a host that may hash at the same time")
    bcrypt_queue: int = Field(64, ge=1, description="waiting hashes per process; above: 429")
    bcrypt_lock_file: Path | None = Field(
        None,
        description="file whose locks give the API processes of a host their turns; default: in the metrics folder",
    )
    max_profiles: int = Field(20, ge=1, le=100, description="profiles an account may have")

    # --- rules
    markets_file: Path | None = Field(
        None, description="rules by market, a TOML file; read again when it changes (docs/howto/markets.md)"
    )
    enforcement: Literal["enforce", "shadow", "off"] = Field(
        "enforce", description="enforcement mode of accounts without a market (docs/howto/enforcement.md)"
    )
    weekend_days: Annotated[IntList, AfterValidator(_are_weekdays)] = Field(
        (5, 6), description="weekdays that count as weekend, Monday = 0"
    )
    default_weekday_limit_minutes: int = Field(
        120, ge=15, le=480, multiple_of=15, description="limit of a new child, weekdays"
    )
    default_weekend_limit_minutes: int = Field(
        180, ge=15, le=480, multiple_of=15, description="limit of a new child, weekends"
    )
    default_reset_hour: int = Field(6, ge=0, le=23, description="hour at which a new child's day begins")
    default_warning_minutes: IntList = Field((15, 5), description="warning thresholds of a new child")
    max_gap_seconds: int = Field(300, ge=30, le=3600, description="longest gap that counts whole")
    pause_grace_seconds: int = Field(300, ge=0, le=3600, description="counted part of each pause")
    beat_interval_seconds: int = Field(30, ge=5, le=120, description="interval between heartbeats")
    max_beats_per_second: int = Field(10, ge=0, le=1000, description="heartbeats of one child per second; 0: no limit")
    lease_seconds: int = Field(300, ge=30, le=3600, description="time that a player may play on without an answer")

    track_adults: bool = Field(
        default=False,
        description="adults' running sessions are kept in Redis for the list of active sessions of an account",
    )

    # --- caches
    policy_ttl_seconds: int = Field(60, ge=1, le=60, description="age at which a cached policy must be confirmed")
    policy_stale_seconds: int = Field(
        3600, ge=60, description="time for which a cached policy is used while PostgreSQL is away"
    )
    policy_cache_size: int = Field(600_000, ge=1, description="policies in the cache of a process")
    title_ttl_seconds: int = Field(300, ge=1, description="life of a cached title")
    token_cache_size: int = Field(600_000, ge=1, description="verified tokens in the cache of a process")
    shared_policy_ttl_seconds: int = Field(86_400, ge=60, description="life of the shared policy copy in Redis")

    # --- Redis
    buckets: int = Field(64, ge=1, le=16_384, description="number of hash tags for profiles; fixed per deployment")
    redis_timeout_seconds: float = Field(0.5, gt=0, le=10, description="time budget of one Redis call")
    redis_connections: int = Field(16, ge=1, description="connections per process, and one more for script calls")
    live_ttl_seconds: int = Field(48 * 3600, ge=3600, description="life of a flushed, idle child's counters")
    max_calls_in_flight: int = Field(1, ge=1, description="concurrent script calls of a process to a server")
    max_batch: int = Field(256, ge=1, le=1000, description="heartbeats in one script call")

    native: Literal["auto", "off", "required"] = Field(
        "auto",
        description="use of the native module for heartbeats: where installed, never, or always (docs/howto/scale.md)",
    )

    # --- PostgreSQL
    database_pool: int = Field(5, ge=1, description="connections per process")
    database_timeout_seconds: float = Field(5.0, gt=0, description="statement timeout of a request")
    database_pgbouncer: bool = Field(default=False, description="PgBouncer in transaction mode is in front")

    # --- flush
    flush_cycle_seconds: float = Field(5.0, gt=0, description="pause between flush cycles")
    flush_age_seconds: float = Field(50.0, ge=0, description="age at which a dirty child is flushed")
    flush_batch: int = Field(2000, ge=1, le=5000, description="children in one statement")
    policy_sweep_seconds: float = Field(
        10.0, gt=0, description="interval of the sweep that puts changed policies into Redis again"
    )

    accuracy_sample: int = Field(
        200, ge=0, le=1000, description="most children whose counted time is checked at a time; 0: none"
    )
    accuracy_seconds: float = Field(60.0, ge=1, le=120, description="interval between two such checks")

    # --- privacy
    session_days: int = Field(90, ge=90, le=3650, description="days for which sessions are kept")
    balance_days: int = Field(365, ge=90, le=3650, description="days for which daily sums and weekly reports are kept")
    record_days: int = Field(
        365, ge=90, le=3650, description="days for which grants, requests and the audit log are kept"
    )
    erasure_rewrite_seconds: int = Field(
        43_200, ge=600, le=82_800, description="seconds after an erasure until Redis's append-only file is rewritten"
    )

    # --- event feed
    event_feed: bool = Field(default=False, description="write the event feed (docs/howto/receive-events.md)")
    event_private_receivers: bool = Field(
        default=False, description="webhooks may go to private addresses, and over plain HTTP"
    )
    event_ca_file: Path | None = Field(
        None, description="certificates to trust for receivers of webhooks, instead of the system's"
    )
    event_feed_days: int = Field(7, ge=4, le=90, description="days for which events are kept")

    # --- HTTP
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    workers: int = Field(2, ge=1, le=64, description="API processes")
    account_requests_per_minute: int = Field(
        1200, ge=0, description="requests of an account without heartbeats and session ends; 0: no limit"
    )
    token_requests_per_minute: int = Field(
        600, ge=0, description="requests of one token without heartbeats and session ends; 0: no limit"
    )
    body_limit_bytes: int = Field(64 * 1024, ge=1024, description="largest request body")
    bulk_body_limit_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="largest batch or catalogue body")
    body_timeout_seconds: float = Field(10.0, gt=0, description="deadline for a request body to arrive")
    max_event_streams: int = Field(10_000, ge=1, description="open event streams per process")
    drain_seconds: float = Field(
        0.0,
        ge=0,
        le=600,
        description="time after SIGTERM in which the process answers but is not ready; then the port closes",
    )
    shutdown_seconds: float = Field(15.0, ge=0, description="time for running requests after the port is closed")
    cors_origins: Annotated[StrList, AfterValidator(_are_origins)] = Field(
        (), description="origins of web pages that may call the API, e.g. https://tv.example.org"
    )
    cors_headers: Annotated[StrList, AfterValidator(_are_header_names)] = Field(
        ("traceparent", "tracestate", "X-Request-ID"),
        description="additional request headers of these pages",
    )
    access_log: float = Field(1.0, ge=0, le=1, description="share of requests that are logged")
    access_log_beats: float = Field(0.0, ge=0, le=1, description="share of heartbeats that are logged")
    traces: bool = Field(default=False, description="record traces (extra `otel`); `OTEL_*` set target and sampling")
    console: bool = Field(default=True, description="serve the parents' console")
    console_style_page: bool = Field(
        default=False, description="serve a page with every component of the console at `/style`; for development"
    )
    sdk_minimum_version: str = Field(
        "1.0.0",
        pattern=r"^\d{1,3}\.\d{1,3}\.\d{1,3}$",
        description="oldest accepted version of the player SDK",
    )
    sdk_message: str | None = Field(None, description="message of older versions, e.g. where to get a newer one")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="lowest logged level")
    log_format: Literal["json", "console"] | None = Field(
        None,
        description="`json`, one object per line, or `console` for readable text; default json, except for"
        " `up` at a terminal",
    )
    metrics_dir: Path | None = Field(
        None, description="folder for the shared metrics of the API processes of one host; default: a new folder"
    )

    # --- worker
    worker_port: int = Field(
        0, ge=0, le=65_535, description="port of the worker's health and metrics on HOURGLASS_HOST; 0 takes a free one"
    )

    def accepted(self, secret: str) -> tuple[bytes, ...]:
        """The current secret and its accepted predecessors. The first one signs."""
        more = getattr(self, f"{secret}_previous").get_secret_value().split()
        return tuple(value.encode() for value in (getattr(self, secret).get_secret_value(), *more))

    def masked(self) -> dict[str, object]:
        """Every setting by its environment variable, with secrets and credentials in addresses hidden."""
        values = {variable_of(name): getattr(self, name) for name in type(self).model_fields}
        return values | {
            variable_of(name): without_secrets(getattr(self, name).get_secret_value()) for name in SERVER_URLS
        }


def variable_of(field: str) -> str:
    """The environment variable of a field, e.g. ``HOURGLASS_JWT_SECRET``."""
    return field.upper() if field in SERVER_URLS else PREFIX + field.upper()


def _secret_fields() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


def _names_of(field: str) -> tuple[str, ...]:
    """All variables of a secret. Addresses exist with and without the prefix."""
    prefixed = PREFIX + field.upper()
    return (field.upper(), prefixed) if field in SERVER_URLS else (prefixed,)


def _secrets_from_files(environ: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """Values of ``<SECRET>_FILE`` variables by field. A secret given twice is an error."""
    found: dict[str, str] = {}
    for field in fields:
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
        overrides: field values with priority over the environment.

    Raises:
        SettingsError: variables are missing or invalid; the message has one line for each variable.
    """
    values = {**_secrets_from_files(environment(), _secret_fields()), **overrides}
    try:
        return Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("\n".join(_problems(error))) from None


def load_database_url() -> str:
    """The address of PostgreSQL, for commands that need no other setting.

    Raises:
        SettingsError: it is missing, or its file cannot be read.
    """
    field = "database_url"
    environ = environment()
    given = [environ[name] for name in _names_of(field) if environ.get(name)]
    found = _secrets_from_files(environ, [field]).get(field) or next(iter(given), None)
    if not found:
        raise SettingsError(f"{variable_of(field)}: is not set")
    return found


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
    """Whether the environment sets this field, directly or, for secrets, through a file."""
    environ = environment()
    names = _names_of(field)
    return any(environ.get(name) or environ.get(f"{name}_FILE") for name in names)


def old_variables() -> dict[str, str]:
    """Variables that are set under a name of before, and their names of today."""
    return {variable_of(old): variable_of(new) for old, new in RENAMED.items() if environment().get(variable_of(old))}


def unknown_variables() -> list[str]:
    """Variables with the prefix that no setting reads. They are probably misspelt."""
    known = {variable_of(name) for name in (*Settings.model_fields, *RENAMED)}
    known |= {name for field in _secret_fields() for name in _names_of(field)}
    known |= {f"{name}_FILE" for field in _secret_fields() for name in _names_of(field)}
    return sorted(name for name in environment() if name.startswith(PREFIX) and name not in known)


def environment() -> dict[str, str]:
    """A copy of the environment, for starting other processes with it."""
    return dict(os.environ)  # noqa: TID251  this module is the one reader


def share_metrics_folder() -> None:
    """Create the configured metrics folder and set the library's own variable, which it reads at import.

    Raises:
        OSError: the folder cannot be created.
    """
    folder = environment().get(variable_of("metrics_dir"))
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        export({_LIBRARY_METRICS_DIR: folder})
    else:
        withdraw(_LIBRARY_METRICS_DIR)


def withdraw(variable: str) -> None:
    """Remove a variable from this process's environment, before a library reads it."""
    os.environ.pop(variable, None)  # noqa: TID251  this module is the one reader


def export(variables: Mapping[str, str]) -> None:
    """Set variables in this process's environment, before the settings are read."""
    os.environ.update(variables)  # noqa: TID251  this module is the one reader
