"""Serve a baseline of `hourglass bench` with the server of the service.

A program of its own: ``python -m app.lab.bench.baseline_server ceiling``.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from app.deployment.parent_process import Parent, end_with_parent

if TYPE_CHECKING:
    import uvicorn

    from app.lab.bench.baselines import Asgi
    from app.settings.settings import Settings


class Baseline(StrEnum):
    CEILING = "ceiling"
    DIRECT = "direct"
    N_PLUS_ONE = "n_plus_one"


def command(name: Annotated[Baseline, typer.Argument(help="Which.")], parent: Parent = None) -> None:
    """Serve one baseline in this process."""
    end_with_parent(parent)
    import uvicorn  # noqa: PLC0415  keeps `--help` quick

    from app.deployment.listening import shared  # noqa: PLC0415
    from app.settings.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    config = config_of(_application(name, settings), settings)
    uvicorn.Server(config).run(sockets=[shared(settings.host, settings.port)])


def config_of(application: "Asgi", settings: "Settings") -> "uvicorn.Config":
    """The server options of the service. A test keeps both equal."""
    import uvicorn  # noqa: PLC0415  as above

    from app.deployment.serving import KEEP_ALIVE_SECONDS  # noqa: PLC0415

    return uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=4096,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
    )


def _application(name: Baseline, settings: "Settings") -> "Asgi":
    if name == Baseline.CEILING:
        from app.lab.bench.baselines.ceiling import echo  # noqa: PLC0415  a process imports only what it serves

        return echo
    if name == Baseline.N_PLUS_ONE:
        from app.lab.bench.baselines import n_plus_one  # noqa: PLC0415  likewise

        return n_plus_one.create_app(settings)
    from app.lab.bench.baselines import direct  # noqa: PLC0415  likewise

    return direct.create_app(settings)


if __name__ == "__main__":
    typer.run(command)
