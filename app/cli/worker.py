"""`hourglass worker`: flush usage from Redis to PostgreSQL, and run scheduled jobs."""

from app.deployment.errors import configure_output
from app.deployment.parent_process import Parent, end_with_parent
from app.deployment.target import DataDir, settings_of


def command(data_dir: DataDir = None, parent: Parent = None) -> None:
    """Run the worker process: flush, reports, retention. At SIGTERM it flushes the rest and exits."""
    end_with_parent(parent)
    configure_output(service=True)
    settings_of(data_dir)  # refuses a wrong environment before anything starts
    from app.settings.settings import withdraw  # noqa: PLC0415  keeps `--help` quick

    withdraw("HOURGLASS_METRICS_DIR")  # the worker has its own metrics
    from workers.scheduler import main  # noqa: PLC0415  as above

    main(has_parent=parent is not None)
