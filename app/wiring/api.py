"""What an API process needs: all that answers a request."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from app.admin.service import AdminReadings
from app.auth.devices import Devices
from app.auth.external_ids import ExternalIds
from app.auth.pins import Pins
from app.auth.rates import RateLimit
from app.auth.service import AccountService
from app.auth.sign_ins import AccountLife
from app.auth.tokens import TokenCache, Tokens
from app.catalogue.service import Catalogue
from app.clock import Clock, monotonic_ms, now_ms
from app.errors import CountersUnavailable
from app.feed.receivers import Receivers
from app.feed.service import EventFeed
from app.parents import Parents
from app.parents.announcements import Announcements
from app.platform.service import Platform
from app.platform.shadow_report import ShadowReport
from app.postgres_store.admin import PostgresAdminRecords
from app.postgres_store.audit import PostgresAudit
from app.postgres_store.erasure import PostgresErasure
from app.postgres_store.export import PostgresExport
from app.postgres_store.policies import PostgresPolicies
from app.postgres_store.shadow_report import PostgresShadowReport
from app.postgres_store.titles import PostgresTitles
from app.privacy import Privacy
from app.privacy.erasure import Erasure
from app.privacy.export import Export
from app.profiles.service import ProfileService
from app.redis_store.beat_calls import BeatCall
from app.redis_store.counters import RedisCounters
from app.redis_store.erasure import RedisErasure
from app.redis_store.events import RedisEvents
from app.redis_store.policies import SharedPolicies
from app.redis_store.unflushed import RedisUnflushed
from app.reports import Reports
from app.rollback_guard.service import RollbackGuard
from app.settings.settings import Settings, old_variables
from app.web import Console
from app.wiring.external_identity import external_tombstones
from app.wiring.feed import event_feed, receivers
from app.wiring.identity import Identity, open_identity
from app.wiring.markets import MarketsFile
from app.wiring.native import open_native
from app.wiring.parents import parents, profile_service, reports
from app.wiring.process import repeat
from app.wiring.stores import (
    Stores,
    counters,
    open_stores,
    ping_database,
    rollback_guard,
    shared_policies,
    watch_servers,
)
from app.wiring.viewing import Viewing, open_viewing
from app.wiring.web import open_console

_CHECKPOINTS_READ_PER_SECOND = 1_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Services:
    """What an API process needs, opened."""

    settings: Settings
    clock: Clock
    engine: AsyncEngine
    redis: Redis
    markets_file: MarketsFile
    tokens: Tokens
    token_cache: TokenCache
    rate_limit: RateLimit
    shared_policies: SharedPolicies
    postgres_policies: PostgresPolicies
    households: AccountService
    pins: Pins
    devices: Devices
    account_life: AccountLife
    members: ProfileService
    external_ids: ExternalIds
    platform: Platform
    shadow_report: ShadowReport
    event_feed: EventFeed
    receivers: Receivers
    parents: Parents
    reports: Reports
    catalogue: Catalogue
    privacy: Privacy
    admin: AdminReadings
    viewing: Viewing
    counters: RedisCounters
    console: Console

    async def ping_database(self) -> None:
        await ping_database(self.engine)


@asynccontextmanager
async def open_services(
    settings: Settings, *, clock: Clock = now_ms, monotonic: Clock = monotonic_ms
) -> AsyncIterator[Services]:
    """Everything an API process needs, connected and warm."""
    for old, new in old_variables().items():
        log.warning("setting_renamed", variable=old, now=new)
    async with AsyncExitStack() as stack:
        stores = await open_stores(stack, settings)
        watch_servers(stack, stores)
        identity = await open_identity(stack, stores=stores, settings=settings, clock=clock)
        guard = await _open_rollback_guard(stack, stores, settings, clock)
        native = open_native(settings, stores)
        shared = shared_policies(stores, settings, clock, guard)
        recorded = counters(stores, settings, guard, call=BeatCall if native is None else native.NativeBeatCall)
        postgres_policies = PostgresPolicies(stores.engine, clock)
        viewing = await open_viewing(
            stack,
            stores=stores,
            settings=settings,
            clock=clock,
            monotonic=monotonic,
            counters=recorded,
            identity=identity,
            shared_policies=shared,
            postgres_policies=postgres_policies,
            native=native,
        )
        console = open_console(
            stack,
            stores=stores,
            counters=recorded,
            viewing=viewing,
            identity=identity,
            shared_policies=shared,
            settings=settings,
            clock=clock,
        )
        yield _services(
            stores=stores,
            settings=settings,
            clock=clock,
            counters=recorded,
            identity=identity,
            viewing=viewing,
            console=console,
            shared=shared,
            policies=postgres_policies,
        )
        await viewing.service.drain()


async def _open_rollback_guard(
    stack: AsyncExitStack, stores: Stores, settings: Settings, clock: Clock
) -> RollbackGuard:
    guard = rollback_guard(stores, clock)
    with contextlib.suppress(CountersUnavailable):  # each call compares again
        await guard.check()
    repeat(stack, guard.look, every_seconds=max(1.0, settings.buckets / _CHECKPOINTS_READ_PER_SECOND))
    return guard


def _services(
    *,
    stores: Stores,
    settings: Settings,
    clock: Clock,
    counters: RedisCounters,
    identity: Identity,
    viewing: Viewing,
    console: Console,
    shared: SharedPolicies,
    policies: PostgresPolicies,
) -> Services:
    engine, read_reports = stores.engine, reports(stores, settings, clock)
    announcements = Announcements(policies=policies, announcer=shared, events=RedisEvents(stores.redis, stores.keys))
    members = profile_service(stores, announcements, settings, clock)
    erasure = _erasure(stores, identity, settings, clock)
    return Services(
        settings=settings,
        clock=clock,
        engine=engine,
        redis=stores.redis,
        markets_file=stores.markets_file,
        tokens=identity.tokens,
        token_cache=identity.token_cache,
        rate_limit=identity.rate_limit,
        shared_policies=shared,
        postgres_policies=policies,
        households=identity.households,
        pins=identity.pins,
        devices=identity.devices,
        account_life=identity.account_life,
        members=members,
        external_ids=identity.external_ids,
        platform=Platform(
            identity.external_store,
            ids=identity.external_ids,
            members=members,
            erasure=erasure,
            announcements=announcements,
            markets=stores.markets,
            clock=clock,
        ),
        shadow_report=ShadowReport(PostgresShadowReport(engine), stores.markets, clock=clock),
        event_feed=event_feed(engine, settings),
        receivers=receivers(engine, settings, clock),
        parents=parents(stores, counters, announcements, settings, clock),
        reports=read_reports,
        catalogue=Catalogue(PostgresTitles(engine), announcer=shared, clock=clock),
        privacy=_privacy(stores, erasure, clock),
        admin=_admin(stores, settings, clock, viewing=viewing, reports=read_reports),
        viewing=viewing,
        counters=counters,
        console=console,
    )


def _admin(stores: Stores, settings: Settings, clock: Clock, *, viewing: Viewing, reports: Reports) -> AdminReadings:
    return AdminReadings(
        PostgresAdminRecords(stores.engine),
        decisions=viewing.service,
        history=reports.history,
        audit=PostgresAudit(stores.engine),
        flush=RedisUnflushed(stores.redis, stores.keys, live_ttl_seconds=settings.live_ttl_seconds, clock=clock),
        clock=clock,
    )


def _erasure(stores: Stores, identity: Identity, settings: Settings, clock: Clock) -> Erasure:
    return Erasure(
        PostgresErasure(stores.engine, external_tombstones(settings), feed=stores.feed),
        traces=RedisErasure(stores.redis, stores.keys),
        passwords=identity.pins,
        ended=identity.revoked,
        clock=clock,
    )


def _privacy(stores: Stores, erasure: Erasure, clock: Clock) -> Privacy:
    counters = RedisErasure(stores.redis, stores.keys)
    return Privacy(
        clock=clock,
        erasure=erasure,
        export=Export(PostgresExport(stores.engine), counters=counters, clock=clock),
        audit=PostgresAudit(stores.engine),
    )
