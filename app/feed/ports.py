"""Ports of the event feed."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from app.domain.feed import FeedPage
from app.domain.webhooks import Attempt, DeliveryRound, WaitingDelivery, WebhookReceiver


class KeptFeed(Protocol):
    """The events of the feed. Every call may raise DatabaseUnavailable."""

    async def number(self) -> int:
        """Give positions to events that have none yet, and return how many got one.

        Returns 0 while another process does the same.
        """
        ...

    async def after(self, position: int | None, *, most: int) -> FeedPage:
        """The events that follow a position, or the removed events, in order; and the state of the feed."""
        ...


class DeliveryStore(Protocol):
    """What receivers have accepted and what waits. Every call may raise DatabaseUnavailable."""

    async def receivers(self) -> list[WebhookReceiver]: ...

    async def waiting(self, receiver_id: str, *, most: int) -> list[WaitingDelivery]:
        """Events that a receiver has not accepted yet, in the order of the feed, without dead letters."""
        ...

    async def keep(self, receiver_id: str, done: DeliveryRound, *, at_ms: int) -> None:
        """Store the result of a round in one transaction."""
        ...


class ReceiverStore(Protocol):
    """The receivers. Calls that name a receiver raise NotFound if it does not exist."""

    async def receivers(self) -> list[WebhookReceiver]: ...

    async def add(
        self, receiver_id: str, *, url: str, kinds: Sequence[str] | None, secret: bytes, at_ms: int
    ) -> WebhookReceiver:
        """Add a receiver of all later events. Raises TooManyReceivers."""
        ...

    async def change(self, receiver_id: str, values: Mapping[str, Any]) -> WebhookReceiver:
        """Change ``url``, ``kinds`` or ``is_enabled``."""
        ...

    async def rotate(self, receiver_id: str, *, secret: bytes, at_ms: int) -> WebhookReceiver:
        """Replace the secret. The previous one also signs for a day."""
        ...

    async def remove(self, receiver_id: str) -> None: ...


class Sender(Protocol):
    async def send(self, url: str, *, body: bytes, headers: Mapping[str, str], at_ms: int) -> Attempt:
        """Make one attempt. It raises no error of the receiver or the network."""
        ...

    async def close_others(self, urls: Collection[str]) -> None:
        """Close the connections to all receivers but these."""
        ...


class DeliveryLock(Protocol):
    async def is_ours(self) -> bool:
        """Whether this process may deliver. Raises DatabaseUnavailable."""
        ...
