"""The demo household: created once per data folder, then simulated and shown in the terminal."""

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

from app.clients.household import (
    API,
    EDUCATIONAL,
    PLAIN,
    Household,
    HouseholdSession,
    call,
    create_household,
    fill_catalogue,
    limit,
)
from app.clients.http import Client, Refused, Unreachable
from app.clients.past_weeks import Habits, write_past
from app.clients.player import Player
from app.clock import now_ms
from app.deployment.minting import TokenRole, mint
from app.deployment.target import api_url, worker_url
from app.settings.settings import load_settings

TIMEZONE = "Europe/Oslo"
RESET_HOUR = 6
SEED = 20
TITLE_SECONDS = (60.0, 240.0)
PATIENCE_SECONDS = 60.0
"""A busy machine takes seconds to hash a password, and the household has several of them."""
LIVE_SECONDS = 1.0
PLAIN_SECONDS = 5.0
LAG_METRIC = "hourglass_flush_lag_seconds"


@dataclass(frozen=True, kw_only=True)
class DemoChild:
    """A child of the demo: its device, and its habits of the past weeks. Limits are minutes a day."""

    name: str
    device: tuple[str, str]
    titles: Sequence[str]
    limits: tuple[int, int]
    usual_minutes: tuple[tuple[int, int], tuple[int, int]]
    educational_share: float
    left_today_minutes: int

    def habits(self) -> Habits:
        return Habits(
            plain=PLAIN,
            educational=EDUCATIONAL,
            device=self.device,
            weekday_limit=self.limits[0],
            weekend_limit=self.limits[1],
            weekday_minutes=self.usual_minutes[0],
            weekend_minutes=self.usual_minutes[1],
            share=self.educational_share,
            left_today_minutes=self.left_today_minutes,
        )


CHILDREN = (
    DemoChild(
        name="Mia",
        device=("living-room", "tv"),
        titles=PLAIN,
        limits=(75, 120),
        usual_minutes=((30, 85), (70, 130)),
        educational_share=0.15,
        left_today_minutes=22,
    ),
    DemoChild(
        name="Emil",
        device=("old-tablet", "tablet"),
        titles=[*PLAIN, *EDUCATIONAL],
        limits=(90, 150),
        usual_minutes=((15, 95), (60, 160)),
        educational_share=0.3,
        left_today_minutes=80,
    ),
    DemoChild(
        name="Nora",
        device=("phone", "mobile"),
        titles=EDUCATIONAL,
        limits=(60, 90),
        usual_minutes=((20, 70), (30, 90)),
        educational_share=0.6,
        left_today_minutes=48,
    ),
    DemoChild(
        name="Jonas",
        device=("attic", "tv"),
        titles=PLAIN,
        limits=(60, 90),
        usual_minutes=((20, 70), (40, 100)),
        educational_share=0.1,
        left_today_minutes=0,
    ),
)
LIMITED = CHILDREN[0].name
ASKING = CHILDREN[3].name
NOTE = "Only the end of the film, please!"


@dataclass(frozen=True, kw_only=True)
class DemoState:
    """The content of the table: balances by name, and ``trouble``, the reason why they are old."""

    balances: Mapping[str, Mapping[str, Any]]
    doing: Mapping[str, str]
    flush_lag_seconds: float | None
    trouble: str = ""


async def show(data_dir: Path) -> None:
    """Run the demo until SIGTERM or Ctrl-C.

    Raises:
        DeploymentError: no deployment runs in the data folder.
        Refused, Unreachable: the household cannot sign in.
    """
    url = api_url(data_dir)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with (
        Client(url, timeout_seconds=PATIENCE_SECONDS) as client,
        Client(worker_url(data_dir), timeout_seconds=2.0) as worker,
    ):
        await fill_catalogue(client, service_token=mint(TokenRole.SERVICE, "demo", minutes=10, data_dir=data_dir))
        household, signed_in = await _household(client, _StoredState(data_dir / "demo"))
        await _ask(client, household, signed_in)
        players = {child.name: _player(client, signed_in, household, child) for child in CHILDREN}
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(signed_in.renewed())
            for player in players.values():
                group.create_task(player.run())
            await _present(client, worker, household, signed_in, players, url=url, folder=data_dir / "demo", stop=stop)
            renewing.cancel()
            for player in players.values():
                player.stop()


class _StoredState:
    """The stored state between two starts, readable only for its owner."""

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


