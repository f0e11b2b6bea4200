"""Serve a baseline of `hourglass bench`: all but the echo with the server of the service.

A program of its own: ``python -m app.lab.bench.baseline_server asgi``.
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
    ECHO = "echo"
    ASGI = "asgi"
    DIRECT = "direct"
    N_PLUS_ONE = "n_plus_one"


def command(name: Annotated[Baseline, typer.Argument(help="Which.")], parent: Parent = None) -> None:
    """Serve one baseline in this process."""
    end_with_parent(parent)
    from app.deployment.listening import shared  # noqa: PLC0415  keeps `--help` quick
    from app.settings.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    listening = shared(settings.host, settings.port)
    if name == Baseline.ECHO:
        import uvloop  # noqa: PLC0415

        from app.lab.bench.baselines import echo  # noqa: PLC0415  a process imports only what it serves

        uvloop.run(echo.serve(listening))
        return
    import uvicorn  # noqa: PLC0415

    uvicorn.Server(config_of(_application(name, settings), settings)).run(sockets=[listening])


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
    if name == Baseline.ASGI:
        from app.lab.bench.baselines import asgi  # noqa: PLC0415  as above

        return asgi.answer
    if name == Baseline.N_PLUS_ONE:
        from app.lab.bench.baselines import n_plus_one  # noqa: PLC0415  likewise

        return n_plus_one.create_app(settings)
    from app.lab.bench.baselines import direct  # noqa: PLC0415  likewise

    return direct.create_app(settings)


if __name__ == "__main__":
    typer.run(command)
