"""Append-only files: a deleted key stays in them until they are rewritten."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.domain.erasure import FilesState, RewriteNote, RewriteProgress
from app.redis_store.client import translate_errors
from app.redis_store.cluster import as_cluster
from app.redis_store.keys import rewritten

_IN_PROGRESS = "in progress"
_WORST_FIRST = (RewriteProgress.RUNNING, RewriteProgress.FAILED, RewriteProgress.IDLE, RewriteProgress.NO_FILE)
_decode = msgspec.msgpack.Decoder(RewriteNote).decode


class AppendOnlyFiles:
    """The files of a server, or of all nodes of a cluster. Every call may raise CountersUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def state(self) -> FilesState:
        with translate_errors():
            found: list[dict[str, Any]] = await asyncio.gather(
                *(node.info("persistence", "server") for node in await self._nodes())
            )
        progress = {_progress(info) for info in found}
        servers = " ".join(sorted(str(info["run_id"]) for info in found))
        return FilesState(next(each for each in _WORST_FIRST if each in progress), servers)

    async def rewrite(self) -> bool:
        """Ask every server to rewrite its file in the background; whether none refused."""
        with translate_errors():
            answers = await asyncio.gather(*(_ask(node) for node in await self._nodes()))
        return all(answers)

    async def noted(self) -> RewriteNote | None:
        with translate_errors():
            raw = cast("bytes | None", await self._redis.get(rewritten()))
        return _decode(raw) if raw else None

    async def note(self, note: RewriteNote) -> None:
        with translate_errors():
            await self._redis.set(rewritten(), msgspec.msgpack.encode(note))

    async def _nodes(self) -> Sequence[Redis]:
        cluster = as_cluster(self._redis)
        if cluster is None:
            return [self._redis]
        masters, replicas = await cluster.nodes()
        return [*masters.values(), *replicas.values()]


async def _ask(node: Redis) -> bool:
    try:
        await node.bgrewriteaof()
    except ResponseError as error:  # not permitted, not known here, or no file
        return _IN_PROGRESS in str(error)
    return True


def _progress(info: dict[str, Any]) -> RewriteProgress:
    if not info.get("aof_enabled"):
        return RewriteProgress.NO_FILE
    if info.get("aof_rewrite_in_progress") or info.get("aof_rewrite_scheduled"):
        return RewriteProgress.RUNNING
    is_ok = info.get("aof_last_bgrewrite_status", "ok") == "ok"
    return RewriteProgress.IDLE if is_ok else RewriteProgress.FAILED
