"""Flow 1: heartbeats, event streams, tickets and viewing without a network."""

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

from app.auth.lease_keys import LeaseKeys, LeaseKeyUnusable, published_keys
from app.auth.tokens import TokenCache
from app.clock import Clock, ClockSteps
from app.domain.ids import SessionIds
from app.kit.ttl_cache import TtlCache
from app.native.ports import NativeModule
from app.observability import metrics
from app.postgres_store.lookups import PostgresLookups
from app.postgres_store.offline import PostgresOffline
from app.postgres_store.policies import PostgresPolicies
from app.postgres_store.tamper_hints import PostgresTamperHints
from app.postgres_store.usage import PostgresUsage
from app.redis_store.client import create_client
from app.redis_store.clustered import ClusteredCounters
from app.redis_store.counters import RedisCounters
from app.redis_store.events import RedisEvents
from app.redis_store.invalidation import Invalidations
from app.redis_store.policies import SharedPolicies
from app.redis_store.tickets import RedisTickets
from app.settings.settings import Settings, SettingsError, variable_of
from app.viewing.active_sessions import ActiveSessions
from app.viewing.beat_recorder import BeatRecorder
from app.viewing.endpoint import HEARTBEAT_PATH, BatchEndpoint, EndEndpoint, HeartbeatEndpoint
from app.viewing.events import EventStreams, StreamNotifier
from app.viewing.leases import PlaybackLeases
from app.viewing.offline import OfflineSync
from app.viewing.policy_cache import PolicyCache
from app.viewing.service import HeartbeatTiming, ViewingService
from app.viewing.tampering import TamperWatch
from app.viewing.tickets import Tickets
from app.wiring.identity import Identity
from app.wiring.process import repeat
from app.wiring.stores import Stores, adult_sessions, kept_positions, rules

