"""What the native module offers."""

from collections.abc import Callable
from typing import Protocol

from app.redis_store.beat_calls import BeatCall


class NativeHeartbeats(Protocol):
    """Takes heartbeats from connections and answers them."""

    def take(self, connection: object, data: bytes) -> bool:
        """Queue a read that is one ordinary heartbeat. Returns whether it did; if not, nothing has changed."""
        ...

    def publish(self) -> None:
        """Add what was counted to the metrics."""
        ...


class NativeModule(Protocol):
    """What ``hourglass_native`` has."""

    LAYOUT: str
    NativeHeartbeats: Callable[..., NativeHeartbeats]
    NativeBeatCall: type[BeatCall]
