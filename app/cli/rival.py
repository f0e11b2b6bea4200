"""`hourglass rival`: what `hourglass bench` compares the service with, served as the service is served."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.parent import Parent, end_with

if TYPE_CHECKING:
    import uvicorn

    from app.bench.rivals import Asgi
    from app.settings import Settings


class Rival(StrEnum):
    CEILING = "ceiling"
    DIRECT = "direct"
    N_PLUS_ONE = "n_plus_one"


def command(name: Annotated[Rival, typer.Argument(help="Which.")], parent: Parent = None) -> None:
    """Serve one of the rivals in this process."""
    end_with(parent)
    import uvicorn  # noqa: PLC0415  keeps `--help` quick

    from app.cli.address import shared  # noqa: PLC0415
    from app.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    config = config_of(_application(name, settings), settings)
    uvicorn.Server(config).run(sockets=[shared(settings.host, settings.port)])


def config_of(application: "Asgi", settings: "Settings") -> "uvicorn.Config":
    """The options of the service's own server: a test holds the two equal."""
    import uvicorn  # noqa: PLC0415  as above

    from app.cli.serving import KEEP_ALIVE_SECONDS  # noqa: PLC0415

    return uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=4096,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )


def _application(name: Rival, settings: "Settings") -> "Asgi":
    if name == Rival.CEILING:
        from app.bench.rivals.ceiling import echo  # noqa: PLC0415  a process imports only what it serves

        return echo
    if name == Rival.N_PLUS_ONE:
        from app.bench.rivals import n_plus_one  # noqa: PLC0415  likewise

        return n_plus_one.create_app(settings)
    from app.bench.rivals import direct  # noqa: PLC0415  likewise

    return direct.create_app(settings)
