"""`hourglass conformance`: does a deployment answer players as the contract says?"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.target import DataDir, api_url, settings_of
from app.cli.token import Role, mint

if TYPE_CHECKING:
    from app.conformance.document import Numbers

_TOKEN_MINUTES = 10

Url = Annotated[str | None, typer.Option(help="Base address of the service; without it, that of the deployment.")]
ServiceToken = Annotated[
    str | None,
    typer.Option(help="Token that may fill the catalogue; without it, minted with the secrets of the deployment."),
]
Tolerance = Annotated[float, typer.Option(min=0.05, max=2, help="Seconds by which measured time may be off.")]
Write = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the golden vectors to a file and speak to no service.")
]


def command(
    url: Url = None,
    data_dir: DataDir = None,
    service_token: ServiceToken = None,
    tolerance: Tolerance = 0.5,
    write: Write = None,
) -> None:
    """Replay the golden vectors that take seconds against a running service, as players and parents would.

    Makes households and three titles over HTTP for it and erases the children afterwards. Ends with 1 when an answer
    is not the published one. With --service-token it needs no secret of the deployment, whose settings must then be
    the usual ones.
    """
    if write is not None:
        from app.conformance.vectors import published  # noqa: PLC0415  keeps `--help` quick

        write.write_bytes(published())
        return
    from app.cli.rehearsal import rehearse  # noqa: PLC0415  as above

    numbers = None
    if service_token is None:
        service_token = mint(Role.SERVICE, "conformance", minutes=_TOKEN_MINUTES, data_dir=data_dir)
        numbers = _numbers(data_dir)
    address = url or api_url(data_dir)
    if not asyncio.run(rehearse(address, service_token, numbers=numbers, tolerance_ms=round(tolerance * 1000))):
        raise typer.Exit(1)


def _numbers(data_dir: Path | None) -> "Numbers":
    """The settings of a deployment that show in its answers."""
    from app.conformance.document import Numbers  # noqa: PLC0415  as above

    settings = settings_of(data_dir)
    return Numbers(
        beat_interval_seconds=settings.beat_interval_seconds,
        lease_seconds=settings.lease_seconds,
        max_gap_seconds=settings.max_gap_seconds,
        pause_grace_seconds=settings.pause_grace_seconds,
        weekend_days=settings.weekend_days,
    )
