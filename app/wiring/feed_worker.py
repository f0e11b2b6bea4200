"""What the worker does for the event feed: it tells of usage, and delivers to receivers."""

from contextlib import AsyncExitStack

from app.clock import Clock
from app.feed.delivery import Deliverer
from app.feed.sender import HttpSender
from app.postgres_store.feed import PostgresFeed
from app.postgres_store.feed_usage import UsageFeed
from app.postgres_store.lock import DELIVERY_LOCK, AdvisoryLock
from app.settings.settings import Settings, SettingsError, variable_of
from app.wiring.feed import webhooks
from app.wiring.stores import Stores

_FLUSH_SLACK_SECONDS = 60.0


def usage_feed(stores: Stores, settings: Settings) -> UsageFeed:
    settling_seconds = settings.max_gap_seconds + settings.flush_age_seconds + _FLUSH_SLACK_SECONDS
    return UsageFeed(stores.engine, stores.feed, settling_ms=int(settling_seconds * 1000))


def webhook_sender(settings: Settings) -> HttpSender:
    """What sends webhooks. Raises SettingsError: the certificates to trust cannot be read."""
    try:
        return HttpSender(private_allowed=settings.event_private_receivers, ca_file=settings.event_ca_file)
    except OSError as error:
        raise SettingsError(f"{variable_of('event_ca_file')}: cannot be read: {error.strerror}") from None


def open_deliverer(stack: AsyncExitStack, stores: Stores, settings: Settings, clock: Clock) -> Deliverer:
    lock = AdvisoryLock(stores.engine, DELIVERY_LOCK)
    stack.push_async_callback(lock.release)
    sender = webhook_sender(settings)
    stack.push_async_callback(sender.close)
    deliverer = Deliverer(
        PostgresFeed(stores.engine), webhooks(stores.engine, settings), sender, lock=lock, clock=clock
    )
    stack.push_async_callback(deliverer.close)
    return deliverer
