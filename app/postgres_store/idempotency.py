"""Idempotency keys: a repeat gets the first answer.

The key and its answer are written in the transaction of the effect, so neither exists without the other. The
transaction holds an advisory lock: a repeat during that time is refused at once instead of waiting.
"""

from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.idempotency import KEY_LIFE_MS, IdempotencyKey
from app.errors import KeyReused, StillRunning
from app.timestamps import utc

_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:name, 0))")
_FIND = text("""
SELECT request_digest, answer::text
  FROM idempotency_keys
 WHERE account_id = :account_id AND key = :key AND created_at > :since
""")
_KEEP = text("""
INSERT INTO idempotency_keys (account_id, key, profile_id, request_digest, status, answer, created_at)
VALUES (:account_id, :key, :profile_id, :digest, 200, CAST(:answer AS jsonb), :at)
    ON CONFLICT (account_id, key) DO UPDATE
   SET profile_id = excluded.profile_id, request_digest = excluded.request_digest, answer = excluded.answer,
       created_at = excluded.created_at
""")


async def first_answer(
    database: AsyncConnection, *, account_id: str, key: IdempotencyKey, at_ms: int
) -> dict[str, Any] | None:
    """The answer that the first request with this key got, None when this is the first.

    Raises:
        KeyReused: the first was another request.
        StillRunning: the first has no answer yet.
    """
    if not (await database.execute(_LOCK, {"name": f"idempotency:{account_id}:{key.key}"})).scalar_one():
        raise StillRunning
    values = {"account_id": account_id, "key": key.key, "since": utc(at_ms - KEY_LIFE_MS)}
    found = (await database.execute(_FIND, values)).one_or_none()
    if found is None:
        return None
    digest, answer = found
    if digest != key.digest:
        raise KeyReused
    return msgspec.json.decode(answer, type=dict[str, Any])


async def keep_answer(
    database: AsyncConnection,
    *,
    account_id: str,
    profile_id: str,
    key: IdempotencyKey,
    answer: dict[str, Any],
    at_ms: int,
) -> None:
    """Keep the answer, which is about a profile, for repeats. It lives and dies with the transaction."""
    values = {
        "account_id": account_id,
        "key": key.key,
        "profile_id": profile_id,
        "digest": key.digest,
        "answer": msgspec.json.encode(answer).decode(),
        "at": utc(at_ms),
    }
    await database.execute(_KEEP, values)
