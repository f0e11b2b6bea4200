"""The composition root: here, and only here, ports meet their adapters.

API processes, the worker and the command line open their services here and close them when they end. Nothing connects
before, nothing stays open after.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.accounts.service import FirstSettings, Members
from app.auth.devices import Devices, Revoked
from app.auth.hashing import Hasher
from app.auth.lockout import PASSWORD, PIN, Lockout
from app.auth.outside import KeyFile, KeysUnusable, OutsideTokens
from app.auth.pins import Pins
from app.auth.rates import RateLimit
from app.auth.service import Households
from app.auth.tokens import TokenCache, Tokens
from app.cache import TimedCache
from app.catalogue.service import Catalogue
from app.clock import Clock, now_ms
from app.continuity.service import Continuity
from app.domain.accounting import Rules
from app.domain.ids import SessionIds
from app.domain.keeping import Keeping
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.flushing.service import Flusher
from app.loop_lag import watch_loop
from app.parents import Parents
from app.parents.announcements import Announcements
from app.parents.grants import GrantService, RequestService
from app.parents.service import ChildSettings
from app.parents.used import UsedTime
from app.postgres_store.access import connection
from app.postgres_store.accounts import PostgresAccounts
from app.postgres_store.census import PostgresCensus
from app.postgres_store.configs import PostgresConfigs
from app.postgres_store.devices import PostgresDevices
from app.postgres_store.engine import create_engine, warm
from app.postgres_store.erasure import PostgresErasure
from app.postgres_store.export import PostgresExport
from app.postgres_store.grants import PostgresGrants, PostgresRequests
from app.postgres_store.lock import AdvisoryLock
from app.postgres_store.lockouts import PostgresLockouts
from app.postgres_store.lookups import PostgresLookups
from app.postgres_store.marks import PostgresMarks
from app.postgres_store.offline import PostgresOffline
from app.postgres_store.partitions import make_partitions
from app.postgres_store.policies import PostgresPolicies
from app.postgres_store.profiles import PostgresProfiles
from app.postgres_store.reports import PostgresReports
from app.postgres_store.retention import PostgresRetention
from app.postgres_store.titles import PostgresTitles
from app.postgres_store.usage import PostgresUsage
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.privacy import Privacy
from app.privacy.erasure import Erasure, remove_again
from app.privacy.export import Export
from app.privacy.retention import retain
from app.reconciling.service import Reconciliation
from app.redis_address import Arrangement, parse_redis_url
from app.redis_store.adults import RedisAdultSessions
from app.redis_store.census import RedisCensus
from app.redis_store.client import create_client
from app.redis_store.clustered import ClusteredAdultSessions, ClusteredCounters, ClusteredMarks, ClusteredPolicies
from app.redis_store.counters import RedisCounters
from app.redis_store.durability import Concern, Durability
from app.redis_store.events import RedisEvents
from app.redis_store.invalidation import Invalidations
from app.redis_store.keys import Keys
from app.redis_store.marks import RedisMarks
from app.redis_store.policies import SharedPolicies
from app.redis_store.rates import RedisRates
from app.redis_store.traces import RedisTraces
from app.redis_store.tries import RedisTries
from app.redis_store.unflushed import RedisUnflushed
from app.redis_store.unlocks import RedisRevocations, RedisUnlocks
from app.reports import Reports
from app.reports.cursors import Cursors
from app.reports.history import History
from app.reports.weekly import WeeklyReports
from app.settings import Settings, SettingsError, variable_of
from app.viewing.concurrency import Concurrency
from app.viewing.counting import Counting
from app.viewing.endpoint import BatchEndpoint, EndEndpoint, HeartbeatEndpoint
from app.viewing.events import EventStreams, Wakes
from app.viewing.offline import OfflineSync
from app.viewing.policies import PolicyCache
from app.viewing.service import Pace, ViewingService

_SWEEP_OVERLAP_MS = 60_000
_MARKS_READ_PER_SECOND = 1_000
_DURABILITY_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Viewing:
    """Flow 1, opened."""

    service: ViewingService
    heartbeat: HeartbeatEndpoint
    heartbeats: BatchEndpoint
    end: EndEndpoint
    concurrency: Concurrency
    streams: EventStreams
    offline: OfflineSync
    wakes: Wakes
    invalidations: Invalidations


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who calls, opened."""

    tokens: Tokens
    token_cache: TokenCache
    rate_limit: RateLimit
    households: Households
    pins: Pins
    devices: Devices
    revoked: Revoked