_STREAM_CHECK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Viewing:
    """Flow 1, opened."""

    service: ViewingService
    heartbeat: HeartbeatEndpoint
    heartbeats: BatchEndpoint
    end: EndEndpoint
    active_sessions: ActiveSessions
    leases: PlaybackLeases
    streams: EventStreams
    tickets: Tickets
    offline: OfflineSync
    notifier: StreamNotifier
    invalidations: Invalidations
    households: TtlCache[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class _Caches:
    """What a process remembers of PostgreSQL."""

    policies: PolicyCache
    titles: TtlCache[str, bool | None]
    households: TtlCache[str, tuple[str, ...]]

    def expire(self) -> None:
        for cache in (self.policies, self.titles, self.households):
            cache.expire()


async def open_viewing(
    stack: AsyncExitStack,
    *,
    stores: Stores,
    settings: Settings,
    clock: Clock,
    monotonic: Clock,
    counters: RedisCounters,
    identity: Identity,
    shared_policies: SharedPolicies,
    postgres_policies: PostgresPolicies,
    native: NativeModule | None,
) -> Viewing:
    randomness = random.Random()  # noqa: S311  jitter, and the part of session ids that need not be secret
    session_ids = SessionIds(*settings.accepted("session_secret"))
    events, notifier = RedisEvents(stores.redis, stores.keys), StreamNotifier(max_streams=settings.max_event_streams)
    caches = _caches(
        stores,
        settings,
        clock=clock,
        monotonic=monotonic,
        randomness=randomness,
        shared_policies=shared_policies,
        postgres_policies=postgres_policies,
    )
    recorder = _recorder(
        stores, settings, clock, counters=counters, caches=caches, session_ids=session_ids, randomness=randomness
    )
    active_sessions = _active_sessions(stores, settings, counters, caches, session_ids)
    service = _service(
        stack, stores, settings, clock, identity, caches, recorder, events, session_ids, active_sessions, randomness
    )
    _watch_tokens(stack, identity, notifier, ClockSteps(clock, monotonic))
    viewing = _faces(
        stores=stores,
        settings=settings,
        clock=clock,
        service=service,
        recorder=recorder,
        events=events,
        notifier=notifier,
        caches=caches,
        identity=identity,
        active_sessions=active_sessions,
        invalidations=await _open_invalidations(stack, settings, caches, notifier, identity),
        shared_policies=shared_policies,
        postgres_policies=postgres_policies,
    )
    if native is not None:
        _use_native(stack, native, viewing, caches, recorder, identity.token_cache, randomness, _timing(settings))
    return viewing


def _caches(
    stores: Stores,
    settings: Settings,
    *,
    clock: Clock,
    monotonic: Clock,
    randomness: random.Random,
    shared_policies: SharedPolicies,
    postgres_policies: PostgresPolicies,
) -> _Caches:
    lookups = PostgresLookups(stores.engine)
    stale_ms, size = settings.policy_stale_seconds * 1000, settings.policy_cache_size
    caches = _Caches(
        policies=PolicyCache(
            shared=shared_policies,
            source=postgres_policies,
            markets=stores.markets,
            ttl_ms=settings.policy_ttl_seconds * 1000,
            stale_ms=stale_ms,
            size=size,
            jitter=randomness,
            clock=clock,
            monotonic=monotonic,
        ),
        titles=TtlCache(
            lookups.educational,
            ttl_ms=settings.title_ttl_seconds * 1000,
            stale_ms=stale_ms,
            size=size,
            jitter=randomness,
            clock=monotonic,
        ),
        households=TtlCache(
            lookups.profiles,
            ttl_ms=settings.policy_ttl_seconds * 1000,
            stale_ms=stale_ms,
            size=size,
            jitter=randomness,
            clock=monotonic,
        ),
    )
    stores.markets_file.listen(caches.policies.apply_markets)
    return caches


def _recorder(
    stores: Stores,
    settings: Settings,
    clock: Clock,
    *,
    counters: RedisCounters,
    caches: _Caches,
    session_ids: SessionIds,
    randomness: random.Random,
) -> BeatRecorder:
    return BeatRecorder(
        counters=counters,
        usage=PostgresUsage(stores.engine, clock),
        policies=caches.policies,
        session_ids=session_ids,
        randomness=randomness,
        max_batch=settings.max_batch,
        max_calls_in_flight=settings.max_calls_in_flight,
        shard_of=counters.shard_of if isinstance(counters, ClusteredCounters) else None,
    )


def _service(  # noqa: PLR0917  all parts of the flow
    stack: AsyncExitStack,
    stores: Stores,
    settings: Settings,
    clock: Clock,
    identity: Identity,
    caches: _Caches,
    recorder: BeatRecorder,
    events: RedisEvents,
    session_ids: SessionIds,
    active_sessions: ActiveSessions,
    randomness: random.Random,
) -> ViewingService:
    return ViewingService(
        external_ids=identity.external_ids,
        recorder=recorder,
        policies=caches.policies,
        titles=caches.titles,
        households=caches.households,
        events=events,
        session_ids=session_ids,
        active_sessions=active_sessions,
        leases=_open_leases(stack, settings),
        tampering=_tamper_watch(stores, settings),
        timing=_timing(settings),
        markets=stores.markets,
        clock=clock,
        randomness=randomness,
    )


def _active_sessions(
    stores: Stores, settings: Settings, counters: RedisCounters, caches: _Caches, session_ids: SessionIds
) -> ActiveSessions:
    return ActiveSessions(
        counters=counters,
        adults=adult_sessions(stores, settings) if settings.track_adults else None,
        households=caches.households,
        session_ids=session_ids,
        max_gap_ms=settings.max_gap_seconds * 1000,
        max_batch=settings.max_batch,
    )


def _open_leases(stack: AsyncExitStack, settings: Settings) -> PlaybackLeases:
    leases = playback_leases(settings)
    stack.callback(leases.close)
    return leases


def playback_leases(settings: Settings) -> PlaybackLeases:
    """What signs leases. Raises SettingsError: a key cannot be used."""
    signing, others = settings.lease_key.get_secret_value(), settings.lease_key_previous.get_secret_value()
    try:
        published_keys(others)
    except LeaseKeyUnusable as error:
        raise SettingsError(f"{variable_of('lease_key_previous')}: {error}") from None
    try:
        keys = LeaseKeys.read(signing, others) if signing else None
    except LeaseKeyUnusable as error:
        raise SettingsError(f"{variable_of('lease_key')}: {error}") from None
    return PlaybackLeases(keys, issuer=settings.jwt_issuer, audience=settings.lease_audience)


def _tamper_watch(stores: Stores, settings: Settings) -> TamperWatch:
    return TamperWatch(
        positions=kept_positions(stores, settings),
        hints=PostgresTamperHints(stores.engine, stores.feed),
        max_gap_ms=settings.max_gap_seconds * 1000,
        max_batch=settings.max_batch,
    )


def _timing(settings: Settings) -> HeartbeatTiming:
    return HeartbeatTiming(
        interval_ms=settings.beat_interval_seconds * 1000,
        lease_ms=settings.lease_seconds * 1000,
    )


def _watch_tokens(stack: AsyncExitStack, identity: Identity, notifier: StreamNotifier, steps: ClockSteps) -> None:
    """Let streams see whether their tokens still hold, when a token is revoked or a key or the time has changed."""
    identity.revoked.listen(notifier.wake)

    async def check_streams() -> None:
        has_stepped = steps.has_stepped()
        if identity.token_cache.has_lost_keys() or has_stepped:
            notifier.notify_all()

    repeat(stack, check_streams, every_seconds=_STREAM_CHECK_SECONDS)


async def _open_invalidations(
    stack: AsyncExitStack, settings: Settings, caches: _Caches, notifier: StreamNotifier, identity: Identity
) -> Invalidations:
    """Listen, on a connection of its own, for what other processes change."""

    def expire_everything() -> None:
        caches.expire()
        identity.external_ids.expire()
        notifier.notify_all()
        identity.revoked.load_soon()

    def forget_profile(profile_id: str) -> None:
        caches.policies.erase(profile_id)
        notifier.wake(profile_id)

    listener = create_client(
        settings.redis_url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds, connections=2
    )
    stack.push_async_callback(listener.aclose)
    return await stack.enter_async_context(
        Invalidations(
            listener,
            handlers={
                "policy": caches.policies.invalidate,
                "titles": lambda _: caches.titles.expire(),
                "household": caches.households.forget,
                "event": notifier.wake,
                "device": identity.revoked.add,
                "sign-in": identity.revoked.add,
                "account": identity.revoked.add,
                "erased": forget_profile,
            },
            on_gap=expire_everything,
        )
    )


def _use_native(  # noqa: PLR0917  all that a heartbeat needs
    stack: AsyncExitStack,
    native: NativeModule,
    viewing: Viewing,
    caches: _Caches,
    recorder: BeatRecorder,
    tokens: TokenCache,
    randomness: random.Random,
    timing: HeartbeatTiming,
) -> None:
    """Let the native module take heartbeats before the endpoint sees them, and have its metrics published."""
    heartbeats = native.NativeHeartbeats(
        tokens=tokens,
        policies=caches.policies,
        titles=caches.titles,
        queue=recorder.queue,
        randomness=randomness,
        interval_ms=timing.interval_ms,
        lease_ms=timing.lease_ms,
        resume=viewing.heartbeat.resume,
        answered=metrics.requests_of("POST", HEARTBEAT_PATH, 200),
    )
    stack.callback(heartbeats.publish)
    stack.callback(metrics.sample(heartbeats.publish))
    viewing.heartbeat.take = heartbeats.take


def _faces(
    *,
    stores: Stores,
    settings: Settings,
    clock: Clock,
    service: ViewingService,
    recorder: BeatRecorder,
    events: RedisEvents,
    notifier: StreamNotifier,
    caches: _Caches,
    identity: Identity,
    active_sessions: ActiveSessions,
    invalidations: Invalidations,
    shared_policies: SharedPolicies,
    postgres_policies: PostgresPolicies,
) -> Viewing:
    """What routers and the fast path call."""
    tokens, timeout_seconds = identity.token_cache, settings.body_timeout_seconds
    one, many = settings.body_limit_bytes, settings.bulk_body_limit_bytes
    return Viewing(
        service=service,
        heartbeat=HeartbeatEndpoint(
            service=service, tokens=tokens, body_limit_bytes=one, body_timeout_seconds=timeout_seconds
        ),
        end=EndEndpoint(service=service, tokens=tokens, body_limit_bytes=one, body_timeout_seconds=timeout_seconds),
        heartbeats=BatchEndpoint(
            service=service, tokens=tokens, body_limit_bytes=many, body_timeout_seconds=timeout_seconds
        ),
        active_sessions=active_sessions,
        leases=service.leases,
        streams=EventStreams(log=events, notifier=notifier, service=service, accesses=tokens),
        tickets=Tickets(RedisTickets(stores.redis), service=service, clock=clock),
        offline=OfflineSync(
            ledger=PostgresOffline(stores.engine, markets=stores.markets, feed=stores.feed),
            viewing=service,
            recorder=recorder,
            titles=caches.titles,
            policies=postgres_policies,
            announcer=shared_policies,
            remembered=caches.policies,
            rules=rules(settings),
        ),
        notifier=notifier,
        invalidations=invalidations,
        households=caches.households,
    )
