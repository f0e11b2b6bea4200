"""`hourglass api`: the HTTP service, against servers of one's own."""

from typing import Annotated

import typer

from app.cli.parent import Parent, end_with
from app.cli.target import DataDir, settings_of

Host = Annotated[str | None, typer.Option(help="Address to listen on [default: HOURGLASS_HOST or 127.0.0.1].")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="Port; 0 takes a free one [default: HOURGLASS_PORT or 8000]."),
]
Workers = Annotated[int | None, typer.Option(min=1, max=64, help="API processes [default: HOURGLASS_WORKERS or 2].")]


def command(
    host: Host = None, port: Port = None, workers: Workers = None, data_dir: DataDir = None, parent: Parent = None
) -> None:
    """Serve the HTTP API against servers of one's own (DATABASE_URL, REDIS_URL)."""
    end_with(parent)
    settings = settings_of(data_dir, host=host, port=port, workers=workers)
    from app.cli.serving import serve, supervise  # noqa: PLC0415  keeps `--help` quick

    if settings.workers == 1 or parent is not None:
        serve(settings)
    else:
        supervise(settings)