@dataclass(frozen=True, kw_only=True)
class Services:
    """What an API process needs, opened."""

    settings: Settings
    clock: Clock
    engine: AsyncEngine
    redis: Redis
    tokens: Tokens
    token_cache: TokenCache
    rate_limit: RateLimit
    shared_policies: SharedPolicies
    postgres_policies: PostgresPolicies
    households: Households
    pins: Pins
    devices: Devices
    members: Members
    parents: Parents
    reports: Reports
    catalogue: Catalogue
    privacy: Privacy
    viewing: Viewing
    counters: RedisCounters

    async def ping_database(self) -> None:
        async with connection(self.engine) as database:
            await database.execute(text("SELECT 1"))


@dataclass(frozen=True, kw_only=True)
class WorkerServices:
    """What the worker needs, opened."""

    flusher: Flusher
    sweep: Callable[[], Awaitable[object]]
    make_partitions: Callable[[], Awaitable[object]]
    prepare_reports: Callable[[], Awaitable[object]]
    retain: Callable[[], Awaitable[object]]
    remove_erased: Callable[[], Awaitable[object]]


@asynccontextmanager
async def open_services(settings: Settings, *, clock: Clock = now_ms) -> AsyncIterator[Services]:
    """Everything an API process needs, connected and warm."""
    async with AsyncExitStack() as stack:
        engine, redis, keys = await _connect(stack, settings)
        identity = await _open_identity(stack, engine=engine, redis=redis, settings=settings, clock=clock)
        continuity = _continuity(engine, redis, keys, settings, clock)
        shared_policies = _shared_policies(redis, keys, settings, clock, continuity)
        postgres_policies = PostgresPolicies(engine, clock)
        with contextlib.suppress(CountersUnavailable):  # each call compares again
            await continuity.check()
        _repeat(stack, continuity.look, every_seconds=max(1.0, settings.buckets / _MARKS_READ_PER_SECOND))
        counters = _counters(redis, keys, settings, continuity)
        viewing = await _open_viewing(
            stack,
            counters=counters,
            settings=settings,
            clock=clock,
            engine=engine,
            redis=redis,
            keys=keys,
            identity=identity,
            shared_policies=shared_policies,
            postgres_policies=postgres_policies,
        )
        announcements = Announcements(policies=postgres_policies, announcer=shared_policies)
        traces = RedisTraces(redis, keys)
        yield Services(
            settings=settings,
            clock=clock,
            engine=engine,
            redis=redis,
            tokens=identity.tokens,
            token_cache=identity.token_cache,
            rate_limit=identity.rate_limit,
            shared_policies=shared_policies,
            postgres_policies=postgres_policies,
            households=identity.households,
            pins=identity.pins,
            devices=identity.devices,
            members=Members(
                PostgresProfiles(engine),
                announcements=announcements,
                first_settings=_first_settings(settings),
                most=settings.max_profiles,
                clock=clock,
            ),
            parents=_parents(engine, counters, announcements, settings, clock),
            reports=_reports(engine, settings, clock),
            catalogue=Catalogue(PostgresTitles(engine), announcer=shared_policies, clock=clock),
            privacy=Privacy(
                clock=clock,
                erasure=Erasure(
                    PostgresErasure(engine),
                    traces=traces,
                    passwords=identity.pins,
                    ended=identity.revoked,
                    clock=clock,
                ),
                export=Export(PostgresExport(engine), counters=traces, clock=clock),
            ),
            viewing=viewing,
            counters=counters,
        )
        await viewing.service.drain()


@asynccontextmanager
async def open_worker(settings: Settings, *, clock: Clock = now_ms) -> AsyncIterator[WorkerServices]:
    """Everything the worker needs, connected."""
    async with AsyncExitStack() as stack:
        engine, redis, keys = await _connect(stack, settings, held_connections=1)
        lock, keeping = AdvisoryLock(engine), _keeping(settings)
        stack.push_async_callback(lock.release)
        continuity = _continuity(engine, redis, keys, settings, clock)
        shared_policies = _shared_policies(redis, keys, settings, clock, continuity)
        postgres_policies = PostgresPolicies(engine, clock)
        flusher = Flusher(
            counters=RedisUnflushed(redis, keys, live_ttl_seconds=settings.live_ttl_seconds, clock=clock),
            ledger=PostgresUsage(engine, clock, keeping),
            lock=lock,
            continuity=continuity,
            clock=clock,
            age_ms=int(settings.flush_age_seconds * 1000),
            batch=settings.flush_batch,
        )

        async def sweep() -> None:
            since_ms = clock() - int(settings.policy_sweep_seconds * 1000) - _SWEEP_OVERLAP_MS
            await shared_policies.announce_again(await postgres_policies.changed_since(since_ms))

        weekly = _reports(engine, settings, clock).weekly
        yield WorkerServices(
            flusher=flusher,
            sweep=sweep,
            make_partitions=lambda: make_partitions(engine, at_ms=clock()),
            prepare_reports=lambda: weekly.prepare(at_ms=clock()),
            retain=lambda: retain(PostgresRetention(engine), keeping=keeping, at_ms=clock()),
            remove_erased=lambda: remove_again(PostgresErasure(engine), RedisTraces(redis, keys), at_ms=clock()),
        )


