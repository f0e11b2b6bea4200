"""The demo household: made once per data folder, then watching, shown live in the terminal."""

import asyncio
import contextlib
import json
import random
import secrets
import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from app.cli.household import (
    API,
    EDUCATIONAL,
    PLAIN,
    Household,
    SignedIn,
    call,
    fill_catalogue,
    found_household,
    limit,
)
from app.cli.http import Client, Refused, Unreachable
from app.cli.player import Player
from app.cli.target import api_url
from app.cli.token import Role, mint
from app.clock import now_ms

TIMEZONE = "Europe/Oslo"
LOW_LIMIT_MINUTES = 15
TITLE_SECONDS = (60.0, 240.0)
LIVE_SECONDS = 1.0
PLAIN_SECONDS = 5.0
LAG_METRIC = "hourglass_flush_lag_seconds"


@dataclass(frozen=True, kw_only=True)
class Child:
    """A child of the demo and what it watches on."""

    name: str
    device: tuple[str, str]
    titles: Sequence[str]


CHILDREN = (
    Child(name="Mia", device=("living-room", "tv"), titles=PLAIN),
    Child(name="Emil", device=("old-tablet", "tablet"), titles=[*PLAIN, *EDUCATIONAL]),
    Child(name="Nora", device=("phone", "mobile"), titles=EDUCATIONAL),
)
LIMITED = CHILDREN[0].name


@dataclass(frozen=True, kw_only=True)
class State:
    """What the table shows. Balances by name; ``trouble``: why they are old."""

    balances: Mapping[str, Mapping[str, Any]]
    doing: Mapping[str, str]
    flush_lag_seconds: float | None
    trouble: str = ""


async def show(data_dir: Path) -> None:
    """Watch until SIGTERM or Ctrl-C.

    Raises:
        DeploymentError: nothing runs in the data folder.
        Refused, Unreachable: the service does not let the household in.
    """
    url = api_url(data_dir)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Client(url) as client:
        await fill_catalogue(client, service_token=mint(Role.SERVICE, "demo", minutes=10, data_dir=data_dir))
        household, signed_in = await _household(client, _Keepsake(data_dir / "demo"))
        players = {child.name: _player(client, signed_in, household, child) for child in CHILDREN}
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(signed_in.renewed())
            for player in players.values():
                group.create_task(player.run())
            await _present(client, household, signed_in, players, url=url, folder=data_dir / "demo", stop=stop)
            renewing.cancel()
            for player in players.values():
                player.stop()


