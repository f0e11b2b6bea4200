"""Select the deployment for a command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.settings.settings import Settings

DEFAULT = Path(".hourglass")

DataDir = Annotated[
    Path | None,
    typer.Option(help="Data folder of a running `hourglass up`. Without it: the environment, else .hourglass."),
]


def settings_of(data_dir: Path | None, **overrides: object) -> "Settings":
    """The settings of the selected deployment, also set in this process's environment.

    Raises:
        DeploymentError: no deployment runs in the given folder.
        SettingsError: no folder is given, and the environment is incomplete.
    """
    from app.settings.settings import load_settings  # noqa: PLC0415  keeps `--help` quick

    adopt(data_dir)
    return load_settings(**{name: value for name, value in overrides.items() if value is not None})


def adopt(data_dir: Path | None) -> str | None:
    """Load the environment of the selected deployment, and its base address if `hourglass up` runs it."""
    from app.embedded.deployment import NOTE, locate  # noqa: PLC0415  as above
    from app.settings.settings import export, is_given  # noqa: PLC0415

    if data_dir is None:
        if is_given("database_url") or is_given("redis_url") or not (DEFAULT / NOTE).exists():
            return None
        data_dir = DEFAULT
    deployment = locate(data_dir)
    export(deployment.variables)
    return deployment.api_url


def api_url(data_dir: Path | None) -> str:
    """The base address of the selected deployment, or the one that host and port in the environment give."""
    from app.deployment.listening import base_url  # noqa: PLC0415  as above

    settings = settings_of(data_dir)
    return base_url(settings.host, settings.port)


def worker_url(data_dir: Path | None) -> str:
    """The base address of the worker's port."""
    from app.deployment.listening import base_url  # noqa: PLC0415  as above

    settings = settings_of(data_dir)
    return base_url(settings.host, settings.worker_port)
