"""A deployment on one machine: a data folder with servers, secrets and a description of running processes.

``deployment.json`` in the data folder tells other commands all addresses. It contains secrets, so only its owner can
read it. It exists while the deployment runs, or after the deployment was killed, see `end_leftovers`.
"""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app.embedded.postgres import Postgres
from app.embedded.secrets import development_secrets
from app.embedded.server import Server
from app.embedded.system import command_of, end
from app.embedded.valkey import Valkey
from app.settings.settings import environment, is_given, variable_of

NOTE = "deployment.json"
LEFTOVER_SECONDS = 5.0


class DeploymentError(Exception):
    """The data folder has no running deployment, or another process uses it."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A running deployment.

    Attributes:
        api_url: base address, without a trailing slash.
        supervisor: process id of ``hourglass up``.
        processes: process ids of its children by name.
        variables: every environment variable that configures it, secrets included.
    """

    api_url: str
    supervisor: int
    processes: Mapping[str, int] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


class Servers:
    """The servers of a data folder. A server whose address is in the environment is left out."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self.postgres = None if is_given("database_url") else Postgres(self._data_dir / "postgres")
        self.valkey = None if is_given("redis_url") else Valkey(self._data_dir / "valkey")

    @property
    def all(self) -> list[Server]:
        """The servers in start order."""
        return [server for server in (self.postgres, self.valkey) if server is not None]

    def variables(self) -> dict[str, str]:
        """The environment of the deployment's processes: given variables, completed by own ones.

        Start the servers first, because only then their addresses are known.
        """
        given = {name: value for name, value in environment().items() if _configures(name)}
        ours: dict[str, str] = {}
        if self.postgres is not None:
            ours["DATABASE_URL"] = self.postgres.url
        if self.valkey is not None:
            ours["REDIS_URL"] = self.valkey.url
        for name, value in development_secrets(self._data_dir).items():
            if not is_given(name):
                ours[variable_of(name)] = value
        return given | ours


def _configures(variable: str) -> bool:
    return variable.startswith(("HOURGLASS_", "DATABASE_URL", "REDIS_URL"))


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Lock a data folder for this process.

    Raises:
        DeploymentError: another process has locked it.
    """
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeploymentError(f"a deployment already runs in {data_dir}; end it first") from error
        yield
    finally:
        os.close(descriptor)


def write(data_dir: Path, deployment: Deployment) -> None:
    """Write the description atomically: readers see the old or the new one."""
    note = data_dir / NOTE
    draft = note.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(deployment), indent=2), encoding="utf-8")
    draft.rename(note)


def forget(data_dir: Path) -> None:
    (data_dir / NOTE).unlink(missing_ok=True)


def locate(data_dir: Path) -> Deployment:
    """The deployment that runs in a data folder.

    Raises:
        DeploymentError: no deployment runs there.
    """
    deployment = _read(data_dir)
    if deployment is None or not command_of(deployment.supervisor):
        raise DeploymentError(f"nothing runs in {data_dir}; start it with: hourglass up --data-dir {data_dir}")
    return deployment


def end_leftovers(data_dir: Path) -> None:
    """End processes that a killed supervisor left behind, except for the servers, which handle that themselves.

    The children exit when the supervisor dies. This function waits until they are gone, before new ones start.
    """
    deployment = _read(data_dir)
    if deployment is not None:
        family = [
            pid for pid in deployment.processes.values() if f"--parent={deployment.supervisor}" in command_of(pid)
        ]
        end(family, [signal.SIGTERM], seconds=LEFTOVER_SECONDS)
        forget(data_dir)


def _read(data_dir: Path) -> Deployment | None:
    try:
        return Deployment(**json.loads((data_dir / NOTE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise DeploymentError(f"cannot read {data_dir / NOTE}: {error}") from error
