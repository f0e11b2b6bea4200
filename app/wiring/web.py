"""The parents' console and the child's page."""

import random
from contextlib import AsyncExitStack
from functools import partial

from app.clock import Clock
from app.kit.ttl_cache import TtlCache
from app.postgres_store.lookups import PostgresLookups
from app.redis_store.counters import RedisCounters
from app.redis_store.policies import SharedPolicies
from app.redis_store.web_sessions import RedisWebSessions
from app.settings.settings import Settings
from app.web import Console
from app.web.live_overview import LiveOverview
from app.web.sessions import CAREGIVERS, PARENTS, Sessions
from app.wiring.identity import Identity
from app.wiring.stores import Stores
from app.wiring.viewing import Viewing

_TITLE_NAMES = 10_000


def open_console(
    stack: AsyncExitStack,
    *,
    stores: Stores,
    counters: RedisCounters,
    viewing: Viewing,
    identity: Identity,
    shared_policies: SharedPolicies,
    settings: Settings,
    clock: Clock,
) -> Console:
    max_gap_ms = settings.max_gap_seconds * 1000
    live = LiveOverview(counters, notifier=viewing.notifier, max_gap_ms=max_gap_ms)
    stack.callback(live.close)
    sessions_of = partial(
        Sessions,
        store=RedisWebSessions(stores.redis),
        notifier=shared_policies,
        profiles=viewing.households,
        has_ended=identity.revoked.__contains__,
        secret=settings.session_secret.get_secret_value().encode(),
        clock=clock,
    )
    return Console(
        sessions=sessions_of(PARENTS),
        caregiver_sessions=sessions_of(CAREGIVERS),
        live=live,
        title_names=TtlCache(
            PostgresLookups(stores.engine).title_names,
            ttl_ms=settings.title_ttl_seconds * 1000,
            stale_ms=settings.policy_stale_seconds * 1000,
            size=_TITLE_NAMES,
            clock=clock,
            jitter=random.Random(),  # noqa: S311  not a secret
        ),
    )
