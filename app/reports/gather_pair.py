"""Run two awaitables concurrently."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

One = TypeVar("One")
Other = TypeVar("Other")


async def gather_pair(one: Awaitable[One], other: Awaitable[Other]) -> tuple[One, Other]:
    """Return both results after both have ended, or raise the first error. No task outlives the call."""
    answers = await asyncio.gather(one, other, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers[0], answers[1]  # type: ignore[return-value]  # neither is an error
