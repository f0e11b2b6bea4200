"""What a script call tells of the marks that its caller knows, and what to do where the server holds others."""

from typing import Protocol

from app.errors import CountersUnavailable, DatabaseUnavailable

LOOKS = 3
"""How often a call is made before its caller gives up; each time the marks have been learnt anew."""

ANY_GENERATION = 2**31


class Continuity(Protocol):
    """What is known of each bucket's mark, and what to do when a server holds another."""

    watermarks: list[int]
    generations: list[int]

    async def check(self) -> None:
        """Learn the marks anew. Raises CountersUnavailable or DatabaseUnavailable."""
        ...


class Trusting:
    """Trusts any server."""

    def __init__(self, buckets: int) -> None:
        self.watermarks = [0] * buckets
        self.generations = [ANY_GENERATION] * buckets

    async def check(self) -> None:
        raise CountersUnavailable(retry_after_seconds=1)


async def look_again(continuity: Continuity) -> None:
    """The server is not as it is known. Raises CountersUnavailable when nothing can be learnt now."""
    try:
        await continuity.check()
    except DatabaseUnavailable as error:
        raise CountersUnavailable from error
