"""Hints of tampering, as history shows them."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.feed import FeedEvent, TamperingSuspected
from app.domain.tampering import TamperHint
from app.domain.viewing_day import date_of
from app.postgres_store.access import transaction
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.timestamps import utc

_ADD = text("""
INSERT INTO tamper_hints (profile_id, day, session_id, kind, device_id, noted_at)
SELECT id, :day, CAST(:session_id AS uuid), :kind, :device_id, :noted_at
  FROM profiles WHERE id = :profile_id FOR KEY SHARE -- an erasure goes first or waits
ON CONFLICT DO NOTHING
""")


class PostgresTamperHints:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._feed = feed

    async def add(self, hints: Sequence[tuple[str, TamperHint]]) -> None:
        """Keep hints of children, each once; those of erased profiles are left out."""
        async with transaction(self._engine) as database:
            for profile_id, hint in sorted(hints, key=_order):
                added = await database.execute(_ADD, _row(profile_id, hint))
                if added.rowcount:
                    await self._feed.write(database, _event(profile_id, hint), at_ms=hint.noted_ms)


def _order(pair: tuple[str, TamperHint]) -> tuple[str, ...]:
    """The same order in every process, so that two do not wait for each other."""
    profile_id, hint = pair
    return profile_id, hint.session_id, hint.kind


def _row(profile_id: str, hint: TamperHint) -> dict[str, object]:
    return {
        "profile_id": profile_id,
        "day": date_of(hint.day_number),
        "session_id": hint.session_id,
        "kind": hint.kind.value,
        "device_id": hint.device_id,
        "noted_at": utc(hint.noted_ms),
    }


def _event(profile_id: str, hint: TamperHint) -> FeedEvent:
    cause = (profile_id, hint.day_number, hint.session_id, hint.kind)
    facts = TamperingSuspected(reason=hint.kind.value)
    return FeedEvent(facts=facts, cause=cause, at_ms=hint.noted_ms, profile_id=profile_id)
