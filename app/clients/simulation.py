"""Simulate many households with a player for each child, and report the result."""

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.clients.household import EDUCATIONAL, PLAIN, HouseholdSession, call, create_household, fill_catalogue
from app.clients.http import Client
from app.clients.player import OK, Player
from app.clock import now_ms
from app.deployment.minting import TokenRole, mint

CHILDREN_OF_A_HOUSEHOLD = 10
HOUSEHOLDS_AT_ONCE = 4
TITLE_SECONDS = (20.0, 120.0)
SLACK_SECONDS = 1.0
SLACK_OF_A_SESSION_SECONDS = 0.25
"""Tolerance: a session counts from the arrival of its first heartbeat, but its player knows it from the answer on."""
DEVICE_TYPES = ("tv", "mobile", "tablet", "web")


@dataclass(frozen=True, kw_only=True)
class SimulatedViewer:
    profile_id: str
    signed_in: HouseholdSession
    player: Player


@dataclass(frozen=True, kw_only=True)
class SimulationDifference:
    """One child with different sums, in seconds."""

    profile_id: str
    watched: float
    counted: float


class Simulation:
    """One run.

    Args:
        url: base address of the service.
        data_dir: folder of the deployment whose secrets mint the service token.
        seed: seed of the players' choices; None takes a new one.
    """

    def __init__(self, url: str, data_dir: Path | None, *, seed: int | None) -> None:
        self._url = url
        self._service_token = mint(TokenRole.SERVICE, "simulation", minutes=60, data_dir=data_dir)
        self._seed = secrets.randbelow(2**32) if seed is None else seed
        self._chance = random.Random(self._seed)  # noqa: S311  choices of players, not secrets
        self._console = Console()

    async def run(self, *, viewers: int, seconds: float) -> bool:
        """Run the simulation. Returns whether every answer was good and every sum correct."""
        self._console.print(f"{viewers} viewers for {seconds:.0f} s against {self._url}, seed {self._seed}")
        async with Client(self._url) as client:
            await fill_catalogue(client, service_token=self._service_token)
            everybody = await self._gather(client, viewers)
            await self._watch(everybody, seconds)
            differences = await self._compare(client, everybody)
        return self._report(everybody, differences)

    async def _gather(self, client: Client, viewers: int) -> list[SimulatedViewer]:
        """Register all households. Hashing the passwords takes time."""
        sizes = [min(CHILDREN_OF_A_HOUSEHOLD, viewers - first) for first in range(0, viewers, CHILDREN_OF_A_HOUSEHOLD)]
        at_once = asyncio.Semaphore(HOUSEHOLDS_AT_ONCE)
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            task = progress.add_task("making households", total=viewers)

            async def household(size: int) -> list[SimulatedViewer]:
                async with at_once:
                    family = await self._household(client, size)
                    progress.advance(task, size)
                    return family

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(household(size)) for size in sizes]
        return [viewer for task in tasks for viewer in task.result()]

    async def _household(self, client: Client, size: int) -> list[SimulatedViewer]:
        household = await create_household(
            client,
            email=f"simulated-{secrets.token_hex(8)}@hourglass.example",
            password=secrets.token_urlsafe(16),
            pin=f"{secrets.randbelow(10_000):04}",
            timezone="Europe/Oslo",
            names=[f"Child {number}" for number in range(1, size + 1)],
        )
        signed_in = await HouseholdSession.of(client, household)
        return [
            SimulatedViewer(
                profile_id=profile_id, signed_in=signed_in, player=self._player(client, signed_in, profile_id)
            )
            for profile_id in household.profiles.values()
        ]

    def _player(self, client: Client, signed_in: HouseholdSession, profile_id: str) -> Player:
        return Player(
            client,
            token=signed_in.token,
            profile_id=profile_id,
            device=(f"simulated-{profile_id[:8]}", self._chance.choice(DEVICE_TYPES)),
            titles=[*PLAIN, *EDUCATIONAL],
            title_seconds=TITLE_SECONDS,
            clock_ms=now_ms,
            chance=random.Random(self._chance.random()),  # noqa: S311  as above
        )

    async def _watch(self, everybody: Sequence[SimulatedViewer], seconds: float) -> None:
        renewals = [
            asyncio.create_task(signed_in.renewed()) for signed_in in {viewer.signed_in for viewer in everybody}
        ]
        watching = [asyncio.create_task(viewer.player.run()) for viewer in everybody]
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            task = progress.add_task("watching", total=seconds)
            began = asyncio.get_running_loop().time()
            while (elapsed := asyncio.get_running_loop().time() - began) < seconds:
                progress.update(task, completed=elapsed)
                await asyncio.sleep(min(0.5, seconds - elapsed))
        for viewer in everybody:
            viewer.player.stop()
        for renewal in renewals:
            renewal.cancel()
        await asyncio.gather(*watching)

    async def _compare(self, client: Client, everybody: Sequence[SimulatedViewer]) -> list[SimulationDifference]:
        differences = []
        for viewer in everybody:
            path = f"/viewing-time/balance/{viewer.profile_id}"
            balance = await call(client, "read a balance", "GET", path, token=viewer.signed_in.token())
            counted = balance["used_seconds"] + balance["educational_seconds"] + balance["overrun_seconds"]
            playback_log = viewer.player.playback_log
            slack = SLACK_SECONDS + SLACK_OF_A_SESSION_SECONDS * playback_log.sessions
            if abs(counted - playback_log.watched_seconds) > slack:
                differences.append(
                    SimulationDifference(
                        profile_id=viewer.profile_id, watched=playback_log.watched_seconds, counted=counted
                    )
                )
        return differences

    def _report(self, everybody: Sequence[SimulatedViewer], differences: Sequence[SimulationDifference]) -> bool:
        playback_logs = [viewer.player.playback_log for viewer in everybody]
        answers: Counter[str] = sum((playback_log.answers for playback_log in playback_logs), Counter())
        latencies = [latency for playback_log in playback_logs for latency in playback_log.latencies_ms]
        table = Table("what", "value", show_header=False)
        table.add_row("watched", f"{sum(playback_log.watched_seconds for playback_log in playback_logs):.1f} s")
        table.add_row("sessions", str(sum(playback_log.sessions for playback_log in playback_logs)))
        for answer, count in answers.most_common():
            table.add_row(f"answers {answer}", str(count))
        if len(latencies) > 1:
            centiles = quantiles(latencies, n=100)
            table.add_row("heartbeat", f"p50 {centiles[49]:.1f} ms, p99 {centiles[98]:.1f} ms")
        table.add_row("sums that differ", str(len(differences)))
        self._console.print(table)
        for difference in differences[:10]:
            self._console.print(
                f"{difference.profile_id}: watched {difference.watched:.1f} s, counted {difference.counted:.1f} s"
            )
        return not differences and set(answers) <= {str(OK)}
