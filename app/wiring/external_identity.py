"""The platform's identity service: its keys, its tokens and its ids."""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from app.auth.devices import Revoked
from app.auth.external_idp import AccountIds, ExternalTokens
from app.auth.external_ids import ExternalIds
from app.auth.key_sets import KeyFile, KeySource, KeysUnusable
from app.auth.remote_key_set import JwksFetcher, RemoteKeySet
from app.auth.tokens import Role, Tokens
from app.clock import Clock, monotonic_ms
from app.domain.viewing_day import TIMEZONES
from app.kit.ttl_cache import TtlCache
from app.postgres_store.external_ids import ExternalTombstones, PostgresExternalIds
from app.settings.settings import Settings, SettingsError, old_variables, variable_of

Load = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]


def tokens_of(settings: Settings, *, keys: KeySource | None = None, accounts: AccountIds | None = None) -> Tokens:
    """What issues and verifies the tokens of a deployment.

    Args:
        settings: of the deployment.
        keys: those of the platform's identity service, unless they are in a file.
        accounts: finds the accounts that its tokens name.
    """
    keys = keys or _key_file(settings)
    return Tokens(
        secret=settings.accepted("jwt_secret")[0],
        previous=settings.accepted("jwt_secret")[1:],
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        outside=None if keys is None else _external_tokens(settings, keys, accounts),
    )


def _key_file(settings: Settings) -> KeyFile | None:
    path = settings.outside_jwks_file
    if path is None:
        return None
    if settings.outside_jwks_url is not None:
        raise SettingsError(f"{variable_of('outside_jwks_url')}: a key set in a file is set as well; keep one of them")
    try:
        return KeyFile(path, algorithm=settings.outside_algorithm)
    except KeysUnusable as error:
        raise SettingsError(f"{variable_of('outside_jwks_file')}: {path} {error}") from None


def _external_tokens(settings: Settings, keys: KeySource, accounts: AccountIds | None) -> ExternalTokens:
    if settings.outside_timezone not in TIMEZONES:
        raise SettingsError(f"{variable_of('outside_timezone')}: must be a time zone of the IANA list")
    pairs = (pair.rpartition("=") for pair in settings.outside_roles)
    return ExternalTokens(
        keys,
        algorithm=settings.outside_algorithm,
        issuer=_outside_issuer(settings),
        audience=settings.outside_audience or settings.jwt_audience,
        account_claim=settings.outside_account_claim,
        role_claim=settings.outside_role_claim,
        market_claim=settings.outside_market_claim,
        roles={said: Role(role) for said, _, role in pairs},
        accounts=accounts,
        timezone=settings.outside_timezone,
    )


def _outside_issuer(settings: Settings) -> str:
    """Under the names of before the identity service shared the issuer of our own tokens."""
    if settings.outside_issuer is not None:
        return settings.outside_issuer
    if variable_of("jwt_jwks_file") in old_variables():
        return settings.jwt_issuer
    raise SettingsError(
        f"{variable_of('outside_issuer')}: is not set; it is the `iss` of the identity service's tokens"
    )


async def open_remote_key_set(stack: AsyncExitStack, settings: Settings) -> RemoteKeySet | None:
    """The keys at an address, fetched for the life of the process. Where it cannot be reached, nobody waits for it."""
    if settings.outside_jwks_url is None or settings.outside_jwks_file is not None:
        return None
    try:
        fetch = JwksFetcher(settings.outside_jwks_url, ca_file=settings.outside_jwks_ca_file)
    except OSError as error:
        raise SettingsError(f"{variable_of('outside_jwks_ca_file')}: cannot be read: {error.strerror}") from None
    stack.push_async_callback(fetch.close)
    keys = RemoteKeySet(fetch, algorithm=settings.outside_algorithm, monotonic=monotonic_ms)
    await stack.enter_async_context(keys.kept_fresh())
    return keys


def external_tombstones(settings: Settings) -> ExternalTombstones:
    return ExternalTombstones(settings.accepted("session_secret")[0])


def external_ids(store: PostgresExternalIds, revoked: Revoked, settings: Settings, clock: Clock) -> ExternalIds:
    """The platform's ids, remembered by this process."""

    def cache(load: Load) -> TtlCache[Any, Any]:
        return TtlCache(
            load,
            ttl_ms=settings.policy_ttl_seconds * 1000,
            stale_ms=settings.policy_stale_seconds * 1000,
            size=settings.policy_cache_size,
            clock=monotonic_ms,
            jitter=random.Random(),  # noqa: S311  no secret
        )

    return ExternalIds(
        accounts=cache(store.accounts),
        profiles=cache(store.profiles),
        is_revoked=revoked.__contains__,
        first_sight=store if settings.outside_provision else None,
        markets=store,
        clock=clock,
    )
