"""Replay the live vectors against a deployment, and print a table of the results."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from app.clients.household import API, Household, HouseholdSession, create_household
from app.clients.http import Client
from app.clock import now_ms
from app.conformance.document import Document, Numbers, Scenario
from app.conformance.live import replay_live
from app.conformance.replay import Answer, Caller, ReplayResult, Service, SetupFailed, fill_catalogue
from app.conformance.vectors import document
from app.deployment.errors import CommandError

CHILDREN_OF_A_HOUSEHOLD = 15
MAX_DIFFERENCES = 4


@dataclass(frozen=True, kw_only=True)
class OverHttp:
    """A deployment, called as one household."""

    client: Client
    tokens: Mapping[Caller, str]

    async def call(
        self,
        caller: Caller,
        method: str,
        path: str,
        *,
        body: Any | None = None,  # noqa: ANN401  JSON
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one call. Raises Unreachable."""
        token = self.tokens[caller]
        reply = await self.client.request(method, API + path, token=token, body=body, headers=headers)
        return Answer(status=reply.status, headers=reply.headers, body=reply.body)


async def replay_deployment(url: str, service_token: str, *, numbers: Numbers | None, tolerance_ms: int) -> bool:
    """Replay the scenarios and print the results. Returns whether every answer matched.

    Args:
        url: base address of the service.
        service_token: token of a service, for filling the catalogue.
        numbers: settings of the deployment; None for the defaults.
        tolerance_ms: allowed deviation of measured times and instants.

    Raises:
        Unreachable: the service does not answer.
        CommandError: the service refuses the setup.
    """
    console = Console()
    vectors = document(numbers)
    live = [scenario for scenario in vectors.scenarios if scenario.live]
    seconds = max(scenario.steps[-1].at_ms for scenario in live) / 1000
    console.print(
        f"{len(live)} of {len(vectors.scenarios)} scenarios against {url}, "
        f"{seconds:.0f} s of playback, tolerance {tolerance_ms} ms"
    )
    async with Client(url) as client:
        try:
            verdicts = await _replay(client, service_token, vectors, live, tolerance_ms=tolerance_ms, console=console)
        except SetupFailed as error:
            raise CommandError(str(error)) from error
    _show(verdicts, console)
    return all(verdict.is_good for verdict in verdicts)


async def _replay(
    client: Client,
    service_token: str,
    vectors: Document,
    live: Sequence[Scenario],
    *,
    tolerance_ms: int,
    console: Console,
) -> list[ReplayResult]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("making households", total=len(live))
        households = range(0, len(live), CHILDREN_OF_A_HOUSEHOLD)
        services: list[Service] = await asyncio.gather(*(_household(client, service_token) for _ in households))
        await fill_catalogue(services[0], vectors.titles)
        progress.update(task, description="replaying")
        assigned = [(scenario, services[place // CHILDREN_OF_A_HOUSEHOLD]) for place, scenario in enumerate(live)]
        return await replay_live(
            assigned, clock=now_ms, tolerance_ms=tolerance_ms, done=lambda _: progress.advance(task)
        )


async def _household(client: Client, service_token: str) -> OverHttp:
    household: Household = await create_household(
        client,
        email=f"conformance-{secrets.token_hex(8)}@hourglass.example",
        password=secrets.token_urlsafe(16),
        pin=f"{secrets.randbelow(10_000):04}",
        timezone="UTC",
        names=(),
    )
    player = await HouseholdSession.of(client, household)
    tokens = {
        Caller.PLAYER: player.token(),
        Caller.PARENT: household.parent_token,
        Caller.CATALOGUE: service_token,
    }
    return OverHttp(client=client, tokens=tokens)


def _show(verdicts: Sequence[ReplayResult], console: Console) -> None:
    table = Table("scenario", "", "what was answered", title="Conformance", title_justify="left")
    for verdict in verdicts:
        mark = "[green]good[/]" if verdict.is_good else "[red]wrong[/]"
        table.add_row(verdict.scenario.name, mark, escape(_described(verdict)))
    console.print(table)
    good = sum(verdict.is_good for verdict in verdicts)
    console.print(f"{good} of {len(verdicts)} scenarios answered as published")


def _described(verdict: ReplayResult) -> str:
    """Empty for a passed scenario, otherwise the first wrong step and its differences."""
    if verdict.step is None:
        return ""
    step = verdict.scenario.steps[verdict.step - 1]
    lines = [f"step {verdict.step}, {step.call} at {step.at_ms / 1000:g} s: {verdict.scenario.about}"]
    lines += map(str, verdict.differences[:MAX_DIFFERENCES])
    return "\n".join(lines)