@asynccontextmanager
async def open_reconciliation(settings: Settings) -> AsyncIterator[Reconciliation]:
    """What compares the two stores, connected."""
    async with AsyncExitStack() as stack:
        engine, redis, keys = await _connect(stack, settings)
        yield Reconciliation(held=RedisCensus(redis, keys), kept=PostgresCensus(engine))


async def _open_viewing(
    stack: AsyncExitStack,
    *,
    settings: Settings,
    clock: Clock,
    engine: AsyncEngine,
    redis: Redis,
    keys: Keys,
    counters: RedisCounters,
    identity: Identity,
    shared_policies: SharedPolicies,
    postgres_policies: PostgresPolicies,
) -> Viewing:
    randomness = random.Random()  # noqa: S311  jitter, and the part of session ids that need not be secret
    lookups, usage = PostgresLookups(engine), PostgresUsage(engine, clock)
    remembering: dict[str, Any] = {
        "stale_ms": settings.policy_stale_seconds * 1000,
        "size": settings.policy_cache_size,
        "clock": clock,
        "jitter": randomness,
    }
    policies = PolicyCache(
        shared=shared_policies,
        source=postgres_policies,
        weekend_days=settings.weekend_days,
        ttl_ms=settings.policy_ttl_seconds * 1000,
        **remembering,
    )
    titles: TimedCache[str, bool | None] = TimedCache(
        lookups.educational, ttl_ms=settings.title_ttl_seconds * 1000, **remembering
    )
    households: TimedCache[str, tuple[str, ...]] = TimedCache(
        lookups.profiles, ttl_ms=settings.policy_ttl_seconds * 1000, **remembering
    )
    session_ids = SessionIds(settings.session_secret.get_secret_value().encode())
    events, wakes = RedisEvents(redis, keys), Wakes(most=settings.max_event_streams)
    counting = Counting(
        counters=counters,
        usage=usage,
        policies=policies,
        session_ids=session_ids,
        randomness=randomness,
        max_batch=settings.max_batch,
        max_calls_in_flight=settings.max_calls_in_flight,
        lane_of=keys.bucket if _is_cluster(settings) else None,
    )
    concurrency = Concurrency(
        counters=counters,
        adults=_adult_sessions(redis, keys, settings) if settings.track_adults else None,
        households=households,
        session_ids=session_ids,
        max_gap_ms=settings.max_gap_seconds * 1000,
        max_batch=settings.max_batch,
    )
    service = ViewingService(
        counting=counting,
        policies=policies,
        titles=titles,
        households=households,
        events=events,
        session_ids=session_ids,
        concurrency=concurrency,
        pace=Pace(
            interval_ms=settings.beat_interval_seconds * 1000,
            lease_ms=settings.lease_seconds * 1000,
            weekend_days=settings.weekend_days,
        ),
        clock=clock,
        randomness=randomness,
    )

    def expire_everything() -> None:
        for cache in (policies, titles, households):
            cache.expire()
        wakes.wake_all()
        identity.revoked.load_soon()

    def forget_profile(profile_id: str) -> None:
        policies.erase(profile_id)
        wakes.wake(profile_id)

    listener = create_client(
        settings.redis_url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds, connections=2
    )
    stack.push_async_callback(listener.aclose)
    invalidations = await stack.enter_async_context(
        Invalidations(
            listener,
            handlers={
                "policy": policies.invalidate,
                "titles": lambda _: titles.expire(),
                "household": households.forget,
                "event": wakes.wake,
                "device": identity.revoked.add,
                "account": identity.revoked.add,
                "erased": forget_profile,
            },
            on_gap=expire_everything,
        )
    )
    receiving: dict[str, Any] = {
        "service": service,
        "tokens": identity.token_cache,
        "body_timeout_seconds": settings.body_timeout_seconds,
    }
    return Viewing(
        service=service,
        heartbeat=HeartbeatEndpoint(body_limit_bytes=settings.body_limit_bytes, **receiving),
        end=EndEndpoint(body_limit_bytes=settings.body_limit_bytes, **receiving),
        heartbeats=BatchEndpoint(body_limit_bytes=settings.bulk_body_limit_bytes, **receiving),
        concurrency=concurrency,
        streams=EventStreams(log=events, wakes=wakes, service=service),
        offline=OfflineSync(
            ledger=PostgresOffline(engine),
            viewing=service,
            counting=counting,
            titles=titles,
            policies=postgres_policies,
            announcer=shared_policies,
            remembered=policies,
            weekend_days=settings.weekend_days,
            max_gap_ms=settings.max_gap_seconds * 1000,
        ),
        wakes=wakes,
        invalidations=invalidations,
    )