class _Keepsake:
    """What is kept between two starts, readable only for its owner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "household.json"

    def read(self) -> Household | None:
        try:
            return Household(**json.loads(self._path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, household: Household) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        texts = {self._path: json.dumps(asdict(household), indent=2), self._folder / "token": household.parent_token}
        for path, text in texts.items():
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")


async def _household(client: Client, keepsake: _Keepsake) -> tuple[Household, SignedIn]:
    """The household of the last time, or a new one where there is none, or the service no longer knows it."""
    known = keepsake.read()
    if known is not None:
        with contextlib.suppress(Refused):
            return known, await SignedIn.of(client, known)
    print("making a demo household over HTTP", flush=True)
    household = await found_household(
        client,
        email=f"demo-{secrets.token_hex(4)}@hourglass.example",
        password=f"demo-{secrets.token_urlsafe(9)}",
        pin=f"{secrets.randbelow(10_000):04}",
        timezone=TIMEZONE,
        names=[child.name for child in CHILDREN],
    )
    await limit(client, household, household.profiles[LIMITED], minutes=LOW_LIMIT_MINUTES)
    keepsake.write(household)
    return household, await SignedIn.of(client, household)


def _player(client: Client, signed_in: SignedIn, household: Household, child: Child) -> Player:
    return Player(
        client,
        token=signed_in.token,
        profile_id=household.profiles[child.name],
        device=child.device,
        titles=child.titles,
        title_seconds=TITLE_SECONDS,
        clock_ms=now_ms,
        chance=random.Random(),  # noqa: S311  choices of players, not secrets
    )


async def _present(
    client: Client,
    household: Household,
    signed_in: SignedIn,
    players: Mapping[str, Player],
    *,
    url: str,
    folder: Path,
    stop: asyncio.Event,
) -> None:
    """Show the state until told to stop: a live table in a terminal, lines now and then elsewhere."""
    console = Console()
    help_lines = _help(household, url=url, folder=folder)
    state = State(balances={}, doing={}, flush_lag_seconds=None)
    if not console.is_terminal:
        print("\n".join(help_lines), flush=True)
    with contextlib.ExitStack() as shown:
        live = shown.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None
        while not stop.is_set():
            state = await _look(client, household, signed_in, players, before=state)
            if live is not None:
                live.update(Group(_table(state), *map(Text, help_lines)), refresh=True)
            else:
                print("\n".join(_lines(state)), flush=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLAIN_SECONDS if live is None else LIVE_SECONDS):
                    await stop.wait()


async def _look(
    client: Client, household: Household, signed_in: SignedIn, players: Mapping[str, Player], *, before: State
) -> State:
    doing = {name: player.doing for name, player in players.items()}
    try:
        balances = {
            name: await call(
                client, "read a balance", "GET", f"/viewing-time/balance/{profile_id}", token=signed_in.token()
            )
            for name, profile_id in household.profiles.items()
        }
        metrics = str((await client.request("GET", "/metrics")).body)
    except (Unreachable, Refused) as error:
        return State(
            balances=before.balances, doing=doing, flush_lag_seconds=before.flush_lag_seconds, trouble=str(error)
        )
    return State(balances=balances, doing=doing, flush_lag_seconds=_gauge(metrics, LAG_METRIC))


def _gauge(metrics: str, name: str) -> float | None:
    """The largest sample of a metric in Prometheus' text format."""
    values = [
        float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
    ]
    return max(values, default=None)


def _table(state: State) -> RenderableType:
    table = Table("child", "is", "used", "educational", "remaining", "enforcement", f"day ends ({TIMEZONE})")
    for name, balance in state.balances.items():
        enforcement = str(balance["enforcement"])
        colour = {"allowed": "green", "blocked": "red"}.get(enforcement, "yellow")
        table.add_row(
            name,
            escape(state.doing.get(name, "")),
            _duration(balance["used_seconds"]),
            _duration(balance["educational_seconds"]),
            _duration(balance["remaining_seconds"]),
            f"[{colour}]{enforcement}[/]",
            _local(balance["next_reset_at"]),
        )
    table.caption = _flush_lag(state)
    return table


def _lines(state: State) -> list[str]:
    lines = [
        f"{name}: {state.doing.get(name, '')}, used {_duration(balance['used_seconds'])}, "
        f"educational {_duration(balance['educational_seconds'])}, "
        f"remaining {_duration(balance['remaining_seconds'])}, {balance['enforcement']}, "
        f"day ends {_local(balance['next_reset_at'])}"
        for name, balance in state.balances.items()
    ]
    return [*lines, _flush_lag(state)]


def _flush_lag(state: State) -> str:
    lag = "unknown" if state.flush_lag_seconds is None else f"{state.flush_lag_seconds:.0f} s"
    return f"flush lag {lag}{'; ' if state.trouble else ''}{state.trouble}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unlimited"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def _local(instant: str | None) -> str:
    if instant is None:
        return ""
    return f"{datetime.fromisoformat(instant).astimezone(ZoneInfo(TIMEZONE)):%a %H:%M}"


def _help(household: Household, *, url: str, folder: Path) -> list[str]:
    """How to sign in, and what a parent could do next, in lines short enough to be copied from a terminal."""
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    return [
        f"sign in:  {url}/",
        f"          {household.email}  password {household.password}  PIN {household.pin}",
        f"as a parent give {LIMITED} 15 more minutes, see what she watched, and the week:",
        f'  H="Authorization: Bearer $(cat {shlex.quote(str(folder / "token"))})"',
        f"  C={url}{API}/parental-controls",
        f"  P=$C/profiles/{household.profiles[LIMITED]}",
        "  curl -H \"$H\" -H 'Content-Type: application/json' \\",
        "       -d '{\"minutes\": 15}' $P/viewing-time/grant",
        '  curl -H "$H" $P/history',
        '  curl -H "$H" $C/weekly-report',
    ]