async def _household(client: Client, keepsake: _StoredState) -> tuple[Household, HouseholdSession]:
    """The stored household, or a new one if there is none or the service does not know it."""
    known = keepsake.read()
    if known is not None:
        with contextlib.suppress(Refused):
            return known, await HouseholdSession.of(client, known)
    print("making a demo household over HTTP", flush=True)
    household = await create_household(
        client,
        email=f"demo-{secrets.token_hex(4)}@hourglass.example",
        password=f"demo-{secrets.token_urlsafe(9)}",
        pin=f"{secrets.randbelow(10_000):04}",
        timezone=TIMEZONE,
        names=[child.name for child in CHILDREN],
    )
    for child in CHILDREN:
        await limit(client, household, household.profiles[child.name], *child.limits)
    habits = {household.profiles[child.name]: child.habits() for child in CHILDREN}
    database_url = load_settings().database_url.get_secret_value()
    await write_past(database_url, habits, timezone=TIMEZONE, reset_hour=RESET_HOUR, seed=SEED)
    keepsake.write(household)
    return household, await HouseholdSession.of(client, household)


async def _ask(client: Client, household: Household, signed_in: HouseholdSession) -> None:
    """Let one child ask for more time, unless it has asked today or too often."""
    path = f"/parental-controls/profiles/{household.profiles[ASKING]}/requests"
    known = await call(client, "read the requests", "GET", path, token=signed_in.token())
    if not any(request["status"] == "open" for request in known["requests"]):
        body = {"minutes": 15, "note": NOTE}
        with contextlib.suppress(Refused):
            await call(client, "ask for time", "POST", path, token=signed_in.token(), body=body)


def _player(client: Client, signed_in: HouseholdSession, household: Household, child: DemoChild) -> Player:
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
    worker: Client,
    household: Household,
    signed_in: HouseholdSession,
    players: Mapping[str, Player],
    *,
    url: str,
    folder: Path,
    stop: asyncio.Event,
) -> None:
    """Show the state until stopped: a live table in a terminal, otherwise a line at intervals."""
    console = Console()
    help_lines = _help(household, url=url, folder=folder)
    state = DemoState(balances={}, doing={}, flush_lag_seconds=None)
    if not console.is_terminal:
        print("\n".join(help_lines), flush=True)
    with contextlib.ExitStack() as shown:
        live = shown.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None
        while not stop.is_set():
            state = await _look(client, worker, household, signed_in, players, before=state)
            if live is not None:
                live.update(Group(_table(state), *map(Text, help_lines)), refresh=True)
            else:
                print("\n".join(_lines(state)), flush=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PLAIN_SECONDS if live is None else LIVE_SECONDS):
                    await stop.wait()


async def _look(
    client: Client,
    worker: Client,
    household: Household,
    signed_in: HouseholdSession,
    players: Mapping[str, Player],
    *,
    before: DemoState,
) -> DemoState:
    doing = {name: player.doing for name, player in players.items()}
    try:
        balances = {
            name: await call(
                client, "read a balance", "GET", f"/viewing-time/balance/{profile_id}", token=signed_in.token()
            )
            for name, profile_id in household.profiles.items()
        }
        lag_seconds = await _flush_lag_now(worker)
    except (Unreachable, Refused) as error:
        return DemoState(
            balances=before.balances, doing=doing, flush_lag_seconds=before.flush_lag_seconds, trouble=str(error)
        )
    return DemoState(balances=balances, doing=doing, flush_lag_seconds=lag_seconds)


async def _flush_lag_now(worker: Client) -> float | None:
    """The flush lag from the worker's metrics; None without an answer."""
    with contextlib.suppress(Unreachable, Refused):
        return _gauge(str((await worker.request("GET", "/metrics")).body), LAG_METRIC)
    return None


def _gauge(metrics: str, name: str) -> float | None:
    """The largest sample of a metric in Prometheus' text format."""
    values = [
        float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith((f"{name} ", f"{name}{{"))
    ]
    return max(values, default=None)


def _table(state: DemoState) -> RenderableType:
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


def _lines(state: DemoState) -> list[str]:
    lines = [
        f"{name}: {state.doing.get(name, '')}, used {_duration(balance['used_seconds'])}, "
        f"educational {_duration(balance['educational_seconds'])}, "
        f"remaining {_duration(balance['remaining_seconds'])}, {balance['enforcement']}, "
        f"day ends {_local(balance['next_reset_at'])}"
        for name, balance in state.balances.items()
    ]
    return [*lines, _flush_lag(state)]


def _flush_lag(state: DemoState) -> str:
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
    """Commands for signing in and for a parent's next steps, in lines short enough to copy."""
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
    return [
        f"sign in:  {url}/  (the parents' console)",
        f"          {household.email}  password {household.password}  PIN {household.pin}",
        f"watch:    {url}/play  (the child's page, after signing in)",
        f"there, or over HTTP: give {LIMITED} 15 more minutes, see what she watched, and the week:",
        f'  H="Authorization: Bearer $(cat {shlex.quote(str(folder / "token"))})"',
        f"  C={url}{API}/parental-controls",
        f"  P=$C/profiles/{household.profiles[LIMITED]}",
        "  curl -H \"$H\" -H 'Content-Type: application/json' \\",
        "       -d '{\"minutes\": 15}' $P/viewing-time/grant",
        '  curl -H "$H" $P/history',
        '  curl -H "$H" $C/weekly-report',
    ]