async def _connect(
    stack: AsyncExitStack, settings: Settings, *, held_connections: int = 0
) -> tuple[AsyncEngine, Redis, Keys]:
    """``held_connections`` come on top of the pool: a lock never gives its own back."""
    engine = create_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool + held_connections,
        timeout_seconds=settings.database_timeout_seconds,
        pgbouncer=settings.database_pgbouncer,
    )
    stack.push_async_callback(engine.dispose)
    redis = create_client(
        settings.redis_url.get_secret_value(),
        timeout_seconds=settings.redis_timeout_seconds,
        connections=settings.redis_connections,
    )
    stack.push_async_callback(redis.aclose)
    stack.callback(asyncio.create_task(watch_loop(), name="loop lag").cancel)
    await _require_durable(stack, redis)
    if not settings.database_pgbouncer:
        await warm(engine, settings.database_pool)
    return engine, redis, Keys(settings.buckets)


async def _require_durable(stack: AsyncExitStack, redis: Redis) -> None:
    """Refuse a server that throws counters away; whatever else is or becomes wrong with it is said aloud."""
    durability = Durability(redis)
    with contextlib.suppress(CountersUnavailable):
        await durability.look()
    if Concern.EVICTS in durability.concerns:
        url = variable_of("redis_url")
        raise SettingsError(f"{url}: the server may throw counters away; set its maxmemory-policy to noeviction")
    _repeat(stack, durability.look, every_seconds=_DURABILITY_SECONDS)


def _repeat(stack: AsyncExitStack, action: Callable[[], Awaitable[object]], *, every_seconds: float) -> None:
    """Do something again and again for the life of the process. What is away is asked next time."""

    async def repeated() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await action()
            except (CountersUnavailable, DatabaseUnavailable) as error:
                log.debug("not_now", action=action.__qualname__, reason=error.code)
            except Exception:
                log.exception("repetition_failed", action=action.__qualname__)

    stack.callback(asyncio.create_task(repeated(), name=action.__qualname__).cancel)


def _continuity(engine: AsyncEngine, redis: Redis, keys: Keys, settings: Settings, clock: Clock) -> Continuity:
    adapter = ClusteredMarks if _is_cluster(settings) else RedisMarks
    return Continuity(marks=adapter(redis, keys, clock=clock), noted=PostgresMarks(engine))


def _is_cluster(settings: Settings) -> bool:
    return parse_redis_url(settings.redis_url.get_secret_value()).arrangement is Arrangement.CLUSTER


def _counters(redis: Redis, keys: Keys, settings: Settings, continuity: Continuity) -> RedisCounters:
    adapter = ClusteredCounters if _is_cluster(settings) else RedisCounters
    return adapter(redis, keys, _rules(settings), live_ttl_seconds=settings.live_ttl_seconds, continuity=continuity)


def _adult_sessions(redis: Redis, keys: Keys, settings: Settings) -> RedisAdultSessions:
    adapter = ClusteredAdultSessions if _is_cluster(settings) else RedisAdultSessions
    return adapter(redis, keys, silence_ms=settings.max_gap_seconds * 1000)


def _shared_policies(
    redis: Redis, keys: Keys, settings: Settings, clock: Clock, continuity: Continuity
) -> SharedPolicies:
    adapter = ClusteredPolicies if _is_cluster(settings) else SharedPolicies
    return adapter(
        redis,
        keys,
        RedisEvents(redis, keys),
        ttl_seconds=settings.shared_policy_ttl_seconds,
        live_ttl_seconds=settings.live_ttl_seconds,
        max_gap_ms=settings.max_gap_seconds * 1000,
        weekend_days=settings.weekend_days,
        clock=clock,
        continuity=continuity,
    )


def tokens_of(settings: Settings) -> Tokens:
    """What issues and verifies the tokens of a deployment."""
    return Tokens(
        secret=settings.jwt_secret.get_secret_value().encode(),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        outside=_outside_tokens(settings),
    )


