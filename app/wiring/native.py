"""The native module for heartbeats, where it is used."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from random import Random

import structlog

from app.auth.tokens import TokenCache
from app.kit.ttl_cache import TtlCache
from app.native import NativeModule, NativeModuleUnusable, load_native
from app.observability import metrics
from app.redis_store.beat_calls import BeatCall
from app.settings.settings import Settings, SettingsError, variable_of
from app.viewing.endpoint import HEARTBEAT_PATH, HeartbeatEndpoint
from app.viewing.policy_cache import PolicyCache
from app.viewing.service import HeartbeatTiming
from app.wiring.stores import Stores

log = structlog.get_logger(__name__)


def open_native(settings: Settings, stores: Stores) -> NativeModule | None:
    """The native module; None if Python answers all heartbeats. On a cluster it does: calls go to several servers.

    Raises:
        SettingsError: the module is required and cannot be used.
    """
    try:
        native = load_native("off" if stores.is_cluster and settings.native == "auto" else settings.native)
    except NativeModuleUnusable as error:
        raise SettingsError(f"{variable_of('native')}: {error}") from None
    if native is not None and stores.is_cluster:
        raise SettingsError(f"{variable_of('native')}: the native module does not serve a cluster")
    metrics.NATIVE.set(0 if native is None else 1)
    log.info("heartbeat_path", native=native is not None)
    return native


def call_of(native: NativeModule | None) -> tuple[type[BeatCall], ...]:
    """What makes script calls of beats, if it is not the usual one."""
    return () if native is None else (native.NativeBeatCall,)


def use_native(
    stack: AsyncExitStack,
    native: NativeModule,
    heartbeat: HeartbeatEndpoint,
    *,
    tokens: TokenCache,
    policies: PolicyCache,
    titles: TtlCache[str, bool | None],
    queue: Callable[..., None],
    randomness: Random,
    timing: HeartbeatTiming,
) -> None:
    """Let the native module take heartbeats before the endpoint sees them, and have its metrics published."""
    heartbeats = native.NativeHeartbeats(
        tokens=tokens,
        policies=policies,
        titles=titles,
        queue=queue,
        randomness=randomness,
        interval_ms=timing.interval_ms,
        lease_ms=timing.lease_ms,
        resume=heartbeat.resume,
        answered=metrics.requests_of("POST", HEARTBEAT_PATH, 200),
    )
    stack.callback(heartbeats.publish)
    stack.callback(metrics.sample(heartbeats.publish))
    heartbeat.take = heartbeats.take
