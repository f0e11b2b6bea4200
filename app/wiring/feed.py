"""The event feed and its receivers, as the API serves them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncEngine

from app.clock import Clock
from app.feed.receivers import Receivers
from app.feed.service import EventFeed
from app.kit.sealing import SecretSeal
from app.postgres_store.feed import PostgresFeed
from app.postgres_store.webhooks import PostgresWebhooks
from app.settings.settings import Settings
from app.wiring.stores import connect


def webhooks(engine: AsyncEngine, settings: Settings) -> PostgresWebhooks:
    return PostgresWebhooks(engine, SecretSeal(settings.accepted("session_secret")))


@asynccontextmanager
async def open_webhooks(settings: Settings) -> AsyncIterator[PostgresWebhooks]:
    """The receivers for a command, connected."""
    async with AsyncExitStack() as stack:
        yield webhooks(connect(stack, settings).engine, settings)


def event_feed(engine: AsyncEngine, settings: Settings) -> EventFeed:
    return EventFeed(PostgresFeed(engine), is_on=settings.event_feed)


def receivers(engine: AsyncEngine, settings: Settings, clock: Clock) -> Receivers:
    return Receivers(
        webhooks(engine, settings),
        is_on=settings.event_feed,
        private_allowed=settings.event_private_receivers,
        clock=clock,
    )
