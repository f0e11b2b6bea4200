"""The checkpoints that script calls carry, and what happens if the server holds others."""

from app.errors import CountersUnavailable, DatabaseUnavailable
from app.redis_store.ports import RollbackGuard

MAX_ATTEMPTS = 3
"""How often a call is made before its caller gives up; each time the marks have been learnt anew."""

ANY_GENERATION = 2**31


class NoRollbackGuard:
    """Trusts any server."""

    def __init__(self, buckets: int) -> None:
        self.watermarks = [0] * buckets
        self.generations = [ANY_GENERATION] * buckets

    async def check(self) -> None:
        raise CountersUnavailable(retry_after_seconds=1)


async def refresh_checkpoints(rollback_guard: RollbackGuard) -> None:
    """The server is not as it is known. Raises CountersUnavailable when nothing can be learnt now."""
    try:
        await rollback_guard.check()
    except DatabaseUnavailable as error:
        raise CountersUnavailable from error
