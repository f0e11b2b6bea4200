"""`hourglass events`: receivers of webhooks, their dead letters, and deliveries once more."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from app.deployment.errors import CommandError
from app.deployment.target import DataDir, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.webhooks import WebhookReceiver
    from app.settings.settings import Settings

_NEWEST = 2**63 - 1
_MAX_URL = 60

Receiver = Annotated[str | None, typer.Option(metavar="ID", help="Receiver to deliver to once more.")]
Position = Annotated[
    int | None, typer.Option(min=0, max=_NEWEST, metavar="POSITION", help="Replay events after this position.")
]
Until = Annotated[
    int | None, typer.Option(min=0, max=_NEWEST, metavar="POSITION", help="Replay events up to this position.")
]


def command(
    receiver: Receiver = None,
    dead: Annotated[bool, typer.Option("--dead", help="Replay its dead letters.")] = False,
    after: Position = None,
    until: Until = None,
    data_dir: DataDir = None,
) -> None:
    """List the receivers of webhooks, or deliver events to one of them once more.

    Replayed events keep their ids. The worker delivers them in the order of each profile.
    """
    is_range = after is not None or until is not None
    if receiver is None and (dead or is_range):
        raise typer.BadParameter("a replay needs the id of a receiver", param_hint="--receiver")
    if receiver is not None and dead == is_range:
        raise typer.BadParameter("give either --dead, or --after and --until", param_hint="--dead")
    settings = settings_of(data_dir)
    if receiver is None:
        _show(asyncio.run(_receivers(settings)))
        return
    positions = None if dead else (after or 0, _NEWEST if until is None else until)
    count = asyncio.run(_replay(settings, receiver, positions))
    print(f"{count} events will be delivered once more")


async def _receivers(settings: "Settings") -> "list[WebhookReceiver]":
    from app.errors import DatabaseUnavailable  # noqa: PLC0415  keeps `--help` quick
    from app.wiring.feed import open_webhooks  # noqa: PLC0415  as above

    try:
        async with open_webhooks(settings) as kept:
            return await kept.receivers()
    except (DatabaseUnavailable, OSError) as error:
        raise CommandError(f"cannot read the receivers: {error}") from error


async def _replay(settings: "Settings", receiver: str, positions: tuple[int, int] | None) -> int:
    from app.clock import now_ms  # noqa: PLC0415  as above
    from app.errors import DatabaseUnavailable, NotFound  # noqa: PLC0415  as above
    from app.wiring.feed import open_webhooks  # noqa: PLC0415  as above

    try:
        async with open_webhooks(settings) as kept:
            if positions is None:
                return await kept.replay_dead(receiver, at_ms=now_ms())
            after, until = positions
            return await kept.replay_range(receiver, after=after, until=until, at_ms=now_ms())
    except NotFound as error:
        raise CommandError(str(error)) from error
    except (DatabaseUnavailable, OSError) as error:
        raise CommandError(f"cannot replay: {error}") from error


def _show(receivers: "Sequence[WebhookReceiver]") -> None:
    for each in receivers:
        state = "enabled" if each.is_enabled else f"disabled ({each.disabled_reason or 'by a call'})"
        url = each.url if len(each.url) <= _MAX_URL else f"{each.url[: _MAX_URL - 1]}…"
        print(
            f"{each.receiver_id} {url}: {state}, {each.waiting} waiting, {each.dead_letters} dead letters,"
            f" {each.behind} not tried"
        )
    if not receivers:
        print("there are no receivers")
