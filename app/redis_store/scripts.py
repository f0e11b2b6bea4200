"""Loads the Lua scripts and calls them by digest. A server that lacks a script gets its text."""

import re
import time
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Any, cast

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from app.domain.breaks import BreakTerms
from app.domain.counters import FREE_ABANDONED_SESSIONS, MAX_UNCOUNTED, Beat, Counters, EndReason, Outcome, Status
from app.domain.finishing import FinishTerms
from app.domain.policy import DayTerms, EarlierDay
from app.domain.weekly import WeekTerms
from app.observability import metrics, tracing
from app.redis_store.beat_calls import OrdinaryBeat
from app.redis_store.cluster import as_cluster

_FOLDER = Path(__file__).parent / "lua"
_LAYOUTS: dict[str, type] = {
    "C": Counters,
    "B": Beat,
    "P": OrdinaryBeat,
    "D": DayTerms,
    "O": Outcome,
    "W": WeekTerms,
    "E": EarlierDay,
    "K": BreakTerms,
    "F": FinishTerms,
}
_NAME = re.compile(r"\b(?:(?:C|B|P|D|O|W|E|K|F|STATUS|END_REASON)_[A-Z_]+|FREE_ABANDONED_SESSIONS|MAX_UNCOUNTED)\b")


@cache
def _positions() -> dict[str, str]:
    """Names in capitals in the scripts, and the numbers that replace them."""
    names = {f"STATUS_{status.name}": str(int(status)) for status in Status}
    names |= {f"END_REASON_{reason.name}": str(int(reason)) for reason in EndReason}
    names |= {"FREE_ABANDONED_SESSIONS": str(FREE_ABANDONED_SESSIONS), "MAX_UNCOUNTED": str(MAX_UNCOUNTED)}
    for prefix, layout in _LAYOUTS.items():
        fields = layout.__struct_fields__  # type: ignore[attr-defined]
        names |= {f"{prefix}_{field.upper()}": str(place) for place, field in enumerate(fields, start=1)}
        names[f"{prefix}_COUNT"] = str(len(fields))
    return names


class Script:
    """One ``lua/<name>.lua``. Calls go by digest; a server that lacks the script gets its text."""

    def __init__(self, name: str) -> None:
        text = "".join((_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in ("clock", "counters", name))
        self.text = _NAME.sub(lambda match: _positions()[match.group()], text)
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self._span_name = f"script {name}"
        self._seconds = metrics.SCRIPT_SECONDS.labels(name)

    async def __call__(
        self, redis: Redis, keys: Sequence[str], args: Sequence[str | bytes | int], *, node: str | None = None
    ) -> object:
        """Run the script.

        Args:
            redis: the server, or the cluster.
            keys: of one slot, where it is a cluster.
            args: what follows the keys.
            node: the address of a node of the cluster that has the keys, of whichever slots. They come behind ``args``
                then, undeclared: declared ones must be of one slot.

        Raises:
            redis.exceptions.RedisError: the caller names what that means.
            app.redis_store.cluster.SlotsElsewhere: the node does not have all keys, and nothing was done.
        """
        began_seconds = time.perf_counter()
        operands = (len(keys), *keys, *args) if node is None else (0, *args, *keys)
        try:
            with tracing.span(self._span_name, db__system__name="redis", hourglass__keys=len(keys)):
                return await send(redis, ("EVALSHA", self.digest, *operands), key=keys[0], node=node)
        except NoScriptError:  # on a cluster each node learns it by itself
            return await send(redis, ("EVAL", self.text, *operands), key=keys[0], node=node)
        finally:
            self._seconds.observe(time.perf_counter() - began_seconds)


async def send(redis: Redis, command: tuple[str | bytes | int, ...], *, key: str, node: str | None = None) -> object:
    """Send one command in one write; on a cluster, to the given node or the one of its key.

    redis-py would encode the hundreds of arguments of a batch one by one in Python and write each by itself, which
    costs more than the whole rest of the call.

    Raises:
        redis.exceptions.RedisError: the caller names what that means.
    """
    packed = cast("bytes", pack_command(command))  # type: ignore[arg-type]
    cluster = as_cluster(redis)
    if cluster is not None:
        return await (cluster.run(key, packed) if node is None else cluster.run_at(node, packed))
    pool: Any = redis.connection_pool  # a guarded one, which this module cannot name
    return await pool.scripts.run(packed)
