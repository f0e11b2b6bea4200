"""`hourglass size`: how large a deployment must be."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.domain.sizing import Size

CHILDREN_A_VIEWER = 5


def command(
    viewers: Annotated[int, typer.Option(min=1, help="Children who watch at the same time, at the busiest hour.")],
    children: Annotated[
        int | None, typer.Option(min=1, help=f"Children with a profile [default: {CHILDREN_A_VIEWER} for each viewer].")
    ] = None,
    interval: Annotated[int, typer.Option(min=5, max=120, help="Seconds between heartbeats.")] = 30,
    pool: Annotated[int, typer.Option(min=1, help="Connections to PostgreSQL of an API process.")] = 5,
) -> None:
    """Say how many processors, how much memory, disk and network so many viewers need, from measured figures."""
    from app.domain.sizing import Assumptions, size  # noqa: PLC0415  keeps `--help` quick

    asked = Assumptions(
        viewers=viewers, children=children or viewers * CHILDREN_A_VIEWER, beat_interval_seconds=interval, pool=pool
    )
    for name, value in described(size(asked)):
        print(f"{name:<28} {value}")
    print("\nMeasured on one kind of machine (docs/reference/performance.md); run `hourglass bench` on yours.")


def described(needed: "Size") -> list[tuple[str, str]]:
    """The lines of the answer."""
    redis = f"{needed.redis_masters} masters of a cluster" if needed.needs_cluster else "1 server"
    from app.domain.sizing import PRESET_CACHE_ENTRIES  # noqa: PLC0415  as above

    is_preset = needed.cache_entries <= PRESET_CACHE_ENTRIES
    return [
        ("deployments", f"{needed.deployments:,}"),
        ("heartbeats a second", f"{needed.beats_per_second:,.0f}"),
        ("API processes", f"{needed.api_processes}, a processor each"),
        ("memory of an API process", _bytes(needed.api_bytes)),
        ("policies, tokens remembered", f"{needed.cache_entries:,}{' as preset' if is_preset else ' of each'}"),
        ("Redis", f"{redis}, {_processors(needed.redis_cores)} busy in all"),
        ("memory of a Redis", f"{_bytes(needed.redis_bytes)}, room for the fork included"),
        ("PostgreSQL", f"{_processors(needed.postgres_cores)}, {needed.postgres_connections} connections"),
        ("rows written a second", f"{needed.rows_per_second:,.0f}"),
        ("disk of PostgreSQL", f"{_bytes(needed.disk_bytes)} after a year"),
        ("worker", _processors(needed.worker_cores)),
        ("network", f"{_bits(needed.in_bits_per_second)} in, {_bits(needed.out_bits_per_second)} out, without TLS"),
    ]


def _processors(count: float) -> str:
    return f"{count:.1f} processors" if count >= 0.1 else "under 0.1 processors"  # noqa: PLR2004  what is shown


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"  # noqa: PLR2004  a gigabyte


def _bits(count: float) -> str:
    return f"{count / 1e9:,.1f} Gbit/s" if count >= 1e9 else f"{count / 1e6:,.1f} Mbit/s"  # noqa: PLR2004  likewise
