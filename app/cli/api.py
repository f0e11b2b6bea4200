"""`hourglass api`: the HTTP service, on existing servers."""

from typing import Annotated

import typer

from app.deployment.errors import configure_output
from app.deployment.parent_process import Parent, end_with_parent
from app.deployment.target import DataDir, settings_of

Host = Annotated[str | None, typer.Option(help="Address to listen on [default: HOURGLASS_HOST or 127.0.0.1].")]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65_535, help="Port; 0 takes a free one [default: HOURGLASS_PORT or 8000]."),
]
Workers = Annotated[int | None, typer.Option(min=1, max=64, help="API processes [default: HOURGLASS_WORKERS or 2].")]


def command(
    host: Host = None, port: Port = None, workers: Workers = None, data_dir: DataDir = None, parent: Parent = None
) -> None:
    """Serve the HTTP API on existing servers (DATABASE_URL, REDIS_URL)."""
    end_with_parent(parent)
    configure_output(service=True)
    settings = settings_of(data_dir, host=host, port=port, workers=workers)
    from app.deployment.serving import serve, supervise  # noqa: PLC0415  keeps `--help` quick
    from app.observability.logs import configure_logs, log_the_uncaught  # noqa: PLC0415  as above

    configure_logs(settings.log_level, settings.log_format)
    log_the_uncaught()

    if settings.workers == 1 or parent is not None:
        serve(settings, has_parent=parent is not None)
    else:
        supervise(settings)
