"""Calls of the event feed, for the platform's own services."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status

from app.auth.dependencies import Service
from app.feed.receivers import Receivers
from app.feed.schemas import (
    NewWebhook,
    WebhookAnswer,
    WebhookChange,
    WebhookList,
    WebhookSecretAnswer,
    encoded,
    kinds_of,
)
from app.feed.service import MAX_WAIT_SECONDS, EventFeed
from app.http.requests import API_PREFIX

MAX_EVENTS = 5000

router = APIRouter(prefix=f"{API_PREFIX}/platform", tags=["event feed"])


@router.get("/events")
async def pull_events(
    request: Request,
    _: Service,
    after: Annotated[str | None, Query(max_length=20)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100,
    wait_seconds: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0,
) -> Response:
    """What happened, oldest first. ``after`` is the ``next`` of the answer before; without it, from the oldest event.

    Events of one profile are in their order, and each is answered at least once. An answer without events is sent
    after ``wait_seconds``. A cursor that is older than the oldest kept event gets 410.
    """
    feed: EventFeed = request.app.state.services.event_feed
    page, cursor = await feed.page(after, limit=limit, wait_seconds=wait_seconds)
    return Response(encoded(page, cursor), media_type="application/json")


async def _receivers(request: Request) -> Receivers:
    receivers: Receivers = request.app.state.services.receivers
    return receivers


_Receivers = Annotated[Receivers, Depends(_receivers)]
_WebhookId = Annotated[str, Path(max_length=36)]


@router.post("/webhooks", status_code=status.HTTP_201_CREATED)
async def add_webhook(
    request: Request, body: NewWebhook, _: Service, receivers: _Receivers, response: Response
) -> WebhookSecretAnswer:
    """Deliver all later events to an address, signed after Standard Webhooks. The secret is shown once."""
    receiver, secret = await receivers.add(body.url, kinds_of(body.types))
    response.headers["Location"] = f"{request.scope['path']}/{receiver.receiver_id}"
    return WebhookSecretAnswer.with_secret(receiver, secret)


@router.get("/webhooks")
async def list_webhooks(_: Service, receivers: _Receivers) -> WebhookList:
    """The receivers of webhooks, and how their deliveries stand."""
    return WebhookList(webhooks=[WebhookAnswer.of(receiver) for receiver in await receivers.all()])


@router.patch("/webhooks/{webhook_id}")
async def change_webhook(
    webhook_id: _WebhookId, body: WebhookChange, _: Service, receivers: _Receivers
) -> WebhookAnswer:
    """Change a receiver, switch it off, or on again after a 410."""
    given = body.model_dump(exclude_unset=True)
    values = {name: value for name, value in given.items() if value is not None or name == "types"}
    if "types" in values:
        values["kinds"] = kinds_of(values.pop("types"))
    return WebhookAnswer.of(await receivers.change(webhook_id, values))


@router.delete("/webhooks/{webhook_id}", status_code=status.HTTP_204_NO_CONTENT)
async def remove_webhook(webhook_id: _WebhookId, _: Service, receivers: _Receivers) -> None:
    """Remove a receiver with what waits for it."""
    await receivers.remove(webhook_id)


@router.post("/webhooks/{webhook_id}/secret")
async def rotate_webhook_secret(webhook_id: _WebhookId, _: Service, receivers: _Receivers) -> WebhookSecretAnswer:
    """Give a receiver a new secret, shown once. For a day each request carries signatures of both."""
    receiver, secret = await receivers.rotate(webhook_id)
    return WebhookSecretAnswer.with_secret(receiver, secret)
