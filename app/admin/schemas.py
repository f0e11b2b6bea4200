"""What admins' calls answer."""

from typing import Any, Self

from pydantic import BaseModel

from app.admin.service import FlushState
from app.domain.support import DeadLetter
from app.http.requests import Instant
from app.timestamps import utc

MAX_BUCKETS = 100


class AdminProfile(BaseModel):
    """A profile of an account, without its name."""

    profile_id: str
    is_kids: bool


class DeadLetterAnswer(BaseModel):
    """Counters that PostgreSQL can never take as they are, and its reason. They are kept for as long as sessions."""

    id: int
    profile_id: str
    source: str
    counters: Any
    error: str
    parked_at: Instant

    @classmethod
    def of(cls, letter: DeadLetter) -> Self:
        return cls(
            id=letter.id,
            profile_id=letter.profile_id,
            source=letter.source,
            counters=letter.counters,
            error=letter.error,
            parked_at=utc(letter.parked_at_ms),
        )


class DeadLetterPage(BaseModel):
    """Newest first. ``next_cursor`` is null on the last page."""

    dead_letters: list[DeadLetterAnswer]
    next_cursor: str | None


class BucketAnswer(BaseModel):
    """``flushed_at``: what was due then is written; ``age_seconds`` says how long ago that was."""

    bucket: int
    watermark: int
    generation: int
    flushed_at: Instant | None
    age_seconds: float | None


class FlushAnswer(BaseModel):
    """How far the flush from Redis to PostgreSQL is.

    ``lag_seconds`` is the age of the oldest child that waits; ``backlog_*`` count what waits. They are null while Redis
    cannot be reached. ``buckets`` names those flushed longest ago, 100 at most.
    """

    lag_seconds: float | None
    backlog_children: int | None
    backlog_finished: int | None
    dead_letters: int
    buckets: list[BucketAnswer]
    server_time: Instant

    @classmethod
    def of(cls, state: FlushState) -> Self:
        backlog = state.backlog
        return cls(
            lag_seconds=None if backlog is None else backlog.lag_seconds,
            backlog_children=None if backlog is None else backlog.children,
            backlog_finished=None if backlog is None else backlog.closed,
            dead_letters=state.dead_letters,
            buckets=[
                BucketAnswer(
                    bucket=bucket.bucket,
                    watermark=bucket.watermark,
                    generation=bucket.generation,
                    flushed_at=None if bucket.flushed_at_ms is None else utc(bucket.flushed_at_ms),
                    age_seconds=None
                    if bucket.flushed_at_ms is None
                    else max(0, state.at_ms - bucket.flushed_at_ms) / 1000,
                )
                for bucket in state.buckets[:MAX_BUCKETS]
            ],
            server_time=utc(state.at_ms),
        )
