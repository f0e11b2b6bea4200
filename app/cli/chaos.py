"""`hourglass chaos`: inject random faults into the whole service under load."""

import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.deployment.errors import CommandError, using_lab

if TYPE_CHECKING:
    from app.lab.chaos.soak import SoakResult

MIB = 2**20


def command(
    seed: Annotated[int | None, typer.Option(help="Repeats a run's faults [default: a new one, printed].")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Duration of the faults in minutes.")] = 10.0,
    rate: Annotated[float, typer.Option(min=1, max=20_000, help="Heartbeats per second without a fault.")] = 2000.0,
    ledger: Annotated[Path | None, typer.Option(help="Write the players' ledger into this file.")] = None,
) -> None:
    """Inject faults into processes, servers and network, then compare every player's ledger with PostgreSQL.

    Starts its own servers in a temporary folder and ends them. The exit code is 1 if time was lost or doubled, an
    answer was wrong, an event was missed or repeated, or memory or descriptors grew.
    """
    from app.deployment.serving import allow_many_descriptors  # noqa: PLC0415
    from app.embedded.postgres import Postgres  # noqa: PLC0415
    from app.embedded.valkey import Valkey  # noqa: PLC0415

    with using_lab():
        from app.lab.chaos.deployment import ChaosDeployment, DeploymentFailed  # noqa: PLC0415
        from app.lab.chaos.soak import INTERVAL_SECONDS, Soak, soak_settings  # noqa: PLC0415  keeps `--help` quick

    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # ends the servers on the way
    allow_many_descriptors()
    chosen = secrets.randbelow(2**32) if seed is None else seed
    print(f"seed {chosen}, {minutes:g} minutes, {rate:g} heartbeats/s", flush=True)
    with tempfile.TemporaryDirectory(prefix="hourglass-chaos-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # PostgreSQL may run as another user, which needs access
        try:
            with ChaosDeployment(
                folder,
                postgres=Postgres(folder / "postgres"),
                valkey=Valkey(folder / "valkey"),
                viewers=round(rate * INTERVAL_SECONDS),
                settings=soak_settings(),
            ) as deployment:
                soak = Soak(
                    deployment,
                    seed=chosen,
                    seconds=minutes * 60,
                    per_second=rate,
                    say=lambda line: print(line, flush=True),
                )
                outcome = soak.run(ledger)
        except DeploymentFailed as error:
            raise CommandError(str(error)) from error
    _show(outcome)
    if outcome.failures():
        raise typer.Exit(1)


def _show(outcome: "SoakResult") -> None:
    answers = ", ".join(f"{count} x {what}" for what, count in outcome.answers.most_common())
    print(f"seed {outcome.seed}: {outcome.faults} faults in {outcome.seconds:.0f} s")
    print(f"answers: {answers}; worst {outcome.worst_ms:.0f} ms")
    print(f"heartbeats/s: {outcome.per_second:.0f}, before the first fault {outcome.calm_per_second:.0f}")
    if outcome.samples:
        first, last = outcome.samples[0], outcome.samples[-1]
        print(
            f"memory of the API processes {first.api_bytes / MIB:.0f} → {last.api_bytes / MIB:.0f} MiB, of the worker "
            f"{first.worker_bytes / MIB:.0f} → {last.worker_bytes / MIB:.0f} MiB; descriptors "
            f"{first.api_descriptors} → {last.api_descriptors} and {first.worker_descriptors} → "
            f"{last.worker_descriptors}"
        )
    feed = outcome.feed
    print(
        f"feed: {feed.read} events read, {feed.ended} of ended sessions, {feed.interrupted} pages asked for again, "
        f"{len(feed.differences)} differences; {outcome.leases} leases, {outcome.wrong_leases} wrong"
    )
    for failure in outcome.failures():
        print(f"WRONG  {failure}")
    print(
        f"{outcome.findings.profiles} children compared: {len(outcome.findings.differences)} differences"
        + ("" if outcome.failures() else "; nothing lost, nothing doubled")
    )
