"""Receivers of webhooks: added, changed and removed by the platform's services."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from app.clock import Clock
from app.domain.feed import KINDS
from app.domain.webhooks import SECRET_BYTES, WebhookReceiver, secret_text, url_problem
from app.errors import EventFeedOff, InvalidInput
from app.feed.ports import ReceiverStore


class Receivers:
    """Every call raises EventFeedOff while the feed is off; those that name a receiver may raise NotFound."""

    def __init__(self, store: ReceiverStore, *, is_on: bool, private_allowed: bool, clock: Clock) -> None:
        self._store = store
        self._is_on = is_on
        self._private_allowed = private_allowed
        self._clock = clock

    async def add(self, url: str, kinds: Sequence[str] | None) -> tuple[WebhookReceiver, str]:
        """A receiver of all later events, and its secret, which is not answered again.

        Raises:
            InvalidInput: the address or a kind is not acceptable.
            TooManyReceivers: there are as many as there may be.
        """
        self._require_on()
        self._check({"url": url, "kinds": kinds})
        secret = secrets.token_bytes(SECRET_BYTES)
        added = await self._store.add(str(uuid4()), url=url, kinds=kinds, secret=secret, at_ms=self._clock())
        return added, secret_text(secret)

    async def all(self) -> list[WebhookReceiver]:
        self._require_on()
        return await self._store.receivers()

    async def change(self, receiver_id: str, values: Mapping[str, Any]) -> WebhookReceiver:
        """Change ``url``, ``kinds`` or ``is_enabled``. Raises InvalidInput."""
        self._require_on()
        self._check(values)
        return await self._store.change(receiver_id, values)

    async def rotate(self, receiver_id: str) -> tuple[WebhookReceiver, str]:
        """Give a receiver a new secret. For a day both secrets sign."""
        self._require_on()
        secret = secrets.token_bytes(SECRET_BYTES)
        changed = await self._store.rotate(receiver_id, secret=secret, at_ms=self._clock())
        return changed, secret_text(secret)

    async def remove(self, receiver_id: str) -> None:
        self._require_on()
        await self._store.remove(receiver_id)

    def _require_on(self) -> None:
        if not self._is_on:
            raise EventFeedOff

    def _check(self, values: Mapping[str, Any]) -> None:
        problem = url_problem(values["url"], private_allowed=self._private_allowed) if "url" in values else None
        if problem is not None:
            raise InvalidInput(errors=[{"pointer": "/url", "detail": problem}])
        if not set(values.get("kinds") or ()) <= set(KINDS):
            raise InvalidInput(errors=[{"pointer": "/types", "detail": "must name types of events"}])
