"""Two questions asked at the same time."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

One = TypeVar("One")
Other = TypeVar("Other")


async def at_once(one: Awaitable[One], other: Awaitable[Other]) -> tuple[One, Other]:
    """Both answers, or the error of the first that failed, when both have ended: nothing goes on behind the caller."""
    answers = await asyncio.gather(one, other, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers[0], answers[1]  # type: ignore[return-value]  # neither is an error
