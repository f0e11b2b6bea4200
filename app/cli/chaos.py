"""`hourglass chaos`: the whole service on servers of its own, broken at random while thousands watch."""

import secrets
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.errors import CommandError

if TYPE_CHECKING:
    from app.chaos.soak import Outcome

MIB = 2**20


def command(
    seed: Annotated[int | None, typer.Option(help="Repeats a run's faults [default: a new one, printed].")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long things go wrong.")] = 10.0,
    rate: Annotated[float, typer.Option(min=1, max=20_000, help="Heartbeats per second while all is well.")] = 2000.0,
    ledger: Annotated[Path | None, typer.Option(help="Write what the players watched into this file.")] = None,
) -> None:
    """Break processes, servers and network at random, then compare every player's ledger with PostgreSQL.

    Starts servers of its own in a temporary folder, and ends them. Ends with 1 when a second was lost or doubled, an
    answer was wrong, or memory or descriptors grew.
    """
    from app.chaos.soak import INTERVAL_SECONDS, Soak  # noqa: PLC0415  keeps `--help` quick
    from app.chaos.stand import Stand, StandFailed  # noqa: PLC0415
    from app.cli.serving import allow_many_descriptors  # noqa: PLC0415
    from app.embedded.postgres import Postgres  # noqa: PLC0415
    from app.embedded.valkey import Valkey  # noqa: PLC0415

    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # ending the servers on the way
    allow_many_descriptors()
    chosen = secrets.randbelow(2**32) if seed is None else seed
    print(f"seed {chosen}, {minutes:g} minutes, {rate:g} heartbeats/s", flush=True)
    with tempfile.TemporaryDirectory(prefix="hourglass-chaos-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # PostgreSQL may run as a user of its own, who must get through
        try:
            with Stand(
                folder,
                postgres=Postgres(folder / "postgres"),
                valkey=Valkey(folder / "valkey"),
                viewers=round(rate * INTERVAL_SECONDS),
                settings={"flush_age_seconds": 5.0, "flush_cycle_seconds": 2.0},
            ) as stand:
                soak = Soak(
                    stand,
                    seed=chosen,
                    seconds=minutes * 60,
                    per_second=rate,
                    say=lambda line: print(line, flush=True),
                )
                outcome = soak.run(ledger)
        except StandFailed as error:
            raise CommandError(str(error)) from error
    _show(outcome)
    if outcome.faults():
        raise typer.Exit(1)


def _show(outcome: "Outcome") -> None:
    answers = ", ".join(f"{count} x {what}" for what, count in outcome.answers.most_common())
    print(f"seed {outcome.seed}: {outcome.blows} faults in {outcome.seconds:.0f} s")
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
    for fault in outcome.faults():
        print(f"WRONG  {fault}")
    print(
        f"{outcome.findings.profiles} children compared: {len(outcome.findings.differences)} differences"
        + ("" if outcome.faults() else "; nothing lost, nothing doubled")
    )
