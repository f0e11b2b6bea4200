"""`hourglass worker`: carries counted time from Redis to PostgreSQL, and does what falls due."""

from app.cli.parent import Parent, end_with
from app.cli.target import DataDir, settings_of


def command(data_dir: DataDir = None, parent: Parent = None) -> None:
    """Run the worker process: flushing, reports, retention. SIGTERM flushes what is left and ends."""
    end_with(parent)
    settings_of(data_dir)  # refuses a wrong environment before anything starts
    from workers.flusher import main  # noqa: PLC0415  keeps `--help` quick

    main()
