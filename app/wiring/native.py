"""The native module for heartbeats, where it is used."""

import structlog

from app.native import NativeModuleUnusable, load_native
from app.native.ports import NativeModule
from app.observability import metrics
from app.settings.settings import Settings, SettingsError, variable_of
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
