"""`hourglass conformance`: check a deployment against the contract for players."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.deployment.minting import TokenRole, mint
from app.deployment.target import DataDir, api_url, settings_of

if TYPE_CHECKING:
    from app.conformance.document import Numbers

_TOKEN_MINUTES = 10

Url = Annotated[str | None, typer.Option(help="Base address of the service [default: the deployment].")]
ServiceToken = Annotated[
    str | None,
    typer.Option(help="Service token for the catalogue [default: minted with the deployment's secrets]."),
]
Tolerance = Annotated[float, typer.Option(min=0.05, max=2, help="Allowed deviation of measured time in seconds.")]
Write = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the golden vectors to a file and call no service.")
]


def command(
    url: Url = None,
    data_dir: DataDir = None,
    service_token: ServiceToken = None,
    tolerance: Tolerance = 0.5,
    write: Write = None,
) -> None:
    """Replay the short golden vectors against a running service, as players and parents would.

    Creates households and three titles over HTTP and erases the children afterwards. The exit code is 1 if an answer
    differs from the published one. With --service-token it needs no secret of the deployment and expects default
    settings.
    """
    if write is not None:
        from app.conformance.vectors import published  # noqa: PLC0415  keeps `--help` quick

        write.write_bytes(published())
        return
    from app.conformance.http_replay import replay_deployment  # noqa: PLC0415  as above

    numbers = None
    if service_token is None:
        service_token = mint(TokenRole.SERVICE, "conformance", minutes=_TOKEN_MINUTES, data_dir=data_dir)
        numbers = _numbers(data_dir)
    address = url or api_url(data_dir)
    if not asyncio.run(
        replay_deployment(address, service_token, numbers=numbers, tolerance_ms=round(tolerance * 1000))
    ):
        raise typer.Exit(1)


def _numbers(data_dir: Path | None) -> "Numbers":
    """The settings of a deployment that affect its answers."""
    from app.conformance.document import Numbers  # noqa: PLC0415  as above

    settings = settings_of(data_dir)
    return Numbers(
        beat_interval_seconds=settings.beat_interval_seconds,
        lease_seconds=settings.lease_seconds,
        max_gap_seconds=settings.max_gap_seconds,
        pause_grace_seconds=settings.pause_grace_seconds,
        weekend_days=settings.weekend_days,
    )
