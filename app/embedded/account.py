"""The operating-system user that runs the servers: the current user, or an unprivileged one under root.

PostgreSQL refuses to run as root.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

NAME = "hourglass"


@dataclass(frozen=True, kw_only=True)
class SystemUser:
    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Self:
        """The current user; under root a system user created for the purpose, or else ``nobody``."""
        if os.geteuid() != 0:
            return cls(uid=os.geteuid(), gid=os.getegid())
        entry = _entry(NAME) or _created() or _entry("nobody")
        if entry is None:
            raise SystemUserError(f"cannot create the system user {NAME!r} that PostgreSQL needs; run as another user")
        return cls(uid=entry.pw_uid, gid=entry.pw_gid)

    @property
    def is_us(self) -> bool:
        return self.uid == os.geteuid()

    @property
    def user(self) -> int | None:
        """Arguments for `subprocess`, like the next two. They change nothing for the current user."""
        return None if self.is_us else self.uid

    @property
    def group(self) -> int | None:
        return None if self.is_us else self.gid

    @property
    def extra_groups(self) -> list[int] | None:
        return None if self.is_us else []

    def may(self, access: str, path: Path) -> bool:
        """Whether this user may read (``r``), write (``w``) or execute (``x``) a path, with all its parents."""
        probe = ["/bin/sh", "-c", f'test -{access} "$1"', "sh", str(path)]
        return self.run(probe).returncode == 0

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a short command as this user, outside of the current folder and environment."""
        return subprocess.run(  # noqa: S603  our own commands
            command,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            cwd="/",
            env=ENVIRONMENT,
            user=self.user,
            group=self.group,
            extra_groups=self.extra_groups,
        )

    def own(self, folder: Path) -> None:
        """Create a folder that only this user and root can enter."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.is_us:
            os.chown(folder, self.uid, self.gid)
        folder.chmod(0o700)


class SystemUserError(Exception):
    """No suitable user to run PostgreSQL."""


ENVIRONMENT = {"PATH": os.defpath, "LC_MESSAGES": "C"}
"""An environment without local variables: PGHOST or PGDATA would lead servers to other data."""


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _created() -> pwd.struct_passwd | None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
    if useradd is None:
        return None
    options = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        "/nonexistent",
        "--shell",
        "/bin/false",
    ]
    subprocess.run([useradd, *options, NAME], check=False, capture_output=True)  # noqa: S603  fixed words
    return _entry(NAME)
