"""What support and operations read: profiles without names, dead letters, the state of the flush."""

from typing import Any

import msgspec


class ProfileKind(msgspec.Struct, frozen=True):
    """A profile without its name."""

    profile_id: str
    is_kids: bool


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A row that PostgreSQL can never take as it is."""

    id: int
    profile_id: str
    source: str
    counters: Any
    error: str
    parked_at_ms: int


class BucketState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a bucket is flushed; ``flushed_at_ms`` is None until its first flush has ended."""

    bucket: int
    watermark: int
    generation: int
    flushed_at_ms: int | None
