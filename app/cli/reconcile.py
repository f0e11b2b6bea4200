"""`hourglass reconcile`: compare Redis, PostgreSQL and the players' ledgers."""

import asyncio
import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.deployment.errors import CommandError
from app.deployment.target import DataDir, settings_of

if TYPE_CHECKING:
    from app.domain.playback_bounds import PlaybackBounds
    from app.reconciling.service import Findings
    from app.settings.settings import Settings

Ledger = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Ledger of the players, one JSON object per line."),
]


def command(
    ledger: Ledger = None,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Compare usage in Redis with PostgreSQL, per profile and viewing day. Changes nothing.

    Usage that waits for the flush is no difference. The exit code is 1 if there is a difference.
    """
    settings = settings_of(data_dir)
    findings = asyncio.run(_compare(settings, [] if ledger is None else _read(ledger)))
    if json:
        print(json_module.dumps(asdict(findings)))
    else:
        _show(findings)
    if findings.differences:
        raise typer.Exit(1)


async def _compare(settings: "Settings", sessions: "list[PlaybackBounds]") -> "Findings":
    from app.deployment.preflight import ServiceRole, preflight  # noqa: PLC0415  keeps `--help` quick
    from app.errors import CountersUnavailable, DatabaseUnavailable  # noqa: PLC0415  as above
    from app.wiring.worker import open_reconciliation  # noqa: PLC0415  as above

    await preflight(settings, role=ServiceRole.READER, waits=False)
    try:
        async with open_reconciliation(settings) as reconciliation:
            return await reconciliation.compare(sessions)
    except (CountersUnavailable, DatabaseUnavailable, OSError) as error:
        raise CommandError(f"cannot compare: {error}") from error


def _read(file: Path) -> "list[PlaybackBounds]":
    import msgspec  # noqa: PLC0415  as above

    from app.domain.playback_bounds import PlaybackBounds  # noqa: PLC0415  as above

    try:
        return msgspec.json.Decoder(PlaybackBounds).decode_lines(file.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise CommandError(f"cannot read {file}: {error}") from error


def _show(findings: "Findings") -> None:
    for difference in findings.differences:
        print(
            f"{difference.kind.value:9} {difference.profile_id} {_day(difference.day_number):10} "
            f"expected {difference.expected:.3f} s, found {difference.found:.3f} s"
        )
    print(
        f"{findings.profiles} profiles compared, {len(findings.differences)} differences, "
        f"{findings.waiting} days wait to be flushed"
    )


def _day(number: int) -> str:
    from app.domain.viewing_day import date_of  # noqa: PLC0415  keeps `--help` quick

    return "all days" if number < 0 else date_of(number).isoformat()
