"""Chooses once for a process who answers ordinary heartbeats: the native module, where it is installed, or Python.

The module is the distribution ``hourglass-native``, built from ``heartbeats.pyx`` here.
"""

from hashlib import sha256
from importlib import import_module
from typing import Literal, cast

import structlog

from app.auth.tokens import Principal
from app.domain.counters import Beat, Counters, Outcome
from app.domain.policy import DayTerms, Policy
from app.native.ports import NativeModule
from app.redis_store.beat_calls import OrdinaryBeat
from app.viewing.effective_policy import EffectivePolicy
from app.viewing.policy_cache import KnownPolicy
from app.viewing.schemas import HeartbeatAnswer, HeartbeatRequest

_MODULE = "hourglass_native"
_LAYOUTS = (
    Principal,
    HeartbeatRequest,
    KnownPolicy,
    EffectivePolicy,
    Policy,
    DayTerms,
    Beat,
    OrdinaryBeat,
    Counters,
    Outcome,
    HeartbeatAnswer,
)

log = structlog.get_logger(__name__)


class NativeModuleUnusable(Exception):
    """The native module is required, and is not installed or was made for another version."""


def layout() -> str:
    """A digest of the field names that the module reads and writes: it must have been written for the same ones."""
    text = "\n".join(f"{each.__name__} {' '.join(each.__struct_fields__)}" for each in _LAYOUTS)
    return sha256(text.encode()).hexdigest()[:16]


def load_native(choice: Literal["auto", "off", "required"]) -> NativeModule | None:
    """The native module; None if Python answers all heartbeats.

    Raises:
        NativeModuleUnusable: it is required.
    """
    if choice == "off":
        return None
    try:
        module = cast("NativeModule", import_module(_MODULE))
        if layout() == module.LAYOUT:
            return module
        reason = "the native module was made for another version"
    except Exception as error:  # noqa: BLE001  one for another version may miss anything of ours
        if choice == "auto" and isinstance(error, ModuleNotFoundError) and error.name == _MODULE:
            return None
        reason = f"the native module cannot be imported: {error}"
    if choice == "required":
        raise NativeModuleUnusable(f"{reason}; install hourglass-native of this version")
    log.warning("native_module_unusable", reason=reason)
    return None
