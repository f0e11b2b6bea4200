"""An event loop whose clock advances when all tasks wait, for tests of timing without real delays."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

START_MS = 1_790_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Goes to the instant of the next timer as soon as nothing else is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_time = 0.0

    def time(self) -> float:
        return self._virtual_time

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._virtual_time = max(self._virtual_time, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def now_ms() -> int:
    """UTC in milliseconds by the virtual clock, which begins at START_MS."""
    return START_MS + round(asyncio.get_running_loop().time() * 1000)


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a virtual loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(_awaited(test(*args, **kwargs)))

    return run


async def _awaited(test: Awaitable[None]) -> None:
    await test
