"""What a process does beside its work: it sends traces, and it repeats actions until it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from app.errors import CountersUnavailable, DatabaseUnavailable
from app.observability import tracing
from app.settings.settings import Settings, SettingsError, environment, variable_of

log = structlog.get_logger(__name__)


@asynccontextmanager
async def traced(settings: Settings) -> AsyncIterator[None]:
    """Traces of this process, where they are asked for; the last ones are sent at the end."""
    if not settings.traces:
        yield
        return
    try:
        stop = tracing.start(environment())
    except tracing.TracingUnavailable as error:
        raise SettingsError(f"{variable_of('traces')}: {error}") from None
    try:
        yield
    finally:
        await asyncio.to_thread(stop)  # it waits for the collector


def repeat(stack: AsyncExitStack, action: Callable[[], Awaitable[object]], *, every_seconds: float) -> None:
    """Do something again and again for the life of the process. What is away is asked next time."""

    async def repeated() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await action()
            except (CountersUnavailable, DatabaseUnavailable) as error:
                log.debug("action_postponed", action=action.__qualname__, reason=error.code)
            except Exception:
                log.exception("repetition_failed", action=action.__qualname__)

    stack.callback(asyncio.create_task(repeated(), name=action.__qualname__).cancel)
