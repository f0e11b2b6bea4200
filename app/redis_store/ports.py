"""What the adapters of Redis need from the outside."""

from typing import Protocol


class RollbackGuard(Protocol):
    """What is known of each bucket's mark, and what to do when a server holds another."""

    watermarks: list[int]
    generations: list[int]

    async def check(self) -> None:
        """Learn the marks anew. Raises CountersUnavailable or DatabaseUnavailable."""
        ...
