"""A deployment on one machine: a data folder with its servers, its secrets and a note of what runs.

``deployment.json`` in the data folder tells other commands where everything is. It holds secrets, so only its
owner can read it, and it is there only while the deployment is (or after it was killed, see `end_leftovers`).
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
from app.settings import environment, is_given, variable_of

NOTE = "deployment.json"
LEFTOVER_SECONDS = 5.0


class DeploymentError(Exception):
    """Nothing runs in this data folder, or something does that is in the way."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What runs.

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
    """The servers of a data folder: those whose address the environment does not give."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self.postgres = None if is_given("database_url") else Postgres(self._data_dir / "postgres")
        self.valkey = None if is_given("redis_url") else Valkey(self._data_dir / "valkey")

    @property
    def all(self) -> list[Server]:
        """In the order in which they start."""
        return [server for server in (self.postgres, self.valkey) if server is not None]

    def variables(self) -> dict[str, str]:
        """The environment of processes that use this deployment: what was given, completed by what is ours.

        The servers must have been started: only then are their addresses known.
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
def claimed(data_dir: Path) -> Iterator[None]:
    """Hold a data folder for ourselves.

    Raises:
        DeploymentError: another process holds it.
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
    """Note what runs, in one step: readers see the old note or the new one."""
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
        DeploymentError: none does.
    """
    deployment = _read(data_dir)
    if deployment is None or not command_of(deployment.supervisor):
        raise DeploymentError(f"nothing runs in {data_dir}; start it with: hourglass up --data-dir {data_dir}")
    return deployment


def end_leftovers(data_dir: Path) -> None:
    """End what a killed supervisor left behind, apart from the servers, which see to that themselves.

    Its children end on their own when it dies; here we only make sure, before new ones take their place.
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
