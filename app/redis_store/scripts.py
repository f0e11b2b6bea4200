"""Loads the Lua scripts and calls them by digest, loading them again where a server has forgotten them."""

import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from pathlib import Path

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from app.domain.accounting import Beat, Closing, Live, Outcome, Status
from app.domain.policy import DayTerms
from app.redis_store.cluster import as_cluster

_FOLDER = Path(__file__).parent / "lua"
_LAYOUTS: dict[str, type] = {"L": Live, "B": Beat, "D": DayTerms, "O": Outcome}
_NAME = re.compile(r"\b(?:L|B|D|O|STATUS|CLOSING)_[A-Z_]+\b")


@cache
def _positions() -> dict[str, str]:
    """Capital names in the scripts and the numbers they stand for."""
    names = {f"STATUS_{status.name}": str(int(status)) for status in Status}
    names |= {f"CLOSING_{closing.name}": str(int(closing)) for closing in Closing}
    for prefix, layout in _LAYOUTS.items():
        fields = layout.__struct_fields__  # type: ignore[attr-defined]
        names |= {f"{prefix}_{field.upper()}": str(place) for place, field in enumerate(fields, start=1)}
        names[f"{prefix}_COUNT"] = str(len(fields))
    return names


class Script:
    """One ``lua/<name>.lua``. Calls go by digest; a server that does not know it gets the text once more."""

    def __init__(self, name: str) -> None:
        text = "".join((_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in ("clock", name))
        self.text = _NAME.sub(lambda match: _positions()[match.group()], text)
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[str], args: Sequence[str | bytes | int]) -> object:
        """Run the script. Raises redis.exceptions.RedisError; the caller names what that means."""
        try:
            return await send(redis, ("EVALSHA", self.digest, len(keys), *keys, *args), key=keys[0])
        except NoScriptError:  # on a cluster each node learns it by itself
            return await send(redis, ("EVAL", self.text, len(keys), *keys, *args), key=keys[0])


async def send(redis: Redis, command: tuple[str | bytes | int, ...], *, key: str) -> object:
    """Send one command as one piece of memory, on a cluster to the node that has a key of it.

    redis-py would encode the hundreds of arguments of a batch one by one in Python and write each by itself, which
    costs more than the whole rest of the call.

    Raises:
        redis.exceptions.RedisError: the caller names what that means.
    """
    cluster = as_cluster(redis)
    if cluster is not None:
        return await cluster.run(key, command)
    pool = redis.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        packed = pack_command(command)  # type: ignore[arg-type]
        await connection.send_packed_command((packed,))
        return await connection.read_response()
    except ResponseError as error:
        if "READONLY" in str(error):
            await connection.disconnect(nowait=True)  # the address may lead to a writable server by now
        raise
    except BaseException:
        # Whatever is still to come on this connection belongs to this call: nobody else may read it.
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