def _outside_tokens(settings: Settings) -> OutsideTokens | None:
    if settings.jwt_jwks_file is None:
        return None
    try:
        keys = KeyFile(settings.jwt_jwks_file, algorithm=settings.jwt_algorithm)
    except KeysUnusable as error:
        raise SettingsError(f"{variable_of('jwt_jwks_file')}: {settings.jwt_jwks_file} {error}") from None
    return OutsideTokens(
        keys,
        algorithm=settings.jwt_algorithm,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        account_claim=settings.jwt_account_claim,
        role_claim=settings.jwt_role_claim,
    )


async def _open_identity(
    stack: AsyncExitStack, *, engine: AsyncEngine, redis: Redis, settings: Settings, clock: Clock
) -> Identity:
    accounts, tokens = PostgresAccounts(engine), tokens_of(settings)
    hasher = Hasher(
        pepper=settings.pin_pepper.get_secret_value().encode(),
        cost=settings.bcrypt_cost,
        workers=settings.bcrypt_workers,
        queue=settings.bcrypt_queue,
    )
    stack.callback(hasher.close)
    counting_tries: dict[str, Any] = {
        "hasher": hasher,
        "tries": RedisTries(redis),
        "ledger": PostgresLockouts(engine),
        "clock": clock,
    }
    password_lockout = Lockout(PASSWORD, **counting_tries)
    pins = Pins(
        accounts,
        hasher=hasher,
        pin_lockout=Lockout(PIN, **counting_tries),
        password_lockout=password_lockout,
        unlocks=RedisUnlocks(redis),
        clock=clock,
    )
    device_store = PostgresDevices(engine)
    revoked = Revoked(device_store, clock)
    stack.push_async_callback(revoked.close)
    await revoked.load()
    return Identity(
        tokens=tokens,
        token_cache=TokenCache(tokens, size=settings.token_cache_size, clock=clock, is_revoked=revoked.__contains__),
        rate_limit=RateLimit(
            account_most=settings.account_requests_per_minute,
            token_most=settings.token_requests_per_minute,
            rates=RedisRates(redis),
        ),
        households=Households(
            accounts,
            hasher=hasher,
            lockout=password_lockout,
            tokens=tokens,
            clock=clock,
            access_seconds=settings.access_token_seconds,
            refresh_seconds=settings.refresh_token_seconds,
        ),
        pins=pins,
        devices=Devices(
            device_store,
            pins=pins,
            tokens=tokens,
            revoked=revoked,
            revocations=RedisRevocations(redis),
            clock=clock,
        ),
        revoked=revoked,
    )


def _parents(
    engine: AsyncEngine, counters: RedisCounters, announcements: Announcements, settings: Settings, clock: Clock
) -> Parents:
    weekend_days = settings.weekend_days
    return Parents(
        clock=clock,
        settings=ChildSettings(
            configs=PostgresConfigs(engine),
            past=PostgresReports(engine, weekend_days=weekend_days),
            announcements=announcements,
            weekend_days=weekend_days,
        ),
        grants=GrantService(
            grants=PostgresGrants(engine),
            used=UsedTime(counters=counters, flushed=PostgresUsage(engine, clock)),
            announcements=announcements,
            weekend_days=weekend_days,
        ),
        requests=RequestService(requests=PostgresRequests(engine), announcements=announcements),
    )


def _reports(engine: AsyncEngine, settings: Settings, clock: Clock) -> Reports:
    past = PostgresReports(engine, weekend_days=settings.weekend_days)
    return Reports(
        clock=clock,
        history=History(past, cursors=Cursors(settings.session_secret.get_secret_value().encode())),
        weekly=WeeklyReports(past, PostgresWeeklyReports(engine)),
        max_gap_ms=settings.max_gap_seconds * 1000,
    )


def _keeping(settings: Settings) -> Keeping:
    return Keeping(
        session_days=settings.session_days, balance_days=settings.balance_days, record_days=settings.record_days
    )


def _first_settings(settings: Settings) -> FirstSettings:
    return FirstSettings(
        weekday_limit_minutes=settings.default_weekday_limit_minutes,
        weekend_limit_minutes=settings.default_weekend_limit_minutes,
        reset_hour=settings.default_reset_hour,
        warning_minutes=settings.default_warning_minutes,
    )


def _rules(settings: Settings) -> Rules:
    rate = settings.max_beats_per_second
    return Rules(
        max_gap_ms=settings.max_gap_seconds * 1000,
        pause_grace_ms=settings.pause_grace_seconds * 1000,
        beat_spacing_ms=1000 // rate if rate else 0,
        beat_burst=rate,
    )
